r"""Text as LaTeX sets it: every character stands for itself, whatever pdfLaTeX would take it for.

Meant for the T1 encoding: \usepackage[T1]{fontenc}.

A laid-out table as LaTeX: a ``table`` environment with booktabs' rules, to be read in with \input.

A table that is too wide for a page of the article class at any size of type is scaled to its width.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence

from lntune.errors import UserError
from lntune.report.latex_size import SCALED, STRETCH, Size, fitting
from lntune.report.layout import LITERATURE_NOTE, LaidOut, ShownCell, ShownValue, Title

_COMMANDS = {
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
    """A text that LaTeX sets as it is written, with curly quotation marks.

    Raises:
        UserError: it holds a character that the T1 encoding does not have.
    """
    return _characters(_quoted(text))


def from_markdown(text: str) -> str:
    """A paragraph of Markdown: bold words and code stay such, and 10^9 is set as a power.

    Raises:
        UserError: it holds a character that the T1 encoding does not have.
    """
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
    return "".join(_character(character, apart[:place]) for place, character in enumerate(apart))


def _character(character: str, before: str) -> str:
    if character == "\0":
        return "{}"
    if character in _COMMANDS:
        return _COMMANDS[character]
    if not _LETTERS.match(character):
        shown = f"{character!r} (U+{ord(character):04X})"
        place = f"behind {before[-30:]!r}" if before else "at the beginning of a text"
        raise UserError(f"LaTeX's T1 fonts have no {shown}, which stands {place}; write it in other characters")
    return character


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


def _figure(figure: ShownValue) -> str:
    text = _STYLES[figure.mark].format(escaped(figure.text))
    return text if figure.bounds is None else rf"{text}$_{{{figure.bounds[0]}}}^{{{figure.bounds[1]}}}$"
