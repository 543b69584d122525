"""Images out of a zip as a viewer shows them, and which of them cannot be used.

An image that is to be used decodes to its last pixel, is a still, says what its colours look like, and has a size and
a shape that a photograph has. Whatever else is found has a :data:`Reason`.
"""

import io
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from lntune.data.archives import BadMemberError, Members
from lntune.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageCms import ImageCmsTransform

Reason = Literal["missing", "broken", "truncated", "CMYK", "animated", "oversized"]

MOST_PIXELS, LONGEST_SHAPE = 50_000_000, 200
"""A larger or longer image is refused before it is decoded: an encoder makes its shorter side some 224 pixels long."""

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
"""The decoders that may see data from outside: Pillow has others, some of which start other programs."""

_ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND\xaeB`\x82"}
"""How JPEG and PNG files begin and end."""


class ImageError(Exception):
    """Why an image cannot be used; ``detail`` is more for a person, in one line."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


def decode(content: bytes) -> "Image":
    """The image in a file's bytes, all of it, as a viewer shows it; :class:`ImageError` if it cannot be used."""
    from PIL import Image

    try:
        image = Image.open(io.BytesIO(content), formats=_FORMATS)
        width, height = image.size
        if width * height > MOST_PIXELS or max(width, height) > LONGEST_SHAPE * min(width, height):
            most = f"more than {MOST_PIXELS // 10**6} million, or {LONGEST_SHAPE} times as long as wide"
            raise ImageError("oversized", f"{width} x {height} pixels, {most}")
        # A phone's MPO file holds previews with the photograph, no film.
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
            raise ImageError("animated", f"{getattr(image, 'n_frames', 1)} frames")
        image.load()
        return _as_shown(image)
    except (ImageError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise ImageError("oversized", _line(error)) from None
    except Exception as error:  # Pillow raises whatever its decoders come upon in damaged data
        raise ImageError("truncated" if _is_cut(content) else "broken", _line(error)) from None


def _as_shown(image: "Image") -> "Image":
    """Upright, in sRGB of 8 bits and on white; where that changes nothing, as in Pillow's ``convert("RGB")``."""
    from PIL import ExifTags, Image, ImageOps

    mode, transform = _to_srgb(image.info.get("icc_profile", b""))
    with suppress(Exception):  # Pillow raises whatever it comes upon in damaged EXIF, without which an image is upright
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits of grey; of colours Pillow has kept 8 already
        deep, clear = image.convert("I"), image.info.pop("transparency", None)
        image = deep.point([shade >> 8 for shade in range(1 << 16)], "L")
        if clear is not None:
            image.putalpha(deep.point([255 * (shade != clear) for shade in range(1 << 16)], "L"))
    opacity = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    kind = "L" if image.mode in ("1", "LA") else image.mode
    if kind == "CMYK" != mode:
        raise ImageError("CMYK", "colours of print, without a profile that says what they look like on a screen")
    if transform is not None and mode in ("RGB", kind):
        image = transform.apply(image.convert(mode))
    image = image if image.mode == "RGB" else image.convert("RGB")
    return image if opacity is None else Image.composite(image, Image.new("RGB", image.size, "white"), opacity)


@lru_cache(maxsize=16)
def _to_srgb(profile: bytes) -> "tuple[str, ImageCmsTransform | None]":
    """The mode of pixels that an ICC profile is for ("" of a damaged one), and what turns them into sRGB if need be."""
    from PIL import Image, ImageChops, ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}[source.profile.xcolor_space.strip()]
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (OSError, ImageCms.PyCMSError, KeyError):
        return "", None
    ramp = Image.linear_gradient("L")
    colours = Image.merge("RGB", (ramp, ramp.transpose(Image.Transpose.ROTATE_90), Image.radial_gradient("L")))
    pixels = colours.convert(mode)
    difference = max(ImageChops.difference(pixels.convert("RGB"), transform.apply(pixels)).tobytes())
    return mode, transform if difference > 2 else None  # of 255: by as much do profiles of sRGB differ


def _is_cut(content: bytes) -> bool:
    """Whether a JPEG or PNG file lacks its end."""
    end = _ENDS.get(content[:2])
    return end is not None and end not in content[-64:]


def _line(error: Exception) -> str:
    # A message may hold the address of an object, which no two runs share.
    text = " ".join(str(error).split()).split(" <")[0]
    return text[:120] or type(error).__name__


class ImageArchive(Members):
    """Images by member name, decoded when they are asked for."""

    def image(self, member: str) -> "Image":
        """One image, decoded; :class:`ImageError` if it is missing or cannot be used."""
        try:
            content = self.read(member)
        except KeyError:
            raise ImageError("missing", f"no member of {self.path.name}") from None
        except BadMemberError as error:
            raise ImageError("broken", str(error)) from None
        return decode(content)

    def image_or_refuse(self, member: str) -> "Image":
        """The same, but what is wrong becomes a UserError that names archive and member."""
        try:
            return self.image(member)
        except ImageError as defect:
            absent = f"has no member {member}; the samples belong to another archive"
            what = absent if defect.reason == "missing" else f"member {member} is not a readable image ({defect})"
            raise UserError(f"{self.path}: {what}") from None

    def defect(self, member: str) -> ImageError | None:
        """Why an image cannot be used; None if it can."""
        try:
            self.image(member)
        except ImageError as defect:
            return defect
        return None

    def defects(
        self, members: Iterable[str], workers: int, advance: Callable[[], None] = lambda: None
    ) -> dict[str, ImageError]:
        """Decode each of the members once, by ``workers`` threads; return those that cannot be used, with the reason.

        ``advance`` is called after each. Threads serve as well as processes: Pillow and zlib let go of Python's lock.
        """
        from multiprocessing.pool import ThreadPool

        distinct, found = list(dict.fromkeys(members)), {}
        with ThreadPool(workers) as pool:
            for member, defect in zip(distinct, pool.imap(self.defect, distinct, chunksize=8), strict=True):
                advance()
                if defect is not None:
                    found[member] = defect
        return found
