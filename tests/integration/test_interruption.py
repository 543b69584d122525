"""Real jobs of the tiny workflow that are stopped by signals, and what DeepSpeed makes of the same job specs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from checkout import Checkout
from fork_servers import fork_servers
from forked import forked_processes
from lntune.jobs.submit import VARIABLE
from lntune.snakefile.workflow import Workflow
from lntune.training import interruption
from lntune.training.interruption import stop_requests

pytestmark = pytest.mark.slow

OUTPUTS = ("tuned.safetensors", "metrics.jsonl")


@pytest.fixture
def long(copy: Checkout, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The spec of a finetune of 21 steps, not carried out yet."""
    monkeypatch.chdir(copy.root)
    return long_finetune(copy)


def long_finetune(checkout: Checkout) -> Path:
    scale = checkout.yaml("workflow/scales/tiny.yaml")
    scale["finetune"]["epochs"] = 7.0
    scale["execution"]["checkpoint_steps"] = None
    checkout.write_yaml("workflow/scales/tiny.yaml", scale)
    Workflow(checkout.root, {}).start(fork_server=False)
    specs = sorted((checkout.root / "results/.jobs/finetune").glob("*-finetune-80K-*.json"))
    return next(spec for spec in specs if not result_of(spec).exists())


@dataclass(frozen=True)
class Undisturbed:
    """The files of that finetune, made by one process and by two ranks, and the lines of its metrics by one process."""

    plain: list[bytes]
    ranks: list[bytes]
    lines: list[dict[str, Any]]


