"""``lntune compare``: the tables of this config compared with the paper's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lntune.errors import UserError
from lntune.paper.comparison import Compared, compare, orders
from lntune.paper.printed import paper_files, printed_names, read_ours, read_paper
from lntune.plan.node import is_done, result_folder
from lntune.plan.plan import Plan
from lntune.plan.study import Study
from lntune.plan.targets import asked_files, report_item_name


@dataclass(frozen=True)
class Comparison:
    """What was compared, and which of the config's tables and figures are not made yet, by the files to ask for."""

    scale: str
    protocol: str
    values: list[Compared]
    pending: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """All of it, fit for JSON."""
        return {
            "scale": self.scale,
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
    return Comparison(study.settings.scale, study.settings.protocol, values, pending)
