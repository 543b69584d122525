"""The whole demo: how much of its CPU time is training, generation and scoring, and what the rest is.

One run of `snakemake -c2` in a clean clone of this checkout's commit (half an hour on two cores), Table 3 first, as
`make demo` has it. Every manifest tells the CPU time of its stage's own work; all processes together are counted when
they have ended, those that outlive their parent too.
"""

import ctypes
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from lntune.store.record import cpu_seconds
from races.rounds import Row, Say

VERSIONS = ("torch", "transformers", "snakemake")

ROOT = Path(__file__).resolve().parents[2]
TABLE_3 = ("tables/table3.csv", "tables/table3.md")
TRAINING = ("connector", "finetune")
GENERATION = ("predict",)
SCORING = ("score-captions", "score-mme", "score-pope", "score-vqav2")
PR_SET_CHILD_SUBREAPER = 36


def rows(work: Path, say: Say) -> list[Row]:
    """Run the demo in ``work``."""
    checkout = work / "demo"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(checkout)], check=True)
    adopt_orphans()
    found, seconds, cpu = [], 0.0, 0.0
    for name, targets in (("Table 3, as `make demo`", TABLE_3), ("all tables and figures", ())):
        taken = run_snakemake(checkout, targets)
        seconds, cpu = seconds + taken[0], cpu + taken[1]
        say(f"demo: {name}: {seconds:.0f} s, {cpu:.0f} s of CPU time")
        found.append(row(name, checkout / "results", seconds, cpu))
    return found


def row(name: str, store: Path, seconds: float, cpu: float) -> Row:
    """The share of the CPU time that is no training, generation or scoring."""
    works = cpu_by_stage(store)
    useful = sum(works[stage] for stage in (*TRAINING, *GENERATION, *SCORING))
    others = works.total() - useful
    minutes = f"{int(seconds) // 60} min {int(seconds) % 60} s"
    return Row(
        work=f"the demo, {name}: {minutes}",
        rival="",
        unit="% overhead",
        rival_rounds=(0.0,),
        our_rounds=(100 * (1 - useful / cpu),),
        target=25.0,
        bound="at most",
        limit="0",
        profile=(
            f"{name}, seconds of CPU time, {cpu:.0f} in all: training {share(works, TRAINING)}, generation "
            f"{share(works, GENERATION)}, scoring {share(works, SCORING)}, the work of other stages {others:.0f}; "
            f"starts of processes, imports, Snakemake and hashing {cpu - works.total():.0f} "
            f"({100 * (1 - works.total() / cpu):.0f}%).",
        ),
    )


def share(works: Counter[str], stages: Iterable[str]) -> str:
    """The seconds of these stages."""
    return f"{sum(works[stage] for stage in stages):.0f}"


def cpu_by_stage(store: Path) -> Counter[str]:
    """CPU seconds of the work of each stage's results; linked ones cost nothing."""
    works: Counter[str] = Counter()
    for path in store.glob("*/*/manifest.json"):
        manifest = json.loads(path.read_text())
        if not manifest["origin"]:
            works[manifest["stage"]] += manifest["cpu_seconds"]
    return works


def run_snakemake(checkout: Path, targets: Iterable[str]) -> tuple[float, float]:
    """Make the targets; return the seconds, and the CPU seconds of all processes."""
    started, before = time.monotonic(), cpu_seconds()
    command = [str(Path(sys.executable).with_name("snakemake")), "-c2", *targets]
    with (checkout / "snakemake.log").open("a") as log:
        subprocess.run(command, cwd=checkout, stdout=log, stderr=subprocess.STDOUT, check=True)
    taken = time.monotonic() - started
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return taken, cpu_seconds() - before


def adopt_orphans() -> None:
    """Become the parent of processes below this one whose own parent ends first, so that their time is counted."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot adopt orphaned processes")
