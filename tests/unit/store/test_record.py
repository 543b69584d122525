"""A result is whole or absent, whatever happens to the process that makes it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from blake3 import blake3

from checkout import ROOT
from lntune.environment import job_environment
from lntune.errors import UserError
from lntune.store.identity import FileRecord, Identity
from lntune.store.manifest import Git, Store, content_digest, read_manifest, write_manifest
from lntune.store.record import git_state, machine, peak_memory_bytes, record

IDENTITY = Identity("train", {"rate": 0.1, "seed": 3}, {"toy.train": "ab" * 32}, {"pytest": "1"}, {})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


def folder(store: Store) -> Path:
    return store.folder("train", "toy", IDENTITY.id)


def work(out: Path, scratch: Path) -> dict[str, object]:
    (out / "weights").mkdir()
    (out / "weights" / "a.bin").write_bytes(b"abc")
    (out / "log.txt").write_bytes(b"")
    (scratch / "checkpoint").write_text("7")
    return {"loss": 0.5, "curve": [1.0, 0.5]}


def refuse(out: Path, scratch: Path) -> dict[str, object]:
    raise AssertionError("there is nothing to do")


def everything(store: Store) -> list[str]:
    files = (path.relative_to(store.root).as_posix() for path in store.root.rglob("*") if path.is_file())
    return sorted(name for name in files if not name.startswith(".works/"))


def test_a_result_and_its_manifest(store: Store) -> None:
    manifest = record(store, IDENTITY, "toy", work, execution={"threads": 1}, seed=3)
    assert store.is_done("train", "toy", IDENTITY.id)
    assert everything(store) == [
        f"train/toy-{IDENTITY.id}/{name}" for name in ("log.txt", "manifest.json", "weights/a.bin")
    ]
    assert manifest == read_manifest(folder(store) / "manifest.json")
    assert manifest.outputs == {
        "log.txt": FileRecord(bytes=0, blake3=blake3(b"").hexdigest()),
        "weights/a.bin": FileRecord(bytes=3, blake3=blake3(b"abc").hexdigest()),
    }
    assert manifest.content == content_digest(manifest.outputs)
    assert (manifest.stage, manifest.label, manifest.id) == ("train", "toy", IDENTITY.id)
    assert (manifest.settings, manifest.execution, manifest.seed) == (
        {"rate": 0.1, "seed": 3},
        {"threads": 1},
        3,
    )
    assert manifest.metrics == {"loss": 0.5, "curve": [1.0, 0.5]}
    assert manifest.identity().id == IDENTITY.id
    assert timedelta(0) <= manifest.ended - manifest.started < timedelta(minutes=1)
    assert manifest.peak_memory_bytes > 5_000_000
    assert manifest.machine.cores >= 1 and manifest.machine.ranks == 1


def test_the_cpu_time_of_the_work_and_of_its_children_is_noted(store: Store) -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"

    def busy(out: Path, scratch: Path) -> dict[str, object]:
        until = time.process_time() + 0.2
        while time.process_time() < until:
            pass
        subprocess.run([sys.executable, "-c", burn], check=True)
        time.sleep(0.5)
        return {}

    manifest = record(store, IDENTITY, "toy", busy)
    assert manifest.cpu_seconds is not None and 0.5 <= manifest.cpu_seconds < manifest.wall_seconds - 0.2


@pytest.mark.parametrize("damage", ["none", "changed", "lost", "more"])
def test_a_result_without_manifest_is_made_again(store: Store, damage: str) -> None:
    first = record(store, IDENTITY, "toy", work)
    (folder(store) / "manifest.json").unlink()
    file = folder(store) / "weights" / "a.bin"
    if damage in ("changed", "lost"):
        file.unlink()
    if damage == "changed":
        file.write_bytes(b"abd")
    if damage == "more":
        (folder(store) / "stranger").touch()
    second = record(store, IDENTITY, "toy", work)
    assert second.outputs == first.outputs and second.started > first.started
    assert file.read_bytes() == b"abc" and not (folder(store) / "stranger").exists()


def test_a_finished_result_is_not_made_again(store: Store) -> None:
    first = record(store, IDENTITY, "toy", work)
    assert record(store, IDENTITY, "toy", refuse) == first


def test_the_same_work_gives_the_same_content(tmp_path: Path) -> None:
    one, two = (record(Store(tmp_path / name), IDENTITY, "toy", work) for name in "ab")
    assert one.content == two.content and one.outputs == two.outputs


def test_inputs_are_noted_with_their_content(store: Store) -> None:
    parent = record(store, IDENTITY, "toy", work)
    child = Identity("score", {}, {}, {}, {"model": IDENTITY.id, "all": [IDENTITY.id, IDENTITY.id]})
    here = folder(store)
    manifest = record(store, child, "toy", work, inputs={"model": here, "all": [here, here]})
    noted = manifest.inputs["model"]
    assert not isinstance(noted, tuple)
    assert (noted.stage, noted.label, noted.id, noted.content) == (
        "train",
        "toy",
        IDENTITY.id,
        parent.content,
    )
    assert manifest.inputs["all"] == (noted, noted)
    assert read_manifest(store.manifest("score", "toy", child.id)) == manifest
    assert manifest.identity().id == child.id


def test_wrong_or_absent_inputs_are_refused(store: Store) -> None:
    record(store, IDENTITY, "toy", work)
    child = Identity("score", {}, {}, {}, {"model": "0" * 12})
    with pytest.raises(ValueError, match="named after the inputs"):
        record(store, child, "toy", refuse, inputs={"model": folder(store)})
    with pytest.raises(UserError, match="no such manifest; this result has not been made yet"):
        record(store, child, "toy", refuse, inputs={"model": store.root / "absent"})


def test_an_exception_leaves_scratch_and_nothing_else(store: Store) -> None:
    def fail(out: Path, scratch: Path) -> dict[str, object]:
        work(out, scratch)
        raise RuntimeError("out of memory")

    def resume(out: Path, scratch: Path) -> dict[str, object]:
        return {"resumed_from": (scratch / "checkpoint").read_text()}

    with pytest.raises(RuntimeError, match="out of memory"):
        record(store, IDENTITY, "toy", fail)
    assert everything(store) == [f".scratch/train-{IDENTITY.id}/checkpoint"]
    assert list((store.root / "train").iterdir()) == []
    assert record(store, IDENTITY, "toy", resume).metrics == {"resumed_from": "7"}
    assert not store.scratch("train", IDENTITY.id).exists()


@pytest.mark.parametrize("bad", ["link", "nan"])
def test_output_that_cannot_be_recorded_is_refused(bad: str, store: Store) -> None:
    def odd(out: Path, scratch: Path) -> dict[str, object]:
        (out / "link").symlink_to("elsewhere") if bad == "link" else (out / "x").touch()
        return {"loss": float("nan")} if bad == "nan" else {}

    with pytest.raises((UserError, ValueError)):
        record(store, IDENTITY, "toy", odd)
    assert everything(store) == [] and not store.is_done("train", "toy", IDENTITY.id)


@pytest.mark.parametrize("remains", [[], ["half.bin", "weights/old"]])
def test_folders_without_a_manifest_give_way(store: Store, remains: list[str]) -> None:
    folder(store).mkdir(parents=True)
    for name in remains:
        (folder(store) / name).parent.mkdir(exist_ok=True)
        (folder(store) / name).write_text("old")
    record(store, IDENTITY, "toy", work)
    assert sorted(path.name for path in folder(store).iterdir()) == ["log.txt", "manifest.json", "weights"]
    assert [path.name for path in (store.root / "train").iterdir()] == [folder(store).name]


def test_whoever_finishes_first_is_kept(store: Store) -> None:
    """Where the file system knows no locks, two may do the same work: here one lands during the other."""

    def overtaken(out: Path, scratch: Path) -> dict[str, object]:
        record(Store(store.root / "elsewhere"), IDENTITY, "toy", work)
        (store.root / "elsewhere" / "train" / folder(store).name).rename(folder(store))
        return {"loss": 9.0}

    assert record(store, IDENTITY, "toy", overtaken).metrics["loss"] == 0.5
    assert [path.name for path in (store.root / "train").iterdir()] == [folder(store).name]


CODE_VERSION = """
import sys, time
from pathlib import Path
from lntune.store.identity import Identity
from lntune.store.manifest import Store
from lntune.store.record import record

