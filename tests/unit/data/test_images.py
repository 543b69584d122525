"""Which images can be used and which cannot, whatever lies in the file, and that threads change nothing."""

import io
import time
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from PIL import Image, ImageCms, ImageFile, ImageOps
from torch import Tensor

from image_files import (
    ADOBE,
    SIZE,
    SRGB,
    SRGB_CURVE,
    UNUSABLE,
    animated,
    bomb,
    encoded,
    grey_ink_profile,
    grey_profile,
    jpeg,
    rgb_profile,
    srgb_light,
)
from lntune.data.archives import write_zip
from lntune.data.images import ImageArchive, ImageError, Reason, decode
from lntune.errors import UserError
from lntune.model.features import EncodedImages, images_of
from lntune.model.vision import VisionEncoder
from made_up import MADE_UP
from tiny_multimodal import image, tiny_model


def reason_of(content: bytes) -> str:
    with pytest.raises(ImageError) as raised:
        decode(content)
    assert "\n" not in str(raised.value) and " at 0x" not in str(raised.value)
    return raised.value.reason


@pytest.mark.parametrize("reason", UNUSABLE)
def test_a_image_that_cannot_be_used_has_a_reason(reason: str) -> None:
    assert reason_of(UNUSABLE[reason]) == reason


def test_every_reason_is_tried() -> None:
    assert set(UNUSABLE) | {"missing"} == set(get_args(Reason))


@pytest.mark.parametrize(
    "content",
    [jpeg(), encoded("JPEG", "L"), encoded(progressive=True), encoded("PNG", "RGBA"), encoded("PNG", "P"),
     encoded("PNG", "1"), encoded("GIF", "P"), encoded("WEBP"), encoded("BMP"),
     encoded("MPO", save_all=True, append_images=[Image.open(io.BytesIO(jpeg(1)))])],
)  # fmt: skip
def test_stills_of_every_kind_can_be_used(content: bytes) -> None:
    assert decode(content).size == SIZE


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP"])
def test_films_are_animated(format: str) -> None:
    assert reason_of(animated(format)) == "animated"


@pytest.mark.parametrize(("format", "how"), [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {})])
def test_a_file_that_was_cut_anywhere_never_passes_as_other_pixels(format: str, how: dict[str, bool]) -> None:
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    whole = encoded(format, **how)
    pixels = decode(whole).tobytes()
    for end in range(2, len(whole)):
        try:
            assert decode(whole[:end]).tobytes() == pixels, end
        except ImageError as error:
            assert error.reason == "truncated", (end, error)


