"""Where image features come from: the frozen vision encoder, its outputs cached in memory, or nothing at all.

The vision encoder never trains, so an image's features are constants; training and generation ask for them by the
image's index. Several threads read and decode the images, which takes longer than the encoder's pass.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from lntune.data.images import ImageArchive
from lntune.model.vision import VisionEncoder


class FeatureSource(Protocol):
    """Features by image index."""

    def features(self, indices: Sequence[int]) -> Tensor:
        """Return features (B, T, W) of the images at these indices, in this order, without gradient."""

    def prefetch(self, indices: Sequence[int]) -> None:
        """Begin to load the images that :meth:`features` will be asked for next, where that saves time."""


class EncodedImages:
    """Features computed when first asked for, and held in memory (count x tokens x width numbers) if ``cache`` is set.

    Cached features are computed in blocks of consecutive images, so an image's features do not depend, down to the last
    bit, on who asked for it together with what: a resumed run sees the numbers of an undisturbed one.

    ``load`` returns one image's normalised pixels, float32 (3, S, S), and must be safe to call from several threads:
    ``workers`` of them call it, or with one worker none.
    """

    def __init__(
        self,
        encoder: VisionEncoder,
        load: Callable[[int], Tensor],
        count: int,
        *,
        cache: bool,
        block: int = 64,
        workers: int = 1,
    ) -> None:
        self.encoder, self.load, self.count, self.cache, self.block = encoder, load, count, cache, block
        self.cached: Tensor | None = None
        self.done: set[int] = set()
        self.pool = ThreadPoolExecutor(workers, thread_name_prefix="images") if workers > 1 else None
        self.ahead: dict[int, Future[Tensor]] = {}

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
            self._begin(indices)

    def _begin(self, indices: Sequence[int]) -> None:
        if self.pool is not None:
            for index in indices:
                if index not in self.ahead:
                    self.ahead[index] = self.pool.submit(self.load, index)

    @torch.no_grad()
    def _encode(self, indices: Sequence[int]) -> Tensor:
        """The images' features; of images that cannot be loaded, the first one's error."""
        if self.pool is None:
            pixels = [self.load(index) for index in indices]
        else:
            self._begin(indices)
            pixels = [future.result() for future in [self.ahead.pop(index) for index in indices]]
        return self.encoder.encode(torch.stack(pixels)).detach()

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
    """Features of an archive's members, in the order given, which ``workers`` threads read and decode."""
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
