"""Everything that the YAML files of a checkout say, read and checked: the config and the files that it names."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from lntune.config.catalog import Catalog, Entry
from lntune.config.experiment import TableSettings
from lntune.config.load import load, unknown_name
from lntune.config.protocol import ProtocolSettings
from lntune.config.scale import ScaleSettings
from lntune.config.study import StudySettings
from lntune.errors import UserError
from lntune.model.tuning import METHODS

V = TypeVar("V")

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
    """A checkout's config, scale, protocol and catalogue; experiments are read when they are asked for."""

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
            _load_named(root, "protocols", settings.protocol, ProtocolSettings, "protocol"),
            load(root / "workflow" / "catalog.yaml", Catalog),
        )
        study._check_scale()
        for place, name in enumerate(settings.experiments):
            if not study.experiment_path(name).is_file():
                raise unknown_name(root / config, f"experiments[{place}]", name, study.experiments(), "experiment")
            study.experiment(name)
        return study

    @property
    def store(self) -> Path:
        """The folder of all results; relative paths start at the working directory, as Snakemake's do."""
        return Path(self.settings.store)

    @property
    def scale_file(self) -> Path:
        """The scale's file."""
        return self.root / "workflow" / "scales" / f"{self.settings.scale}.yaml"

    def experiments(self) -> list[str]:
        """The names of all experiments."""
        return _names(self.root / "workflow" / "experiments")

    def experiment_path(self, name: str) -> Path:
        """The file of one experiment."""
        return self.root / "workflow" / "experiments" / f"{name}.yaml"

    @cache  # noqa: B019 - a study lives as long as its process
    def experiment(self, name: str) -> TableSettings:
        """One experiment, with every name in it checked against the scale."""
        path = self.experiment_path(name)
        if not path.is_file():
            raise UserError(f"tables/{name}: there is no such table; there are {', '.join(self.experiments())}")
        table = load(path, TableSettings)
        for place, llm in enumerate(table.llms):
            self._known(path, f"llms[{place}]", llm, self.scale.llms, "llm")
        for place, row in enumerate(table.rows):
            self._known(path, f"rows[{place}].method", row.method, self.scale.methods, "method")
            self._known(path, f"rows[{place}].data", row.data, self.scale.data, "training set")
            if row.vision is not None:
                self._known(path, f"rows[{place}].vision", row.vision, self.scale.visions, "vision encoder")
        return table

    def catalog_entry(self, name: str) -> Entry:
        """One entry of the catalogue."""
        path = self.root / "workflow" / "catalog.yaml"
        self._known(path, "entries", name, self.catalog.entries, "catalogue entry")
        return self.catalog.entries[name]

    def named(self, group: Mapping[str, V], name: str, kind: str) -> V:
        """What the scale calls ``name``."""
        self._known(self.scale_file, kind, name, group, kind)
        return group[name]

    @staticmethod
    def _known(file: Path, key: str, name: str, known: Mapping[str, Any], kind: str) -> None:
        if name not in known:
            raise unknown_name(file, key, name, list(known), kind)

    def _check_scale(self) -> None:
        """Every name that the scale's file mentions must exist."""
        file, scale = self.scale_file, self.scale
        for method, settings in scale.methods.items():
            self._known(file, f"methods.{method}", method, METHODS, "method")
            if (method == "lora") != (settings.lora is not None):
                wanted = "needs" if method == "lora" else "takes no"
                raise UserError(f"{file}: methods.{method}.lora: this method {wanted} lora settings")
        self._known(file, "vision", scale.vision, scale.visions, "vision encoder")
        self._known(file, "connector.data", scale.connector.data, scale.data, "training set")
        for name, data in scale.data.items():
            self._known(file, f"data.{name}.source", data.source, scale.sources, "source")
        for group in ("llms", "visions"):
            for name, part in getattr(scale, group).items():
                self._known(file, f"{group}.{name}.weights", part.weights, self.catalog.entries, "catalogue entry")
        for benchmark, sources in scale.benchmarks.items():
            for place, source in enumerate(sources):
                self._known(file, f"benchmarks.{benchmark}[{place}]", source, scale.sources, "source")
        for name, one in scale.sources.items():
            if one.fetch is not None:
                self._known(file, f"sources.{name}.fetch", one.fetch, self.catalog.entries, "catalogue entry")
