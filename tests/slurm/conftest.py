"""A cluster for the tests of this folder; without Slurm they are skipped, or fail if LNTUNE_REQUIRE_SLURM is set."""

import os
from collections.abc import Iterator

import pytest

from cluster import Cluster, missing

INSTALL = "apt-get install --no-install-recommends slurmctld slurmd slurm-client munge"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A cluster of one node that several tests may use one after the other."""
    lacking = missing()
    if lacking:
        text = f"a real Slurm needs {', '.join(lacking)}, which is not here (as root: {INSTALL})"
        if os.environ.get("LNTUNE_REQUIRE_SLURM"):
            pytest.fail(text)
        pytest.skip(text)
    with Cluster.start() as running:
        yield running
