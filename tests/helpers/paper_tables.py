"""The paper's tables as rows that can be laid out, for the tests of how tables look."""

from checkout import ROOT
from lntune.paper.printed import read_paper
from lntune.report.cells import Cell, Value
from lntune.report.layout import TableRow

BASELINES = "Baseline models"


def written(*texts: str) -> Cell:
    """A cell of these figures."""
    return Cell(tuple(map(Value, texts)))


def paper_rows(name: str) -> tuple[list[str], list[TableRow]]:
    """Columns and rows of a table of workflow/paper; Table 1's baselines are from the literature."""
    figures: dict[tuple[str, str], dict[str, list[str]]] = {}
    for one in read_paper(ROOT / "workflow" / "paper" / f"{name}.csv"):
        row = figures.setdefault((one.place.group, one.place.row), {})
        row.setdefault(one.place.column, []).append(one.text)
    columns = list(dict.fromkeys(column for row in figures.values() for column in row))
    rows = [
        TableRow(group, title, tuple(written(*row[column]) for column in columns), literature=group == BASELINES)
        for (group, title), row in figures.items()
    ]
    return columns, rows
