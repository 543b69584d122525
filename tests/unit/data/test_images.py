"""Which images can be used and which cannot, whatever lies in the file, and that threads change nothing."""

import io
import time
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageFile
from torch import Tensor

from image_files import SIZE, UNUSABLE, animated, bomb, encoded, jpeg
from lntune.data.archives import write_zip
from lntune.data.images import REASONS, ImageArchive, ImageError, decode
from lntune.errors import UserError
from lntune.model.features import EncodedImages, images_of
from lntune.model.vision import VisionEncoder
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
    assert set(UNUSABLE) | {"missing"} == set(REASONS)


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
                    assert error.reason in REASONS


@pytest.mark.parametrize(("width", "height"), [(10_000, 5_001), (50_000, 50_000)])
def test_bombs_are_refused_before_they_are_decoded(width: int, height: int) -> None:
    started = time.monotonic()
    content = bomb(width, height)
    packed = time.monotonic()
    assert reason_of(content) == "oversized"
    assert len(content) < 3_000_000 and time.monotonic() - packed < max(1.0, packed - started)


def test_a_large_photograph_is_no_bomb() -> None:
    assert decode(bomb(10_000, 5_000)).size == (10_000, 5_000)


def test_decoders_that_start_other_programs_are_not_asked() -> None:
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    assert reason_of(postscript) == "broken"


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
