"""Everything that the YAML files of a checkout say, read and checked: the config and the files that it names.

Checks that need more than one value are here: names must exist, and what is put together must belong together. So no
job starts from a config that cannot work.
"""

import unicodedata
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

from lntune.benchmarks.registry import benchmarks, by_column, by_name, drawn_with, protocol_settings
from lntune.config.catalog import CATALOG, LOCK, Catalog, CatalogLock, Entry, read_lock
from lntune.config.load import files_extended, load, load_extending, read_yaml, shown, unknown_name
from lntune.config.protocol import ProtocolSettings
from lntune.config.report_item import (
    COST_COLUMNS,
    FIGURES,
    SIMILARITY,
    BarsSettings,
    GradientsSettings,
    HeatMapSettings,
    ReportItem,
    RowSettings,
    TableSettings,
)
from lntune.config.study import Halving, ScaleSettings, SelectionSplit, StudySettings, expanded
from lntune.errors import UserError
from lntune.model.tuning import METHODS
from lntune.plan.stages import STAGES

V = TypeVar("V")
P = ParamSpec("P")


def once(method: Callable[P, V]) -> Callable[P, V]:
    """``functools.cache`` for methods of what lives as long as its process, with arguments that mypy checks."""
    return cast(Callable[P, V], cache(method))


CONFIG = "config.yaml"


def _names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.yaml"))


def _load_named(root: Path, folder: str, name: str, model: Any, key: str) -> Any:
    """The file of ``workflow/<folder>`` that ``key`` of the config names."""
    path = root / "workflow" / folder / f"{name}.yaml"
    if not path.is_file():
        raise unknown_name(root / CONFIG, key, name, _names(path.parent), folder[:-1])
    return load_extending(path, model)


