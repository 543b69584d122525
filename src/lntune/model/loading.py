"""Loads pictures by their index, several at a time: reading and decoding take longer than a frozen encoder's pass."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from torch import Tensor


class Loader:
    """Calls ``load`` for many indices with ``workers`` threads; what comes back is in the order asked for.

    Each picture is loaded by one call, so its numbers do not depend on the number of threads. With one worker no
    thread is started. ``load`` must be safe to call from several threads.
    """

    def __init__(self, load: Callable[[int], Tensor], workers: int = 1) -> None:
        self._load = load
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="pictures") if workers > 1 else None
        self._ahead: dict[int, Future[Tensor]] = {}

    def __call__(self, indices: Sequence[int]) -> list[Tensor]:
        """The pictures at these indices; the first error in this order is raised."""
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
