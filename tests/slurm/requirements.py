"""What a test needs of the machine: without it the test is skipped, or fails where LNTUNE_REQUIRE_SLURM is set."""

import os

import pytest

import cluster
import database


def require_slurm() -> None:
    """Skip or fail unless a cluster can be started here."""
    _require(cluster.missing(cluster.PROGRAMS), "slurmctld slurmd slurm-client munge")


def require_database() -> None:
    """Skip or fail unless a cluster with an accounting database can be started here."""
    _require(
        cluster.missing((*cluster.PROGRAMS, *database.PROGRAMS)),
        "slurmctld slurmd slurm-client munge slurmdbd mariadb-server-core mariadb-client-core",
    )


def _require(lacking: list[str], packages: str) -> None:
    if not lacking:
        return
    text = f"needs {', '.join(lacking)}; as root: apt-get install --no-install-recommends {packages}"
    if os.environ.get("LNTUNE_REQUIRE_SLURM"):
        pytest.fail(text)
    pytest.skip(text)