@dataclass(frozen=True, eq=False)
class Study:
    """A checkout's config, scale, protocol and catalogue; report items are read when they are asked for."""

    root: Path
    settings: StudySettings
    scale: ScaleSettings
    protocol: ProtocolSettings
    catalog: Catalog

    @classmethod
    def read(cls, root: Path, overrides: Mapping[str, Any] | None = None) -> "Study":
        """Read and check everything; UserError says in one line what is wrong."""
        settings = load(root / CONFIG, StudySettings, overrides)
        study = cls(
            root,
            settings,
            _load_named(root, "scales", settings.scale, ScaleSettings, "scale"),
            _load_named(root, "protocols", settings.protocol, protocol_settings(), "protocol"),
            load(root / CATALOG, Catalog),
        )
        for name in settings.copies:
            check_known(root / CONFIG, f"copies.{name}", name, study.catalog.entries, "catalogue entry")
        _check_scale(study.scale_file, study.scale, study.catalog)
        for key, kind, known in (("llms", "llm", study.scale.llms), ("methods", "method", study.scale.methods)):
            for place, name in enumerate(getattr(settings.rehearsal, key)):
                check_known(root / CONFIG, f"rehearsal.{key}[{place}]", name, known, kind)
        for place, name in enumerate(settings.report_items):
            if not study.report_item_path(name).is_file():
                key = f"report_items[{place}]"
                raise unknown_name(root / CONFIG, key, name, study.report_items(), "report item")
        made = tuple(name for name in settings.report_items if not study.leaves_out(name))
        for name in made or settings.report_items:
            study.report_item(name)
        return replace(study, settings=settings.model_copy(update={"report_items": made}))

    @cached_property
    def store(self) -> Path:
        """The folder of all results; relative paths start at the working directory, as Snakemake's do."""
        return self.settings.store_folder(self.root / CONFIG)

    @property
    def selection_split(self) -> SelectionSplit:
        """On which split learning rates are chosen: as the config says, or else the scale."""
        return self.settings.selection_split or self.scale.selection_split

    @property
    def search(self) -> Halving | None:
        """How learning rates are searched: as the config says, or else the scale; None: every candidate to its end."""
        return self.settings.search if "search" in self.settings.model_fields_set else self.scale.search

    @cached_property
    def scale_file(self) -> Path:
        """The scale's file."""
        return self.root / "workflow" / "scales" / f"{self.settings.scale}.yaml"

    def scale_files(self) -> list[Path]:
        """The scale's file, and those that it builds on."""
        return files_extended(self.scale_file)

    def report_items(self) -> list[str]:
        """The names of all report items, without those that the scale leaves out."""
        names = _names(self.root / "workflow" / "report_items")
        return [name for name in names if not any(self._left_out.values()) or not self.leaves_out(name)]

    def report_item_path(self, name: str) -> Path:
        """The file of one report item."""
        return self.root / "workflow" / "report_items" / f"{name}.yaml"

    @cached_property
    def _left_out(self) -> dict[str, set[str]]:
        """By key of the scale, the names that it does not have, and a scale that it builds on has."""
        bases = [read_yaml(file) for file in self.scale_files()[1:]]
        return {key: {name for base in bases for name in base.get(key) or {}} - own.keys() for key, own in (
            ("llms", self.scale.llms), ("methods", self.scale.methods), ("data", self.scale.data),
            ("visions", self.scale.visions), ("sweeps", self.scale.sweeps),
        )}  # fmt: skip

    def leaves_out(self, name: str) -> bool:
        """Whether the scale leaves out all of a report item's LLMs or rows, of which its base has some."""
        item = self._report_item(name)
        return not item.rows or (not item.llms and any(row.method for row in item.rows))

    @once
    def report_item(self, name: str) -> ReportItem:
        """One table or figure, with every name in it checked against the scale.

        What the scale leaves out of the one that it builds on is left out here, too.
        """
        if self.leaves_out(name):
            file, scale = shown(self.report_item_path(name)), shown(self.scale_file)
            raise UserError(f"{file}: {scale} leaves out all of its llms or rows; choose another scale or report item")
        settings = self._report_item(name)
        _check_report_item(self.report_item_path(name), settings, self.scale, self.catalog)
        return settings

    @once
    def _report_item(self, name: str) -> ReportItem:
        """As its file has it, without what the scale leaves out."""
        path = self.report_item_path(name)
        if not path.is_file():
            known = ", ".join(self.report_items())
            raise UserError(f"{name}: there is no such table or figure; there are {known}")
        kind = read_yaml(path).get("figure")
        if kind is not None and str(kind) not in FIGURES:
            raise unknown_name(path, "figure", str(kind), FIGURES, "kind of figure")
        settings: ReportItem = load(path, TableSettings) if kind is None else load(path, FIGURES[str(kind)])
        out = self._left_out
        if not any(out.values()):
            return settings
        rows = tuple(
            row for row in settings.rows
            if row.method not in out["methods"] and row.data not in out["data"] and row.vision not in out["visions"]
            and not (row.sweep and row.method in out["sweeps"])
        )  # fmt: skip
        llms = tuple(one for one in settings.llms if one.llm not in out["llms"])
        changed: dict[str, Any] = {"llms": llms, "rows": rows}
        lost = {row.title for row in settings.rows} - {row.title for row in rows}
        if isinstance(settings, TableSettings) and settings.paired_with in lost:
            changed["paired_with"] = None
        return settings.model_copy(update=changed)

    def catalog_entry(self, name: str) -> Entry:
        """One entry of the catalogue."""
        check_known(self.root / CATALOG, "entries", name, self.catalog.entries, "catalogue entry")
        return self.catalog.entries[name]

    def copies_folder(self, entry: str) -> Path | None:
        """The folder that holds an entry's files already, if config.yaml names one."""
        folder = self.settings.copies.get(entry)
        path = self.root.resolve() / expanded(self.root / CONFIG, f"copies.{entry}", folder or "")
        forms = [Path(unicodedata.normalize(form, str(path))) for form in ("NFC", "NFD")]  # a disk may have the other
        return next(filter(Path.exists, (path, *forms)), path) if folder else None

    def answer_file(self, folder: str, name: str) -> Path:
        """A file of other people's answers, in a folder that a row names; UserError if it is not there."""
        path = Path(expanded(self.root / CONFIG, "answers", folder)) / name
        if not (self.root / path).is_file():
            raise UserError(f"{path}: no such file; a row's answers need it (docs/adding.md), or remove row or column")
        return path

    @cached_property
    def catalog_lock(self) -> CatalogLock:
        """What the first downloads recorded; UserError if the file is damaged."""
        return read_lock(self.root / LOCK)


# --- checks -----------------------------------------------------------------------------------------------------------

_FORMAT_SET = {"llava-pretrain": "pretrain", "llava-instruct": "instruct"}


def check_known(file: Path, key: str, name: str, known: Collection[str], kind: str) -> None:
    """UserError if nothing of this kind bears the name that ``key`` of the file gives."""
    if name not in known:
        raise unknown_name(file, key, name, known, kind)


