"""This process's resident memory: how much it is, and the most it was since a moment (Linux)."""

from pathlib import Path


def resident() -> int:
    """Bytes resident now."""
    return _status("VmRSS")


def forget_peak() -> None:
    """Let :func:`peak_resident` start anew."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_resident() -> int:
    """The most bytes that were resident since :func:`forget_peak`, or since the process began."""
    return _status("VmHWM")


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"/proc/self/status has no {name}")
