"""The plan: every result that a study can ask for, up to its tables and figures.

    plan = Plan(Study.read(Path("."), {}))
    table = plan.report_item("table3")      # a table or figure: a Node; its inputs are Nodes
    table.id                                # the hash of everything that makes it

Besides the report items of its config a study has the tables ``data`` (what its data were made of), ``claims`` and
``comparison`` (with the paper): the last two rest on the config's own tables and figures, and what has no counterpart
there stays blank.

Building a plan reads YAML and source files, imports no torch, and touches no result.
"""

from lntune.benchmarks.registry import by_name
from lntune.config.load import load
from lntune.errors import UserError
from lntune.paper.claims import Claims
from lntune.paper.printed import CLAIMS, PAPER, Execution, Settings, digests, paper_files, printed_names
from lntune.plan.models import Models
from lntune.plan.node import Node
from lntune.plan.report_items import report_item_node
from lntune.plan.study import once
from lntune.stages import data_table

SUMMARIES = ("data", "claims", "comparison")
"""The tables that every study has besides the report items of its config."""


def names(models: Models) -> list[str]:
    """Those of these tables that a checkout can have: without workflow/paper, there is nothing to compare with."""
    return [name for name in SUMMARIES if name == "data" or (models.study.root / PAPER).is_dir()]


class Plan(Models):
    """All results, each made once, so equal results are the same Node."""

    @once
    def report_item(self, name: str) -> Node:
        """A table or figure: of workflow/report_items, or one of SUMMARIES.

        Raises:
            UserError: a report item has taken the name of one of those.
        """
        if name not in SUMMARIES:
            return report_item_node(self, name)
        path = self.study.report_item_path(name)
        if path.is_file():
            raise UserError(f"{path}: tables/{name} is no report item's; give this one another name")
        return self._data_table() if name == "data" else self._with_paper(name)

    def _data_table(self) -> Node:
        """What all training sets and benchmarks of the scale are made of."""
        rows, sets = [], []
        for name, data in self.scale.data.items():
            rows.append(data_table.Row(name=name, use="training", source=data.source))
            sets.append(self.samples(name))
        for benchmark, sources in self.scale.benchmarks.items():
            source = " + ".join(dict.fromkeys(sources))
            rows.append(data_table.Row(name=by_name()[benchmark].column, use="benchmark", source=source))
            sets.append(self.questions(benchmark))
        settings = data_table.Settings(
            name="data", rows=tuple(rows), scale=self.study.settings.scale, scale_note=self.scale.note
        )
        return self.node("data-table", ["data"], settings, {"sets": tuple(sets)})

    def _with_paper(self, stage: str) -> Node:
        """Claims or comparison: what needs the paper's files, and the config's tables and figures that are in them."""
        files, chosen = paper_files(self.study.root, claims=stage == "claims"), self.study.settings
        known = set(printed_names(files))
        if stage == "claims":  # the paper also says things of figures whose numbers it does not print
            known |= set(load(files[CLAIMS], Claims).unprinted)
        tables = tuple(name for name in chosen.report_items if name in known)
        settings = Settings(
            files=digests(files),
            tables=tables,
            protocol=chosen.protocol,
            scale=chosen.scale,
            scale_note=self.scale.note,
        )
        execution = Execution(paths={name: str(path) for name, path in files.items()})
        return self.node(stage, [stage], settings, {"tables": tuple(map(self.report_item, tables))}, execution)
