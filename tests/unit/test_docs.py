"""The pages of the repository: every path, module and heading that they name exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
FOLDERS = ("src", "tests", "docs", "workflow", "measurements", "slurm", "profiles", "envs", ".ci", ".github")
PATH = re.compile(rf"(?<![\w/.])(?:{'|'.join(map(re.escape, FOLDERS))})/[\w.*/-]*[\w*]")
MODULE_FILE = re.compile(r"(?<![\w/.*])[a-z_0-9]+(?:/[a-z_0-9]+)*\.(?:py|smk)\b")
MODULE = re.compile(r"\blntune((?:\.[a-z_0-9]+)+)")
LINK = re.compile(r"\]\(([^)\s]+)\)")
WRITTEN_LATER = {"workflow/accepted.yaml", "workflow/catalog.lock.yaml", "workflow/report_items/gqa.yaml"}
OF_OTHER_PROJECTS = {"eval.py", "convert_gqa_for_eval.py"}
OF_THE_READER = re.compile(r"NAME|my_|my-|<")


def test_the_readme_names_the_ways_to_begin() -> None:
    readme = (ROOT / "README.md").read_text()
    for target in ("make quick", "make demo", "make test"):
        assert target in readme


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_names_only_what_exists(page: Path) -> None:
    text = _without_examples(page)
    assert not re.search(r"^(<<<<<<<|>>>>>>>) ", text, flags=re.MULTILINE), "a merge was left unfinished"
    paths = {path for path in PATH.findall(text) if not OF_THE_READER.search(path)} - WRITTEN_LATER
    missing = [path for path in paths if not list(ROOT.glob(path))]
    missing += [file for file in {*MODULE_FILE.findall(text)} - OF_OTHER_PROJECTS if not _module_file(file)]
    missing += [f"lntune{names}" for names in MODULE.findall(text) if not _module(names.split(".")[1:])]
    missing += [link for link in LINK.findall(text) if "://" not in link and not _target(page, link)]
    assert not missing


def _without_examples(page: Path) -> str:
    """The page without its blocks of Python and YAML, which name files that a reader is to write."""
    return re.sub(r"```(?:python|yaml).*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def _module_file(file: str) -> bool:
    """Whether a file that is named in short, such as training/loop.py, is one of the repository's."""
    folders = [ROOT / name for name in ("src/lntune", "tests", "measurements", "workflow", "envs")]
    if "/" in file:
        return any((folder / file).exists() for folder in (ROOT, *folders))
    return any(path for folder in folders for path in folder.rglob(file))


def _module(names: list[str]) -> bool:
    """Whether lntune has the module; the last name may be of something in it."""
    package = ROOT / "src" / "lntune"
    return any(package.joinpath(*part).with_suffix(".py").exists() for part in (names, names[:-1]) if part) or (
        package.joinpath(*names).is_dir()
    )


def _target(page: Path, link: str) -> bool:
    """Whether a relative link leads to a file, and to a heading there if it names one."""
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    if not target.exists():
        return False
    headings = re.findall(r"^#+ (.*)$", target.read_text(), flags=re.MULTILINE) if anchor else []
    return not anchor or anchor in {re.sub(r"[^\w\- ]", "", one).lower().replace(" ", "-") for one in headings}
