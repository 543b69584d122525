"""What a search of learning rates by successive halving loses against a full one, and what it saves.

    python -m measurements.halving FOLDER [--llms vicuna-7b llama2-7b] [--methods finetune lora ...] [--page FILE]

One full search at the scale measurements/halving.yaml, the demo with eleven rates: every candidate is trained to its
end, and asked the selection split on the way, too, at each share of the steps in AT. So every choice of `keep` and `at`
in CHOICES is read from the same runs, by the code that chooses in a search. FOLDER keeps the results: a run that was
stopped goes on. One job runs at a time, at nice 15.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean

from lntune.benchmarks.intervals import difference, interval, read_strata
from lntune.config.study import Halving
from lntune.jobs import fork_server, submit
from lntune.plan.models import SELECTED_BY, Variant
from lntune.plan.node import Node, closure, is_done, manifest_path, result_folder
from lntune.plan.plan import Plan
from lntune.plan.study import Study, once
from lntune.report.rows import rate_text
from lntune.snakefile.workflow import spec_path, write_specs
from lntune.stages.select import judged
from lntune.store.job import EARLIER
from lntune.store.manifest import read_manifest

ROOT = Path(__file__).resolve().parents[1]
SCALE = ROOT / "measurements" / "halving.yaml"
BEFORE = {0.1: None, 0.2: 0.1, 0.4: 0.1, 1.0: 0.4}
"""Shares of the steps at which every candidate is asked, and the share whose checkpoint each goes on from."""
AT = tuple(at for at in BEFORE if at < 1)
CHOICES = tuple(
    Halving(keep=keep, at=at)
    for keep, at in (
        ((5, 2), (0.1, 0.4)), ((5, 3), (0.1, 0.4)), ((5, 2), (0.2, 0.4)), ((4, 2), (0.2, 0.4)), ((4, 1), (0.2, 0.4)),
        ((5,), (0.1,)), ((3,), (0.2,)), ((2,), (0.2,)), ((3,), (0.4,)), ((2,), (0.4,)), ((1,), (0.4,)),
    )
)  # fmt: skip
LLMS = ("vicuna-7b", "llama2-7b")
METHODS = ("finetune", "lora", "attn-qv", "attn-mlp", "layernorm", "layernorm-simp")
DATA = "80K"


class Observed(Plan):
    """The plan in which every candidate goes to its end, in parts, and is asked at the end of each."""

    @once
    def candidate(self, variant: Variant, learning_rate: float, until: float | None = None) -> Node:
        """As a full search has it, but for what it goes on from."""
        node = super().candidate(variant, learning_rate, until)
        before = BEFORE[until or 1.0]
        earlier = {EARLIER: self.candidate(variant, learning_rate, before)} if before else {}
        return replace(node, inputs={**node.inputs, **earlier})


@dataclass(frozen=True)
class Search:
    """One variant's candidates: rates, and by share of the steps (1: the end) the scores' folders and CPU seconds.

    The seconds are those of a part of the training and of asking after it.
    """

    llm: str
    method: str
    rates: tuple[float, ...]
    folders: Mapping[float, tuple[Path, ...]]
    seconds: Mapping[float, tuple[float, ...]]

    @cached_property
    def _judged(self) -> Mapping[float, dict[float, float]]:
        """By share, the CIDEr of each candidate that has not diverged, the best first."""
        return {at: judged(self.rates, folders)[0] for at, folders in self.folders.items()}

    def chosen(self, choice: Halving | None) -> tuple[float | None, float, float]:
        """The rate that a search chooses, if any was left; its steps, in runs to the end, and its CPU seconds."""
        left, steps, seconds, done = list(self.rates), 0.0, 0.0, 0.0
        for keep, at in [*(choice.rounds(len(self.rates)) if choice else ()), (1, 1.0)]:
            steps += (at - done) * len(left)
            seconds += sum(self._seconds(rate, done, at) for rate in left)
            left = [rate for rate in self._judged[at] if rate in left][:keep]
            done = at
        return next(iter(left), None), steps, seconds

    def _seconds(self, rate: float, after: float, until: float) -> float:
        """CPU seconds of one round of a candidate: of training from a share of its steps to another, and of asking."""
        place = self.rates.index(rate)

        def training(to: float | None) -> float:
            return self.seconds[to][2 * place] + training(BEFORE[to]) if to else 0.0

        return training(until) - training(after) + self.seconds[until][2 * place + 1]

    def lost(self, choice: Halving) -> float:
        """How much lower the CIDEr of the candidate is that the search chooses than that of a full search."""
        end = self._judged[1.0]
        best, found = (self.chosen(one)[0] for one in (None, choice))
        return end.get(best or 0.0, 0.0) - end.get(found or 0.0, 0.0)

    def difference(self, choice: Halving) -> str:
        """The same as text, with the paired interval over the images; empty where both choose the same."""
        rates = [self.chosen(one)[0] for one in (None, choice)]
        if rates[0] == rates[1]:
            return ""
        strata = [read_strata(self.folders[1.0][self.rates.index(rate)])[""] for rate in rates if rate]
        found = difference(strata[:1], strata[1:]) if len(strata) == 2 else None
        return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})" if found else f"{self.lost(choice):.2f}"


def checkout(folder: Path, scale: Path) -> Study:
    """The study of this checkout's workflow at the scale, its results in ``folder``."""
    root = folder / "checkout"
    shutil.copytree(ROOT / "workflow", root / "workflow", dirs_exist_ok=True)
    shutil.copy(ROOT / "config.yaml", root)
    shutil.copy(scale, root / "workflow" / "scales" / "halving.yaml")
    chosen = {"scale": "halving", "store": str(folder / "results"), "report_items": ["table3"], "search": "full"}
    return Study.read(root, chosen)


