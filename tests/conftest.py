"""What many tests share: one checkout whose tables have been made, and copies of it to be edited."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from filelock import FileLock

from checkout import Checkout, copy_checkout, job_counts


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
    own = tmp_path_factory.mktemp("made") / "checkout"
    shutil.copytree(shared / "checkout", own)
    return Checkout(own)


def _make(folder: Path) -> Checkout:
    checkout = copy_checkout(folder / "checkout")
    announced = checkout.pending()
    printed = checkout.snakemake("-c2")
    (checkout.root / "counts.json").write_text(json.dumps([announced, job_counts(printed)]))
    return checkout


@pytest.fixture
def copy(made: Checkout, tmp_path: Path) -> Checkout:
    """A copy of the finished checkout, to be edited."""
    shutil.copytree(made.root, tmp_path / "copy")
    return Checkout(tmp_path / "copy")
