"""Text as LaTeX sets it: every character stands for itself, whatever pdfLaTeX would take it for.

Meant for the T1 encoding: \\usepackage[T1]{fontenc}.
"""

import re
import unicodedata

from lntune.errors import UserError

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
