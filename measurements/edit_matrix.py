"""What plain Snakemake, DVC and lntune rerun needlessly and leave stale after the edits of everyday work.

    python measurements/edit_matrix.py [--rows 2,12] [--work DIR] [--dvc PROGRAM]

Everything happens in copies of this checkout at the tests' tiny scale. lntune computes the truth: every state of the
checkout from an empty store. Plain Snakemake and DVC then run the same graph, as a careful author writes it without
lntune's names (measurements/matrix/plain.py), with jobs that put the true bytes of the present state into place
(measurements/matrix/replay.py); lntune runs for real. Each edit (measurements/matrix/edits.py) is made in a copy of
each tool's finished folder, the tool runs, and what is there afterwards is compared with the truth.

It installs DVC into a virtual environment of its own, unless --dvc names one. With --work the truths are kept there,
and used again as long as the checkout is the same. All rows take about 25 minutes on two cores, and are written to
measurements/edit_matrix.md.
"""

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests" / "helpers")]

from matrix.edits import ROWS, STATES, TOOLS, Row, Tool  # noqa: E402
from matrix.plain import Layout  # noqa: E402
from matrix.replay import Contents  # noqa: E402
from matrix.tools import Dvc, Lntune, PlainSnakemake, Ran  # noqa: E402
from matrix.truth import Graph, Truth, graph_of, make, needed, new_checkout  # noqa: E402

STARTED = time.monotonic()
Contestant = Lntune | PlainSnakemake | Dvc


def say(text: str) -> None:
    """A line of progress."""
    print(f"[{time.monotonic() - STARTED:5.0f} s] {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Outcome:
    """How a tool came through one edit: results made needlessly, left stale, and taken from elsewhere.

    ``verified`` are those of the stale ones that ``lntune verify`` names; None where it was not asked.
    """

    needless: list[str]
    stale: list[str]
    spared: list[str]
    verified: list[str] | None = None

    def text(self) -> str:
        """A cell of the table."""
        more = f" (+{len(self.spared)})" if self.spared else ""
        return f"{len(self.needless)}{more} / {len(self.stale)}"

    def names(self) -> str:
        """The results behind the numbers, where they are few."""
        lists = (f"{name} {', '.join(found)}" for name, found in (("needless", self.needless), ("stale", self.stale)))
        few = [text for text, found in zip(lists, (self.needless, self.stale), strict=True) if 0 < len(found) <= 4]
        return "; ".join(few)


def bound(row: Row, graph: Graph) -> set[str]:
    """The results that must be made again whatever their bytes: those that run on the row's package."""
    return {name for name in needed(graph) if row.package in graph["nodes"][name]["packages"]}


def changed(row: Row, graph: Graph, base: Truth, truth: Truth) -> set[str]:
    """The results that the edit makes wrong or asks for anew, or that it harmed."""
    wrong = {name for name in needed(graph) if base.files.get(name) != truth.files[name]}
    return wrong | bound(row, graph) | row.harmed


def judge(row: Row, graph: Graph, base: Truth, truth: Truth, ran: Ran, after: dict[str, Contents]) -> Outcome:
    """Compare what ran, and what is there now, with the truth."""
    stale = {name for name, files in after.items() if files != truth.files[name]}
    stale -= {name for name in stale if not after[name] and not name.startswith("table/")}  # gone is not wrong
    stale |= bound(row, graph) - ran.made - ran.vouched
    return Outcome(sorted(ran.made - changed(row, graph, base, truth)), sorted(stale), sorted(ran.spared))


def go_through(contestant: Contestant, row: Row, truths: dict[str, Truth], root: Path) -> Outcome:
    """One edit with one tool."""
    space = contestant.open(root)
    if row.detour is not None:
        edit, state = row.detour
        edit(space)
        contestant.run(space, graph_of(root), truths[state])
    row.edit(space)
    graph, truth = graph_of(root), truths[row.state]
    ran = contestant.run(space, graph, truth)
    outcome = judge(row, graph, truths["base"], truth, ran, contestant.contents(space, graph))
    if isinstance(contestant, Lntune) and outcome.stale:
        outcome = replace(outcome, verified=contestant.verified(space, graph, outcome.stale))
    shutil.rmtree(root)
    return outcome


def digest() -> str:
    """A name for the checkout and this benchmark as they are now, so that no truth of another is used."""
    root, hasher = HERE.parent, hashlib.sha256()
    files = [
        *root.glob("src/**/*.py"),
        *root.glob("workflow/**/*.yaml"),
        *HERE.glob("matrix/*.py"),
        root / "config.yaml",
    ]
    for path in sorted(files):
        hasher.update(f"{path.relative_to(root)} {path.stat().st_size}\n".encode() + path.read_bytes())
    return hasher.hexdigest()[:12]


def all_truths(work: Path) -> dict[str, Truth]:
    """Every state's truth, made where it is not there yet."""
    truths = {}
    for state, edit in STATES.items():
        folder = work / "truth" / state
        if not (folder / "contents.json").is_file():
            say(f"truth: {state}")
            shutil.rmtree(folder, ignore_errors=True)
            finished = work / "finished" / "lntune" if state == "base" else None
            if finished is not None:
                shutil.rmtree(finished, ignore_errors=True)
                finished.parent.mkdir(parents=True, exist_ok=True)
            make(folder, edit, finished)
        truths[state] = Truth(folder)
    return truths


def install_dvc(work: Path) -> Path | None:
    """DVC's program in a virtual environment of its own; None if it cannot be had."""
    program = work / "dvc" / "bin" / "dvc"
    if not program.is_file():
        say("installing DVC")
        try:
            subprocess.run([sys.executable, "-m", "venv", str(work / "dvc")], check=True)
            subprocess.run([str(program.with_name("pip")), "install", "-qq", "dvc"], check=True)
        except subprocess.CalledProcessError as error:
            say(f"no DVC: {error}")
            return None
    return program


def contestants(work: Path, truths: dict[str, Truth], dvc: Path | None) -> list[Contestant]:
    """The three tools, each with a finished folder."""
    layout = Layout(truths.values())
    found: list[Contestant] = [Lntune(work / "finished" / "lntune")]
    plain: list[PlainSnakemake | Dvc] = [PlainSnakemake(layout, work / "finished" / "snakemake")]
    if dvc is not None:
        plain.append(Dvc(layout, work / "finished" / "dvc", dvc))
    source = work / "source"
    shutil.rmtree(source, ignore_errors=True)
    new_checkout(source)
    graph = graph_of(source)
    for tool in plain:
        say(f"{tool.tool}: the first run")
        shutil.rmtree(tool.finished, ignore_errors=True)
        tool.build(source, graph, truths["base"])
    return [plain[0], *plain[1:], *found]


def table_line(row: Row, number: int, outcomes: dict[Tool, Outcome]) -> str:
    """A line of the table; a dash where the edit means nothing to a tool."""
    cells = [outcomes[tool].text() if tool in outcomes else "-" for tool in TOOLS]
    return f"| {row.name} | {number} | {' | '.join(cells)} |"


def verify_line(row: Row, outcome: Outcome) -> str:
    """What ``lntune verify`` says of the results that a row leaves stale in lntune's store."""
    if outcome.verified is None:
        return f"After row {row.number} this version of lntune has no `verify` to ask."
    return f"After row {row.number} `lntune verify` names {len(outcome.verified)} of the {len(outcome.stale)} stale."


def run_rows(
    rows: list[Row], tools: list[Contestant], truths: dict[str, Truth], work: Path
) -> tuple[list[str], list[str]]:
    """All rows with all tools: the table's lines, and what is to be said below it."""
    lines, remarks = [], []
    for number, row in enumerate(rows):
        outcomes: dict[Tool, Outcome] = {}
        for tool in tools:
            if tool.tool in row.tools:
                root = work / "rows" / f"{number}-{tool.tool}"
                root.parent.mkdir(parents=True, exist_ok=True)
                shutil.rmtree(root, ignore_errors=True)
                outcomes[tool.tool] = outcome = go_through(tool, row, truths, root)
                say(f"{row.name}: {tool.tool}: {outcome.text()}  {outcome.names()}")
        graph = truths[row.state].graph | {"targets": ["tiny"]}
        lines.append(table_line(row, len(changed(row, graph, truths["base"], truths[row.state])), outcomes))
        if "lntune" in outcomes and outcomes["lntune"].stale:
            remarks.append(verify_line(row, outcomes["lntune"]))
    return lines, remarks


def commit() -> str:
    """The commit of this checkout, and whether what is measured differs from it."""
    head = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, text=True).strip()
    edited = subprocess.check_output(["git", "status", "--porcelain", "src", "workflow"], cwd=HERE.parent, text=True)
    return f"{head} with uncommitted edits" if edited else head


