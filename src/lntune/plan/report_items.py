"""From a file of workflow/report_items to the node of its table or figure, and to what each of its cells rests on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lntune.benchmarks.registry import Benchmark, by_column, by_name
from lntune.config.report_item import (
    COST_COLUMNS,
    RATE,
    SIMILARITY,
    BarsSettings,
    CostSettings,
    GradientsSettings,
    GroupSettings,
    ReportItem,
    RowSettings,
    TableSettings,
)
from lntune.paper.printed import literature_rows
from lntune.plan.node import Node
from lntune.report.rows import rate_text

if TYPE_CHECKING:
    from lntune.plan.models import Plan, Variant


@dataclass(frozen=True)
class Line:
    """One row of one group: the variant of each seed, and the learning rate if that is not chosen."""

    group: str
    title: str
    variants: tuple["Variant", ...]
    rate: float | None
    row: RowSettings


def report_item_node(plan: "Plan", name: str) -> Node:
    """The result that shows a table or figure of workflow/report_items."""
    report_item = plan.study.report_item(name)
    lines = list(_lines(plan, report_item))
    inputs = _Inputs()
    settings: dict[str, Any] = {
        "name": name,
        "title": report_item.title,
        "note": report_item.note,
        "scale": plan.study.settings.scale,
        "scale_note": plan.scale.note,
        "protocol": plan.study.settings.protocol,
        "split": plan.study.settings.selection_split,
        "seeds": plan.seeds,
        "columns": report_item.columns,
        **(_similarity(plan) if SIMILARITY in report_item.columns else {"tokens": None}),
        "formats": {
            column: _format(plan, by_column()[column]) for column in report_item.columns if column in by_column()
        },
        "rows": [_row(plan, report_item, line, inputs) for line in lines],
    }
    if isinstance(report_item, TableSettings):
        shown = report_item.model_dump(include={"layout", "emphasis", "paired_with", "intervals"})
        literature = literature_rows(plan.study.root, name, report_item.literature, report_item.columns)
        settings |= {**shown, "literature": literature}
        return plan.node("table", [name], settings, inputs.roles())
    if isinstance(report_item, BarsSettings):
        return plan.node("figure-bars", [name], settings, inputs.roles())
    if isinstance(report_item, CostSettings):
        gpu = plan.scale.execution.gpu
        settings["capacity_gb"] = gpu.memory_gb if gpu else None
        return plan.node("figure-cost", [name], settings, inputs.roles())
    if isinstance(report_item, GradientsSettings):
        settings["norms"] = [norm.model_dump() for norm in report_item.norms]
        return plan.node("figure-gradients", [name], settings, inputs.roles())
    return plan.node("figure-heat-maps", [name], settings, inputs.roles())


def _similarity(plan: "Plan") -> dict[str, str]:
    """Over which positions of which prompts layers are compared, as tables and figures say it."""
    chosen = plan.scale.similarity
    on = f"{chosen.questions} test questions of {by_name()[chosen.benchmark].column}"
    return {"tokens": chosen.tokens, "similarity_on": on}


def _format(plan: "Plan", benchmark: Benchmark) -> dict[str, Any]:
    """How a benchmark's cells are read and written."""
    return {
        "values": [{"part": part, "keys": keys} for part, keys in benchmark.parts.items()],
        "decimals": benchmark.decimals,
        "measure": benchmark.measure,
        "least": benchmark.least(plan.protocol.options(benchmark.protocol)),
    }


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


def _lines(plan: "Plan", report_item: ReportItem) -> Iterator[Line]:
    for group in report_item.llms:
        title = group.title or plan.llm(group.llm)[0].title
        for row in report_item.rows:
            variants = _variants(plan, group, row)
            rates = plan.scale.sweeps[row.method] if row.sweep else [None]
            for rate in rates:
                shown = row.title if rate is None else row.title.replace(RATE, rate_text(rate))
                yield Line(title, shown, variants, rate, row)


def _variants(plan: "Plan", group: GroupSettings, row: RowSettings) -> tuple["Variant", ...]:
    return tuple(plan.variant(group.llm, row, seed) for seed in plan.seeds)


def _row(plan: "Plan", report_item: ReportItem, line: Line, inputs: _Inputs) -> dict[str, Any]:
    """A row as the stages that show it are told of it."""
    chosen = line.rate is None and line.row.data is not None
    scores = [inputs.scores(_sources(plan, line, column)) for column in report_item.columns]
    return {
        "group": line.group,
        "title": line.title,
        "learning_rate": line.rate,
        "selections": inputs.selections([plan.selection(one) for one in line.variants]) if chosen else (),
        "scores": scores,
    }


def _sources(plan: "Plan", line: Line, column: str) -> list[Node]:
    """What a cell is read from: a result for each seed; what no seed changes, once."""
    first = line.variants[0]
    if column in COST_COLUMNS:
        return [plan.measure(first.llm, first.vision, first.method)]
    if column not in by_column():
        return [plan.similarity(one) for one in line.variants]
    benchmark = by_column()[column].name
    if line.rate is None:
        return [plan.score(one, benchmark, line.row.blind) for one in line.variants]
    return [plan.score_at(one, line.rate, benchmark, blind=line.row.blind) for one in line.variants]
