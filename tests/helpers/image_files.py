"""Images as files' bytes, whole ones and ones that cannot be used."""

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

SIZE = (24, 16)


def encoded(format: str = "JPEG", mode: str = "RGB", size: tuple[int, int] = SIZE, seed: int = 0, **how: Any) -> bytes:
    """A random image."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, format, **how)
    return buffer.getvalue()


def jpeg(seed: int = 0) -> bytes:
    """An image that can be used."""
    return encoded(seed=seed)


def animated(format: str) -> bytes:
    """Two different frames."""
    second = Image.open(io.BytesIO(jpeg(1)))
    return encoded(format, save_all=True, append_images=[second])


def bomb(width: int, height: int) -> bytes:
    """A small PNG file that declares, and holds, this many pixels of one colour."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([1, 0, 0, 0, 0])
    packer, rows = zlib.compressobj(), bytes(1 + -(-width // 8))
    packed = b"".join(packer.compress(rows) for _ in range(height)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def _number(*values: float) -> bytes:
    """Numbers as ICC profiles hold them, in 16 bits before the point and 16 behind it."""
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _profile(kind: bytes, colours: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile, version 2.1."""
    head = b"lcms" + bytes.fromhex("02100000") + kind + colours + connection + bytes(12) + b"acsp" + bytes(28)
    head += _number(0.9642, 1, 0.8249)  # D50
    begin, table, content = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, tag in tags.items():
        tag += bytes(-len(tag) % 4)
        table += name + struct.pack(">II", begin + len(content), len(tag))
        content += tag
    return (struct.pack(">I", begin + len(content)) + head).ljust(128, b"\0") + table + content


def _curve(values: Sequence[float]) -> bytes:
    """A tone curve: one gamma, or values between 0 and 1 in equal steps."""
    numbers = [round(values[0] * 256)] if len(values) == 1 else [round(value * 65535) for value in values]
    return b"curv" + bytes(4) + struct.pack(f">I{len(numbers)}H", len(numbers), *numbers)


SRGB = ((0.4360, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
ADOBE = ((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446))
"""XYZ of red, green and blue at D50, of sRGB (IEC 61966-2-1) and of Adobe RGB (1998)."""


def srgb_light(values: Any) -> Any:
    """How much light an sRGB value between 0 and 1 stands for (IEC 61966-2-1)."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


SRGB_CURVE = srgb_light(np.arange(1024) / 1023).tolist()
"""As the profile of sRGB that most cameras and programs embed has it, in 1,024 steps."""


def rgb_profile(primaries: Sequence[Sequence[float]], curve: Sequence[float]) -> bytes:
    """A profile of a screen."""
    tags = {
        name + b"XYZ": b"XYZ " + bytes(4) + _number(*xyz)
        for name, xyz in zip((b"r", b"g", b"b"), primaries, strict=True)
    }
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(curve))
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def grey_profile(curve: Sequence[float]) -> bytes:
    """A profile of greys."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _curve(curve)})


def grey_ink_profile() -> bytes:
    """A profile of a press whose inks are all grey: the light is what the darkest of the four leaves of it."""
    corners = [inks for inks in np.ndindex(2, 2, 2, 2)]
    lights = b"".join(bytes([255 * (not any(inks)), 128, 128]) for inks in corners)
    identity = bytes(range(256))
    shape = bytes([4, 3, 2, 0]) + _number(1, 0, 0, 0, 1, 0, 0, 0, 1)
    return _profile(
        b"prtr", b"CMYK", b"Lab ", {b"A2B0": b"mft1" + bytes(4) + shape + identity * 4 + lights + identity * 3}
    )


UNUSABLE = {
    "broken": b"no picture",
    "truncated": jpeg()[:-40],
    "CMYK": encoded(mode="CMYK"),
    "animated": animated("GIF"),
    "oversized": bomb(10_000, 6_000),
}
"""A file for each reason."""
