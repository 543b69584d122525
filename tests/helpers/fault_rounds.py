"""Rounds: a run of the tiny study meets a fault, a plain ``snakemake`` follows, and what is there is compared.

    finished = Finished(checkout)                   # a checkout in which a plain snakemake has ended well
    outcome = play("disk full", finished, folder, random.Random(7))
    outcome.right, outcome.again, outcome.differing, outcome.hand

A round begins with the finished store as it was at a random moment of its making, so that few jobs are left. What is
right after a fault:

- Whatever ended a run, be it a kill, a full or a failing disk, or a power cut: once the fault is over, a plain
  ``snakemake`` ends with the bytes of the undisturbed run, and makes no result again that was finished.
- A wrong clock and a slow disk stop nothing: the disturbed run itself ends well.
- A damaged file: nothing is made from it. Where no result was damaged, a plain ``snakemake`` puts it right. A damaged
  result is named, by the job that would read it or by ``lntune verify``, with a command; after this command and a plain
  ``snakemake`` the bytes are those of the undisturbed run.
"""

import errno
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import faulty_disk
from checkout import Checkout, run_python
from disturbed_runs import PATIENCE, Run, content
from faulty_disk import READS, WRITES, FaultyDisk

DATA = ("draw", "prepare", "questions-mme", "questions-captions", "questions-vqav2", "questions-pope", "data-table",
        "claims", "comparison")  # fmt: skip
MODELS = ("connector", "finetune", "predict", "score-captions", "select", "table")
_SHOWN = {DATA: ("data", "claims", "comparison"), MODELS: ("tiny",)}
"""Parts of the study that are made again in a round, and the published files that show them."""

YEAR = 365 * 86400


class Finished:
    """A finished checkout, from which rounds begin; it must not change."""

    def __init__(self, checkout: Checkout) -> None:
        self.checkout, self.wanted = checkout, content(checkout)
        self._order = sorted(checkout.root.glob("results/[!.]*/[!.]*/manifest.json"), key=_moment)

    def until(self, target: Path, part: tuple[str, ...], draw: random.Random) -> Checkout:
        """A copy as it was at a random moment at which a part of it was being made."""
        results = [path.parent.relative_to(self.checkout.root) for path in self._order]
        made = [path for path in results if path.parts[1] in part]
        return self.without(target, made[draw.randrange(len(made)) :], _SHOWN[part])

    def without(self, target: Path, results: Sequence[Path], shown: Sequence[str]) -> Checkout:
        """A copy without some results, and without what shows the tables of these names."""
        subprocess.run(["cp", "-a", self.checkout.root, target], check=True)
        for folder in results:
            shutil.rmtree(target / folder)
            for mark in (target / "results/.works" / folder.parts[1]).glob(f"*/{folder.name}"):
                mark.unlink()
        for name in shown:
            for path in target.glob(f"tables/{name}.*"):
                path.unlink()
        return Checkout(target)

    def holders(self, name: str) -> set[str]:
        """A file of the store, and its names in results that were linked."""
        inode = (self.checkout.root / name).stat().st_ino if (self.checkout.root / name).exists() else None
        return {name} | {other for other in self.wanted if (self.checkout.root / other).stat().st_ino == inode}


def _moment(manifest: Path) -> str:
    made = json.loads(manifest.read_text(encoding="utf-8"))
    return str(made["origin"]["linked"] if made["origin"] else made["ended"])


@dataclass
class Outcome:
    """What became of a round.

    ``again``: results that were finished when the fault was over, and were made again without need; ``differing``:
    files whose bytes are not those of the undisturbed run in the end; ``hand``: what had to be done besides a plain
    ``snakemake`` and what a message said; ``told``: the command that a message gave and that was followed.
    """

    fault: str
    detail: str = ""
    met: bool = True
    finished: int = 0
    again: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    hand: str = ""
    told: str = ""
    seconds: float = 0.0

    @property
    def right(self) -> bool:
        """Whether nothing was lost, differed or needed a hand."""
        return not (self.again or self.differing or self.hand)


