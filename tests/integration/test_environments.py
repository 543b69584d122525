"""Whoever starts a run, and in which locale, with which variables and next to which files: the bytes are the same."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from checkout import ROOT, Checkout
from image_files import jpeg
from lntune.store.manifest import read_manifest
from stage_runs import run

TABLE = """\
title: "Hostile: one way to tune"
columns: [MME, MSCOCO, Flickr30k]
llms: [vicuna-7b]
rows: [{title: LayerNorm, method: layernorm, data: Conv.20K}]
"""
SHOWN = ("tables/hostile.csv", "tables/hostile.md", "tables/hostile.tex", "figures/hostile-bars.pdf",
         "figures/hostile-bars.png", "figures/hostile-bars.svg")  # fmt: skip

# {there} is a folder with another repository, another blake3, a matplotlibrc and a start-up file of bash.
HOSTILE: dict[str, dict[str, dict[str, str]]] = {
    "zh_CN.GBK": {
        "a locale of GBK": {"LC_ALL": "zh_CN.GBK", "LANG": "de_DE.ISO-8859-1", "LANGUAGE": "zh"},
        "Python told to print ASCII": {"PYTHONIOENCODING": "ascii", "PYTHONINSPECT": "1", "PYTHONHASHSEED": "7"},
        "a git hook of another repository": {"GIT_DIR": "{there}/.git", "GIT_WORK_TREE": "{there}"},
        "another look of figures": {"MPLBACKEND": "no-such", "MATPLOTLIBRC": "{there}", "SOURCE_DATE_EPOCH": "1"},
        "a rank of another torchrun": {"RANK": "5", "LOCAL_RANK": "3", "WORLD_SIZE": "9", "MASTER_ADDR": "nowhere"},
        "bash with a start-up file": {"BASH_ENV": "{there}/bash"},
    },
    "tr_TR.UTF-8": {
        "a locale whose small I has no dot": {"LC_ALL": "tr_TR.UTF-8", "TZ": "Asia/Kathmandu"},
        "a PYTHONPATH with other packages": {"PYTHONPATH": "{there}", "PYTHONOPTIMIZE": "2"},
        "Java in another language": {"JAVA_TOOL_OPTIONS": "-Dfile.encoding=UTF-16", "_JAVA_OPTIONS": "-Xmx2m"},
        "other libraries of linear algebra": {"OPENBLAS_CORETYPE": "Prescott", "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3"},
        "other numbers of threads": {"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "3", "OMP_DYNAMIC": "TRUE"},
        "less exact products": {"ONEDNN_DEFAULT_FPMATH_MODE": "BF16", "NVIDIA_TF32_OVERRIDE": "1"},
    },
}  # fmt: skip


@pytest.fixture(scope="session")
def locales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for LOCPATH with locales that a machine may lack."""
    folder = tmp_path_factory.mktemp("locales")
    for name in ("en_US.ISO-8859-1", *HOSTILE):
        language, _, charmap = name.partition(".")
        if not shutil.which("localedef"):
            pytest.skip("localedef is not there")
        made = subprocess.run(["localedef", "-i", language, "-f", charmap, folder / name], capture_output=True)
        if not (folder / name).exists():
            pytest.skip(f"localedef cannot make {name} (Debian's package locales): {made.stderr.decode()}")
    return folder


@pytest.mark.parametrize("locale", ["en_US.ISO-8859-1", "zh_CN.GBK"])
def test_chinese_questions_are_the_same_bytes_in_every_locale(tmp_path: Path, locales: Path, locale: str) -> None:
    raw, settings = tmp_path / "raw", {"subtasks": ("text_translation",), "broken_share": 0.0}
    raw.mkdir()
    front = "MME_Benchmark_release_version/MME_Benchmark/text_translation/0001"
    with zipfile.ZipFile(raw / "MME_Benchmark_release_version.zip", "w") as archive:
        archive.writestr(f"{front}.jpg", jpeg(1))
        archive.writestr(f"{front}.txt", "Is '高情商' 'high EQ'?\tYes\nIs '高情商' 'low EQ'?\tNo\n".encode())
    inputs = {"raw": raw, "images": raw}
    run(tmp_path / "here", "questions-mme", settings, inputs)
    code = f"from pathlib import Path, PosixPath; from stage_runs import run; run({tmp_path / 'there'!r}, "
    code += f"'questions-mme', {settings!r}, {inputs!r})"
    path = f"{ROOT / 'src'}{os.pathsep}{ROOT / 'tests' / 'helpers'}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LC_", "LANG"))}
    own = kept | {"LC_ALL": locale, "LOCPATH": str(locales), "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", code], env=own, check=True)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert "高情商" in (tmp_path / "there" / "text_translation.txt").read_text(encoding="utf-8")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def undisturbed(made: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout with a table and a figure more, of results that are there."""
    checkout = Checkout(tmp_path_factory.mktemp("undisturbed") / "checkout")
    shutil.copytree(made.root, checkout.root)
    items = checkout.root / "workflow" / "report_items"
    (items / "hostile.yaml").write_text(TABLE, encoding="utf-8")
    (items / "hostile-bars.yaml").write_text(f"figure: bars\n{TABLE}", encoding="utf-8")
    checkout.snakemake("-c2", *SHOWN)
    return checkout


@pytest.mark.slow
@pytest.mark.parametrize("locale", HOSTILE)
def test_the_same_bytes_in_hostile_environments(
    undisturbed: Checkout, locales: Path, tmp_path: Path, locale: str
) -> None:
    root, there = tmp_path / "checkout", tmp_path / "there"
    shutil.copytree(undisturbed.root, root, ignore=shutil.ignore_patterns("results", "tables", "figures", ".snakemake"))
    (root / "tokenizers.py").write_text("raise SystemExit('another tokenizers')", encoding="utf-8")
    hostile_folder(there)
    given = {name: value for values in HOSTILE[locale].values() for name, value in values.items()}
    start(root, {name: value.format(there=there) for name, value in given.items()} | {"LOCPATH": str(locales)})
    for path in SHOWN:
        assert (root / path).read_bytes() == (undisturbed.root / path).read_bytes(), path
    manifests = sorted(path.relative_to(root) for path in (root / "results").glob("*/*/manifest.json"))
    assert {path.parts[1] for path in manifests} >= {"draw", "finetune", "score-captions", "table", "figure-bars"}
    for path in manifests:
        ours, theirs = read_manifest(root / path), read_manifest(undisturbed.root / path)
        assert (ours.outputs, ours.git) == (theirs.outputs, theirs.git), path


def hostile_folder(there: Path) -> None:
    there.mkdir()
    for command in ("init -q", "-c user.name=n -c user.email=e@example.org commit -q --allow-empty -m first"):
        subprocess.run(["git", *command.split()], cwd=there, check=True)
    (there / "blake3.py").write_text("raise SystemExit('another blake3')", encoding="utf-8")
    (there / "matplotlibrc").write_text("font.size: 30\n", encoding="utf-8")
    (there / "bash").write_text("export LC_ALL=POSIX OMP_NUM_THREADS=2 MPLBACKEND=no-such\n", encoding="utf-8")


def start(root: Path, hostile: Mapping[str, str]) -> None:
    """As a user does: with the command of the environment, which finds lntune where the Snakefile says."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LC_", "LNTUNE_FORK"))}
    command = [Path(sys.executable).parent / "snakemake", "-c2", *SHOWN]
    done = subprocess.run(command, cwd=root, env=kept | hostile, capture_output=True, timeout=900)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:].decode(errors="replace")
