"""``lntune compare``: the tables of this config compared with the paper's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from lntune.config.load import load_extending
from lntune.config.study import ScaleSettings
from lntune.errors import UserError
from lntune.paper.comparison import Compared, compare, markdown, orders
from lntune.paper.printed import Printed, paper_files, printed_names, read_ours, read_paper
from lntune.plan.node import is_done, result_folder
from lntune.plan.plan import Plan
from lntune.plan.study import Study
from lntune.plan.targets import asked_files, report_item_name
from lntune.report import published


@dataclass(frozen=True)
class Comparison:
    """What was compared, and which of the config's tables and figures are not made yet, by the files to ask for."""

    scale: str
    protocol: str
    values: list[Compared]
    pending: tuple[str, ...]
    papers: bool
    """Whether the scale tunes the paper's models on the paper's data; else numbers mean nothing side by side."""

    def text(self) -> str:
        """Markdown: every number beside the paper's, or how the methods are ordered where only that can be compared."""
        made = f"Scale: {self.scale}. Protocol: {self.protocol}."
        return markdown(self.values, made) if self.papers else _orders_text(self.values, made)

    def to_json(self) -> dict[str, Any]:
        """All of it, fit for JSON."""
        return {
            "scale": self.scale,
            "papers_models_and_data": self.papers,
            "protocol": self.protocol,
            "pending": list(self.pending),
            "values": [
                one.place._asdict()
                | {
                    "paper": one.paper.text,
                    "ours": one.ours.text if one.ours else None,
                    "difference": one.difference,
                    "interval": list(one.ours.bounds) if one.ours and one.ours.bounds else None,
                    "paper_in_interval": one.inside,
                }
                for one in self.values
            ],
            "orders": [vars(one) for one in orders(self.values)],
        }


def compare_tables(root: Path, tables: Sequence[str], overrides: Mapping[str, Any] | None = None) -> Comparison:
    """Tables, by name or published file, or else all that the paper has and this config has made, beside the paper's.

    UserError if the paper has no such table, or it is not made yet, or none is.
    """
    study = Study.read(root, overrides)
    plan = Plan(study)
    files = paper_files(root, claims=False)
    papers = {name: files[f"{name}.csv"] for name in printed_names(files) if name in study.report_items()}
    asked = [report_item_name(table) for table in tables]
    for name in asked:
        if name not in papers:
            raise UserError(f"{name}: is no table of the paper; there are {', '.join(papers)}")
    names = asked or [name for name in study.settings.report_items if name in papers]
    if not names:
        raise UserError(f"config.yaml: report_items: none is a table of the paper; these are {', '.join(papers)}")
    made = [name for name in names if is_done(plan.store, plan.report_item(name))]
    pending = tuple(str(asked_files(study, f"{name}.csv")[0]) for name in names if name not in made)
    if pending and (asked or not made):
        listed = " ".join(pending)
        raise UserError(f"{listed}: not made yet under this config; run `snakemake {listed}`")
    ours = {name: read_ours(name, result_folder(plan.store, plan.report_item(name))) for name in made}
    values = [one for name in made for one in compare(read_paper(papers[name]), ours[name])]
    return Comparison(study.settings.scale, study.settings.protocol, values, pending, _is_papers(study))


def _is_papers(study: Study) -> bool:
    """Whether models, encoders and data are those of the scale ``paper``, or some of them."""
    file = study.scale_file.with_name("paper.yaml")
    paper = load_extending(file, ScaleSettings) if file.is_file() else None
    return paper is not None and all(
        getattr(paper, kind).get(name) == one
        for kind in ("sources", "llms", "visions", "data")
        for name, one in getattr(study.scale, kind).items()
    )


def _orders_text(compared: Sequence[Compared], made: str) -> str:
    """For each group of rows and figure how the paper's rows and ours are ordered, where there are two or more."""
    both: dict[tuple[str, str, str, str], list[Compared]] = {}
    for one in compared:
        if one.difference is not None:
            table, group, _, column, part = one.place
            both.setdefault((table, group, column, part), []).append(one)
    lines = [
        f"{made} These are not the paper's models and data: its numbers and ours mean nothing side by side, so only "
        "the order of the methods is shown (every number: --json). Kendall's tau-b: 1 the same order, -1 the reverse."
    ]
    header = ("group", "figure", "paper, highest first", "ours, highest first", "Kendall's tau-b")
    for table in dict.fromkeys(key[0] for key in both):
        rows = [
            (group, f"{column} {part}".strip(), _ranked({one.place.row: one.paper for one in its}),
             _ranked({one.place.row: one.ours for one in its if one.ours}), _tau(its))
            for (of, group, column, part), its in both.items() if of == table and len(its) > 1
        ]  # fmt: skip
        alone = "no two of its rows have figures on both sides: there is no order"
        lines += ["", f"## {table}", "", *(published.table_lines(header, rows) if rows else [alone])]
    return "\n".join(lines) + "\n"


def _ranked(figures: Mapping[str, Printed]) -> str:
    """Rows by their figures, with ``=`` between those that are equal."""
    ranked = sorted(figures.items(), key=lambda one: -(one[1].number or 0.0))
    signs = ["", *(" = " if one.number == after.number else " > " for (_, one), (_, after) in pairwise(ranked))]
    return "".join(sign + row for sign, (row, _) in zip(signs, ranked, strict=True))


def _tau(its: Sequence[Compared]) -> str:
    (tau,) = (one.tau for one in orders(its))
    return "-" if tau is None else f"{tau:.2f}"
