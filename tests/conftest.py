"""What many tests share: one checkout whose tables have been made, and copies of it to be edited."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from filelock import FileLock
from xdist.scheduler import LoadFileScheduling

from checkout import Checkout, copy_checkout, job_counts


class OneWorkerAFile(LoadFileScheduling):
    """One worker a file, and one for all of tests/slurm, which share a cluster."""

    def _split_scope(self, nodeid: str) -> str:
        return "tests/slurm" if nodeid.startswith("tests/slurm/") else super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    """What pytest-xdist gives tests to workers by."""
    return OneWorkerAFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """First what takes long, so that no worker is left with it alone."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path.parent.name != "slurm", item.path not in slow))


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    """What a command sets for its process ends with the test that called it in this one."""
    with mock.patch.dict(os.environ):
        yield


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout whose table has been made; counts.json holds the jobs that the dry-run and the run told of.

    One of pytest-xdist's workers makes it, the others copy it, so that no two work in one folder.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return _make(tmp_path_factory.mktemp("made"))
    shared = tmp_path_factory.getbasetemp().parent / "made"
    with FileLock(f"{shared}.lock"):
        if not shared.exists():
            unfinished = tmp_path_factory.mktemp("unfinished")
            _make(unfinished)
            unfinished.rename(shared)
    return _copied(Checkout(shared / "checkout"), tmp_path_factory.mktemp("made") / "checkout")


def _make(folder: Path) -> Checkout:
    checkout = copy_checkout(folder / "checkout")
    announced = checkout.pending()
    printed = checkout.snakemake("-c2")
    (checkout.root / "counts.json").write_text(json.dumps([announced, job_counts(printed)]))
    return checkout


@pytest.fixture
def copy(made: Checkout, tmp_path: Path) -> Checkout:
    """A copy of the finished checkout, to be edited."""
    return _copied(made, tmp_path / "copy")


def _copied(checkout: Checkout, target: Path) -> Checkout:
    subprocess.run(["cp", "-a", checkout.root, target], check=True)  # keeps the hard links
    return Checkout(target)