root, seconds = Path(sys.argv[1]), float(sys.argv[2])
identity = Identity("train", {"rate": 0.1, "seed": 3}, {"toy.train": "ab" * 32}, {"pytest": "1"}, {})

def work(out, scratch):
    with open(root / "calls", "a") as calls:
        calls.write("work\\n")
    (out / "half").write_text("half")
    (scratch / "checkpoint").write_text("12")
    print("working", flush=True)
    time.sleep(seconds)
    return {}

record(Store(root), identity, "toy", work)
"""


def start(store: Store, seconds: float) -> "subprocess.Popen[str]":
    store.root.mkdir(exist_ok=True)
    command = [sys.executable, "-c", CODE_VERSION, str(store.root), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_killed_process_leaves_scratch_and_no_result(store: Store) -> None:
    with start(store, 60) as code_version:
        assert code_version.stdout is not None and code_version.stdout.readline() == "working\n"
        code_version.send_signal(signal.SIGKILL)
    left = [path.name for path in (store.root / "train").iterdir()]
    assert len(left) == 1 and left[0].startswith(f".toy-{IDENTITY.id}.") and f".{code_version.pid}." in left[0]
    assert not store.is_done("train", "toy", IDENTITY.id)

    seen = []

    def resume(out: Path, scratch: Path) -> dict[str, object]:
        seen.append((scratch / "checkpoint").read_text())
        return {}

    record(store, IDENTITY, "toy", resume)
    assert seen == ["12"]
    assert [path.name for path in (store.root / "train").iterdir()] == [folder(store).name]
    assert list((store.root / ".scratch").iterdir()) == []


def test_the_temporary_folder_of_a_living_process_is_left_alone(store: Store) -> None:
    import socket

    host = "".join(sign if sign.isalnum() or sign == "-" else "-" for sign in socket.gethostname())
    names = [f".toy-{IDENTITY.id}.{name}.{os.getppid()}.0123abcd" for name in (host, "another-host")]
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    gone = [f".toy-{IDENTITY.id}.{host}.{dead.pid}.0123abcd"]
    kept_elsewhere = [f".toy-{IDENTITY.id}.another-host.{dead.pid}.0123abcd"]
    for name in names + gone + kept_elsewhere:
        (store.root / "train" / name).mkdir(parents=True)
    record(store, IDENTITY, "toy", work)
    left = sorted(path.name for path in (store.root / "train").iterdir())
    assert left == sorted([*names, *kept_elsewhere, folder(store).name])


def test_two_processes_at_once_do_the_work_once(store: Store) -> None:
    with start(store, 5) as first:
        assert first.stdout is not None and first.stdout.readline() == "working\n"
        with start(store, 5) as second:
            assert second.stdout is not None and second.stderr is not None
            waiting = second.stderr.read()
    assert (first.returncode, second.returncode) == (0, 0)
    assert waiting.count("another process is making this; waiting for it") == 1
    assert (store.root / "calls").read_text() == "work\n"
    assert everything(store) == [
        "calls",
        *(f"train/toy-{IDENTITY.id}/{name}" for name in ("half", "manifest.json")),
    ]


def test_many_processes_at_once(store: Store) -> None:
    code_versions = [start(store, 0.05) for _ in range(6)]
    assert [code_version.wait(timeout=60) for code_version in code_versions] == [0] * 6
    for code_version in code_versions:
        code_version.communicate()
    assert (store.root / "calls").read_text() == "work\n"
    assert list((store.root / ".scratch").iterdir()) == []


def test_the_next_in_line_takes_over_from_a_killed_process(store: Store) -> None:
    with start(store, 60) as first:
        assert first.stdout is not None and first.stdout.readline() == "working\n"
        with start(store, 0) as second:
            assert second.stderr is not None and "waiting" in second.stderr.readline()
            first.send_signal(signal.SIGKILL)
            assert second.communicate(timeout=30)[0] == "working\n"
    assert second.returncode == 0 and store.is_done("train", "toy", IDENTITY.id)


def test_a_manifest_is_there_whole_or_not_at_all(store: Store, tmp_path: Path) -> None:
    manifest = record(store, IDENTITY, "toy", work)
    path = tmp_path / "manifest.json"
    writer = (
        "import sys; from pathlib import Path; from lntune.store.manifest import *\n"
        "source, path = map(Path, sys.argv[1:]); manifest = read_manifest(source)\n"
        "big = manifest.model_copy(update={'metrics': {str(n): n for n in range(20000)}})\n"
        "print('ready', flush=True)\n"
        "while True: write_manifest(path, big)"
    )
    source = folder(store) / "manifest.json"
    command = [sys.executable, "-c", writer, str(source), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        while not path.exists():
            time.sleep(0.01)
        for _ in range(20):
            assert len(read_manifest(path).metrics) == 20000
        process.send_signal(signal.SIGKILL)
    assert len(read_manifest(path).metrics) == 20000
    write_manifest(path, manifest)
    assert path.read_bytes() == source.read_bytes()


def test_damaged_manifests_are_named(store: Store) -> None:
    record(store, IDENTITY, "toy", work)
    path = folder(store) / "manifest.json"
    good = path.read_text()
    for bad, said in (
        (good[:200], "the whole file"),
        (json.dumps({**json.loads(good), "seed": "3"}), "seed"),
        (good.replace(IDENTITY.id, "nothing"), "id"),
    ):
        path.write_text(bad)
        with pytest.raises(UserError) as caught:
            read_manifest(path)
        text = str(caught.value)
        assert text.startswith(f"{path}: damaged manifest ({said}: ") and "\n" not in text


def test_an_edited_manifest_gives_itself_away(store: Store) -> None:
    record(store, IDENTITY, "toy", work)
    path = folder(store) / "manifest.json"
    path.write_text(path.read_text().replace('"rate": 0.1', '"rate": 0.2'))
    manifest = read_manifest(path)
    assert manifest.identity().id != manifest.id


def test_secrets_in_the_environment_stay_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret_12345")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    manifest = record(store, IDENTITY, "toy", work)
    assert manifest.machine.slurm_job_id == "4711"
    assert "hf_secret" not in (folder(store) / "manifest.json").read_text()


def git(here: Path, *words: str) -> str:
    options = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *options, *words], cwd=here, capture_output=True, text=True, check=True).stdout


def test_the_commit_and_whether_it_is_all(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert git_state(tmp_path) is None
    (tmp_path / "file").write_text("x")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-q", "-m", "first")
    state = git_state(tmp_path)
    assert state is not None and not state.dirty
    assert state.commit == git(tmp_path, "rev-parse", "HEAD").strip()
    (tmp_path / "file").write_text("y")
    changed = git_state(tmp_path)
    assert changed is not None and changed.dirty and changed.commit == state.commit


def test_the_commit_is_that_of_the_folder_also_in_a_hook_of_another_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
        git(tmp_path / name, "init", "-q")
        git(tmp_path / name, "commit", "-q", "--allow-empty", "-m", name)
    commit = git(tmp_path / "ours", "rev-parse", "HEAD").strip()
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "theirs" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "theirs"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "theirs" / ".git" / "index"))
    assert git_state(tmp_path / "ours") == Git(commit=commit, dirty=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a checkout to another user")
def test_a_checkout_of_another_user_names_its_commit_to_the_lntune_in_it_alone(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD").strip()
    for path in (tmp_path, tmp_path / ".git"):
        os.chown(path, 65534, 65534)
    assert git_state(tmp_path) is None, "nobody's code runs from there, so git's own rule holds"
    code = "from pathlib import Path; from lntune.store.record import git_state; print(git_state(Path('.')))"
    own = job_environment() | {"PYTHONPATH": str(tmp_path / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=own, capture_output=True, check=True)
    assert done.stdout.decode() == f"commit='{commit}' dirty=False\n"


def test_the_machine() -> None:
    here = machine(4)
    assert here.ranks == 4 and here.cpu and here.host and 1 <= here.cores <= (os.cpu_count() or 1)
    assert peak_memory_bytes() > 5_000_000