def test_damage_never_raises_anything_else() -> None:
    for format in ("JPEG", "PNG", "GIF", "WEBP", "BMP"):
        whole = encoded(format)
        for at in range(0, len(whole), max(1, len(whole) // 60)):
            for value in (0, 0xFF):
                content = whole[:at] + bytes([value]) * 3 + whole[at + 3 :]
                try:
                    decode(content)
                except ImageError as error:
                    assert error.reason in get_args(Reason)


@pytest.mark.parametrize(("width", "height"), [(10_000, 5_001), (50_000, 50_000), (50_000, 1), (1, 402), (201, 1)])
def test_bombs_are_refused_before_they_are_decoded(width: int, height: int) -> None:
    started = time.monotonic()
    content = bomb(width, height)
    packed = time.monotonic()
    assert reason_of(content) == "oversized"
    assert len(content) < 3_000_000 and time.monotonic() - packed < max(1.0, packed - started)


def test_a_large_photograph_is_no_bomb() -> None:
    assert decode(bomb(10_000, 5_000)).size == (10_000, 5_000)


def test_a_strip_of_pixels_is_no_bomb() -> None:
    assert decode(bomb(200, 1)).size == (200, 1) and decode(bomb(1, 1)).size == (1, 1)


@pytest.mark.parametrize("size", [(0, 4), (4, 0), (0, 0)])
def test_an_image_without_pixels_is_broken(size: tuple[int, int]) -> None:
    assert reason_of(bomb(*size)) == "broken"


def test_decoders_that_start_other_programs_are_not_asked() -> None:
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    assert reason_of(postscript) == "broken"


# --- what a viewer shows ---------------------------------------------------------------------------------------------

WHOLE_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
ORDINARY = [("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "RGB"), ("PNG", "L"), ("PNG", "P"), ("PNG", "1"), ("BMP", "RGB"),
            ("WEBP", "RGB"), ("GIF", "P")]  # fmt: skip


def saved(image: Image.Image, format: str, **how: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **how)
    return buffer.getvalue()


def pixels_of(content: bytes) -> Any:
    return np.asarray(decode(content)).astype(int)


@pytest.mark.parametrize(("format", "mode"), ORDINARY)
@pytest.mark.parametrize("profile", [None, WHOLE_SRGB, rgb_profile(SRGB, SRGB_CURVE)], ids=["none", "exact", "usual"])
def test_ordinary_images_have_the_bytes_of_pillows_rgb(format: str, mode: str, profile: bytes | None) -> None:
    for seed in range(20):
        size = (1 + 7 * seed % 40, 1 + 11 * seed % 30)
        content = encoded(format, mode, size, seed, **({"icc_profile": profile} if profile else {}))
        asked = Image.open(io.BytesIO(content)).convert("RGB")
        assert (decode(content).mode, decode(content).tobytes()) == ("RGB", asked.tobytes())


@given(
    mode=some.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]),
    clear=some.booleans(),
    turned=some.integers(1, 8),
    size=some.tuples(some.integers(1, 9), some.integers(1, 9)),
    seed=some.integers(0, 10_000),
)
@MADE_UP
def test_every_mode_depth_and_orientation_looks_as_in_a_viewer(
    mode: str, clear: bool, turned: int, size: tuple[int, int], seed: int
) -> None:
    """Against what NumPy makes of the numbers: a PNG of this mode, with one colour transparent if it is ``clear``."""
    draw = np.random.default_rng(seed)
    shape = (size[1], size[0])
    opacity = np.full(shape, 255)
    if mode == "I;16":
        numbers = draw.choice([0, 255, 256, 4000, 30_000, 65_535], shape).astype(np.uint16)
        image, shades = Image.fromarray(numbers), numbers // 256
        shown = np.stack([shades] * 3, 2)
        opaque = numbers != 4000
        key: Any = 4000
    elif mode in ("1", "L", "P"):
        numbers = draw.choice([0, 255] if mode == "1" else [0, 7, 80, 255], shape).astype(np.uint8)
        image = Image.fromarray(numbers).convert("1") if mode == "1" else Image.fromarray(numbers)
        shown = np.stack([numbers] * 3, 2)
        if mode == "P":
            palette = draw.integers(0, 256, (256, 3), dtype=np.uint8)
            image = Image.fromarray(numbers, "L")
            image.putpalette(palette.tobytes())
            shown = palette[numbers]
        key = 255 if mode == "1" else 7
        opaque = numbers != key
    else:
        numbers = draw.choice([0, 3, 120, 255], (*shape, len(mode))).astype(np.uint8)
        image = Image.fromarray(numbers, mode)
        shown = numbers[:, :, :3] if len(mode) > 2 else numbers[:, :, [0, 0, 0]]
        if mode in ("LA", "RGBA"):
            opacity = numbers[:, :, -1].astype(int)
        key = (3, 120, 0)
        opaque = (shown != key).any(2)
    more = {}
    if clear and mode not in ("LA", "RGBA"):
        more, opacity = {"transparency": key}, np.where(opaque, 255, 0)
    exif = Image.Exif()
    exif[0x0112] = turned
    content = saved(image, "PNG", exif=exif, **more)
    on_white = np.rint((shown * opacity[:, :, None] + 255 * (255 - opacity[:, :, None])) / 255).astype(np.uint8)
    upright = Image.fromarray(on_white)
    upright.getexif()[0x0112] = turned
    expected = np.asarray(ImageOps.exif_transpose(upright)).astype(int)
    assert decode(content).mode == "RGB"
    assert np.abs(pixels_of(content) - expected).max() <= (opacity % 255 != 0).any()


def test_damaged_exif_leaves_an_image_as_it_is() -> None:
    whole = saved(Image.new("RGB", SIZE, "red"), "JPEG")
    for exif in (b"Exif\0\0rubbish", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(9)):
        content = saved(Image.new("RGB", SIZE, "red"), "JPEG", exif=exif)
        assert decode(content).tobytes() == decode(whole).tobytes()


def in_srgb(colour: Any, primaries: Any, gamma: float) -> Any:
    """What a colour is in sRGB, by the two spaces' definitions."""
    light = np.linalg.inv(np.array(SRGB).T) @ np.array(primaries).T @ ((np.array(colour) / 255) ** gamma)
    steps = np.arange(256) / 255
    return np.array([np.abs(srgb_light(steps) - one).argmin() for one in light.clip(0, 1)])


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("colour", [(200, 30, 90), (40, 120, 60), (255, 255, 255), (0, 0, 0), (128, 128, 128)])
def test_a_profile_of_other_colours_is_applied(format: str, colour: tuple[int, int, int]) -> None:
    how = {
        "quality": 100,
        **({"subsampling": 0} if format == "JPEG" else {"lossless": True} if format == "WEBP" else {}),
    }
    image = Image.new("RGB", SIZE, colour)
    content = saved(image, format, icc_profile=rgb_profile(ADOBE, [2.19921875]), **(how if format != "PNG" else {}))
    assert np.abs(pixels_of(content) - in_srgb(colour, ADOBE, 2.19921875)).max() <= 3
    if len(set(colour)) > 1:
        assert np.abs(pixels_of(content) - colour).max() > 5


def test_a_profile_is_applied_to_palettes_greys_and_what_shows_through() -> None:
    profile, colour = rgb_profile(ADOBE, [2.19921875]), (40, 120, 60)
    wanted = in_srgb(colour, ADOBE, 2.19921875)
    palette = Image.new("RGB", SIZE, colour).quantize(2)
    assert np.abs(pixels_of(saved(palette, "PNG", icc_profile=profile)) - wanted).max() <= 3
    half = Image.new("RGBA", SIZE, (*colour, 128))
    assert np.abs(pixels_of(saved(half, "PNG", icc_profile=profile)) - (wanted * 128 + 255 * 127) / 255).max() <= 3
    light = grey_profile([1.0])  # shades that are amounts of light
    for grey in (Image.new("L", SIZE, 55), Image.new("LA", SIZE, (55, 255))):
        assert np.abs(pixels_of(saved(grey, "PNG", icc_profile=light)) - 128).max() <= 2
    linear = rgb_profile(SRGB, [1.0])
    assert np.abs(pixels_of(saved(Image.new("L", SIZE, 55), "JPEG", icc_profile=linear)) - 128).max() <= 2


@pytest.mark.parametrize(
    "profile", [b"rubbish", rgb_profile(ADOBE, [2.2])[:200], grey_profile([1.0]), grey_ink_profile()]
)
def test_a_profile_that_is_damaged_or_of_other_pixels_is_none(profile: bytes) -> None:
    plain, with_it = encoded("PNG"), encoded("PNG", icc_profile=profile)
    assert decode(plain).tobytes() == decode(with_it).tobytes()


def test_inks_are_what_their_profile_says_and_nothing_without_one() -> None:
    """Adobe's files hold them inverted, and Pillow writes them so."""
    for inks, grey in {(0, 0, 0, 0): 255, (255, 0, 0, 0): 0, (0, 0, 0, 255): 0}.items():
        image = Image.new("CMYK", SIZE, inks)
        content = saved(image, "JPEG", quality=100, icc_profile=grey_ink_profile())
        assert b"Adobe" in content and np.abs(pixels_of(content) - grey).max() <= 2
        assert reason_of(saved(image, "JPEG")) == "CMYK"
        assert reason_of(saved(image, "JPEG", icc_profile=rgb_profile(ADOBE, [2.2]))) == "CMYK"


@pytest.fixture
def archive(tmp_path: Path) -> ImageArchive:
    """Whole images, one of each reason, and one whose bytes in the zip are damaged."""
    members = [(f"{k}.jpg", jpeg(k)) for k in range(12)] + [(f"{name}.x", UNUSABLE[name]) for name in UNUSABLE]
    write_zip(tmp_path / "a.zip", [*members, ("damaged.jpg", jpeg(99))])
    content = (tmp_path / "a.zip").read_bytes()
    assert content.count(jpeg(99)) == 1
    (tmp_path / "a.zip").write_bytes(content.replace(jpeg(99), jpeg(99)[:-9] + b"other" + jpeg(99)[-4:]))
    return ImageArchive(tmp_path / "a.zip")


def test_all_defects_are_found_in_order_by_any_number_of_threads(archive: ImageArchive) -> None:
    members = [*archive.names(), "missing", *archive.names()]
    counted: list[int] = []
    found = archive.defects(members, 1, lambda: counted.append(1))
    assert len(counted) == 12 + len(UNUSABLE) + 2
    assert [(name, defect.reason) for name, defect in found.items()] == [
        *((f"{reason}.x", reason) for reason in UNUSABLE), ("damaged.jpg", "broken"), ("missing", "missing"),
    ]  # fmt: skip
    for workers in (2, 4, 16):
        again = archive.defects(members, workers)
        assert [(name, str(defect)) for name, defect in again.items()] == [(n, str(d)) for n, d in found.items()]


@pytest.mark.parametrize("reason", [*UNUSABLE, "damaged"])
def test_training_stops_at_a_image_that_cannot_be_used(archive: ImageArchive, reason: str) -> None:
    member = "damaged.jpg" if reason == "damaged" else f"{reason}.x"
    with pytest.raises(UserError, match=rf"a\.zip: member {member} is not a readable image \(\w+: .+\)$"):
        archive.image_or_refuse(member)


class _Encoder:
    """Means over an image's quarters, and the pixels of an image as they are."""

    tokens, width = 4, 3

    def preprocess(self, image: Image.Image) -> Tensor:
        pixels = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8)
        return pixels.reshape(SIZE[1], SIZE[0], 3).permute(2, 0, 1).float() / 255

    def encode(self, pixels: Tensor) -> Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(pixels, 2).flatten(2).transpose(1, 2)


