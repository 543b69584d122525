"""LaTeX of tables compiled by a real pdflatex.

Where it is missing (.ci/install-tex installs it) the test is skipped, or fails where LNTUNE_REQUIRE_TEX is set.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

DOCUMENT = """\
\\documentclass{article}
\\usepackage[a4paper,landscape,margin=1cm]{geometry}
%s
\\pagestyle{empty}
\\begin{document}
\\input{%s.tex}
\\end{document}
"""
"""The page; its packages are those that the fragment's own comments name: ``% Needs \\usepackage{booktabs}``."""

NAMED = re.compile(r"\\usepackage(?:\[[^]]*\])?\{[^}]*\}")

TOO_LARGE = re.compile(r"(?:Overfull \\hbox \(|Float too large for page by )([\d.]+)pt")


class LatexError(Exception):
    """pdflatex stopped, or set something larger than the page."""


def require_latex() -> None:
    """Skip, or fail where LNTUNE_REQUIRE_TEX is set, if pdflatex or booktabs is missing."""
    missing = "pdflatex is not installed" if shutil.which("pdflatex") is None else _missing_package("booktabs")
    if missing:
        reason = f"{missing}; as root, .ci/install-tex installs Debian's"
        if os.environ.get("LNTUNE_REQUIRE_TEX"):
            pytest.fail(reason)
        pytest.skip(reason)


def _missing_package(name: str) -> str:
    found = subprocess.run(["kpsewhich", f"{name}.sty"], capture_output=True, text=True, timeout=60)
    return "" if found.stdout.strip() else f"LaTeX has no {name}.sty"


def compile_fragment(tex: str, folder: Path, name: str = "fragment") -> Path:
    """Compile a fragment, such as a table, as the only content of a landscape A4 page; return the PDF.

    Args:
        tex: what stands between ``\\begin{document}`` and ``\\end{document}``.
            Its comments name the packages that it needs; multirow and others beyond Debian's
            texlive-latex-recommended are not there.
        folder: where NAME.tex, NAME.pdf and NAME.log are written.
        name: what the files are called.

    Raises:
        LatexError: with the error and its line in the fragment, as the log has them; or that the page is too small.
    """
    require_latex()
    (folder / f"{name}.tex").write_text(tex, encoding="utf-8")
    comments = "\n".join(line for line in tex.splitlines() if line.startswith("%"))
    page = DOCUMENT % ("\n".join(NAMED.findall(comments)), name)
    (folder / f"{name}-page.tex").write_text(page, encoding="utf-8")
    how = ["-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", f"-jobname={name}"]
    done = subprocess.run(["pdflatex", *how, f"{name}-page.tex"], cwd=folder, capture_output=True, timeout=120)
    log = (folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")
    if done.returncode:
        raise LatexError(_first_error(log))
    beyond = max((float(points) for points in TOO_LARGE.findall(log)), default=0.0)
    if beyond > 1:
        raise LatexError(f"{beyond:.0f} pt too large for the page")
    return folder / f"{name}.pdf"


def _first_error(log: str) -> str:
    """The log's error with the line of the source that it is about."""
    found = re.search(r"^! (.*(?:\n.*){0,8}?\nl\.\d+.*)$", log, re.MULTILINE) or re.search(
        r"^! (.*)$", log, re.MULTILINE
    )
    return " ".join(found[1].split()) if found else log[-500:]
