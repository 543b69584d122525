"""A real Slurm of one node, with all its state in one temporary folder.

    with Cluster.start() as cluster:
        subprocess.run(["sbatch", ...], env=os.environ | cluster.environment)

The node claims 64 CPUs, a terabyte of memory and four A100s, so that jobs may ask for what a real cluster gives. It
runs as root on any machine with Debian's packages (``.ci/run`` installs them), without systemd, beside other clusters:
its ports are free ones, its daemons are children of this process, and it ends with all its jobs.
"""

import os
import re
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
GPUS = 4

_SLURM_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
{storage}
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=1000
SchedulerParameters=sched_interval=2,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=1
MinJobAge={min_job_age}
KillWait={kill_wait}
SlurmdTimeout=300
{nodes}
PartitionName=cpu Nodes=ALL Default=YES MaxTime=1-00:00:00 State=UP
PartitionName=a100 Nodes=ALL MaxTime=7-00:00:00 State=UP
PartitionName=urgent Nodes=ALL PriorityTier=10 MaxTime=1-00:00:00 State=UP
"""

_NODE = """\
NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=64 Sockets=1 CoresPerSocket=64 \\
    ThreadsPerCore=1 RealMemory=1000000 Gres=gpu:a100:{gpus}"""

_DATABASE = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={folder}/munge/socket"""

_SRUN = """\
#!/bin/sh
# The Snakemake plugin drops SLURM_CONF from the environment of its inner srun; /etc/slurm/slurm.conf is not ours.
SLURM_CONF={folder}/slurm.conf exec {srun} "$@"
"""


def missing(programs: Sequence[str] = PROGRAMS) -> list[str]:
    """What keeps a cluster from starting here; empty if nothing does."""
    lacking = [program for program in programs if shutil.which(program) is None]
    return [*lacking, *(["root"] if os.geteuid() != 0 else [])]


