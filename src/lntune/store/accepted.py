"""Edits that someone declared to change no result, and the names that results get under such a word.

A result is named after the code and the packages that made it. After an accepted edit, what is made is named as if
the edit had not happened, so nothing is made again; the manifest says so, and ``lntune verify`` lists it.
"""

from collections.abc import Mapping, Sequence

from pydantic import Field

from lntune.config.base import Frozen


class Change(Frozen):
    """What a module's digest or a package's version was, and is; null where there was or is none."""

    was: str | None
    now: str | None


class AcceptedEdit(Frozen):
    """One edit: the modules (digest of their meaning) and packages (version) that it changed for a stage."""

    stage: str
    because: str = Field(min_length=1)
    date: str
    code: dict[str, Change]
    packages: dict[str, Change]


def differences(was: Mapping[str, str], now: Mapping[str, str]) -> dict[str, Change]:
    """Every name whose value is not the same in both."""
    names = sorted({*was, *now})
    return {name: Change(was=was.get(name), now=now.get(name)) for name in names if was.get(name) != now.get(name)}


def undone(
    stage: str, code: Mapping[str, str], packages: Mapping[str, str], edits: Sequence[AcceptedEdit]
) -> tuple[dict[str, str], dict[str, str], tuple[AcceptedEdit, ...]]:
    """Code and packages as they were before the accepted edits, and the edits that were in force.

    An edit is in force, and is undone, if all that it changed is as it left it, be it because another edit was undone
    before; the newest come first, and each is undone once at most.
    """
    code, packages, used = dict(code), dict(packages), []
    left = [edit for edit in reversed(edits) if edit.stage == stage]
    while edit := next((one for one in left if _holds(one.code, code) and _holds(one.packages, packages)), None):
        _undo(edit.code, code)
        _undo(edit.packages, packages)
        left.remove(edit)
        used.append(edit)
    return code, packages, tuple(used)


def _holds(changes: Mapping[str, Change], values: Mapping[str, str]) -> bool:
    return all(values.get(name) == change.now for name, change in changes.items())


def _undo(changes: Mapping[str, Change], values: dict[str, str]) -> None:
    for name, change in changes.items():
        values.pop(name, None)
        if change.was is not None:
            values[name] = change.was