def _check_scale(file: Path, scale: ScaleSettings, catalog: Catalog) -> None:
    """Every name in a scale's file exists, and its parts fit each other."""
    _check_methods(file, scale)
    check_known(file, "vision", scale.vision, scale.visions, "vision encoder")
    check_known(file, "connector.data", scale.connector.data, scale.data, "training set")
    weights = {f"llms.{name}.weights": llm.weights for name, llm in scale.llms.items()}
    weights |= {f"visions.{name}.weights": vision.weights for name, vision in scale.visions.items()}
    for key, entry in weights.items():
        check_known(file, key, entry, catalog.entries, "catalogue entry")
    _check_distinct(file, {f"llms.{name}.title": llm.title for name, llm in scale.llms.items()})
    _check_sources(file, scale, catalog)
    for name, data in scale.data.items():
        key = f"data.{name}.source"
        check_known(file, key, data.source, scale.sources, "source")
        _check_drawn(file, key, data.source, scale, _FORMAT_SET[data.format], f"the format {data.format}")
    _check_benchmarks(file, scale)
    check_known(file, "similarity.benchmark", scale.similarity.benchmark, by_name(), "benchmark")
    for name, rates in scale.sweeps.items():
        check_known(file, f"sweeps.{name}", name, scale.methods, "method")
        _check_distinct(file, {f"sweeps.{name}[{place}]": rate for place, rate in enumerate(rates)})
    precisions = {"connector.schedule": scale.connector.schedule, "finetune": scale.finetune, "measure": scale.measure}
    for key, settings in precisions.items():
        if settings and settings.precision == "bf16-weights" and scale.execution.engine == "plain":
            raise UserError(
                f"{shown(file)}: {key}.precision: bf16-weights needs execution.engine: deepspeed, or take bf16"
            )
    given = [scale.execution.default, *scale.execution.stages.values()]
    alone = scale.execution.engine == "plain" and all(one.threads == 1 and not one.gpus for one in given)
    if scale.numerics == "portable" and not alone:
        raise UserError(
            f"{shown(file)}: numerics: portable computes in one thread of a CPU; give execution engine: plain and "
            "every stage threads: 1 and gpus: 0, or take native"
        )
    for stage in scale.execution.stages:
        check_known(file, f"execution.stages.{stage}", stage, STAGES, "stage")


def _check_report_item(file: Path, report_item: ReportItem, scale: ScaleSettings, catalog: Catalog) -> None:
    """Every name in a report item's file exists, and no two groups, rows or columns are called alike."""
    for place, group in enumerate(report_item.llms):
        check_known(file, f"llms[{place}]", group.llm, scale.llms, "llm")
    titles = {f"llms[{k}]": group.title or scale.llms[group.llm].title for k, group in enumerate(report_item.llms)}
    _check_distinct(file, titles)
    others = () if isinstance(report_item, BarsSettings) else (*COST_COLUMNS, SIMILARITY)
    for place, column in enumerate(report_item.columns):
        check_known(file, f"columns[{place}]", column, (*by_column(), *others), "column")
    _check_rows(file, report_item, scale, catalog)
    _check_distinct(file, {f"columns[{place}]": column for place, column in enumerate(report_item.columns)})
    _check_distinct(file, {f"rows[{place}].title": row.title for place, row in enumerate(report_item.rows)})
    if isinstance(report_item, HeatMapSettings | GradientsSettings):
        _check_one_model(file, report_item)
    if isinstance(report_item, TableSettings) and report_item.paired_with is not None:
        titles = {row.title: "" for row in report_item.rows if not row.sweep}
        check_known(file, "paired_with", report_item.paired_with, titles, "row")


def _check_one_model(file: Path, figure: HeatMapSettings | GradientsSettings) -> None:
    """UserError if a figure that shows one LLM, or one of its layers, names several."""
    if len(figure.llms) > 1:
        raise UserError(
            f"{shown(file)}: llms: {figure.figure} show one LLM; name one here, others in files of their own"
        )
    if isinstance(figure, GradientsSettings):
        depths = {(one.layer, one.of) for one in figure.norms}
        if len(depths) > 1:
            raise UserError(f"{shown(file)}: norms: one layer is shown; give all the same layer and of")
        _check_distinct(file, {f"norms[{place}].norm": one.norm for place, one in enumerate(figure.norms)})


def _check_rows(file: Path, report_item: ReportItem, scale: ScaleSettings, catalog: Catalog) -> None:
    trained = not report_item.columns or any(column not in COST_COLUMNS for column in report_item.columns)
    for place, row in enumerate(report_item.rows):
        key = f"rows[{place}]"
        if not row.method:
            _check_other(file, key, report_item, row, catalog)
            continue
        check_known(file, f"{key}.method", row.method, scale.methods, "method")
        if row.data is not None:
            check_known(file, f"{key}.data", row.data, scale.data, "training set")
        elif trained:
            raise UserError(f"{shown(file)}: {key}.data: missing key; name one of {', '.join(scale.data)}")
        if row.vision is not None:
            check_known(file, f"{key}.vision", row.vision, scale.visions, "vision encoder")
        scored = [column for column in report_item.columns if column in by_column()]
        if row.blind and not scored:
            raise UserError(f"{shown(file)}: {key}.blind: nobody is asked anything here; remove it")
        if row.sweep:
            _check_sweep(file, key, row.method, scale, swept=len(scored) == len(report_item.columns) > 0)