@pytest.mark.parametrize("cache", [True, False])
def test_features_are_the_same_bit_for_bit_with_any_number_of_workers(archive: ImageArchive, cache: bool) -> None:
    encoder: VisionEncoder = _Encoder()  # type: ignore[assignment]
    members = [f"{k % 12}.jpg" for k in range(150)]
    asked = [[149, 3, 3, 64], list(range(0, 150, 7)), [0], [5, 4, 3]]
    one = images_of(encoder, archive.path, members, cache=cache)
    several = images_of(encoder, archive.path, members, cache=cache, workers=4)
    for indices in asked:
        several.prefetch(asked[(asked.index(indices) + 1) % len(asked)])
        assert torch.equal(one.features(indices), several.features(indices))


def test_an_error_in_a_thread_is_the_one_of_the_first_image(archive: ImageArchive) -> None:
    members = ["0.jpg", "truncated.x", "broken.x"]
    several = images_of(_Encoder(), archive.path, members, cache=True, workers=3)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"member truncated\.x is not"):
        several.features([0])


def test_prefetched_images_are_loaded_once() -> None:
    loaded: list[int] = []

    def load(index: int) -> Tensor:
        loaded.append(index)
        return image(index)

    images = EncodedImages(tiny_model().vision, load, count=10, cache=False, workers=2)
    images.prefetch([4, 2, 4])
    images.prefetch([2, 7])
    images.features([2, 4, 2, 7])
    assert sorted(loaded) == [2, 4, 7]
    images.features([2])
    assert sorted(loaded) == [2, 2, 4, 7]
