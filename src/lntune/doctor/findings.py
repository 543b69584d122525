"""What ``lntune doctor`` found: a line for each thing that a target needs, and what to do where it is not there."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["ok", "missing", "lesser", "unknown"]

_MARK: dict[State, str] = {"ok": "ok", "missing": "MISSING", "lesser": "lesser", "unknown": "?"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    ``missing``: the target cannot be made; ``lesser``: it can, but something is worse; ``unknown``: it cannot be told
    from here. ``remedy`` is empty for ``ok``.
    """

    subject: str
    state: State
    text: str
    remedy: str = ""


def findings_text(targets: Sequence[str], scale: str, found: Sequence[Finding]) -> str:
    """A line for each finding, its remedy below it, and the sum."""
    lines = [f"{', '.join(targets)} (scale {scale})", ""]
    width = max(len(one.subject) for one in found) + 2
    for one in found:
        lines.append(f"{_MARK[one.state]:<9}{one.subject:<{width}}{one.text}")
        if one.remedy:
            lines.append(f"{'':<{9 + width}}-> {one.remedy}")
    missing = sum(one.state == "missing" for one in found)
    unknown = sum(one.state == "unknown" for one in found)
    summary = f"{missing} missing" if missing else "nothing is missing"
    return "\n".join([*lines, "", summary + (f", {unknown} could not be told from here" if unknown else "")])


def findings_json(targets: Sequence[str], scale: str, found: Sequence[Finding]) -> dict[str, Any]:
    """The same for scripts."""
    return {"targets": list(targets), "scale": scale, "findings": [asdict(one) for one in found]}
