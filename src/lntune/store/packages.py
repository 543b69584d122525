"""The versions of the installed packages that shape a stage's numbers."""

from collections.abc import Iterable
from functools import cache
from importlib import metadata

from lntune.errors import UserError


def versions(names: Iterable[str]) -> dict[str, str]:
    """The installed version of each distribution, by name in sorted order; nothing is imported.

    Raises:
        UserError: one of them is not installed.
    """
    return {name: _version(name) for name in sorted(names)}


@cache
def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError as error:
        raise UserError(f"package {name!r} is not installed; install the project's requirements") from error
