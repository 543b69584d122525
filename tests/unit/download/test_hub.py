"""Files of the hub, by the real huggingface_hub from a stand-in of the hub: commits, gates, tokens, cuts."""

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from faulty_server import cut, status
from lntune.config.catalog import HubRepository, Place
from local_hub import LocalHub, Repository, git_hash
from stage_runs import read, refusal, run

WEIGHTS = random.Random(3).randbytes(50_000)
FILES = {"config.json": b'{"model_type": "llama"}', "model.safetensors": WEIGHTS, "sub/notes.txt": b"notes\n"}
LLAMA, TOKEN = "meta-llama/Llama-2-7b-hf", "hf_SecretThatNobodyMaySee"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    write(tmp_path / "hub" / "models" / LLAMA, FILES)
    write(tmp_path / "hub" / "datasets" / "someone" / "pairs", {"chat.json": b"[]" * 2000})
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    with LocalHub(tmp_path / "hub") as started:
        for name, value in started.environment.items():
            monkeypatch.setenv(name, value)
        yield started


def told(folder: Path, **more: Any) -> dict[str, Any]:
    """What a fetch of the LLM is told."""
    repository = HubRepository(repo=LLAMA, type="model", revision=more.pop("revision", "main"))
    places = {name: Place(hub=repository, member=name) for name in more.pop("names", FILES)}
    return {
        "entry": "llama", "about": "an LLM", "licence": "LLaMA's", "places": places, "root": str(folder),
        "lock": str(folder / "catalog.lock.yaml"), "pause": 0.01, "timeout": 2.0, "attempts": 3, **more,
    }  # fmt: skip


def addressed(execution: dict[str, Any]) -> dict[str, Any]:
    """Settings that pin nothing."""
    return {"addresses": {name: place.address for name, place in execution["places"].items()}}


def test_files_come_whole_and_plain_and_are_recorded_with_their_commit(tmp_path: Path, hub: LocalHub) -> None:
    execution = told(tmp_path)
    settings = addressed(execution)
    assert settings["addresses"]["sub/notes.txt"] == f"hf://{LLAMA}@main/sub/notes.txt"
    run(tmp_path / "out", "fetch", settings, {}, **execution)
    for name, content in FILES.items():
        path = tmp_path / "out" / name
        assert path.read_bytes() == content and not path.is_symlink()
    commit = Repository(tmp_path / "hub" / "models" / LLAMA).commit
    origins = read(tmp_path / "out" / "origins.json")
    assert {one["origin"] for one in origins.values()} == {f"hf://{LLAMA}@{commit}/{name}" for name in FILES}
    assert sorted(p.name for p in (tmp_path / "out").rglob("*") if p.is_file()) == [
        "config.json", "model.safetensors", "notes.txt", "origins.json",
    ]  # fmt: skip
    assert hub.sent() and sum(hub.sent()) == sum(map(len, FILES.values()))  # one copy of each came, and no more


def test_a_data_set(tmp_path: Path, hub: LocalHub) -> None:
    place = Place(hub=HubRepository(repo="someone/pairs", type="dataset", revision="main"), member="chat.json")
    execution = told(tmp_path) | {"places": {"pairs.json": place}}
    settings = {"files": {"pairs.json": sha256(b"[]" * 2000)}}
    run(tmp_path / "out", "fetch", settings, {}, **execution)
    assert (tmp_path / "out" / "pairs.json").read_bytes() == b"[]" * 2000
    assert read(tmp_path / "out" / "origins.json")["pairs.json"]["origin"].startswith("hf://datasets/someone/pairs@")
    assert not (tmp_path / "catalog.lock.yaml").exists()


