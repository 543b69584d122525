"""Writes results.md from the rounds of all rows."""

from collections.abc import Mapping

from gpu_suite.page import section
from races.rounds import Measured, Row, spread


def page(measured: Mapping[str, Measured]) -> str:
    """The whole page: one table a module, and the reason of each target that was missed."""
    parts = [
        "# How fast, beside what one would pick instead\n",
        "Written by `python measurements/race.py`; the figures of every round are in [results.json](results.json). Both"
        " sides do the same work on the same machine in turn, after a round that does not count. Given are medians,"
        " in brackets the least and the most; a ratio is of the two figures of one round. All of it ran on a CPU,"
        " but for what the last section says.\n",
    ]
    for name, found in measured.items():
        versions = ", ".join(f"{package} {version}" for package, version in found.versions.items())
        parts.append(f"## {name.replace('_', ' ').capitalize()}\n")
        parts.append(f"Measured on {found.date} at {found.commit}: {found.machine}; {versions}.\n")
        parts.append("| work | rival | rival's figure | ours | times as fast | target | reached | plain limit |")
        parts.append("| --- | --- | --- | --- | --- | --- | --- | --- |")
        parts += [_line(row) for row in found.rows]
        parts.append("")
        parts += [f"{found.note}\n"] if found.note else []
        parts += [f"Held against each other in this run, {row.work}: {row.equal}.\n" for row in found.rows if row.equal]
        for row in found.rows:
            if not row.reached():
                parts.append(f"**Missed: {row.work}.** {row.reason}\n")
            parts += [*row.profile, ""] if row.profile else []
    return "\n".join([*parts, section()]).rstrip() + "\n"


def _line(row: Row) -> str:
    ratio = "" if row.bound == "at most" and not row.rival else f"**{_figures(row.ratios(), '')}**"
    target = f"{row.target:g} times" if row.bound == "at least" else f"at most {row.target:g} {row.unit}"
    rival = _figures(row.rival_rounds, row.unit) if row.rival else ""
    reached = "yes" if row.reached() else "**no**"
    ours = _figures(row.our_rounds, row.unit)
    return f"| {row.work} | {row.rival} | {rival} | {ours} | {ratio} | {target} | {reached} | {row.limit} |"


def _figures(rounds: tuple[float, ...] | list[float], unit: str) -> str:
    middle, least, most = (f"{figure:,.0f}" if figure >= 1000 else f"{figure:.3g}" for figure in spread(rounds))
    return f"{middle} {unit}".strip() + (f" ({least} to {most})" if len(rounds) > 1 else ", one run")
