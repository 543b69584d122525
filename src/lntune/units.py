"""Amounts as people read them."""


def bytes_text(count: float) -> str:
    """Bytes in powers of 1000: ``512 B``, ``1.2 MB``, ``14 GB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def seconds_text(seconds: float) -> str:
    """Seconds in the unit that suits: ``0.4 s``, ``42 s``, ``12 min``, ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 36000 else f"{seconds / 3600:,.0f} h"


def counted(count: int, noun: str) -> str:
    """A number with its noun: ``1 result``, ``2,000 results``."""
    return f"{count:,} {noun}{'s' * (count != 1)}"
