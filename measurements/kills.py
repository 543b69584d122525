"""What a killed run leaves: whole runs end by SIGKILL at random moments, and a plain ``snakemake`` goes on.

    python measurements/kills.py [--rounds 4] [--kills 5] [--together 3] [--seed 0] [--work DIR]

Each round begins with an empty store and makes one row of a table at the tests' tiny scale. In it, run after run is
killed; the next one starts at once, and the last goes on to its end. Every second time Snakemake is killed alone, so
that its jobs live on beside those of the next run, else with all that it started. After these come rounds of two runs
at once. Every file of every round is compared with those of an undisturbed run. Writes measurements/kills.md after each
round; on a quiet machine a round takes two minutes.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "tests" / "helpers"), str(HERE.parent / "src")]

from checkout import Checkout, copy_checkout  # noqa: E402
from disturbed_runs import Run, content, kill_each, moments, two_at_once  # noqa: E402
from lntune.store.record import git_state  # noqa: E402

REPORT_ITEM = """\
title: "Tiny: one way to tune"
columns: [Flickr30k]
llms: [vicuna-7b]
rows:
  - {title: Finetune-80K, method: finetune, data: 80K}
"""

PAGE = """\
# Runs that were killed

Written by `python measurements/kills.py {arguments}` on {date} at {commit}: a row of a table at the
tests' tiny scale, {files} files, {seconds:.0f} s undisturbed, on two cores that other work shared.

{equal} of {rounds} rounds, with {kills} kills, ended with the bytes of the undisturbed run.
Of each kill are given: how many seconds after the first job began (-: after the start, while it planned), processes
killed, results finished by then.

| round | what happened | kills | files that differ |
| --- | --- | --- | --- |
"""


def main() -> None:
    """Run all rounds and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4, help="rounds with kills")
    parser.add_argument("--kills", type=int, default=5, help="kills in each of them")
    parser.add_argument("--together", type=int, default=3, help="rounds of two runs at once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()), help="where temporary files lie")
    arguments = parser.parse_args()
    git = git_state(HERE)
    with tempfile.TemporaryDirectory(prefix="kills-", dir=arguments.work) as folder:
        sources = copy_checkout(Path(folder) / "sources").root
        (sources / "workflow/report_items/tiny.yaml").write_text(REPORT_ITEM)

        def in_copy(name: str, disturb: Callable[[Checkout], Any]) -> tuple[Any, dict[str, str]]:
            checkout = Checkout(Path(folder) / name)
            shutil.copytree(sources, checkout.root)
            outcome, files = disturb(checkout), content(checkout)
            shutil.rmtree(checkout.root)
            return outcome, files

        started = time.monotonic()
        _, wanted = in_copy("undisturbed", lambda checkout: Run(checkout).end())
        seconds = time.monotonic() - started
        commit = "no commit" if git is None else git.commit[:10] + (" with changes" if git.dirty else "")
        given = " ".join(f"--{name} {getattr(arguments, name)}" for name in ("rounds", "kills", "together", "seed"))
        facts = {"arguments": given, "date": datetime.now(UTC).date(), "commit": commit, "seconds": seconds}
        lines, equal, kills = [], 0, 0

        def note(what: str, detail: str, files: dict[str, str]) -> None:
            nonlocal equal
            differing = sum(wanted.get(name) != files.get(name) for name in wanted | files)
            equal += not differing
            lines.append(f"| {len(lines) + 1} | {what} | {detail} | {differing} |\n")
            print(lines[-1].strip(), file=sys.stderr, flush=True)
            head = PAGE.format(**facts, files=len(wanted), equal=equal, rounds=len(lines), kills=kills)
            (HERE / "kills.md").write_text(head + "".join(lines))

        drawn = moments(arguments.seed, arguments.rounds * arguments.kills, seconds / arguments.kills)
        drawn[:: arguments.kills] = (
            -after for after in drawn[:: arguments.kills]
        )  # the first of a round while it plans
        for first in range(0, len(drawn), arguments.kills):
            given = [(after, number % 2 == 1) for number, after in enumerate(drawn[first : first + arguments.kills])]
            found, files = in_copy(f"kills-{first}", lambda c: kill_each(c, given))  # noqa: B023
            kills += len(given)
            texts = [
                f"{after:+.0f} s: {killed}{' (Snakemake alone)' if alone else ''}, {there}"
                for (after, alone), (killed, there) in zip(given, found, strict=True)
            ]
            note("killed", "; ".join(texts), files)
        for offset in moments(arguments.seed + 1, arguments.together, seconds / 2):
            _, files = in_copy(f"together-{offset}", lambda c: two_at_once(c, offset))  # noqa: B023
            note(f"a second run began after {offset:.0f} s", "none", files)
    if equal < len(lines):
        sys.exit(f"error: {len(lines) - equal} rounds ended with other bytes")


if __name__ == "__main__":
    main()