def test_a_commit_that_was_recorded_is_asked_for_though_the_branch_has_moved(tmp_path: Path, hub: LocalHub) -> None:
    execution = told(tmp_path)
    run(tmp_path / "out", "fetch", addressed(execution), {}, **execution)
    old = hub.keep("models", LLAMA)
    write(tmp_path / "hub" / "models" / LLAMA, {"config.json": b"{}"})
    assert Repository(tmp_path / "hub" / "models" / LLAMA).commit != old
    run(tmp_path / "again", "fetch", addressed(execution), {}, **execution)
    assert (tmp_path / "again" / "config.json").read_bytes() == FILES["config.json"]
    partly = {**execution, "places": {**execution["places"], "more.txt": execution["places"]["sub/notes.txt"]}}
    run(
        tmp_path / "more", "fetch", addressed(partly), {}, **partly
    )  # a file that was not recorded comes from there too
    assert f"@{old}/" in read(tmp_path / "more" / "origins.json")["more.txt"]["origin"]
    hub.old.clear()
    assert f"{LLAMA} has no revision {old}" in refusal(
        tmp_path / "gone", "fetch", addressed(execution), {}, **execution
    )
    text = (tmp_path / "catalog.lock.yaml").read_text().replace(old, "main")  # as if no commit had been recorded
    (tmp_path / "catalog.lock.yaml").write_text(text)
    said = refusal(tmp_path / "moved", "fetch", addressed(execution), {}, **execution)
    assert said.startswith("llama: config.json: the server has 2 bytes, workflow/catalog.lock.yaml says 23; it is not")


def test_a_large_file_goes_on_where_it_was_cut_with_a_new_signature(tmp_path: Path, hub: LocalHub) -> None:
    execution = told(tmp_path, names=["model.safetensors"], attempts=4)
    hub.faults[f"/cdn/{sha256(WEIGHTS)}"] = [cut(20_000), status(403), cut(20_000)]
    run(tmp_path / "out", "fetch", addressed(execution), {}, **execution)
    large = [one for one in hub.requests if one.path.startswith("/cdn/")]
    assert [one.sent for one in large] == [20_000, 0, 20_000, 10_000]
    assert len({one.path for one in large}) == 4  # an address each: they expire


def test_bytes_that_are_not_those_of_the_hubs_hash(tmp_path: Path, hub: LocalHub) -> None:
    """Nobody pinned them, but the hub names files by their hash: sha256 of large ones, git's of others."""
    execution = told(tmp_path, names=["model.safetensors"])

    def damaged(answer: Any) -> None:
        answer.begin(200, {"Content-Length": str(len(WEIGHTS))})
        answer.send(b"\0" + WEIGHTS[1:])

    hub.faults[f"/cdn/{sha256(WEIGHTS)}"] = [damaged]
    said = refusal(tmp_path / "out", "fetch", addressed(execution), {}, **execution)
    assert f"llama: model.safetensors: its hash is not {sha256(WEIGHTS)}, as which the hub knows it" in said
    small = told(tmp_path, names=["config.json"])
    content = FILES["config.json"]

    def other(answer: Any) -> None:
        headers = {"ETag": f'"{git_hash(content)}"', "X-Repo-Commit": "0" * 40, "Content-Length": str(len(content))}
        answer.begin(200, headers)
        answer.send(content.upper())

    hub.faults[f"/{LLAMA}/resolve/main/config.json"] = [hub.serve]
    hub.faults[f"/{LLAMA}/resolve/main/config.json"].append(other)
    assert f"its hash is not {git_hash(content)}" in refusal(tmp_path / "b", "fetch", addressed(small), {}, **small)
    assert not (tmp_path / "catalog.lock.yaml").exists()


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (None, "{repo} is gated and HF_TOKEN is not set; ask for access at https://huggingface.co/{repo}, and set it"),
        ("hf_anotherTokenOfSomeone", "{repo} is gated and the account of HF_TOKEN has no access; ask for it at https:"),
    ],
)
def test_a_gated_file_without_access(
    tmp_path: Path, hub: LocalHub, monkeypatch: pytest.MonkeyPatch, token: str | None, said: str
) -> None:
    hub.gated[LLAMA] = {TOKEN}
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    execution = told(tmp_path, gated=True, names=["config.json"])
    line = refusal(tmp_path / "out", "fetch", addressed(execution), {}, **execution)
    assert line.startswith(f"llama: config.json: {said.format(repo=LLAMA)}")
    assert token is None or token not in line
    monkeypatch.setenv("HF_TOKEN", f" {TOKEN}\n")  # as a file with a line break gives it
    run(tmp_path / "again", "fetch", addressed(execution), {}, **execution)