def report(lines: list[str], remarks: list[str], truths: dict[str, Truth], dvc: Path | None) -> str:
    """The page."""
    base, other = truths["base"], truths["execution"]
    results = needed(base.graph)
    dvc_version = subprocess.check_output([str(dvc), "--version"], text=True).strip() if dvc else "not installed"
    versions = f"lntune at {commit()}, Snakemake {metadata.version('snakemake')}, DVC {dvc_version}"
    rounded = sum(base.files[name] != other.files[name] for name in results)
    return (
        (HERE / "matrix/page.md")
        .read_text()
        .format(
            versions=f"{versions}, Python {platform.python_version()}",
            results=len(results),
            rounded=rounded,
            lines="\n".join(lines),
            remarks="".join(f"\n- {remark}" for remark in remarks),
        )
    )


def main() -> None:
    """Run the rows asked for, and write the page if that was all of them."""
    parser = argparse.ArgumentParser(description="what an edit costs with plain Snakemake, DVC and lntune")
    parser.add_argument("--rows", help="numbers of rows, such as 2,7b,12; all without it")
    parser.add_argument("--work", type=Path, help="a folder to keep truths and DVC in")
    parser.add_argument("--dvc", type=Path, help="a dvc program to use")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    wanted = arguments.rows.split(",") if arguments.rows else None
    rows = [row for row in ROWS if wanted is None or row.number in wanted]
    with tempfile.TemporaryDirectory(prefix="edit-matrix-") as temporary:
        kept = (arguments.work or Path(temporary)).resolve()
        work = kept / digest()
        truths = all_truths(work)
        dvc = arguments.dvc or install_dvc(kept)
        lines, remarks = run_rows(rows, contestants(work, truths, dvc), truths, work)
        page = report(lines, remarks, truths, dvc)
    print(page)
    if wanted is None:
        (HERE / "edit_matrix.md").write_text(page)


if __name__ == "__main__":
    main()
