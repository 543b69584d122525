"""An accounting database for a cluster: slurmdbd on a MariaDB of its own, both in the cluster's folder."""

import shutil
import socket
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster import Cluster

PROGRAMS = ("slurmdbd", "mariadbd", "mariadb-install-db", "my_print_defaults", "sacct", "sacctmgr")

_SLURMDBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser=root
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={storage_port}
StorageUser=root
StorageLoc=slurm
"""


def start_database(cluster: "Cluster", port: int, storage_port: int) -> None:
    """Start both and name the cluster to them; about eight seconds, most of them MariaDB's installation.

    Args:
        cluster: the cluster, configured and with munge running, whose daemons come after these.
        port: where slurm.conf says that slurmdbd is.
        storage_port: where MariaDB is to be.
    """
    from cluster import wait_until

    folder = cluster.folder
    install = shutil.which("mariadb-install-db")
    assert install
    done = subprocess.run(
        [install, "--no-defaults", f"--datadir={folder}/mariadb", "--auth-root-authentication-method=normal",
         "--skip-test-db", "--user=root"],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    cluster.spawn(
        "mariadbd", "--no-defaults", f"--datadir={folder}/mariadb", f"--socket={folder}/mariadb.socket",
        f"--port={storage_port}", "--bind-address=127.0.0.1", "--user=root", f"--pid-file={folder}/mariadb.pid",
        "--innodb-buffer-pool-size=64M", "--skip-log-bin", "--skip-name-resolve", "--skip-grant-tables",
    )  # fmt: skip
    wait_until(lambda: cluster.is_alive() and (folder / "mariadb.socket").exists(), "mariadbd")
    configuration = folder / "slurmdbd.conf"
    configuration.touch(mode=0o600)
    configuration.write_text(
        _SLURMDBD_CONF.format(folder=folder, host=socket.gethostname(), port=port, storage_port=storage_port)
    )
    cluster.spawn("slurmdbd", "-D")
    wait_until(lambda: cluster.is_alive() and _answers(port), "slurmdbd")
    cluster.run("sacctmgr", "--immediate", "add", "cluster", "test")


def _answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