def _check_other(file: Path, key: str, report_item: ReportItem, row: RowSettings, catalog: Catalog) -> None:
    """UserError if another's row is shown as such rows cannot be, or its catalogue entry is no model in the form."""
    key += ".answers" if row.model is None else ".model"
    below = isinstance(report_item, TableSettings) and report_item.layout == "groups"
    if not below or not set(report_item.columns) <= by_column().keys():
        raise UserError(f"{shown(file)}: {key}: is for tables of scores alone, of layout: groups; remove the row")
    if row.model is not None:
        check_known(file, key, row.model, catalog.entries, "catalogue entry")
        names = catalog.entries[row.model].files
        if "config.json" not in names or not any(name.endswith(".safetensors") for name in names):
            raise UserError(
                f"{shown(file)}: {key}: the catalogue entry {row.model} has no config.json and *.safetensors; name one "
                "in Hugging Face's form"
            )


def _check_sweep(file: Path, key: str, method: str, scale: ScaleSettings, *, swept: bool) -> None:
    """UserError if the scale has no rates to sweep, or something else than scores is shown."""
    if method not in scale.sweeps:
        known = ", ".join(scale.sweeps) or "none"
        raise UserError(f"{shown(file)}: {key}.sweep: the scale sweeps no rates of {method!r} (it does of: {known})")
    if not swept:
        raise UserError(f"{shown(file)}: {key}.sweep: scores alone are shown of every learning rate; remove it")


def _check_distinct(file: Path, values: Mapping[str, str | float]) -> None:
    """No two of the keys may have one value."""
    first: dict[str | float, str] = {}
    for key, value in values.items():
        if value in first:
            raise UserError(f"{shown(file)}: {key}: {value!r} is also {first[value]}; change or remove one")
        first[value] = key


def _check_methods(file: Path, scale: ScaleSettings) -> None:
    for name, method in scale.methods.items():
        check_known(file, f"methods.{name}", name, METHODS, "method")
        key = f"methods.{name}.learning_rates"
        _check_distinct(file, {f"{key}[{place}]": rate for place, rate in enumerate(method.learning_rates)})
        if name == "lora" and method.lora is None:
            remedy = "missing key; add it, such as {rank: 64, alpha: 128, dropout: 0.0}"
        elif name != "lora" and method.lora is not None:
            remedy = "only the method lora takes these settings; remove them"
        else:
            continue
        raise UserError(f"{shown(file)}: methods.{name}.lora: {remedy}")


def _check_sources(file: Path, scale: ScaleSettings, catalog: Catalog) -> None:
    for name, source in scale.sources.items():
        if source.fetch is not None:
            check_known(file, f"sources.{name}.fetch", source.fetch, catalog.entries, "catalogue entry")
        elif source.draw is not None:
            key, drawn = f"sources.{name}.draw.set", source.draw.set
            sets = {*_FORMAT_SET.values(), *(one for benchmark in benchmarks() for one in benchmark.drawn)}
            check_known(file, key, drawn, sorted(sets), "drawn set")
            images = drawn_with().get(drawn)
            shared = scale.sources.get(images) if images else None
            if images and (shared is None or shared.draw is None or shared.draw.set != images):
                raise UserError(
                    f"{shown(file)}: {key}: {drawn} asks about the images of a source named {images}; "
                    f"add {images}: {{draw: {{set: {images}, images: ...}}}}"
                )


def _check_benchmarks(file: Path, scale: ScaleSettings) -> None:
    for benchmark in scale.benchmarks:
        check_known(file, f"benchmarks.{benchmark}", benchmark, by_name(), "benchmark")
    for benchmark, known in by_name().items():
        names, sets = scale.benchmarks.get(benchmark, ()), known.drawn
        if len(names) not in (1, 2):
            raise UserError(
                f"{shown(file)}: benchmarks.{benchmark}: expected one or two sources (of the questions, of the "
                f"images), got {len(names)}; write {benchmark}: [{', '.join(sets or ('NAME',))}] with your "
                "sources' names"
            )
        for place, wanted in ((0, sets[:1]), (len(names) - 1, sets[-1:])):
            key = f"benchmarks.{benchmark}[{place}]"
            check_known(file, key, names[place], scale.sources, "source")
            for one in wanted:
                _check_drawn(file, key, names[place], scale, one, benchmark)


def _check_drawn(file: Path, key: str, name: str, scale: ScaleSettings, wanted: str, user: str) -> None:
    """UserError if a source is drawn as another set than its user needs; what is fetched cannot be checked."""
    draw = scale.sources[name].draw
    if draw is not None and draw.set != wanted:
        fitting = [n for n, source in scale.sources.items() if source.draw and source.draw.set == wanted]
        remedy = f"name {' or '.join(fitting)}" if fitting else f"add a source that draws {wanted}"
        raise UserError(f"{shown(file)}: {key}: the source {name!r} draws {draw.set}, {user} needs {wanted}; {remedy}")