def run(plan: Plan, nodes: Sequence[Node]) -> None:
    """Make what is missing of the nodes, one after the other; SystemExit at the first job that fails."""
    missing = [node for node in closure(nodes) if not is_done(plan.store, node)]
    fork_server.start()
    for place, node in enumerate(missing, 1):
        print(f"{place} of {len(missing)}: {node.stage} {node.label}", file=sys.stderr, flush=True)
        write_specs(plan.store, [node])
        log = plan.store.root.parent / "logs" / f"{node.stage}-{node.name}.log"
        torch = ["--torch"] if "torch" in node.code_version.packages else []
        if code := submit.main([*torch, str(spec_path(plan.store, node)), str(log)]):
            raise SystemExit(f"{log}: the job failed with exit code {code}; start again to go on from here")


def search_of(plan: Plan, variant: Variant) -> Search:
    """A variant's search, all of whose results are there."""
    rates, split = plan.scale.methods[variant.method].learning_rates, plan.study.selection_split
    folders: dict[float, tuple[Path, ...]] = {}
    seconds: dict[float, tuple[float, ...]] = {}
    for at in (*AT, None):
        scores = [plan.score(variant, SELECTED_BY, rate, split, until=at) for rate in rates]
        folders[at or 1.0] = tuple(result_folder(plan.store, score) for score in scores)
        spent = []
        for score in scores:
            (answers,) = score.players("answers")
            (tuned,) = answers.players("tuned")
            asking = sum(_cpu(plan, one) for one in (answers, score))
            spent += [_cpu(plan, tuned), asking]
        seconds[at or 1.0] = tuple(spent)
    return Search(variant.llm, variant.method, rates, folders, seconds)


def _cpu(plan: Plan, node: Node) -> float:
    return read_manifest(manifest_path(plan.store, node)).cpu_seconds or 0.0


def _words(choice: Halving) -> str:
    return ", ".join(f"{keep} at {at:g}" for keep, at in zip(choice.keep, choice.at, strict=True))


def page(searches: Sequence[Search]) -> str:
    """What was found, as Markdown."""
    rates = len(searches[0].rates)
    full = [one.chosen(None) for one in searches]
    lines = [
        "# What a search by halving loses",
        "",
        f"{len(searches)} searches of {rates} learning rates each at the scale measurements/halving.yaml (`python -m",
        "measurements.halving`). A choice is how many go on at which share of the steps. CIDEr lost: that of a full",
        "search's winner minus that of this search's, on the split that chooses, with a bootstrap interval over the",
        "searches. Steps and CPU time (training and asking) are shares of a full search's.",
        "",
        "| choice | same winner | CIDEr lost, mean (95% interval) | most | steps | CPU time |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for choice in CHOICES:
        found, lost = [one.chosen(choice) for one in searches], [one.lost(choice) for one in searches]
        same = sum(one[0] == other[0] for one, other in zip(found, full, strict=True))
        low, high = interval(lost)
        spent = [zip(*(one[1:] for one in side), strict=True) for side in (found, full)]
        shares = [sum(ours) / sum(whole) for ours, whole in zip(*spent, strict=True)]
        cells = [f"{same} of {len(searches)}", f"{fmean(lost):.2f} ({low:.2f} to {high:.2f})", f"{max(lost):.2f}"]
        lines.append(f"| {' | '.join([_words(choice), *cells, *(f'{share:.0%}' for share in shares)])} |")
    lines += ["", "Where another rate wins (CIDEr lost, with its paired interval over the images):", ""]
    lines += ["| LLM | method | full search | " + " | ".join(map(_words, CHOICES)) + " |"]
    lines += ["| --- " * (3 + len(CHOICES)) + "|"]
    for one, (best, _, _) in zip(searches, full, strict=True):
        cells = []
        for choice in CHOICES:
            text, rate = one.difference(choice), one.chosen(choice)[0]
            cells.append(f"{rate_text(rate) if rate else 'none'}: {text}" if text else "the same")
        lines.append(f"| {one.llm} | {one.method} | {rate_text(best) if best else 'none'} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> None:
    """Search, as far as that is not done, and print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the results; kept, so that a run goes on")
    parser.add_argument("--llms", nargs="+", default=LLMS)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--scale", type=Path, default=SCALE, help="a file that may extend one of workflow/scales")
    parser.add_argument("--page", type=Path, help="write the page there, too")
    given = parser.parse_args(arguments)
    os.nice(max(0, 15 - os.nice(0)))
    plan = Observed(checkout(given.folder.resolve(), given.scale))
    variants = [
        Variant(llm, plan.scale.vision, method, DATA, plan.seed) for llm in given.llms for method in given.methods
    ]
    split = plan.study.selection_split
    scores = [
        plan.score(variant, SELECTED_BY, rate, split, until=at)
        for variant in variants
        for rate in plan.scale.methods[variant.method].learning_rates
        for at in (*AT, None)
    ]
    run(plan, scores)
    searches = [search_of(plan, variant) for variant in variants]
    work = sum(one.chosen(None)[2] for one in searches)
    text = page(searches)
    print(text)
    print(f"{work / 60:.0f} CPU minutes of training and asking in the full searches", file=sys.stderr)
    if given.page:
        given.page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
