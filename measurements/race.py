"""How fast lntune is beside what one would pick instead: measures rows of results.md.

    python measurements/race.py [ROWS ...] [--work DIR]

ROWS are modules of measurements/races/, by default all of them. What is measured replaces those rows in
measurements/results.json, and measurements/results.md is written anew. DIR is where temporary files lie. On a machine
that has nothing else to do; each row takes some minutes. Progress goes to standard error.
"""

import argparse
import json
import sys
import tempfile
from datetime import UTC, datetime
from importlib import import_module, metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests" / "helpers"), str(HERE.parent / "src")]

from lntune.store.record import git_state, machine  # noqa: E402
from races.page import page  # noqa: E402
from races.rounds import Measured  # noqa: E402

RESULTS = HERE / "results.json"

MODULES = ("training", "prediction", "captions", "vqav2", "hashing", "commands", "planning", "demo")
"""Each has ``rows(work, say)`` and VERSIONS, the packages whose versions matter to it; and maybe a NOTE on its rows."""


def say(text: str) -> None:
    """Tell what was measured as it comes."""
    print(text, file=sys.stderr, flush=True)


def commit_here() -> str:
    """What is measured."""
    git = git_state(HERE)
    return "no commit" if git is None else git.commit[:10] + (" with changes" if git.dirty else "")


def measure(name: str, commit: str, work: Path) -> Measured:
    """Measure one module's rows."""
    module, here = import_module(f"races.{name}"), machine(ranks=1)
    versions = {"Python": sys.version.split()[0]} | {package: metadata.version(package) for package in module.VERSIONS}
    return Measured(
        date=datetime.now(UTC).date().isoformat(),
        commit=commit,
        machine=f"{here.cpu}, {here.cores} cores",
        versions=versions | getattr(module, "other_versions", dict)(),
        rows=tuple(module.rows(work, say)),
        note=getattr(module, "NOTE", ""),
    )


def main() -> None:
    """Measure, and write results.json and results.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROWS", help=f"of {', '.join(MODULES)}")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()), help="where temporary files lie")
    arguments = parser.parse_args()
    for name in arguments.rows:
        if name not in MODULES:
            sys.exit(f"error: {name}: no such rows; there are {', '.join(MODULES)}")
    measured_at = commit_here()  # before results.json changes
    for name in arguments.rows or MODULES:
        with tempfile.TemporaryDirectory(prefix=f"race-{name}-", dir=arguments.work) as folder:
            found = measure(name, measured_at, Path(folder))
        known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        known[name] = found.model_dump(mode="json")
        ordered = {name: known[name] for name in MODULES if name in known}
        RESULTS.write_text(json.dumps(ordered, indent=1) + "\n")
        pages = {name: Measured.model_validate_json(json.dumps(found)) for name, found in ordered.items()}
        (HERE / "results.md").write_text(page(pages))


if __name__ == "__main__":
    main()