@pytest.fixture(scope="module")
def undisturbed(made: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    root = tmp_path_factory.mktemp("undisturbed") / "copy"
    shutil.copytree(made.root, root)
    with chdir(root):
        spec = long_finetune(Checkout(root))
        result = run(spec)
        assert "resumed_at" not in metrics(result)
        plain, lines = outputs(result), metric_lines(result)
        shutil.rmtree(result)
        with_execution(spec, **RANKS)
        return Undisturbed(plain, outputs(run(spec)), lines)


RANKS = {"engine": "deepspeed", "ranks": 2, "zero_stage": 2, "micro_batch": 16}


@pytest.fixture(autouse=True, scope="module")
def _fork_servers() -> Iterator[None]:
    """Jobs and ranks are forked, which is faster; some tests want a process of its own."""
    with forked_processes(), fork_servers():
        yield


def result_of(spec: Path) -> Path:
    return spec.parents[2] / "finetune" / spec.stem


def with_execution(spec: Path, **changes: Any) -> None:
    document = json.loads(spec.read_text(encoding="utf-8"))
    document["execution"] |= changes
    spec.write_text(json.dumps(document), encoding="utf-8")


def start(spec: Path, module: str = "lntune.jobs.submit", *, forked: bool = False) -> subprocess.Popen[str]:
    root = spec.parents[3]
    environment = os.environ | {"PYTHONPATH": str(root / "src")}
    if not forked:
        del environment[VARIABLE]
    command = [sys.executable, "-m", module, str(spec)]
    if module == "lntune.jobs.submit":
        command = [*command[:-1], "--torch", str(spec), str(root / "job.log")]
    return subprocess.Popen(command, cwd=root, env=environment, text=True, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, printed = process.communicate(timeout=300)
    return process.returncode, printed


def run(spec: Path) -> Path:
    """Carry the job out; return its result's folder."""
    code, printed = finish(start(spec, forked=True))
    assert code == 0, printed
    return result_of(spec)


def wait_for_steps(spec: Path, process: subprocess.Popen[str], number: int) -> None:
    """Until the job has logged that many steps."""
    result = result_of(spec)
    deadline = time.monotonic() + 300
    while True:
        assert process.poll() is None, "it ended before it could be stopped"
        assert time.monotonic() < deadline
        for log in result.parent.glob(f".{result.name}.*/metrics.jsonl"):
            if log.read_text().count("\n") >= number:
                return
        time.sleep(0.01)


def outputs(result: Path) -> list[bytes]:
    return [(result / name).read_bytes() for name in OUTPUTS]


def metrics(result: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((result / "manifest.json").read_text())["metrics"]
    return found


def stopped_at(printed: str, label: str) -> int:
    """The step in the one line that says so."""
    (line,) = [line for line in printed.splitlines() if line.startswith("error: ")]
    head, tail = f"error: {label}: stopped at step ", " of 21; the next attempt goes on from there"
    assert line.startswith(head) and line.endswith(tail), printed
    return int(line.removeprefix(head).removesuffix(tail))


def label_of(spec: Path) -> str:
    return str(json.loads(spec.read_text(encoding="utf-8"))["label"])


def test_a_second_signal_later_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_requests() as asked:
        assert not asked()
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked()
        monkeypatch.setattr(interruption, "SAME_REQUEST_SECONDS", -1.0)
        os.kill(os.getpid(), signal.SIGUSR1)
        with pytest.raises(SystemExit, match="143"):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("number", "forked"), [(signal.SIGTERM, False), (signal.SIGUSR1, True)], ids=["SIGTERM", "SIGUSR1, forked"]
)
def test_a_stopped_job_saves_says_so_and_goes_on_to_the_same_bytes(
    long: Path, number: signal.Signals, forked: bool, undisturbed: Undisturbed
) -> None:
    process = start(long, forked=forked)
    wait_for_steps(long, process, 6)
    process.send_signal(number)
    code, printed = finish(process)
    step = stopped_at(printed, label_of(long))
    assert code == 1 and 6 <= step < 21 and not result_of(long).exists()
    scratch = long.parents[2] / ".scratch" / f"finetune-{long.stem.rpartition('-')[2]}"
    assert [path.name for path in scratch.iterdir()] == [f"step-{step}"]
    assert outputs(run(long)) == undisturbed.plain
    assert metrics(result_of(long))["resumed_at"] == step
    assert not scratch.exists()


def test_signals_at_the_same_time_are_one_request(long: Path) -> None:
    """A scheduler signals every process of a job, and each hands the signal on."""
    process = start(long)
    wait_for_steps(long, process, 5)
    (runner,) = (
        int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="utf-8").split()
    )
    os.kill(runner, signal.SIGSTOP)  # it cannot save
    process.terminate()
    time.sleep(0.3)
    process.terminate()
    os.kill(runner, signal.SIGTERM)
    os.kill(runner, signal.SIGCONT)
    code, printed = finish(process)
    assert code == 1 and stopped_at(printed, label_of(long)) >= 5


def test_deepspeed_makes_of_a_job_spec_what_the_plain_loop_makes(long: Path, undisturbed: Undisturbed) -> None:
    """Two ranks, ZeRO-2; stopped and resumed on the way, with what Slurm tells of a job in the environment.

    Stopped and resumed, it is equal to the byte to DeepSpeed undisturbed. Each step has the plain loop's samples and
    learning rate. Losses may differ by rounding only, which grows by two to three times a step, so they are held
    tightly for the FIRST steps, in which an error of a rank's share or of a gradient's scale would show. Later it is
    chance where two runs part: five pairs on one CPU that differ in nothing but the order of additions (micro-batches
    of 32, 16 and 8; two ranks) came to between 2.4e-5 and 3.7e-3. More than ten times the largest is no rounding.
    """
    with_execution(long, **RANKS)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"SLURM_PROCID": "3", "SLURM_NTASKS": "7", "RANK": "5", "WORLD_SIZE": "9"}.items():
            patch.setenv(name, value)
        with forked_processes("lntune.jobs.run"):
            process = start(long, "lntune.jobs.run")
        wait_for_steps(long, process, 6)
        process.terminate()
        code, printed = finish(process)
    assert code == 1
    step = stopped_at(printed, label_of(long))
    shared = metric_lines(run(long))
    assert outputs(result_of(long)) == undisturbed.ranks
    assert metrics(result_of(long))["resumed_at"] == step
    manifest = json.loads((result_of(long) / "manifest.json").read_text())
    assert manifest["machine"]["ranks"] == 2 and manifest["execution"]["engine"] == "deepspeed"
    assert manifest["metrics"]["deepspeed"]
    assert manifest["peak_memory_bytes"] > 200e6
    assert [line["step"] for line in shared] == list(range(1, 22))
    plain = undisturbed.lines
    for ours, theirs in zip(shared[:FIRST], plain[:FIRST], strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-4)
    for key in ("answer_tokens", "learning_rate"):
        assert [line[key] for line in shared] == [line[key] for line in plain]
    assert max(abs(ours["loss"] - theirs["loss"]) for ours, theirs in zip(shared, plain, strict=True)) < 0.05


FIRST = 5


def metric_lines(result: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (result / "metrics.jsonl").read_text().splitlines()]


def test_ranks_end_with_a_launcher_that_is_killed(long: Path) -> None:
    with_execution(long, engine="deepspeed", ranks=2, zero_stage=2)
    process = start(long, "lntune.jobs.run")
    wait_for_steps(long, process, 5)
    ranks = children(process.pid)
    assert len(ranks) == 2
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while any(alive(pid) for pid in ranks):
        assert time.monotonic() < deadline, "a rank outlived its launcher"
        time.sleep(0.1)


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
