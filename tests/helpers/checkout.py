"""A copy of this checkout with a scale so small that the whole workflow runs in a minute, for tests that edit it."""

import atexit
import gc
import multiprocessing
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import reduction
from pathlib import Path
from typing import Any

import yaml

import forked

ROOT = Path(__file__).resolve().parents[2]
_TESTS = {str(ROOT / folder) for folder in ("src", "tests", "tests/helpers", "tests/slurm", "measurements")}
COPIED = ("Snakefile", "config.yaml", "src", "workflow", "profiles", "slurm")

_PYTHON = multiprocessing.get_context("forkserver")
_PYTHON.set_forkserver_preload([
    "snakemake.cli", "snakemake.report.html_reporter", "snakemake.profiles", "snakemake.storage", "snakemake.assets",
    "snakemake_executor_plugin_slurm", "argparse_dataclass", "blake3", "docutils.core", "docutils.parsers.rst",
    "docutils.languages.en", "docutils.parsers.rst.languages.en", "docutils.writers", "dpath", "jinja2", "numpy",
    "PIL.ImageDraw", "pydantic.dataclasses", "pygments.formatters.html", "pygments.lexers", "requests", "smart_open",
    "typer", "yte",
])  # fmt: skip
"""Forks Pythons that have imported what most commands import, which is two thirds of their time; nothing of lntune."""

TINY_IMAGES = {"pretrain": 96, "instruct": 96, "coco": 40, "flickr30k": 30, "vqav2": 12, "pope": 4, "mme": 2}
TINY_SAMPLES = {"Conv.20K": 32, "Detail.20K": 16, "Reasoning.20K": 16}

REPORT_ITEM = """\
title: "Tiny: two ways to tune"
columns: [MME, VQAv2, MSCOCO, Flickr30k, POPE]
llms: [vicuna-7b]
rows:
  - {title: Finetune-80K, method: finetune, data: 80K}
  - {title: LayerNorm-Conv. 20K, method: layernorm, data: Conv.20K}
"""


@dataclass(frozen=True)
class Checkout:
    """A checkout in a folder of its own."""

    root: Path

    def snakemake(self, *arguments: str, code: int = 0) -> str:
        """Run Snakemake there; return all it printed."""
        return self.run("snakemake", *arguments, code=code)

    def run(self, module: str, *arguments: str, code: int = 0) -> str:
        """Run a Python module there, with this checkout's own code."""
        done = run_python(
            self.root, os.environ | {"PYTHONPATH": str(self.root / "src"), "COLUMNS": "200"}, module, *arguments
        )
        assert done.returncode == code, done.stdout[-4000:]
        return done.stdout

    def pending(self, *targets: str) -> dict[str, int]:
        """Jobs that a dry-run lists, by rule."""
        return job_counts(self.snakemake("-n", *targets))

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace a text that stands in a file exactly once."""
        file = self.root / path
        text = file.read_text()
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {path}"
        file.write_text(text.replace(old, new))

    def yaml(self, path: str) -> Any:
        """A YAML file's content."""
        return yaml.safe_load((self.root / path).read_text())

    def write_yaml(self, path: str, value: Any) -> None:
        """Write a YAML file."""
        (self.root / path).write_text(yaml.safe_dump(value, sort_keys=False))

    def results(self, stage: str) -> list[Path]:
        """The finished results of a stage."""
        return sorted(path.parent for path in (self.root / "results" / stage).glob("*/manifest.json"))


_READ_AT_START = forked.read_at_start(os.environ, forked.BY_PROCESSES)


def run_python(
    folder: Path,
    environment: Mapping[str, str],
    module: str,
    *arguments: str,
    apart: bool = False,
    timeout: float = 600,
) -> "subprocess.CompletedProcess[str]":
    """``python -m MODULE ARGUMENTS`` in a folder, with these variables; ``apart``: not all in stdout.

    Forked, unless the variables are others that a process reads when it starts.
    """
    environment = {name: value for name, value in environment.items() if name != "LNTUNE_FORK_SERVER"}
    command = [sys.executable, "-m", module, *arguments]
    if forked.read_at_start(environment, forked.BY_PROCESSES) != _READ_AT_START:
        errors = subprocess.PIPE if apart else subprocess.STDOUT
        return subprocess.run(
            command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=errors, timeout=timeout
        )
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out, tempfile.TemporaryFile("w+", encoding="utf-8") as err:
        streams = [reduction.DupFd(file.fileno()) for file in (out, err if apart else out)]
        process = _PYTHON.Process(target=_run, args=(folder, environment, module, arguments, streams, forked.server()))
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(command, process.exitcode or 0, out.read(), err.read())


def _run(
    folder: Path, environment: dict[str, str], module: str, arguments: tuple[str, ...], streams: Any,
    with_torch: tuple[str, dict[str, str]],
) -> None:  # fmt: skip
    """In the forked process: be the Python that :func:`run_python` asks for."""
    assert not any(name.partition(".")[0] == "lntune" for name in sys.modules)
    gc.freeze()  # else its collector writes to all objects, and so copies their memory
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, stream in enumerate(streams, start=1):
        os.dup2(given := stream.detach(), number)
        os.close(given)
    sys.path[:] = [str(folder), environment["PYTHONPATH"], *(path for path in sys.path if path not in _TESTS)]
    sys.argv = [module, *arguments]
    if (own := Path(environment["PYTHONPATH"], "sitecustomize.py")).exists():  # as Python does at its start
        runpy.run_path(str(own))
    forked.use(*with_torch)
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out


def job_counts(printed: str) -> dict[str, int]:
    """The table "Job stats" of Snakemake's output; empty when there is nothing to do."""
    if "Job stats:" not in printed:
        assert "Nothing to be done" in printed, printed[-2000:]
        return {}
    table = printed.split("Job stats:")[1].split("total")[0]
    return {rule: int(number) for rule, number in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)}


def copy_sources(target: Path) -> None:
    """Copy what the workflow runs from, as it lies here, into a new folder; with compiled modules, which take time."""
    target.mkdir(parents=True)
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("*.pyc.*", "*.egg-info"))
        else:
            shutil.copy(source, target / name)


def copy_checkout(target: Path) -> Checkout:
    """Copy the checkout and make ``tiny`` its scale and its one report item."""
    copy_sources(target)
    checkout = Checkout(target)
    scale = checkout.yaml("workflow/scales/demo.yaml")
    for name, images in TINY_IMAGES.items():
        scale["sources"][name]["draw"]["images"] = images
    for name, samples in TINY_SAMPLES.items():
        scale["data"][name]["samples"] = samples
    scale["connector"]["schedule"]["epochs"] = 2.0
    scale["methods"]["finetune"]["learning_rates"] = [2.0e-3, 5.0e-4]
    scale["methods"]["layernorm"]["learning_rates"] = [5.0e-3]
    scale["execution"]["checkpoint_steps"] = 1
    checkout.write_yaml("workflow/scales/tiny.yaml", scale)
    (target / "workflow" / "report_items" / "tiny.yaml").write_text(REPORT_ITEM)
    checkout.edit("config.yaml", "scale: demo ", "scale: tiny ")
    ask_for(target / "config.yaml", "tiny")
    return checkout


def ask_for(config: Path, *report_items: str) -> None:
    """Make these the report items of a config."""
    text, count = re.subn(
        r"(?m)^report_items:[^\]]*\]", f"report_items: [{', '.join(report_items)}]", config.read_text(encoding="utf-8")
    )
    assert count == 1
    config.write_text(text, encoding="utf-8")
