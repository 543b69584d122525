"""Everything that the YAML files of a checkout say, read and checked: the config and the files that it names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

from lntune.benchmarks.registry import protocol_settings
from lntune.config.catalog import CATALOG, LOCK, Catalog, CatalogLock, Entry, read_lock
from lntune.config.load import load, read_yaml, unknown_name
from lntune.config.protocol import ProtocolSettings
from lntune.config.report_item import FIGURES, ReportItem, TableSettings
from lntune.config.scale import ScaleSettings
from lntune.config.study import StudySettings
from lntune.errors import UserError
from lntune.plan.crosschecks import check_copies, check_known, check_report_item, check_scale

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
    return load(path, model)


@dataclass(frozen=True, eq=False)
class Study:
    """A checkout's config, scale, protocol and catalogue; report items are read when they are asked for."""

    root: Path
    settings: StudySettings
    scale: ScaleSettings
    protocol: ProtocolSettings
    catalog: Catalog

    @classmethod
    def read(cls, root: Path, overrides: Mapping[str, Any] | None = None, config: str = CONFIG) -> "Study":
        """Read and check everything; UserError says in one line what is wrong."""
        settings = load(root / config, StudySettings, overrides)
        study = cls(
            root,
            settings,
            _load_named(root, "scales", settings.scale, ScaleSettings, "scale"),
            _load_named(root, "protocols", settings.protocol, protocol_settings(), "protocol"),
            load(root / CATALOG, Catalog),
        )
        check_copies(root / config, settings.copies, study.catalog)
        check_scale(study.scale_file, study.scale, study.catalog)
        for place, name in enumerate(settings.report_items):
            if not study.report_item_path(name).is_file():
                key = f"report_items[{place}]"
                raise unknown_name(root / config, key, name, study.report_items(), "report item")
            study.report_item(name)
        return study

    @property
    def store(self) -> Path:
        """The folder of all results; relative paths start at the working directory, as Snakemake's do."""
        return Path(self.settings.store)

    @cached_property
    def scale_file(self) -> Path:
        """The scale's file."""
        return self.root / "workflow" / "scales" / f"{self.settings.scale}.yaml"

    @property
    def protocol_file(self) -> Path:
        """The protocol's file."""
        return self.root / "workflow" / "protocols" / f"{self.settings.protocol}.yaml"

    def report_items(self) -> list[str]:
        """The names of all report items."""
        return _names(self.root / "workflow" / "report_items")

    def report_item_path(self, name: str) -> Path:
        """The file of one report item."""
        return self.root / "workflow" / "report_items" / f"{name}.yaml"

    @once
    def report_item(self, name: str) -> ReportItem:
        """One table or figure, with every name in it checked against the scale."""
        path = self.report_item_path(name)
        if not path.is_file():
            known = ", ".join(self.report_items())
            raise UserError(f"{name}: there is no such table or figure; there are {known}")
        kind = read_yaml(path).get("figure")
        if kind is not None and str(kind) not in FIGURES:
            raise unknown_name(path, "figure", str(kind), FIGURES, "kind of figure")
        settings: ReportItem = load(path, TableSettings) if kind is None else load(path, FIGURES[str(kind)])
        check_report_item(path, settings, self.scale)
        return settings

    def catalog_entry(self, name: str) -> Entry:
        """One entry of the catalogue."""
        check_known(self.root / CATALOG, "entries", name, self.catalog.entries, "catalogue entry")
        return self.catalog.entries[name]

    def copies_folder(self, entry: str) -> Path | None:
        """The folder that holds an entry's files already, if config.yaml names one."""
        folder = self.settings.copies.get(entry)
        return None if folder is None else self.root.resolve() / Path(folder).expanduser()

    @cached_property
    def catalog_lock(self) -> CatalogLock:
        """What the first downloads recorded; UserError if the file is damaged."""
        return read_lock(self.root / LOCK)

    def named(self, group: Mapping[str, V], name: str, kind: str) -> V:
        """What the scale calls ``name``."""
        check_known(self.scale_file, kind, name, group, kind)
        return group[name]
