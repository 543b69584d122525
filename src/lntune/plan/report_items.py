"""From a file of workflow/report_items to the node of its table or figure, and to what each of its cells rests on."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from lntune.benchmarks.registry import Benchmark, by_column, by_name
from lntune.config.load import shown, unknown_name
from lntune.config.report_item import (
    COST_COLUMNS,
    RATE,
    SIMILARITY,
    BarsSettings,
    CostSettings,
    GradientsSettings,
    ReportItem,
    RowSettings,
    TableSettings,
)
from lntune.config.scale import SimilaritySettings
from lntune.errors import UserError
from lntune.paper.printed import PAPER, read_paper
from lntune.plan.models import Models, Variant
from lntune.plan.node import Node
from lntune.plan.stages import stage_module
from lntune.report.cells import ScoreFormat, ScoreValue
from lntune.report.rows import Row, ShownItemSettings, rate_text
from lntune.stages import figure_cost, figure_gradients, table
from lntune.store.manifest import Manifest


@dataclass(frozen=True)
class Line:
    """One row of one group: the variant of each seed, and the learning rate if that is not chosen."""

    group: str
    title: str
    variants: tuple[Variant, ...]
    rate: float | None
    row: RowSettings


def report_item_node(models: Models, name: str) -> Node:
    """The result that shows a table or figure of workflow/report_items."""
    report_item, study = models.study.report_item(name), models.study
    inputs = _Inputs()
    known = by_column()
    similarity = models.scale.similarity if SIMILARITY in report_item.columns else None
    settings = ShownItemSettings(
        name=name,
        title=report_item.title,
        note=report_item.note,
        scale=study.settings.scale,
        scale_note=models.scale.note,
        protocol=study.settings.protocol,
        split=study.settings.selection_split,
        seeds=models.seeds,
        columns=report_item.columns,
        tokens=similarity.tokens if similarity else None,
        similarity_on=_similarity_on(similarity) if similarity else "",
        formats={column: _format(models, known[column]) for column in report_item.columns if column in known},
        rows=tuple(_row(models, report_item, line, inputs) for line in _lines(models, report_item)),
    )
    if isinstance(report_item, TableSettings):
        as_table = table.Settings(
            **dict(settings),
            layout=report_item.layout,
            emphasis=report_item.emphasis,
            paired_with=report_item.paired_with,
            intervals=report_item.intervals,
            literature=literature_rows(study.root, name, report_item.literature, report_item.columns),
        )
        return models.node("table", [name], as_table, inputs.roles())
    if isinstance(report_item, BarsSettings):
        return models.node("figure-bars", [name], settings, inputs.roles())
    if isinstance(report_item, CostSettings):
        gpu = models.scale.execution.gpu
        cost = figure_cost.Settings(**dict(settings), capacity_gb=gpu.memory_gb if gpu else None)
        return models.node("figure-cost", [name], cost, inputs.roles())
    if isinstance(report_item, GradientsSettings):
        norms = tuple(
            figure_gradients.ShownNorm(norm=one.norm, layer=one.layer, of=one.of) for one in report_item.norms
        )
        gradients = figure_gradients.Settings(**dict(settings), norms=norms)
        return models.node("figure-gradients", [name], gradients, inputs.roles())
    return models.node("figure-heat-maps", [name], settings, inputs.roles())


def _similarity_on(chosen: SimilaritySettings) -> str:
    """Of which prompts layers are compared, as tables and figures print it."""
    return f"{chosen.questions} test questions of {by_name()[chosen.benchmark].column}"


def _format(models: Models, benchmark: Benchmark) -> ScoreFormat:
    """How a benchmark's cells are read and written."""
    return ScoreFormat(
        values=tuple(ScoreValue(part=part, keys=keys) for part, keys in benchmark.parts.items()),
        decimals=benchmark.decimals,
        measure=benchmark.measure,
        least=benchmark.least(models.protocol.options(benchmark.protocol)),
    )


class _Inputs:
    """The results that cells and learning rates are read from, each once."""

    def __init__(self) -> None:
        self._selections: dict[Node, int] = {}
        self._scores: dict[Node, int] = {}

    def selections(self, nodes: Sequence[Node]) -> tuple[int, ...]:
        """The places of these selections among the inputs."""
        return tuple(self._selections.setdefault(node, len(self._selections)) for node in nodes)

    def scores(self, nodes: Sequence[Node]) -> tuple[int, ...]:
        """The places of these scores, measurements or similarities among the inputs."""
        return tuple(self._scores.setdefault(node, len(self._scores)) for node in nodes)

    def roles(self) -> dict[str, tuple[Node, ...]]:
        """The inputs by role."""
        return {"selections": tuple(self._selections), "scores": tuple(self._scores)}


def _lines(models: Models, report_item: ReportItem) -> Iterator[Line]:
    for group in report_item.llms:
        title = group.title or models.llm(group.llm)[0].title
        for row in report_item.rows:
            variants = tuple(models.variant(group.llm, row, seed) for seed in models.seeds)
            rates = models.scale.sweeps[row.method] if row.sweep else [None]
            for rate in rates:
                shown = row.title if rate is None else row.title.replace(RATE, rate_text(rate))
                yield Line(title, shown, variants, rate, row)


def _row(models: Models, report_item: ReportItem, line: Line, inputs: _Inputs) -> Row:
    chosen = line.rate is None and line.row.data is not None
    scores = tuple(inputs.scores(_sources(models, line, column)) for column in report_item.columns)
    return Row(
        group=line.group,
        title=line.title,
        learning_rate=line.rate,
        selections=inputs.selections([models.selection(one) for one in line.variants]) if chosen else (),
        scores=scores,
    )


def _sources(models: Models, line: Line, column: str) -> list[Node]:
    """What a cell is read from: a result for each seed; what no seed changes, once."""
    first = line.variants[0]
    if column in COST_COLUMNS:
        return [models.measure(first.llm, first.vision, first.method)]
    if column not in by_column():
        return [models.similarity(one) for one in line.variants]
    benchmark = by_column()[column].name
    if line.rate is None:
        return [models.score(one, benchmark, line.row.blind) for one in line.variants]
    return [models.score_at(one, line.rate, benchmark, blind=line.row.blind) for one in line.variants]


def literature_rows(root: Path, name: str, groups: Sequence[str], columns: Sequence[str]) -> tuple[table.Printed, ...]:
    """Rows of the paper's table that it took from the literature, each cell as printed.

    Raises:
        UserError: the paper has no such table, or its table no such group.
    """
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
    """The settings of a finished table or figure, which the published ``file`` shows.

    Raises:
        UserError: it was made by an earlier version, whose settings were others.
    """
    try:
        settings = stage_module(manifest.stage).Settings.model_validate_json(json.dumps(manifest.settings))
    except ValidationError:
        raise UserError(
            f"{manifest.name}: is of an earlier version, whose settings were others; run `snakemake {file}`"
        ) from None
    assert isinstance(settings, ShownItemSettings)
    return settings
