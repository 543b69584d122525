"""Writes envs/requirements.lock: the exact versions of this environment that lntune and its tests need.

    .venv/bin/python envs/lock.py

Edit pyproject.toml, install what it asks for, run the tests, then lock. No registry is named: pip's own settings say
where packages come from.
"""

import re
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from packaging.requirements import Requirement

LOCK = Path(__file__).with_name("requirements.lock")
ROOTS = (("lntune", ("dev",)), ("setuptools", ()))


def canonical(name: str) -> str:
    """A distribution's name as pip compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed() -> dict[str, str]:
    """Version by name of everything that the roots require here, directly or not."""
    found: dict[str, str] = {}
    seen: set[tuple[str, tuple[str, ...]]] = set()
    open_ends = list(ROOTS)
    while open_ends:
        name, extras = open_ends.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        found[name] = version(name)
        for text in distribution(name).requires or []:
            requirement = Requirement(text)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras or ("",)):
                open_ends.append((canonical(requirement.name), tuple(sorted(requirement.extras))))
    del found["lntune"]
    return found


if __name__ == "__main__":
    try:
        lines = [f"{name}=={number}\n" for name, number in sorted(needed().items())]
    except PackageNotFoundError as error:
        raise SystemExit(f"error: {error}; install what pyproject.toml asks for first") from None
    LOCK.write_text("".join(lines))
    print(f"{LOCK.name}: {len(lines)} packages")
