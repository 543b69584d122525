r"""A laid-out table as LaTeX: a ``table`` environment with booktabs' rules, to be read in with \input.

Every character of a text stands for itself, whatever pdfLaTeX would take it for; meant for the T1 encoding:
\usepackage[T1]{fontenc}. The table is set in the largest common size of type in which it fits a page of the article
class; one that is too wide at any is scaled to the page's width. LaTeX alone knows how wide text becomes; the widths
used here, of Computer Modern's characters, are a few percent too large rather than too small.
"""

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lntune.errors import UserError
from lntune.report.layout import LITERATURE_NOTE, LaidOut, ShownCell, ShownValue, Title

_COMMANDS = {
    "\0": "{}",
    "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "`": r"\textasciigrave{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    '"': r"\textquotedbl{}", "'": r"\textquotesingle{}",
    "\n": " ", "\t": " ", "\u00a0": "~", "\u2009": r"\,", "\u202f": r"\,", "\u00ad": r"\-",
    "–": r"\textendash{}", "—": r"\textemdash{}", "‐": "-", "‑": "-", "…": r"\ldots{}", "•": r"\textbullet{}",
    "‘": "`", "’": "'", "“": "``", "”": "''",
    "‚": r"\quotesinglbase{}", "„": r"\quotedblbase{}", "«": r"\guillemotleft{}", "»": r"\guillemotright{}",
    "†": r"\textdagger{}", "‡": r"\textdaggerdbl{}", "§": r"\textsection{}", "¶": r"\textparagraph{}",
    "©": r"\textcopyright{}", "®": r"\textregistered{}", "™": r"\texttrademark{}", "€": r"\texteuro{}",
    "£": r"\textsterling{}", "¥": r"\textyen{}", "¢": r"\textcent{}", "°": r"\textdegree{}", "¡": r"\textexclamdown{}",
    "¿": r"\textquestiondown{}", "µ": r"\textmu{}", "¹": r"$^{1}$", "²": r"$^{2}$", "³": r"$^{3}$",
    "¼": r"\textonequarter{}", "½": r"\textonehalf{}", "¾": r"\textthreequarters{}", "·": r"$\cdot$",
    "±": r"$\pm$", "×": r"$\times$", "÷": r"$\div$", "−": "$-$", "≤": r"$\leq$", "≥": r"$\geq$", "≈": r"$\approx$",
    "≠": r"$\neq$", "∞": r"$\infty$", "→": r"$\rightarrow$", "←": r"$\leftarrow$", "↑": r"$\uparrow$",
    "↓": r"$\downarrow$", "α": r"$\alpha$", "β": r"$\beta$", "γ": r"$\gamma$", "δ": r"$\delta$", "ε": r"$\epsilon$",
    "θ": r"$\theta$", "λ": r"$\lambda$", "μ": r"$\mu$", "π": r"$\pi$", "ρ": r"$\rho$", "σ": r"$\sigma$",
    "τ": r"$\tau$", "φ": r"$\phi$", "ω": r"$\omega$", "Δ": r"$\Delta$", "Σ": r"$\Sigma$", "Ω": r"$\Omega$",
}  # fmt: skip

_LIGATURES = re.compile(r"(?<=-)(?=-)|(?<=,)(?=,)|(?<=[’”])(?=[’”])|(?<=[!?‘“])(?=[‘“])")
"""Where two characters would be set as one other."""

_LETTERS = re.compile(r"[ -~À-ÖØ-öø-ĥĨ-ķĹ-ľŁ-ňŊ-ťŨ-ž]")
"""What the T1 encoding has: ASCII and the accented letters of European languages."""

_OPENING = re.compile(r"""(?<![^\s(\[])(['"])(?=\S)""")
"""A straight quotation mark that opens; all others close, or are apostrophes."""

_CURLY = str.maketrans({"'": "’", '"': "”"})
_STRAIGHT = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"'})

