"""The compiler of the other tests' LaTeX itself."""

from pathlib import Path

import pytest

import latex
from latex import LatexError, compile_fragment

TABLE = """\
% Needs \\usepackage[T1]{fontenc} and \\usepackage{booktabs}.
\\begin{tabular}{lcc}
\\toprule
Method & MME & \\#param. \\\\
\\midrule
\\multicolumn{3}{l}{\\textit{MM-VICUNA-7B}} \\\\
\\cmidrule(lr){2-3}
Finetune & \\textbf{650.0}/\\underline{300.0} & 95.70\\% \\\\
\\bottomrule
\\end{tabular}
"""


def test_a_table_compiles(tmp_path: Path) -> None:
    pdf = compile_fragment(TABLE, tmp_path)
    assert pdf.read_bytes().startswith(b"%PDF-") and pdf.stat().st_size > 1000


def test_an_error_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(LatexError, match=r"Undefined control sequence.* l\.8 .*\\nosuch"):
        compile_fragment(TABLE.replace("\\textbf", "\\nosuch"), tmp_path)
    with pytest.raises(LatexError, match=r"Extra alignment tab"):
        compile_fragment(TABLE.replace("& 95.70", "& 1 & 2 & 95.70"), tmp_path)
    with pytest.raises(LatexError, match=r"Misplaced alignment tab|Missing \$ inserted"):
        compile_fragment("llama2_7b & more", tmp_path)


def test_a_package_that_no_comment_names_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LatexError, match=r"Undefined control sequence.* l\.3 .*\\toprule"):
        compile_fragment(TABLE.replace(" and \\usepackage{booktabs}", ""), tmp_path)


def test_what_is_larger_than_the_page_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LatexError, match=r"pt too large for the page"):
        compile_fragment(TABLE.replace("Finetune", "Finetune " * 60), tmp_path)
    row = "Finetune & 1 & 2 \\\\\n"
    tall = "\\begin{table}\n" + TABLE.replace("\\bottomrule", row * 80 + "\\bottomrule") + "\\end{table}\n"
    with pytest.raises(LatexError, match=r"pt too large for the page"):
        compile_fragment(tall, tmp_path)


def test_without_latex_a_test_is_skipped_or_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("LNTUNE_REQUIRE_TEX", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"pdflatex is not installed; as root, \.ci/install-tex"):
        latex.require_latex()
    monkeypatch.setenv("LNTUNE_REQUIRE_TEX", "1")
    with pytest.raises(pytest.fail.Exception, match="pdflatex is not installed"):
        latex.require_latex()