def wait_until(true: Callable[[], object], what: str, seconds: float = 30.0, every: float = 0.2) -> None:
    """Wait until something holds; TimeoutError names it."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(every)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@dataclass
class Cluster:
    """A running cluster; ``folder`` holds its configuration, logs and state."""

    folder: Path
    nodes: list[str]
    daemons: list[tuple[str, subprocess.Popen[bytes]]] = field(default_factory=list)

    @classmethod
    @contextmanager
    def start(
        cls, *, database: bool = False, min_job_age: int = 900, kill_wait: int = 5, nodes: int = 1
    ) -> Iterator["Cluster"]:
        """A cluster that is up, and gone afterwards with every process and file of its own.

        Args:
            database: whether jobs are kept in an accounting database (slurmdbd on MariaDB) besides.
            min_job_age: seconds after which the controller forgets a finished job.
            kill_wait: seconds between SIGTERM and SIGKILL.
            nodes: how many nodes this machine plays; the first has its name.
        """
        # The socket's path may have a hundred letters, and pytest's folders have long names.
        host = socket.gethostname()
        names = [host, *(f"{host}-{number}" for number in range(1, nodes))]
        cluster = cls(Path(tempfile.mkdtemp(prefix="lntune-slurm-")), names)
        try:
            port = _free_port() if database else None
            cluster._configure(port, min_job_age, kill_wait)
            cluster._start_daemons(port)
            yield cluster
        finally:
            cluster._stop()

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to use the cluster."""
        path = f"{self.folder}/bin:{os.environ['PATH']}"
        return {"SLURM_CONF": f"{self.folder}/slurm.conf", "PATH": path, "SLURM_TIME_FORMAT": "%s"}

    def run(self, *command: str) -> str:
        """The output of one of Slurm's commands."""
        done = subprocess.run(
            command, env=os.environ | self.environment, text=True, stdin=subprocess.DEVNULL, timeout=60,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stdout}"
        return done.stdout

    def jobs(self, *states: str) -> list["JobState"]:
        """The jobs that the controller knows, oldest first; only those in these states if any are given."""
        lines = self.run("scontrol", "--oneliner", "show", "jobs").splitlines()
        found = sorted((JobState.of(line) for line in lines if line.startswith("JobId=")), key=lambda job: job.id)
        return [job for job in found if not states or job.state in states]

    def node_state(self) -> str:
        """What sinfo says of the node."""
        return self.run("sinfo", "--noheader", "--format=%T", "--partition=cpu").strip()

    def set_node(self, state: str) -> None:
        """Take the node down, or bring it back."""
        self.run("scontrol", "update", f"NodeName={socket.gethostname()}", f"State={state}", "Reason=test")

    # --- starting and stopping ---------------------------------------------------------------------------------

    def _configure(self, database: int | None, min_job_age: int, kill_wait: int) -> None:
        self.folder.chmod(0o711)  # munged wants everybody to reach its socket
        for name in ("munge", "state", "spool", "dev", "bin", "log"):
            (self.folder / name).mkdir(mode=0o711)
        key = self.folder / "munge" / "key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        host = socket.gethostname()
        storage = "AccountingStorageType=accounting_storage/none"
        if database:
            storage = _DATABASE.format(folder=self.folder, port=database)
        nodes = [_NODE.format(name=name, host=host, port=_free_port(), gpus=GPUS) for name in self.nodes]
        (self.folder / "slurm.conf").write_text(
            _SLURM_CONF.format(
                folder=self.folder,
                host=host,
                controller_port=_free_port(),
                storage=storage,
                min_job_age=min_job_age,
                kill_wait=kill_wait,
                nodes="\n".join(nodes),
            )
        )
        devices = f"NodeName={','.join(self.nodes)} Name=gpu Type=a100 {self._make_devices()}\n"
        (self.folder / "gres.conf").write_text(devices)
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=autodetect\n")
        srun = self.folder / "bin" / "srun"
        srun.write_text(_SRUN.format(folder=self.folder, srun=shutil.which("srun")))
        srun.chmod(0o755)

    def _make_devices(self) -> str:
        """Four character devices; where none may be made, a count, and jobs then see no CUDA_VISIBLE_DEVICES."""
        try:
            for number in range(GPUS):
                os.mknod(self.folder / "dev" / f"nvidia{number}", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        except PermissionError:
            return f"Count={GPUS}"
        return f"File={self.folder}/dev/nvidia[0-{GPUS - 1}]"

    def _start_daemons(self, database: int | None) -> None:
        munge = self.folder / "munge"
        self.spawn(
            "munged", "--foreground", f"--key-file={munge}/key", f"--socket={munge}/socket", f"--pid-file={munge}/pid",
            f"--log-file={munge}/log", f"--seed-file={munge}/seed", "--num-threads=2",
        )  # fmt: skip
        wait_until(lambda: self.is_alive() and (munge / "socket").exists(), "munged")
        if database:
            from database import start_database

            start_database(self, database, _free_port())
        self.spawn("slurmctld", "-D", "-i", "-f", f"{self.folder}/slurm.conf")
        for name in self.nodes:
            self.spawn("slurmd", "-D", "-N", name, "-f", f"{self.folder}/slurm.conf")
        wait_until(self._is_up, "slurmctld and slurmd")

    def spawn(self, *command: str) -> None:
        """Start a daemon in the foreground, to be ended with the cluster."""
        program = shutil.which(command[0])
        assert program, command[0]
        with (self.folder / "log" / f"{command[0]}.log").open("wb") as log:
            process = subprocess.Popen(
                [program, *command[1:]], env=os.environ | self.environment, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.daemons.append((command[0], process))

    def is_alive(self) -> bool:
        """True; RuntimeError with the end of its log if a daemon has died."""
        for name, process in self.daemons:
            if process.poll() is not None:
                log = (self.folder / "log" / f"{name}.log").read_text()
                raise RuntimeError(f"{name} ended with exit code {process.returncode}:\n{log[-3000:]}")
        return True

    def _is_up(self) -> bool:
        self.is_alive()
        done = subprocess.run(
            ["sinfo", "--noheader", "--format=%T"], env=os.environ | self.environment, capture_output=True, text=True
        )
        return done.returncode == 0 and "idle" in done.stdout

    def _stop(self) -> None:
        """End jobs, then daemons, the latest first; then whatever a job has left; then the folder."""
        if any(name == "slurmctld" and process.poll() is None for name, process in self.daemons):
            with suppress(AssertionError, TimeoutError, subprocess.TimeoutExpired):
                self.run("scancel", "--full", "--signal=KILL", "--user=root")
                self.run("scancel", "--user=root")
                wait_until(lambda: not self._left(), "the jobs' end", 10)
        for _, process in reversed(self.daemons):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pid in self._left():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _left(self) -> list[int]:
        """Processes of this cluster's jobs: those that have its configuration in their environment."""
        mark = f"SLURM_CONF={self.folder}/slurm.conf".encode()
        ours = {os.getpid(), *(process.pid for _, process in self.daemons)}
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                marked = mark in (entry / "environ").read_bytes().split(b"\0")
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if marked and not {int(entry.name), parent} & ours:
                    found.append(int(entry.name))
        return found


@dataclass(frozen=True)
class JobState:
    """What the controller says of one job; GPUs as ``a100:4``, nodes as ``1``, time limit in minutes, memory in MB."""

    id: int
    state: str
    comment: str
    partition: str
    cpus: int
    memory: int
    gpus: str
    nodes: str
    limit: int
    restarts: int

    @classmethod
    def of(cls, line: str) -> "JobState":
        """From scontrol's one line."""
        said = dict(re.findall(r"(\S+?)=(\S*)", line))
        asked = dict(part.split("=", 1) for part in said["TRES"].split(",") if "=" in part)
        hours, minutes, _ = said["TimeLimit"].rpartition("-")[2].split(":")
        return cls(
            id=int(said["JobId"]),
            state=said["JobState"],
            comment=said.get("Comment", ""),
            partition=said["Partition"],
            cpus=int(asked.get("cpu", 0)),
            memory=_megabytes(asked.get("mem", "0M")),
            gpus=said.get("TresPerJob", "").removeprefix("gres:gpu:"),
            nodes=said["NumNodes"],
            limit=int(said["TimeLimit"].rpartition("-")[0] or 0) * 1440 + int(hours) * 60 + int(minutes),
            restarts=int(said["Restarts"]),
        )


def _megabytes(text: str) -> int:
    return round(float(text[:-1]) * {"M": 1, "G": 1024, "T": 1024**2}[text[-1]])
