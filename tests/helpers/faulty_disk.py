"""A disk with faults, a clock that is wrong, and what a power cut takes: for the processes of one checkout.

    disk = FaultyDisk(folder, checkout.root)
    disk.arm(WRITES, errno.ENOSPC, first=40, lasting=True)      # the 40th call that writes fails, and all after it
    subprocess.run([*disk.prefix, "snakemake"], env=os.environ | {"TMPDIR": str(disk.tmp)})
    disk.disarm()

``faulty_disk.c`` is compiled when it is needed and loaded into every process, whatever its environment, by an
``/etc/ld.so.preload`` that these processes alone see: they run in a mount namespace with a copy of /etc.
"""

import random
import shutil
import struct
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from os import getuid
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")

OPEN_TO_READ, READ, OPEN_TO_WRITE, WRITE, FLUSH, NAME = (1 << bit for bit in range(6))
READS = OPEN_TO_READ | READ
WRITES = OPEN_TO_WRITE | WRITE | FLUSH | NAME

_FIELDS = ("kinds", "error", "first", "lasting", "calls", "failed", "shift", "delay")
_PATH_MAX = 4096


@cache
def missing() -> str | None:
    """Why no disk can have faults here: no compiler, or no right to a mount namespace; None if it can."""
    if shutil.which("cc") is None:
        return "no C compiler"
    done = subprocess.run([*_unshare(), "mount", "--bind", "/etc", "/mnt"], capture_output=True, text=True)
    return None if done.returncode == 0 else f"no mount namespace ({done.stderr.strip()})"


def _unshare() -> list[str]:
    return ["unshare", "--mount"] if getuid() == 0 else ["unshare", "--mount", "--map-root-user"]


class FaultyDisk:
    """What happens to files below ``checkout`` and ``tmp``; processes that start with ``prefix`` are subject to it."""

    def __init__(self, folder: Path, checkout: Path) -> None:
        self.checkout, self.tmp, self.journal = checkout, folder / "tmp", folder / "journal"
        self._control = folder / "control"
        etc, library = folder / "etc", folder / "faulty_disk.so"
        self.tmp.mkdir(parents=True)
        given = f'-DCONTROL="{self._control}"'
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", given, SOURCE, "-o", library, "-ldl"], check=True)
        # Not all of /etc can be read by everybody.
        subprocess.run(["cp", "-a", "/etc", etc], stderr=subprocess.DEVNULL, check=False)
        (etc / "ld.so.preload").write_text(f"{library}\n")
        self.prefix = [*_unshare(), "sh", "-c", f'mount --bind "{etc}" /etc && exec "$@"', "sh"]
        self.disarm()

    def arm(
        self, kinds: int = 0, error: int = 0, *, first: int = 1, lasting: bool = False, shift: int = 0,
        delay: float = 0.0, journal: bool = False,
    ) -> None:  # fmt: skip
        """From now on: what happens to which kinds of calls, from which on, and to the clock.

        Args:
            kinds: calls that are counted, as a sum of the constants above.
            error: the errno that the call with the number ``first`` fails with, and if ``lasting`` all after it.
            first, lasting: see ``error``.
            shift: seconds that the clock is ahead, or behind.
            delay: seconds that each of the calls takes longer.
            journal: whether to note what a power cut could take (:meth:`cut_power`).
        """
        numbers = struct.pack("8q", kinds, error, first, lasting, 0, 0, shift, int(delay * 1e6))
        texts = (str(self.checkout), str(self.tmp), str(self.journal) if journal else "")
        content = numbers + b"".join(text.encode().ljust(_PATH_MAX, b"\0") for text in texts)
        # In place: running processes have mapped it.
        with open(self._control, "r+b" if self._control.exists() else "wb") as file:
            file.write(content)

    def disarm(self) -> None:
        """The disk and the clock are right again."""
        self.arm()

    def counted(self, field: str) -> int:
        """How many of the calls there were since it was armed (``calls``), or how many failed (``failed``)."""
        return int(struct.unpack("8q", self._control.read_bytes()[:64])[_FIELDS.index(field)])

    def cut_power(self, draw: random.Random) -> list[str]:
        """Take from the disk what nobody had flushed since the journal began; return what was taken, in words.

        After a file's last ``fsync``, its bytes may be lost, all or some; so may its name, unless the file or its
        folder was flushed since, and that of a hard link unless the folder was. A rename may not have taken place,
        unless the file or the folder was flushed since. What of it is lost is drawn: a file system may have written it.
        """
        return list(_take(self._entries(), draw))

    def _entries(self) -> list[list[str]]:
        with suppress(FileNotFoundError):
            return [line.split("\t") for line in self.journal.read_text().splitlines()]
        return []


def _take(entries: list[list[str]], draw: random.Random) -> Iterator[str]:
    """See :meth:`FaultyDisk.cut_power`."""
    bytes_at_risk: set[str] = set()
    names_at_risk: set[str] = set()
    linked: set[str] = set()
    renames: list[tuple[str, str, str]] = []
    for what, path, *more in entries:
        if what == "flush":
            bytes_at_risk.discard(path)
            names_at_risk -= {path} - linked | {name for name in names_at_risk if str(Path(name).parent) == path}
            renames = [one for one in renames if path not in (one[1], str(Path(one[1]).parent))]
        elif what == "rename":
            target, kept = more
            renames.append((path, target, kept))
            for names in (bytes_at_risk, names_at_risk):
                moved = {name for name in names if name == path or name.startswith(f"{path}/")}
                names -= moved | {target}
                names |= {target + name.removeprefix(path) for name in moved}
        else:
            if what in ("create", "write"):
                bytes_at_risk.add(path)
            if what != "write":
                names_at_risk.add(path)
            if what == "link":
                linked.add(path)
    undone: dict[str, list[str]] = defaultdict(list)
    for source, target, kept in reversed(renames):
        if draw.random() < 0.5 and Path(target).exists() and not Path(source).exists():
            yield f"rename to {target}"
            Path(target).rename(source)
            undone[target].append(source)
            if kept:
                shutil.copy2(kept, target)
            for names in (bytes_at_risk, names_at_risk):
                names |= {source + name.removeprefix(target) for name in names if f"{name}/".startswith(f"{target}/")}
    for name in sorted(names_at_risk | bytes_at_risk):
        path, fate = Path(name), draw.random()
        if path.is_file() and name in bytes_at_risk and fate < 0.5:
            size = draw.choice([0, path.stat().st_size // 2])
            yield f"bytes of {name} from {size} on"
            with suppress(PermissionError), path.open("r+b") as file:
                file.truncate(size)
        elif name in names_at_risk and fate < 0.75:
            if path.is_file():
                yield f"name {name}"
                path.unlink()
            else:
                with suppress(OSError):  # an empty folder
                    path.rmdir()
                    yield f"folder {name}"
