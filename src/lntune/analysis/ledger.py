"""Keeps the account of a dry run: what is held, for what, and what it was when it was most.

A :class:`Buffer` stands for one tensor's memory. As with PyTorch's own tensors it is given back when nothing refers to
it any more, so the dry run frees what the real step frees, when it does.
"""

from collections.abc import Mapping


class Ledger:
    """Bytes held, by part, now and at the moment when their sum was largest."""

    def __init__(self) -> None:
        self.parts: dict[str, int] = {}
        self.total = 0
        self.peak = 0
        self.peak_moment = ""
        self.moment = ""
        self.part = ""
        """What new buffers are for, if they do not say otherwise."""
        self._peak_parts: Mapping[str, int] = {}
        self._at_peak = False

    @property
    def peak_parts(self) -> Mapping[str, int]:
        """What made up the peak."""
        return self.parts.copy() if self._at_peak else self._peak_parts

    def take(self, part: str, size: int) -> None:
        """Hold more."""
        self.parts[part] = self.parts.get(part, 0) + size
        self.total += size
        if self.total > self.peak:
            self.peak = self.total
            self.peak_moment = self.moment
            self._at_peak = True

    def give(self, part: str, size: int) -> None:
        """Hold less."""
        self._before_change()
        self.parts[part] -= size
        self.total -= size

    def move(self, before: str, after: str, size: int) -> None:
        """Enter what is held under another part."""
        self._before_change()
        self.parts[before] -= size
        self.parts[after] = self.parts.get(after, 0) + size

    def _before_change(self) -> None:
        """Write down the parts before they are others than at the peak; copying them at every rise would take long."""
        if self._at_peak:
            self._peak_parts, self._at_peak = self.parts.copy(), False

    def new(self, size: int, part: str = "") -> "Buffer":
        """A buffer of so many bytes, held until nothing refers to it."""
        return Buffer(self, part or self.part, size)

    def touch(self, *sizes: int, part: str = "") -> None:
        """Hold buffers of these sizes all at once, and give them back."""
        total = sum(sizes)
        self.take(part or self.part, total)
        self.give(part or self.part, total)


class Buffer:
    """One tensor's memory."""

    __slots__ = ("ledger", "part", "size")

    def __init__(self, ledger: Ledger, part: str, size: int) -> None:
        self.ledger, self.part, self.size = ledger, part, size
        ledger.take(part, size)

    def __del__(self) -> None:
        self.ledger.give(self.part, self.size)

    def rename(self, part: str) -> "Buffer":
        """Enter it under another part."""
        self.ledger.move(self.part, part, self.size)
        self.part = part
        return self
