"""Images out of a zip, and which of them cannot be used.

An image that is to be used decodes to its last pixel, is a still, has colours that a screen has, and has a size that
a photograph has. Whatever else is found has one of the :data:`REASONS`.
"""

import io
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal, get_args

from lntune.data.archives import BadMemberError, Members
from lntune.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

_CHUNK = 8
"""Images that a thread takes at once, so that the list of 595,000 is not handed out one by one."""

Reason = Literal["missing", "broken", "truncated", "CMYK", "animated", "oversized"]
REASONS: tuple[Reason, ...] = get_args(Reason)

MOST_PIXELS = 50_000_000
"""A larger image is refused before it is decoded; those of the study's data sets have at most a few million."""

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
"""The decoders that may see data from outside: Pillow has others, some of which start other programs."""

_ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND\xaeB`\x82"}
"""How JPEG and PNG files begin and end."""

_LONGEST_DETAIL = 120


class ImageError(Exception):
    """Why an image cannot be used; ``detail`` is more for a person, in one line."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


def decode(content: bytes) -> "Image":
    """The image in a file's bytes, all of it decoded; :class:`ImageError` if it cannot be used."""
    from PIL import Image

    try:
        image = Image.open(io.BytesIO(content), formats=_FORMATS)
        width, height = image.size
        if width * height > MOST_PIXELS:
            raise ImageError("oversized", f"{width} x {height} pixels, more than {MOST_PIXELS // 10**6} million")
        # A phone's MPO file holds previews with the photograph, no film.
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
            raise ImageError("animated", f"{getattr(image, 'n_frames', 1)} frames")
        image.load()
    except (ImageError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise ImageError("oversized", _line(error)) from None
    except Exception as error:  # Pillow raises whatever its decoders come upon in damaged data
        raise ImageError("truncated" if _is_cut(content) else "broken", _line(error)) from None
    if image.mode == "CMYK":
        raise ImageError("CMYK", "colours of print, which decoders turn into different colours of a screen")
    return image


def _is_cut(content: bytes) -> bool:
    """Whether a JPEG or PNG file lacks its end."""
    end = _ENDS.get(content[:2])
    return end is not None and end not in content[-64:]


def _line(error: Exception) -> str:
    # A message may hold the address of an object, which no two runs share.
    text = " ".join(str(error).split()).split(" <")[0]
    return text[:_LONGEST_DETAIL] or type(error).__name__


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
            for member, defect in zip(distinct, pool.imap(self.defect, distinct, _CHUNK), strict=True):
                advance()
                if defect is not None:
                    found[member] = defect
        return found
