"""Random faults, counted: what a run of the tiny study loses, what differs and what needs a hand after them.

    python measurements/faults.py [--rounds 200] [--kills 20] [--seed 0] [--at-once 1] [--work DIR]

A round is a run under one fault and a plain ``snakemake`` after it (tests/helpers/fault_rounds.py says what is right).
``--kills`` of the rounds kill a whole run, from an empty store; the others begin with a store in which a part of the
results is there. The first call makes the undisturbed run in ``--work``; rounds that were played there are not played
again, so a run that was ended goes on. Writes measurements/faults.md after each round. A round takes about twelve
seconds of CPU time. Faults of a disk or clock need Linux, cc, and the right to a mount namespace.
"""

import argparse
import json
import os
import random
import re
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "tests" / "helpers"), str(HERE.parent / "src")]

from checkout import Checkout, copy_checkout  # noqa: E402
from disturbed_runs import Run  # noqa: E402
from fault_rounds import Finished, Outcome, Round, kill_whole, play  # noqa: E402
from faulty_disk import missing  # noqa: E402
from lntune.store.record import git_state  # noqa: E402

REPORT_ITEM = """\
title: "Tiny: one way to tune"
columns: [Flickr30k]
llms: [vicuna-7b]
rows:
  - {title: Finetune-80K, method: finetune, data: 80K}
"""

KILLED = "whole run killed"

SHARES = {
    "one process killed": 3, "two runs at once": 1, "disk full": 4, "quota reached": 2, "disk fails to write": 3,
    "disk fails to read": 4, "wrong clock": 3, "slow disk": 2, "power cut": 5, "damaged file": 9,
    "damaged checkpoint": 1,
}  # fmt: skip
"""How often each fault is drawn."""

PAGE = """\
# Runs under faults

Written by `python measurements/faults.py {arguments}` on {date} at {commit}: a row of a table at the tests' tiny scale,
{files} files, {seconds:.0f} s undisturbed, on {cores} cores that other work shared.

{rounds} of {wanted} rounds were played, each a run under a fault and a plain `snakemake` after it: **{again} lost,
{differ} differ, {hand} need a hand**.

- *Lost*: finished results that were made again without need.
- *Differ*: files that in the end did not hold the bytes of the undisturbed run.
- *Need a hand*: anything but a plain `snakemake`, unless it is the one command that a message gave for a damaged
  result (*told*). A damaged result is not made again unasked: what reads it wrong may be this machine's memory.

| fault | rounds | met it | told | lost | differ | hand |
| --- | --- | --- | --- | --- | --- | --- |
{table}

"Met it": the fault came before the run had ended. What each fault is: `tests/helpers/fault_rounds.py`.

| round | fault | what happened | results there | lost | differ | hand |
| --- | --- | --- | --- | --- | --- | --- |
{lines}
"""


def rounds(seed: int, number: int, kills: int) -> list[str]:
    """The fault of each round; kills of whole runs are spread evenly."""
    draw = random.Random(seed)
    faults = draw.choices([*SHARES], [*SHARES.values()], k=number - kills)
    for place in range(kills):
        faults.insert(place * number // kills, KILLED)
    return faults


def page(outcomes: dict[int, Outcome], facts: dict[str, object]) -> str:
    """The page of all rounds that were played."""
    by_fault: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes.values():
        by_fault[outcome.fault].append(outcome)

    def counts(some: list[Outcome]) -> tuple[int, int, int]:
        return sum(len(one.again) for one in some), sum(len(one.differing) for one in some), sum(map(_by_hand, some))

    table = [
        f"| {fault} | {len(some)} | {sum(one.met for one in some)} | {sum(bool(one.told) for one in some)} "
        f"| {' | '.join(map(str, counts(some)))} |"
        for fault, some in sorted(by_fault.items())
    ]
    lines = [
        f"| {number} | {one.fault} | {_cell(one.detail)}{_cell(f'; told: {one.told}') if one.told else ''} "
        f"| {one.finished} | {len(one.again)} | {len(one.differing)} | {_cell(one.hand)} |"
        for number, one in sorted(outcomes.items())
    ]
    again, differ, hand = counts([*outcomes.values()])
    given = {"rounds": len(outcomes), "again": again, "differ": differ, "hand": hand}
    return PAGE.format(**facts, **given, table="\n".join(table), lines="\n".join(lines))


def _by_hand(outcome: Outcome) -> bool:
    return bool(outcome.hand)


def _cell(text: str) -> str:
    """Text in one line, without the folder of the round."""
    return " ".join(re.sub(r"/[^\s']*/round-\d+/(checkout/)?", "", text).replace("|", "/").split())[:300]


def main() -> None:
    """Play all rounds that were not played yet, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--kills", type=int, default=20, help="how many of them kill a whole run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-once", type=int, default=1, help="rounds that are played at the same time")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "lntune-faults")
    arguments = parser.parse_args()
    if lacked := missing():
        sys.exit(f"error: {lacked}")
    finished, seconds = undisturbed(arguments.work)
    played = arguments.work / f"rounds-{arguments.seed}.jsonl"
    outcomes = {
        int(number): Outcome(**given) for number, given in map(json.loads, played.read_text().splitlines())
    } if played.exists() else {}  # fmt: skip
    git = git_state(HERE)
    facts: dict[str, object] = {
        "arguments": f"--rounds {arguments.rounds} --kills {arguments.kills} --seed {arguments.seed}",
        "date": datetime.now(UTC).date(),
        "wanted": arguments.rounds,
        "files": len(finished.wanted),
        "seconds": seconds,
        "cores": os.cpu_count(),
        "commit": "no commit" if git is None else git.commit[:10] + (" with changes" if git.dirty else ""),
    }

    def one(number: int, fault: str) -> None:
        draw = random.Random(f"{arguments.seed}/{number}")
        given: Callable[[Round], None] | None = None
        if fault == KILLED:
            given = partial(kill_whole, alone=draw.random() < 0.5, seconds=seconds)
        outcome = play(fault, finished, arguments.work / f"round-{number}", draw, given)
        outcomes[number] = outcome
        with played.open("a") as file:
            file.write(json.dumps([number, asdict(outcome)]) + "\n")
        (HERE / "faults.md").write_text(page(dict(outcomes), facts))
        print(number, outcome, file=sys.stderr, flush=True)

    with ThreadPoolExecutor(arguments.at_once) as pool:
        faults = enumerate(rounds(arguments.seed, arguments.rounds, arguments.kills), 1)
        for future in [pool.submit(one, number, fault) for number, fault in faults if number not in outcomes]:
            future.result()
    wrong = [number for number, outcome in sorted(outcomes.items()) if not outcome.right]
    if wrong:
        sys.exit(f"error: not right: rounds {', '.join(map(str, wrong))}")


def undisturbed(work: Path) -> tuple[Finished, float]:
    """The undisturbed run, made in the first call, and its seconds."""
    root, noted = work / "undisturbed" / "checkout", work / "undisturbed" / "seconds"
    if not noted.exists():
        checkout = copy_checkout(root)
        (root / "workflow/report_items/tiny.yaml").write_text(REPORT_ITEM)
        started = time.monotonic()
        Run(checkout, variables={"XDG_CACHE_HOME": str(root / "cache")}).end()
        noted.write_text(str(time.monotonic() - started))
    return Finished(Checkout(root)), float(noted.read_text())


if __name__ == "__main__":
    main()
