"""The plan: every result that a study can ask for, up to its tables and figures.

    plan = Plan(Study.read(Path("."), {}))
    table = plan.report_item("table3")      # a table or figure: a Node; its inputs are Nodes
    table.id                                # the hash of everything that makes it

Building a plan reads YAML and source files, imports no torch, and touches no result.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from lntune.benchmarks.registry import Benchmark, by_column, by_name
from lntune.config.load import load, shown, unknown_name
from lntune.config.report_item import (
    COST_COLUMNS,
    OTHERS,
    RATE,
    SIMILARITY,
    CostSettings,
    GradientsSettings,
    ReportItem,
    RowSettings,
    TableSettings,
)
from lntune.errors import UserError
from lntune.paper.claims import Claims
from lntune.paper.printed import CLAIMS, PAPER, Execution, Settings, digests, paper_files, printed_names, read_paper
from lntune.plan.models import Models, Variant
from lntune.plan.node import Node, closure
from lntune.plan.others import scores_of_others
from lntune.plan.rehearsals import rehearsal_table
from lntune.plan.stages import stage_module
from lntune.plan.study import once
from lntune.report.cells import ScoreFormat, ScoreValue
from lntune.report.rows import Row, ShownItemSettings, rate_text
from lntune.stages import data_table, figure_cost, figure_gradients, table
from lntune.store.manifest import Manifest

REHEARSAL = "rehearsal"
SUMMARIES = ("data", "claims", "comparison", REHEARSAL)
"""The tables that every study has besides the report items of its config; a rehearsal is made only if asked for."""


class Plan(Models):
    """All results, each made once, so equal results are the same Node."""

    def summaries(self) -> list[str]:
        """Those of SUMMARIES that a plain run makes: without workflow/paper, there is nothing to compare with."""
        made = [name for name in SUMMARIES if name != REHEARSAL]
        return [name for name in made if name == "data" or (self.study.root / PAPER).is_dir()]

    def known_items(self) -> list[str]:
        """All that can be asked for: every report item, and SUMMARIES."""
        return [*self.study.report_items(), *self.summaries(), REHEARSAL]

    @once
    def report_item(self, name: str) -> Node:
        """A table or figure: of workflow/report_items, or one of SUMMARIES, whose name no report item may have."""
        if name not in SUMMARIES:
            return self._report_item(name)
        path = self.study.report_item_path(name)
        if path.is_file():
            raise UserError(f"{path}: tables/{name} is no report item's; give this one another name")
        if name == REHEARSAL:
            return rehearsal_table(self, name, closure(list(map(self.report_item, self.study.settings.report_items))))
        return self._data_table() if name == "data" else self._with_paper(name)

    def _report_item(self, name: str) -> Node:
        """The result that shows a table or figure of workflow/report_items."""
        report_item, chosen = self.study.report_item(name), self.study.settings
        similarity = self.scale.similarity if SIMILARITY in report_item.columns else None
        compared_on = ""
        if similarity:
            compared_on = f"{similarity.questions} test questions of {by_name()[similarity.benchmark].column}"
        rows, inputs = self._rows(report_item)
        shown = ShownItemSettings(
            name=name,
            title=report_item.title,
            note=report_item.note,
            scale=chosen.scale,
            scale_note=self.scale.note,
            protocol=chosen.protocol,
            split=self.study.selection_split,
            search=self.search_text(row.method for row in report_item.rows if row.method),
            seeds=self.seeds,
            columns=report_item.columns,
            tokens=similarity.tokens if similarity else None,
            similarity_on=compared_on,
            measured_in=self.measured_precision if set(COST_COLUMNS) & set(report_item.columns) else "",
            answered_in=self.scale.prediction.text if set(report_item.columns) & by_column().keys() else "",
            formats={one: self._format(by_column()[one]) for one in report_item.columns if one in by_column()},
            rows=rows,
        )
        settings = shown
        match report_item:
            case TableSettings():
                settings = table.Settings(
                    **dict(shown),
                    layout=report_item.layout,
                    emphasis=report_item.emphasis,
                    paired_with=report_item.paired_with,
                    intervals=report_item.intervals,
                    literature=literature_rows(self.study.root, name, report_item.literature, report_item.columns),
                )
            case CostSettings():
                gpu = self.scale.execution.gpu
                settings = figure_cost.Settings(**dict(shown), capacity_gb=gpu.memory_gb if gpu else None)
            case GradientsSettings():
                norms = tuple(figure_gradients.ShownNorm(**dict(one)) for one in report_item.norms)
                settings = figure_gradients.Settings(**dict(shown), norms=norms)
        stage = "table" if report_item.figure is None else f"figure-{report_item.figure}"
        return self.node(stage, [name], settings, inputs)

    def _format(self, benchmark: Benchmark) -> ScoreFormat:
        """How a benchmark's cells are read and written."""
        return ScoreFormat(
            values=tuple(ScoreValue(part=part, keys=keys) for part, keys in benchmark.parts.items()),
            decimals=benchmark.decimals,
            measure=benchmark.measure,
            least=benchmark.least(self.protocol.options(benchmark.protocol)),
        )

    def _rows(self, report_item: ReportItem) -> tuple[tuple[Row, ...], dict[str, tuple[Node, ...]]]:
        """The rows, of each group, and the results that cells and learning rates are read from, by role, each once."""
        selections: dict[Node, int] = {}
        scores: dict[Node, int] = {}
        rows, ours = [], [row for row in report_item.rows if row.method]
        for row in (one for one in report_item.rows if not one.method):
            cells = [scores_of_others(self, row, by_column()[column].name) for column in report_item.columns]
            places = tuple(_places(nodes, scores) for nodes in cells)
            rows.append(
                Row(group=OTHERS, title=row.title, learning_rate=None, selections=(), scores=places, others=True)
            )
        for group in report_item.llms:
            title = group.title or self.scale.llms[group.llm].title
            for row in ours:
                variants = [self.variant(group.llm, row, seed) for seed in self.seeds]
                for rate in self.scale.sweeps[row.method] if row.sweep else [None]:
                    cells = [self._sources(row, variants, rate, column) for column in report_item.columns]
                    chosen = variants if rate is None and row.data is not None else []
                    rows.append(
                        Row(
                            group=title,
                            title=row.title if rate is None else row.title.replace(RATE, rate_text(rate)),
                            learning_rate=rate,
                            selections=_places([self.selection(one) for one in chosen], selections),
                            scores=tuple(_places(nodes, scores) for nodes in cells),
                        )
                    )
        return tuple(rows), {"selections": tuple(selections), "scores": tuple(scores)}

    def _sources(self, row: RowSettings, variants: Sequence[Variant], rate: float | None, column: str) -> list[Node]:
        """What a cell is read from: a result for each variant, one a seed; what no seed changes, once.

        ``rate`` is the learning rate if it is not chosen.
        """
        if column in COST_COLUMNS:
            return [self.measure(variants[0].llm, variants[0].vision, row.method)]
        if column not in by_column():
            return [self.similarity(one) for one in variants]
        return [self.score(one, by_column()[column].name, rate, blind=row.blind) for one in variants]

    def _data_table(self) -> Node:
        """What all training sets and benchmarks of the scale are made of."""
        rows, sets = [], []
        for name, data in self.scale.data.items():
            known = self._known(data.source)
            rows.append(data_table.Row(name=name, use="training", source=data.source, known=known))
            sets.append(self.samples(name))
        for benchmark, sources in self.scale.benchmarks.items():
            source = " + ".join(dict.fromkeys(sources))
            column, known = by_name()[benchmark].column, self._known(sources[0])
            rows.append(data_table.Row(name=column, use="benchmark", source=source, known=known))
            sets.append(self.questions(benchmark))
        settings = data_table.Settings(
            name="data", rows=tuple(rows), scale=self.study.settings.scale, scale_note=self.scale.note
        )
        return self.node("data-table", ["data"], settings, {"sets": tuple(sets)})

    def _known(self, source: str) -> tuple[data_table.Known, ...]:
        """What the catalogue knows of the files of a source; nothing of one that is drawn."""
        entry = self.scale.sources[source].fetch
        files = self.study.catalog_entry(entry).files if entry is not None else {}
        return tuple(
            data_table.Known(file=name, counts=file.holds.counts, source=file.holds.source)
            for name, file in files.items()
            if file.holds is not None and file.holds.counts
        )

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


