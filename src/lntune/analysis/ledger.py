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
        self.peak_parts: Mapping[str, int] = {}
        self.peak_moment = ""
        self.moment = ""
        self.part = ""
        """What new buffers are for, if they do not say otherwise."""

    def take(self, part: str, size: int) -> None:
        """Hold more."""
        self.parts[part] = self.parts.get(part, 0) + size
        self.total += size
        if self.total > self.peak:
            self.peak = self.total
            self.peak_parts = self.parts.copy()
            self.peak_moment = self.moment

    def give(self, part: str, size: int) -> None:
        """Hold less."""
        self.parts[part] -= size
        self.total -= size

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
        self.ledger.parts[self.part] -= self.size
        self.ledger.parts[part] = self.ledger.parts.get(part, 0) + self.size
        self.part = part
        return self