class Round:
    """One checkout, its disk, and what happens to it."""

    def __init__(self, finished: Finished, folder: Path, draw: random.Random, outcome: Outcome) -> None:
        self.finished, self.draw, self.outcome = finished, draw, outcome
        self.part = MODELS if draw.random() < 0.25 else DATA
        self.root = folder / "checkout"
        self.checkout = Checkout(self.root)
        self.disk = FaultyDisk(folder, self.root) if faulty_disk.missing() is None else None
        self.variables = {"TMPDIR": str(folder / "tmp"), "XDG_CACHE_HOME": str(self.root / "cache")}
        (folder / "tmp").mkdir(exist_ok=True)

    def begin(self) -> None:
        """Put the checkout there, with a part of its results."""
        self.finished.until(self.root, self.part, self.draw)

    def run(self, *, faulty: bool = True) -> Run:
        """Start a plain ``snakemake``, with what the disk and the clock are armed to do."""
        assert self.disk or not faulty
        return Run(self.checkout, self.disk.prefix if self.disk and faulty else (), self.variables)

    @property
    def environment(self) -> dict[str, str]:
        """Of what is run in the checkout."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        own = {"PYTHONPATH": str(self.root / "src"), "COLUMNS": "1000", "PATH": path}
        return os.environ | self.variables | own

    def verify(self) -> tuple[int, str]:
        """``lntune verify``, with one process that scores."""
        done = run_python(self.root, self.environment, "lntune", "verify", "--jobs", "1", timeout=PATIENCE)
        return done.returncode, done.stdout

    def command(self, command: str) -> tuple[int, str]:
        """Run a line of shell in the checkout; its exit code and what it prints."""
        done = subprocess.run(
            command, shell=True, cwd=self.root, env=self.environment, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE,
        )  # fmt: skip
        return done.returncode, done.stdout

    def manifests(self) -> dict[str, tuple[int, int]]:
        """Which results are finished, and the files that say so."""
        found = {}
        for path in self.root.glob("results/[!.]*/[!.]*/manifest.json"):
            status = path.stat()
            found[str(path.relative_to(self.root))] = (status.st_ino, status.st_mtime_ns)
        return found

    def plain(self, *, but: frozenset[str] = frozenset()) -> tuple[int, str]:
        """A plain, undisturbed ``snakemake`` to its end; notes what it made again, ``but`` for some manifests."""
        before = self.manifests()
        self.outcome.finished = len(before)
        done = run_python(self.root, self.environment, "snakemake", "-c2", timeout=PATIENCE)
        after = self.manifests()
        self.outcome.again += [name for name in before if after.get(name) != before[name] and name not in but]
        return done.returncode, done.stdout

    def compare(self) -> list[str]:
        """The files that do not hold what the undisturbed run gave."""
        found = content(self.checkout)
        return sorted(
            name for name in found | self.finished.wanted if found.get(name) != self.finished.wanted.get(name)
        )

    def end(self) -> None:
        """The plain ``snakemake`` after the fault, and the comparison."""
        code, printed = self.plain()
        if code:
            self.outcome.hand = f"exit {code}: {last_words(printed)}"
        self.outcome.differing = self.compare()


def last_words(printed: str) -> str:
    """The lines of a run's output that say what went wrong."""
    lines = [line for line in printed.splitlines() if line.startswith("error:")]
    lines = lines or [line for line in printed.splitlines() if re.match(r"\s*(Error|\w*(Error|Exception)\b)", line)]
    return " | ".join(dict.fromkeys(line.strip()[:300] for line in lines[-4:])) or printed[-300:]


# --- faults ----------------------------------------------------------------------------------------------------------


