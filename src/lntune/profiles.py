"""What a Snakemake profile and ``--config`` put over config.yaml, for commands that must see what a run with them sees.

overrides = overrides_of(Path("."), "slurm", ["selection_split=validation"])
study = Study.read(Path("."), overrides)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from lntune.config.load import read_yaml, shown
from lntune.errors import UserError


def profile_file(root: Path, profile: str) -> Path:
    """The file of a profile, found as Snakemake does: a folder, by its path from the checkout.

    Raises:
        UserError: there is no such profile.
    """
    path = root / profile / "config.yaml"
    if not path.is_file():
        known = sorted(str(found.parent.relative_to(root)) for found in root.glob("*/config.yaml"))
        raise UserError(f"--profile {profile}: there is no {shown(path)}; there are {', '.join(known) or 'none'}")
    return path


def overrides_of(root: Path, profile: str | None, config: Sequence[str] = ()) -> dict[str, Any]:
    """Values that win over config.yaml's: those of the profile's key ``config``, and over these those of ``config``.

    Args:
        root: the checkout.
        profile: as Snakemake's ``--profile``, or None.
        config: ``KEY=VALUE`` each, as Snakemake's ``--config``.

    Raises:
        UserError: there is no such profile, or something is no ``KEY=VALUE``.
    """
    found: dict[str, Any] = {}
    if profile is not None:
        path = profile_file(root, profile)
        given = read_yaml(path).get("config", {})
        if isinstance(given, dict):
            found |= given
        else:
            found |= dict(_pair(str(text), f"{shown(path)}: config") for text in given)
    return found | dict(_pair(text, "--config") for text in config)


def _pair(text: str, where: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"{where}: {text!r} is not KEY=VALUE")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError:
        return key, value