_MARKDOWN = re.compile(r"\*\*(?P<bold>.+?)\*\*|`(?P<code>[^`]+)`|(?<=\d)\^(?P<power>\d+)")
_COMMAND_OF = {"bold": r"\textbf", "code": r"\texttt", "power": r"\textsuperscript"}


def escaped(text: str) -> str:
    """A text that LaTeX sets as it is written, with curly quotation marks; UserError for what T1 does not have."""
    return _characters(_quoted(text))


def from_markdown(text: str) -> str:
    """A paragraph of Markdown: bold words and code stay such, and 10^9 is set as a power; UserError as above."""
    text, pieces, end = _quoted(text), [], 0
    for found in _MARKDOWN.finditer(text):
        kind = str(found.lastgroup)
        words = found[kind].translate(_STRAIGHT) if kind == "code" else found[kind]
        pieces += [_characters(text[end : found.start()]), f"{_COMMAND_OF[kind]}{{{_characters(words)}}}"]
        end = found.end()
    return "".join(pieces) + _characters(text[end:])


def _quoted(text: str) -> str:
    """The text with curly quotation marks."""
    return _OPENING.sub(lambda found: "‘" if found[1] == "'" else "“", text).translate(_CURLY)


def _characters(text: str) -> str:
    apart = _LIGATURES.sub("\0", unicodedata.normalize("NFC", text))
    for place, character in enumerate(apart):
        if character not in _COMMANDS and not _LETTERS.match(character):
            shown, before = f"{character!r} (U+{ord(character):04X})", apart[:place]
            where = f"behind {before[-30:]!r}" if before else "at the beginning of a text"
            raise UserError(f"LaTeX's T1 fonts have no {shown}, which stands {where}; write it in other characters")
    return "".join(_COMMANDS.get(character, character) for character in apart)


# --- in which size a table fits ---

TEXT_WIDTH = 345.0
TEXT_HEIGHT = 550.0
"""The text block of the article class at 10 points on letter paper, in points."""

STRETCH = 1.35
"""Between lines with intervals, which stand above and below the figures."""

_RULE, _TITLE_SPACE = 5.0, 2.0
_NOTE_LINE, _NOTE_DIGIT, _NOTE_SPACE = 9.5, 3.9, 2.0
_CAPTION_LINE, _CAPTION_DIGIT, _CAPTION_SPACE = 12.0, 4.6, 12.0
"""Of the paragraphs above and below; running text is mostly of letters that are narrower than digits."""

_BOLD = 1.16


class Size(NamedTuple):
    """A size of type: its command; in points its lines, its digits, those of indices, and half the space of columns."""

    command: str
    line: float
    digit: float
    small_digit: float
    space: float


SIZES = (
    Size(r"\small", 11, 4.63, 3.67, 6),
    Size(r"\small", 11, 4.63, 3.67, 4),
    Size(r"\footnotesize", 9.5, 4.25, 3.67, 4),
    Size(r"\footnotesize", 9.5, 4.25, 3.67, 3),
    Size(r"\scriptsize", 8, 3.99, 3.4, 3),
    Size(r"\scriptsize", 8, 3.99, 3.4, 2),
)
"""The sizes that a table is tried in, in this order."""

SCALED = SIZES[3]
"""The size of a table that is scaled to the page's width, because none of them fits: small, with legible indices."""


def fitting(table: LaidOut, caption: str, notes: Sequence[str]) -> Size | None:
    """The largest size in which a table fits the page, or at least its width if it is too high in all; else None."""
    narrow = [size for size in SIZES if _width(table, size) <= TEXT_WIDTH]
    around = _height_around(caption, notes)
    low = [size for size in narrow if _height(table, size) + around <= TEXT_HEIGHT]
    return next(iter(low or narrow), None)


