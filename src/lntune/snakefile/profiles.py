"""What a Snakemake profile and ``--config`` put over config.yaml, for commands that must see what a run with them sees.

overrides = overrides_of(Path("."), "slurm", ["selection_split=validation"])
study = Study.read(Path("."), overrides)
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lntune.config.load import read_yaml, shown, validate
from lntune.config.mistakes import unknown
from lntune.config.study import ClusterSettings, StudySettings
from lntune.errors import UserError


def _profile_file(root: Path, profile: str) -> Path:
    """The file of a profile, found as Snakemake does: a folder of the checkout; UserError if there is none."""
    path = root / profile / "config.yaml"
    if not path.is_file():
        known = sorted(str(found.parent.relative_to(root)) for found in root.glob("*/config.yaml"))
        raise UserError(f"--profile {profile}: there is no {shown(path)}; there are {', '.join(known) or 'none'}")
    return path


CLUSTER = "cluster"
"""The key of a profile's files that holds the cluster's own names, and no setting of the study."""


def overrides_of(root: Path, profile: str | None, config: Sequence[str] = ()) -> dict[str, Any]:
    """Values that win over config.yaml's, as Snakemake puts them together.

    Of a ``profile`` (as ``--profile``), ``configfile`` and ``config`` count; ``KEY=VALUE`` each in ``config`` (as
    ``--config``) replace its ``config``. UserError if there is no such profile, or something is no ``KEY=VALUE``.
    """
    found = {} if profile is None else _of_files(root, profile)
    found.pop(CLUSTER, None)
    if config or profile is None:
        return found | dict(_pair(text, "--config") for text in config)
    path = _profile_file(root, profile)
    given = read_yaml(path).get("config", {})
    pairs = given if isinstance(given, dict) else dict(_pair(str(text), f"{shown(path)}: config") for text in given)
    return found | pairs


def read_again(given: Mapping[str, Any]) -> dict[str, Any]:
    """What Snakemake was given, with the numbers of lists and mappings as numbers.

    Inside a list or mapping on the command line (``--config seeds=[0,1]``) Snakemake leaves all as text.
    """
    return {key: _leaves(value) if isinstance(value, list | dict) else value for key, value in given.items()}


def _leaves(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _leaves(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_leaves(item) for item in value]
    return _value(value) if isinstance(value, str) else value


def jobs_at_once(root: Path, profile: str | None) -> int:
    """How many jobs run at the same time: as many as a profile submits; without one, one a core of this machine."""
    given = read_yaml(_profile_file(root, profile)).get("jobs") if profile else os.cpu_count()
    return given if isinstance(given, int) else 1


def cluster_of(root: Path, profile: str) -> ClusterSettings:
    """The cluster's names that a profile's files give; UserError as :func:`overrides_of`, or if a name is unfit."""
    return validate(_of_files(root, profile).get(CLUSTER, {}), ClusterSettings, _profile_file(root, profile))


def _of_files(root: Path, profile: str) -> dict[str, Any]:
    """What the files under a profile's key ``configfile`` hold."""
    named = read_yaml(_profile_file(root, profile)).get("configfile", [])
    found: dict[str, Any] = {}
    for name in [named] if isinstance(named, str) else named:
        path, given = root / str(name), read_yaml(root / str(name))
        for key in [key for key in given if key not in StudySettings.model_fields and key != CLUSTER]:
            raise UserError(f"{shown(path)}: {unknown(key, [CLUSTER, *StudySettings.model_fields], 'key')}")
        validate(given.get(CLUSTER, {}), ClusterSettings, path)
        found |= given
    return found


def _pair(text: str, where: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"{where}: {text!r} is not KEY=VALUE")
    return key, _value(value)


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text
