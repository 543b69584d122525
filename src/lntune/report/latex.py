"""A laid-out table as LaTeX: a ``table`` environment with booktabs' rules, to be read in with \\input.

A table that is too wide for a page of the article class at any size of type is scaled to its width.
"""

import re
from collections.abc import Iterator, Sequence

from lntune.report.latex_size import SCALED, STRETCH, Size, fitting
from lntune.report.latex_text import escaped, from_markdown
from lntune.report.layout import LITERATURE_NOTE, LaidOut, ShownCell, ShownFigure, Title

PACKAGES = (r"\usepackage[T1]{fontenc}", r"\usepackage[utf8]{inputenc}", r"\usepackage{booktabs}")
"""What a document needs that reads a table in."""

SCALING_PACKAGE = r"\usepackage{graphicx}"
"""What it needs besides, if a table is too wide at any size of type."""

DAGGER = r"\textsuperscript{\textdagger}"
INTERVALS_NOTE = "Small figures: the lower and upper ends of bootstrap 95% intervals over what was asked."

_STYLES = {"best": r"\textbf{{{}}}", "second": r"\underline{{{}}}", "none": "{}"}
_NUMBERED = re.compile(r"\ATable \w+: *")


def latex_table(table: LaidOut, *, name: str, title: str, notes: Sequence[str], about: str) -> str:
    """The table as LaTeX.

    Args:
        table: what it shows.
        name: its label's, behind "tab:".
        title: its caption, without the number that it may begin with: LaTeX numbers tables itself.
        notes: paragraphs under the table, in Markdown.
        about: which result it shows, for whoever opens the file.

    Raises:
        UserError: a text holds a character that LaTeX's T1 fonts do not have.
    """
    caption = _NUMBERED.sub("", title)
    caption = caption[:1].upper() + caption[1:]
    below = [*notes, *([INTERVALS_NOTE] if table.intervals else [])]
    size = fitting(table, caption, [*below, *([LITERATURE_NOTE] if table.literature else [])])
    small = [from_markdown(note) for note in below]
    if table.literature:
        small.append(f"{DAGGER}~{escaped(LITERATURE_NOTE)}")
    lines = [
        f"% {' '.join(about.split())}",
        f"% Needs {', '.join(PACKAGES if size else (*PACKAGES, SCALING_PACKAGE))}.",
        r"\begin{table}",
        r"\centering\frenchspacing",
        r"\setlength{\abovecaptionskip}{0pt}",
        r"\setlength{\belowcaptionskip}{6pt}",
        rf"\caption{{{escaped(caption)}}}",
        rf"\label{{tab:{name}}}",
        *_tabular(table, size or SCALED, scaled=size is None),
        r"\par\medskip",
        r"\begin{minipage}{\linewidth}",
        r"\footnotesize\setlength{\parskip}{2pt}",
        *(f"{note}\\par" for note in small),
        r"\end{minipage}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _tabular(table: LaidOut, size: Size, *, scaled: bool) -> Iterator[str]:
    yield size.command
    yield rf"\setlength{{\tabcolsep}}{{{size.space:g}pt}}"
    if table.intervals:
        yield rf"\renewcommand{{\arraystretch}}{{{STRETCH:g}}}"
    if scaled:
        yield r"\resizebox{\linewidth}{!}{%"
    yield rf"\begin{{tabular}}{{@{{}}l{'c' * (table.columns - 1)}@{{}}}}"
    yield r"\toprule"
    yield from _header(table)
    for block in table.blocks:
        yield r"\midrule"
        if block.title is not None:
            yield rf"\multicolumn{{{table.columns}}}{{c}}{{\textit{{{escaped(block.title)}}}}} \\"
            yield r"\addlinespace[2pt]"
        for line in block.lines:
            yield _line([_title(line.title), *map(_cell, line.cells)])
    yield r"\bottomrule"
    yield r"\end{tabular}" + ("}" if scaled else "")


def _header(table: LaidOut) -> Iterator[str]:
    for line in table.header:
        yield _line([_spanning(title) for title in line])
        ends, rules = 0, []
        for title in line:
            if title.span > 1:
                rules.append(rf"\cmidrule(lr){{{ends + 1}-{ends + title.span}}}")
            ends += title.span
        if rules:
            yield " ".join(rules)


def _line(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


def _spanning(title: Title) -> str:
    return _title(title) if title.span == 1 else rf"\multicolumn{{{title.span}}}{{c}}{{{_title(title)}}}"


def _title(title: Title) -> str:
    return escaped(title.text) + (DAGGER if title.literature else "")


def _cell(figures: ShownCell) -> str:
    return "/".join(map(_figure, figures))


def _figure(figure: ShownFigure) -> str:
    text = _STYLES[figure.mark].format(escaped(figure.text))
    return text if figure.bounds is None else rf"{text}$_{{{figure.bounds[0]}}}^{{{figure.bounds[1]}}}$"
