"""Images as files' bytes, whole ones and ones that cannot be used."""

import io
import zlib
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


UNUSABLE = {
    "broken": b"no picture",
    "truncated": jpeg()[:-40],
    "CMYK": encoded(mode="CMYK"),
    "animated": animated("GIF"),
    "oversized": bomb(10_000, 6_000),
}
"""A file for each reason."""
