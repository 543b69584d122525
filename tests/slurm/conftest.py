"""A cluster for the tests of this folder."""

from collections.abc import Iterator

import pytest

from cluster import Cluster
from requirements import require_slurm


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A cluster of one node that several tests may use one after the other."""
    require_slurm()
    with Cluster.start() as running:
        yield running