def _places(nodes: Sequence[Node], known: dict[Node, int]) -> tuple[int, ...]:
    """The places of these results among the known ones; those that are new come last."""
    return tuple(known.setdefault(node, len(known)) for node in nodes)


def literature_rows(root: Path, name: str, groups: Sequence[str], columns: Sequence[str]) -> tuple[table.Printed, ...]:
    """Rows of the paper's table that it took from the literature, as printed; UserError if it has no such groups."""
    if not groups:
        return ()
    path = root / PAPER / f"{name}.csv"
    report_item = root / "workflow" / "report_items" / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"{shown(report_item)}: literature: {shown(path)} does not exist; remove the key")
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    for one in read_paper(path):
        its = found.setdefault((one.place.group, one.place.row), {})
        its.setdefault(one.place.column, []).append(one.text)
    known = list(dict.fromkeys(group for group, _ in found))
    for place, wanted in enumerate(groups):
        if wanted not in known:
            raise unknown_name(report_item, f"literature[{place}]", wanted, known, f"group of {shown(path)}")
    return tuple(
        table.Printed(group=group, title=row, cells=tuple("/".join(cells.get(column, [])) for column in columns))
        for (group, row), cells in found.items()
        if group in groups
    )


def shown_settings(manifest: Manifest, file: str) -> ShownItemSettings:
    """The settings of a finished table or figure, which ``file`` shows; UserError if an earlier version made it."""
    try:
        settings = stage_module(manifest.stage).Settings.model_validate_json(json.dumps(manifest.settings))
    except ValidationError:
        raise UserError(
            f"{manifest.name}: is of an earlier version, whose settings were others; run `snakemake {file}`"
        ) from None
    assert isinstance(settings, ShownItemSettings)
    return settings
