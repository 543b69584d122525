"""Where image features come from: the frozen vision encoder, its outputs cached in memory, or nothing at all.

The vision encoder never trains, so an image's features are constants, and training and generation ask one of these
sources for them by the image's index. Several threads read and decode the images, which takes longer than the encoder's
pass.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from lntune.data.images import ImageArchive
from lntune.model.vision import VisionEncoder


class ImageEncoder(Protocol):
    """The part of a vision encoder that features need: ``tokens`` vectors of ``width`` numbers an image."""

    tokens: int
    width: int

    def encode(self, pixels: Tensor) -> Tensor:
        """Turn float32 pixels (B, 3, S, S) into features (B, tokens, width)."""


class FeatureSource(Protocol):
    """Features by image index."""

    def features(self, indices: Sequence[int]) -> Tensor:
        """Return features (B, T, W) of the images at these indices, in this order, without gradient."""

    def prefetch(self, indices: Sequence[int]) -> None:
        """Begin to load the images that :meth:`features` will be asked for next, where that saves time."""


class Loader:
    """Calls ``load`` for many indices with ``workers`` threads; what comes back is in the order asked for.

    Each image is loaded by one call, so its numbers do not depend on the number of threads. With one worker no
    thread is started. ``load`` must be safe to call from several threads.
    """

    def __init__(self, load: Callable[[int], Tensor], workers: int = 1) -> None:
        self._load = load
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="images") if workers > 1 else None
        self._ahead: dict[int, Future[Tensor]] = {}

    def __call__(self, indices: Sequence[int]) -> list[Tensor]:
        """The images at these indices; the first error in this order is raised."""
        if self._pool is None:
            return [self._load(index) for index in indices]
        self.ahead(indices)
        return [future.result() for future in [self._ahead.pop(index) for index in indices]]

    def ahead(self, indices: Sequence[int]) -> None:
        """Begin to load what will be asked for next, while the caller does something else."""
        if self._pool is not None:
            for index in indices:
                if index not in self._ahead:
                    self._ahead[index] = self._pool.submit(self._load, index)


class EncodedImages:
    """Features computed when first asked for, and held in memory if ``cache`` is set.

    Cached features are computed in blocks of consecutive images, so an image's features do not depend, down
    to the last bit, on who asked for it together with what: a resumed run sees the numbers of an
    undisturbed one.

    ``load`` returns one image's normalised pixels, float32 (3, S, S); ``count`` is the number of images.
    With ``cache``, count x tokens x width numbers of memory are taken. ``workers`` threads load images; the features
    are the same for any number of them.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        load: Callable[[int], Tensor],
        count: int,
        *,
        cache: bool,
        block: int = 64,
        workers: int = 1,
    ) -> None:
        self.encoder, self.count, self.block = encoder, count, block
        self.load = Loader(load, workers)
        self.cached: Tensor | None = None
        self.cache = cache
        self.done: set[int] = set()

    def features(self, indices: Sequence[int]) -> Tensor:
        """Return features (B, T, W) of the images at these indices, in this order."""
        if not self.cache:
            unique = list(dict.fromkeys(indices))
            place = {index: row for row, index in enumerate(unique)}
            encoded = self._encode(unique)
            return encoded.index_select(0, torch.tensor([place[i] for i in indices], device=encoded.device))
        for number in sorted({index // self.block for index in indices} - self.done):
            self._fill(number)
        assert self.cached is not None
        return self.cached.index_select(0, torch.tensor(indices, device=self.cached.device))

    def prefetch(self, indices: Sequence[int]) -> None:
        """Begin to load these images in the workers' threads; with ``cache``, or with one worker, nothing is begun."""
        if not self.cache:
            self.load.ahead(indices)

    def _encode(self, indices: Sequence[int]) -> Tensor:
        with torch.no_grad():
            pixels = torch.stack(self.load(indices))
            return self.encoder.encode(pixels).detach()

    def _fill(self, number: int) -> None:
        start = number * self.block
        encoded = self._encode(range(start, min(start + self.block, self.count)))
        if self.cached is None:
            # On the CPU, wherever the encoder is: a benchmark's images would fill a GPU.
            self.cached = torch.zeros(self.count, *encoded.shape[1:], dtype=encoded.dtype)
        self.cached[start : start + len(encoded)] = encoded
        self.done.add(number)


def images_of(
    encoder: VisionEncoder, archive: Path, members: Sequence[str], *, cache: bool, workers: int = 1
) -> EncodedImages:
    """Features of an archive's members, in the order given, computed when first asked for.

    ``workers`` threads read and decode the images; the features do not depend on their number.
    """
    images = ImageArchive(archive)

    def load(index: int) -> Tensor:
        return encoder.preprocess(images.image_or_refuse(members[index]))

    return EncodedImages(encoder, load, len(members), cache=cache, workers=workers)


class BlindFeatures:
    """Zeros in place of features: what is left of an answer when the model cannot see."""

    def __init__(self, tokens: int, width: int) -> None:
        self.tokens, self.width = tokens, width

    def features(self, indices: Sequence[int]) -> Tensor:
        """Return zeros (B, T, W)."""
        return torch.zeros(len(indices), self.tokens, self.width)

    def prefetch(self, indices: Sequence[int]) -> None:
        """Do nothing: there is nothing to load."""