def kill_whole(round: Round, *, alone: bool, seconds: float) -> None:
    """Kill a whole run, from an empty store, at a random moment."""
    sources = round.finished.checkout.root
    round.root.mkdir()
    for name in ("Snakefile", "config.yaml", "src", "workflow", "profiles", "slurm"):
        subprocess.run(["cp", "-a", sources / name, round.root / name], check=True)
    run = round.run(faulty=False)
    run.wait_for_jobs()
    after = round.draw.uniform(0, seconds)
    with suppress(subprocess.TimeoutExpired):
        run.process.wait(after)
    killed = run.kill(alone=alone)
    round.outcome.detail = f"after {after:.0f} s: {killed} killed{' (Snakemake alone)' if alone else ''}"
    round.end()


def two_runs(round: Round) -> None:
    """A second run begins while the first is at work; both must end well, and make each result once."""
    round.begin()
    first = round.run(faulty=False)
    offset = round.draw.uniform(0, 8)
    time.sleep(offset)
    codes = [round.run(faulty=False).process.wait(PATIENCE), first.process.wait(PATIENCE)]
    round.outcome.detail = f"a second run after {offset:.0f} s"
    round.end()
    if any(codes):
        round.outcome.hand += f"; the runs ended with {codes}"


def kill_one(round: Round) -> None:
    """Kill any one process of a run: a job, the fork server, what started it, a shell."""
    round.begin()
    run = round.run(faulty=False)
    run.wait_for_jobs()
    time.sleep(round.draw.uniform(0, 6))
    others = sorted(run.processes() - {run.process.pid})
    round.outcome.met = bool(others)
    if others:
        victim = round.draw.choice(others)
        with suppress(OSError):
            words = Path(f"/proc/{victim}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            round.outcome.detail = re.sub(r"\S*/", "", words)[-80:]
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
    code = run.process.wait(PATIENCE)
    round.outcome.detail += f", run ended with {code}"
    round.end()


def failing_disk(round: Round, *, kinds: int, error: int) -> None:
    """From a random call on, or at it alone, the disk refuses to read or to write."""
    round.begin()
    disk = round.disk
    assert disk
    lasting = round.draw.random() < 0.5
    first = int(10 ** round.draw.uniform(0, 3.8 if kinds & READS else 3.0))
    disk.arm(kinds, error, first=first, lasting=lasting)
    run = round.run()
    code = run.process.wait(PATIENCE)
    disk_failed = disk.counted("failed")
    disk.disarm()
    run.kill(alone=False)  # what outlives its Snakemake would go on beside the next run
    printed = run.printed.read_text(errors="replace")
    round.outcome.met = disk_failed > 0
    words = f", says {last_words(printed)}" if code and disk_failed else ""
    round.outcome.detail = f"call {first:,}{' and all after' if lasting else ''}: run ended with {code}{words}"
    round.end()


def wrong_clock(round: Round) -> None:
    """The clock is wrong, from the start or from a moment in the run on; files keep the time that they were given."""
    round.begin()
    disk, sign = round.disk, round.draw.choice([-1, 1])
    assert disk
    shift = sign * round.draw.choice([3600, 5 * 3600, 30 * 86400, YEAR, 20 * YEAR])
    from_start = round.draw.random() < 0.5
    if from_start:
        disk.arm(shift=shift)
    began = time.time()
    run = round.run()
    run.wait_for_jobs()
    time.sleep(round.draw.uniform(0, 3))
    disk.arm(shift=shift)
    code = run.process.wait(PATIENCE)
    disk.disarm()
    for path in [*round.root.rglob("*")]:
        with suppress(OSError):
            status = path.lstat()
            if status.st_mtime > began and not path.is_symlink():
                os.utime(path, (status.st_atime, status.st_mtime + shift))
    # Whoever edits a published file then must see it put right, whatever its time.
    edited = round.draw.choice([*round.root.glob("tables/*.csv")])
    time_of = edited.stat()
    edited.write_text("edited\n")
    os.utime(edited, (time_of.st_atime, time_of.st_mtime))
    start = "from the start" if from_start else "on the way"
    round.outcome.detail = f"{shift / 3600:+,.0f} h {start}, then {edited.name} edited"
    if code:
        round.outcome.hand = f"the run ended with {code}: {last_words(run.printed.read_text())}; "
    before = round.outcome.hand
    round.end()
    round.outcome.hand = before + round.outcome.hand


def slow_disk(round: Round) -> None:
    """Every call that reads or writes takes longer."""
    round.begin()
    disk = round.disk
    assert disk
    delay = round.draw.choice([0.0005, 0.002, 0.005])
    kinds = round.draw.choice([READS, WRITES, READS | WRITES])
    disk.arm(kinds, delay=delay)
    run = round.run()
    code = run.process.wait(PATIENCE)
    round.outcome.detail = f"{1000 * delay:g} ms a call, {disk.counted('calls'):,} calls, run ended with {code}"
    disk.disarm()
    if code:
        round.outcome.hand = f"the run ended with {code}: {last_words(run.printed.read_text())}; "
    before = round.outcome.hand
    round.end()
    round.outcome.hand = before + round.outcome.hand


def power_cut(round: Round) -> None:
    """All processes end at once, and what nobody had flushed may be lost."""
    round.begin()
    disk = round.disk
    assert disk
    disk.arm(journal=True)
    run = round.run()
    run.wait_for_jobs()
    with suppress(subprocess.TimeoutExpired):
        run.process.wait(round.draw.uniform(0, 12))
    run.kill(alone=False)
    disk.disarm()
    there = round.manifests()
    taken = disk.cut_power(round.draw)
    lost = [name for name in there if name not in round.manifests()]
    round.outcome.detail = f"{len(taken)} of what was not flushed is lost"
    round.end()
    round.outcome.again += lost


# --- damaged files ---------------------------------------------------------------------------------------------------

_COMMAND = re.compile(r"`(rm -r[^`]*)`")


def damaged_file(round: Round) -> None:
    """A bit of any file flips, or its end or all of its bytes are lost, while something is to be made or nothing is."""
    if round.draw.random() < 0.5:
        round.begin()
    else:
        round.finished.without(round.root, (), ())
    damage_and_mend(round, round.draw.choice(_PLACES))


def damage_and_mend(round: Round, pattern: str) -> None:
    """Damage a file; then a plain ``snakemake``, and if a result is damaged the command that a message gives."""
    outcome = round.outcome
    name = round.draw.choice(sorted(_candidates(round, pattern)))
    damage = _damage(round.root / name, round.draw)
    holders = round.finished.holders(name)
    short = (
        re.sub(r"[0-9a-f]{12,}", "ID", name) if not name.startswith(".snakemake/metadata") else ".snakemake/metadata"
    )
    outcome.detail = f"{short}: {damage}"
    harmed = frozenset(str(Path(*Path(one).parts[:3], "manifest.json")) for one in holders)
    damaged_result = bool(re.match(r"results/[^.]", name))
    code, printed = round.plain(but=harmed)
    wrong = [one for one in round.compare() if one not in holders]
    missing = [one for one in wrong if not (round.root / one).exists()]
    if set(wrong) - set(missing):
        outcome.hand = f"made from damaged bytes: {', '.join(sorted(set(wrong) - set(missing)))}; "
    verified, said = round.verify() if damaged_result or code else (0, "")
    if not code and not verified:
        outcome.differing = round.compare()
        return
    for _ in range(4):
        commands = list(dict.fromkeys(_COMMAND.findall(printed + said)))
        if not commands:
            named = "names" if Path(name).name in printed + said else "does not name"
            outcome.hand += f"no command, and {named} the file: {last_words(printed)} / {said[-300:]}"
            break
        for command in commands:
            outcome.told = re.sub(r"[0-9a-f]{12,}", "ID", command)
            told, answer = round.command(command)
            if told:
                outcome.hand += f"`{command}` ended with {told}: {last_words(answer)}; "
        code, printed = round.plain(but=harmed)
        verified, said = round.verify()
        if not code and not verified:
            break
    else:
        outcome.hand += f"still off after four commands: {last_words(printed)} / {said[-300:]}"
    outcome.differing = round.compare()


_PLACES = (
    *["results/[!.]*/[!.]*/**/*"] * 6, "results/[!.]*/[!.]*/manifest.json", "results/.*/**/*", "tables/*",
    ".snakemake/**/*", "cache/**/*", "logs/**/*",
)  # fmt: skip


def _candidates(round: Round, pattern: str) -> Iterator[str]:
    found = [path for path in round.root.glob(pattern) if path.is_file() and path.stat().st_size]
    for path in found or round.root.glob("results/[!.]*/[!.]*/manifest.json"):
        yield str(path.relative_to(round.root))


def _damage(path: Path, draw: random.Random) -> str:
    """Damage a file in place, so that all its names have it, and its time stays."""
    status, before = path.stat(), path.read_bytes()
    place = draw.randrange(len(before))
    fate = draw.choice(["bit"] * 6 + ["half", "empty"])
    flipped = before[:place] + bytes([before[place] ^ 1 << draw.randrange(8)]) + before[place + 1 :]
    after = {"bit": flipped, "half": before[: len(before) // 2], "empty": b""}[fate]
    path.chmod(0o644)
    path.write_bytes(after)
    path.chmod(status.st_mode)
    os.utime(path, (status.st_atime, status.st_mtime))
    return {"bit": f"a bit of byte {place:,} flipped", "half": "cut in half", "empty": "emptied"}[fate]


def _checkpoint_files(root: Path) -> list[Path]:
    with suppress(FileNotFoundError):  # what is listed is being deleted
        return [path for path in root.glob("results/.scratch/finetune-*/**/step-*/*") if path.is_file()]
    return []


def damaged_checkpoint(round: Round) -> None:
    """A training is killed, and the checkpoint that it left is damaged."""
    round.part = MODELS
    round.begin()
    for stage in ("finetune", *MODELS[2:]):
        for folder in round.root.glob(f"results/{stage}/*"):
            shutil.rmtree(folder)
        shutil.rmtree(round.root / "results/.works" / stage, ignore_errors=True)
    run = round.run(faulty=False)
    deadline = time.monotonic() + PATIENCE
    while run.process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
        if _checkpoint_files(round.root):
            break
    run.kill(alone=False)
    found = _checkpoint_files(round.root)
    round.outcome.met = bool(found)
    if found:
        path = round.draw.choice(sorted(found))
        round.outcome.detail = f"{path.parent.name}/{path.name}: {_damage(path, round.draw)}"
    round.end()


FAULTS: Mapping[str, Callable[[Round], None]] = {
    "one process killed": kill_one,
    "two runs at once": two_runs,
    "disk full": partial(failing_disk, kinds=WRITES, error=errno.ENOSPC),
    "quota reached": partial(failing_disk, kinds=WRITES, error=errno.EDQUOT),
    "disk fails to write": partial(failing_disk, kinds=WRITES, error=errno.EIO),
    "disk fails to read": partial(failing_disk, kinds=READS, error=errno.EIO),
    "wrong clock": wrong_clock,
    "slow disk": slow_disk,
    "power cut": power_cut,
    "damaged file": damaged_file,
    "damaged checkpoint": damaged_checkpoint,
}


def play(
    fault: str, finished: Finished, folder: Path, draw: random.Random, given: Callable[[Round], None] | None = None
) -> Outcome:
    """Play a round in an empty folder, which is deleted; ``given`` in place of what the fault's name stands for."""
    outcome, started = Outcome(fault), time.monotonic()
    with _emptied(folder):
        (given or FAULTS[fault])(Round(finished, folder, draw, outcome))
    outcome.seconds = time.monotonic() - started
    return outcome


@contextmanager
def _emptied(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
