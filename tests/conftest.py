"""What many tests share: one checkout whose tables have been made, and copies of it to be edited."""

import json
import shutil
from pathlib import Path

import pytest

from checkout import Checkout, copy_checkout, job_counts


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout whose table has been made; counts.json holds the jobs that the dry-run and the run told of."""
    checkout = copy_checkout(tmp_path_factory.mktemp("made") / "checkout")
    announced = checkout.pending()
    printed = checkout.snakemake("-c2")
    (checkout.root / "counts.json").write_text(json.dumps([announced, job_counts(printed)]))
    return checkout


@pytest.fixture
def copy(made: Checkout, tmp_path: Path) -> Checkout:
    """A copy of the finished checkout, to be edited."""
    shutil.copytree(made.root, tmp_path / "copy")
    return Checkout(tmp_path / "copy")