def _height(table: LaidOut, size: Size) -> float:
    titles = sum(block.title is not None for block in table.blocks)
    lines = len(table.header) + titles + sum(1 for _ in table.lines())
    height = lines * size.line * (STRETCH if table.intervals else 1)
    return height + (len(table.blocks) + len(table.header)) * _RULE + titles * _TITLE_SPACE


def _height_around(caption: str, notes: Sequence[str]) -> float:
    def lines(text: str, digit: float) -> int:
        return math.ceil(_digits(text) * digit / TEXT_WIDTH)

    above = lines(f"Table 00: {caption}", _CAPTION_DIGIT) * _CAPTION_LINE + _CAPTION_SPACE
    return above + sum(lines(note, _NOTE_DIGIT) * _NOTE_LINE + _NOTE_SPACE for note in notes)


def _width(table: LaidOut, size: Size) -> float:
    titles = [_digits(title.text) * size.digit for title in table.header[-1]]
    shown = [
        [_digits(line.title.text) * size.digit, *(_cell_width(cell, size) for cell in line.cells)]
        for line in table.lines()
    ]
    between = 2 * size.space * (table.columns - 1)
    widths: list[float] = [max(column) for column in zip(titles, *shown, strict=True)]
    return between + sum(widths)


def _cell_width(figures: ShownCell, size: Size) -> float:
    width = size.digit * max(0, len(figures) - 1)
    for figure in figures:
        width += _digits(figure.text) * size.digit * (_BOLD if figure.mark == "best" else 1)
        width += max(map(_digits, figure.bounds)) * size.small_digit if figure.bounds else 0
    return width


def _digits(text: str) -> float:
    """How wide a text is, in digits of its type: capitals are wider, marks and some letters are half as wide."""
    return sum(1.45 if one.isupper() else 0.58 if one in " .,:;'|!il" else 1.67 if one in "m%" else 1 for one in text)


# --- the table ---

PACKAGES = (r"\usepackage[T1]{fontenc}", r"\usepackage[utf8]{inputenc}", r"\usepackage{booktabs}")
"""What a document needs that reads a table in."""

SCALING_PACKAGE = r"\usepackage{graphicx}"
"""What it needs besides, if a table is too wide at any size of type."""

DAGGER = r"\textsuperscript{\textdagger}"
INTERVALS_NOTE = "Small figures: the lower and upper ends of bootstrap 95% intervals over what was asked."

_STYLES = {"best": r"\textbf{{{}}}", "second": r"\underline{{{}}}", "none": "{}"}
_NUMBERED = re.compile(r"\ATable \w+: *")


def latex_table(table: LaidOut, *, name: str, title: str, notes: Sequence[str], about: str) -> str:
    """The table as LaTeX, labelled "tab:NAME"; a number that the title begins with is left to LaTeX.

    ``notes`` are paragraphs under the table, in Markdown; ``about`` says which result it shows, for whoever opens the
    file. Raises UserError if a text holds a character that LaTeX's T1 fonts do not have.
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
            yield _line([_title(line.title), *("/".join(map(_figure, cell)) for cell in line.cells)])
    yield r"\bottomrule"
    yield r"\end{tabular}" + ("}" if scaled else "")


def _header(table: LaidOut) -> Iterator[str]:
    for line in table.header:
        yield _line(list(map(_title, line)))
        ends, rules = 0, []
        for title in line:
            if title.span > 1:
                rules.append(rf"\cmidrule(lr){{{ends + 1}-{ends + title.span}}}")
            ends += title.span
        if rules:
            yield " ".join(rules)


def _line(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


def _title(title: Title) -> str:
    text = escaped(title.text) + (DAGGER if title.literature else "")
    return text if title.span == 1 else rf"\multicolumn{{{title.span}}}{{c}}{{{text}}}"


def _figure(figure: ShownValue) -> str:
    text = _STYLES[figure.mark].format(escaped(figure.text))
    return text if figure.bounds is None else rf"{text}$_{{{figure.bounds[0]}}}^{{{figure.bounds[1]}}}$"