def test_the_token_goes_to_the_hub_alone(tmp_path: Path, hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.gated[LLAMA] = {TOKEN}
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password else\n")
    (tmp_path / "netrc").chmod(0o600)
    execution = told(tmp_path, gated=True)
    run(tmp_path / "out", "fetch", addressed(execution), {}, **execution)
    by_kind: dict[bool, set[str | None]] = {True: set(), False: set()}
    for one in hub.requests:
        by_kind[one.path.startswith("/cdn/")].add(one.headers.get("authorization"))
    assert by_kind == {False: {f"Bearer {TOKEN}"}, True: {None}}
    files = [path for path in tmp_path.rglob("*") if path.is_file() and "hub" not in path.parts]
    assert len(files) > 4 and not any(TOKEN.encode() in path.read_bytes() for path in files)


def test_a_token_that_cannot_be_one_is_not_repeated(
    tmp_path: Path, hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_first hf_second")
    execution = told(tmp_path)
    said = refusal(tmp_path / "out", "fetch", addressed(execution), {}, **execution)
    assert said.startswith("HF_TOKEN: is no token") and "hf_" not in said and hub.requests == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"revision": "nowhere"}, f"{LLAMA} has no revision nowhere; correct it in workflow/catalog.yaml, or in"),
        ({"names": ["gone.json"]}, f"{LLAMA} has no file gone.json at main; get it in another way"),
    ],
)
def test_what_the_hub_has_not(tmp_path: Path, hub: LocalHub, change: dict[str, Any], said: str) -> None:
    execution = told(tmp_path, **change)
    assert said in refusal(tmp_path / "out", "fetch", addressed(execution), {}, **execution)


def test_a_repository_that_is_not_there(tmp_path: Path, hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(hub=HubRepository(repo="no/body", type="model", revision="main"), member="x.json")
    execution = told(tmp_path) | {"places": {"x.json": place}}
    said = refusal(tmp_path / "out", "fetch", addressed(execution), {}, **execution)
    assert said.startswith("llama: x.json: the hub shows no repository no/body (HTTP 401): it is gone or private; get")


def test_a_hub_that_is_down_slow_or_none(tmp_path: Path, hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    execution = told(tmp_path, names=["config.json"])
    path = f"/{LLAMA}/resolve/main/config.json"
    hub.faults[path] = [status(503), status(429, Retry_After="0")]
    run(tmp_path / "a", "fetch", addressed(execution), {}, **execution)
    (tmp_path / "catalog.lock.yaml").unlink()
    hub.faults[path] = [status(503)] * 3
    said = refusal(tmp_path / "b", "fetch", addressed(execution), {}, **execution)
    assert said == "llama: config.json: HTTP 503 from the hub, 3 times in a row; try again later"
    hub.faults[path] = [lambda answer: hub.stopped.wait(1) and None] * 3
    said = refusal(tmp_path / "c", "fetch", addressed(execution), {}, **(execution | {"timeout": 0.2}))
    assert "3 times in a row; try again later" in said
    hub.faults[path] = [lambda answer: answer.begin(200, {"Content-Length": "0"})]
    said = refusal(tmp_path / "d", "fetch", addressed(execution), {}, **execution)
    assert said.endswith("does not answer as a hub does; correct HF_ENDPOINT")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    said = refusal(tmp_path / "e", "fetch", addressed(execution), {}, **execution)
    assert "no answer from the hub at http://127.0.0.1:9 (ConnectError), 3 times in a row" in said
