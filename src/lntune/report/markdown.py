"""A table as Markdown, in the paper's look: groups of rows, best value bold, second best underlined."""

from collections.abc import Sequence

from lntune.report.cells import Cell


def _marks(cells: Sequence[Cell], part: int) -> dict[str, str]:
    """How the best and the second-best written value of one figure are set."""
    written = sorted({cell.parts[part] for cell in cells}, key=float, reverse=True)
    marks = {}
    if len(written) > 1:
        marks[written[0]] = "**{}**"
        if len(written) > 2:
            marks[written[1]] = "<u>{}</u>"
    return marks


def emphasised(cells: Sequence[Cell]) -> list[str]:
    """One column of one group, with its best values bold and its second best underlined, figure by figure."""
    texts: list[list[str]] = [[] for _ in cells]
    for part in range(len(cells[0].figures)):
        marks = _marks(cells, part)
        for text, cell in zip(texts, cells, strict=True):
            text.append(marks.get(cell.parts[part], "{}").format(cell.parts[part]))
    return ["/".join(text) for text in texts]


def markdown_table(
    *,
    title: str,
    notes: Sequence[str],
    columns: Sequence[str],
    rows: Sequence[tuple[str, str]],
    cells: Sequence[Sequence[Cell]],
) -> str:
    """The table as Markdown.

    Args:
        title: above the table.
        notes: paragraphs between title and table; empty ones are left out.
        columns: titles of the cells' columns.
        rows: group and title of each row; rows of a group stand together.
        cells: one sequence of cells a row.
    """
    lines = [f"# {title}", ""]
    for note in notes:
        if note:
            lines += [note, ""]
    lines += [f"| Method | {' | '.join(columns)} |", "|" + " --- |" * (len(columns) + 1)]
    groups = list(dict.fromkeys(group for group, _ in rows))
    for group in groups:
        places = [place for place, (of, _) in enumerate(rows) if of == group]
        lines.append(f"| *{group}* |" + " |" * len(columns))
        by_column = [emphasised([cells[place][k] for place in places]) for k in range(len(columns))]
        for number, place in enumerate(places):
            lines.append(f"| {rows[place][1]} | {' | '.join(column[number] for column in by_column)} |")
    return "\n".join(lines) + "\n"
