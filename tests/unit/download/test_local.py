"""Files that lie on a disk already: linked or copied, checked, recorded, and never harmed."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from faulty_server import FaultyServer, cut, status
from lntune.config.catalog import Place, read_lock
from stage_runs import read, refusal, run

CONTENT = bytes(range(256)) * 300


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FaultyServer() as started:
        started.files["/a.zip"] = CONTENT
        yield started


def told(folder: Path, copies: dict[str, str], **more: Any) -> dict[str, Any]:
    return {
        "entry": "data", "about": "a zip", "licence": "MIT", "places": {"a.zip": Place(url="http://127.0.0.1:9/a.zip")},
        "root": str(folder), "lock": str(folder / "lock.yaml"), "copies": copies, "pause": 0.01, "attempts": 2, **more,
    }  # fmt: skip


PINNED = {"files": {"a.zip": sha256(CONTENT)}}
ADDRESSED = {"addresses": {"a.zip": "http://127.0.0.1:9/a.zip"}}


@pytest.mark.parametrize("settings", [PINNED, ADDRESSED])
def test_a_copy_is_linked_and_nothing_is_asked_of_the_net(tmp_path: Path, settings: dict[str, Any]) -> None:
    source = tmp_path / "mine" / "a.zip"
    source.parent.mkdir()
    source.write_bytes(CONTENT)
    run(tmp_path / "out", "fetch", settings, {}, **told(tmp_path, {"a.zip": str(source)}))
    assert os.path.samefile(tmp_path / "out" / "a.zip", source)
    origin = "a copy on disk, for http://127.0.0.1:9/a.zip"  # and no path of the machine
    assert read(tmp_path / "out" / "origins.json")["a.zip"] == {
        "bytes": len(CONTENT), "sha256": sha256(CONTENT), "origin": origin,
    }  # fmt: skip
    recorded = read_lock(tmp_path / "lock.yaml").entries
    assert ("data" in recorded) == (settings is ADDRESSED)
    if settings is ADDRESSED:
        assert recorded["data"]["a.zip"].sha256 == sha256(CONTENT) and recorded["data"]["a.zip"].origin == origin


def test_links_in_the_way_are_followed(tmp_path: Path) -> None:
    """As in the hub's cache, where a snapshot's files are links to blobs."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "blobs" / "abc").write_bytes(CONTENT)
    (tmp_path / "snapshot" / "a.zip").symlink_to("../blobs/abc")
    run(tmp_path / "out", "fetch", PINNED, {}, **told(tmp_path, {"a.zip": str(tmp_path / "snapshot" / "a.zip")}))
    made = tmp_path / "out" / "a.zip"
    assert not made.is_symlink() and os.path.samefile(made, tmp_path / "blobs" / "abc")


def test_a_copy_on_another_disk_is_copied(tmp_path: Path) -> None:
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this machine has no second file system to write to")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        source = Path(folder) / "a.zip"
        source.write_bytes(CONTENT)
        run(tmp_path / "out", "fetch", PINNED, {}, **told(tmp_path, {"a.zip": str(source)}))
    assert (tmp_path / "out" / "a.zip").read_bytes() == CONTENT


def test_a_copy_that_is_another_file_or_missing_is_one_line(tmp_path: Path) -> None:
    source = tmp_path / "a.zip"
    copies = {"a.zip": str(source)}
    where = "the folder that config.yaml names under copies.data"
    assert refusal(tmp_path / "one", "fetch", PINNED, {}, **told(tmp_path, copies)) == (
        f"{source}: no such file in {where}; put it there, or remove the key"
    )
    source.write_bytes(b"another")
    assert refusal(tmp_path / "two", "fetch", PINNED, {}, **told(tmp_path, copies)) == (
        f"{source}: its sha256 is {sha256(b'another')}, workflow/catalog.yaml says {sha256(CONTENT)}; {where} holds "
        "another file: name the right one, or remove the key"
    )
    assert source.read_bytes() == b"another" and source.stat().st_nlink == 1
    source.write_bytes(CONTENT)
    run(tmp_path / "three", "fetch", ADDRESSED, {}, **told(tmp_path, copies))
    other = tmp_path / "other.zip"
    other.write_bytes(CONTENT + b"!")
    said = refusal(tmp_path / "four", "fetch", ADDRESSED, {}, **told(tmp_path, {"a.zip": str(other)}))
    assert f"its sha256 is {sha256(CONTENT + b'!')}, workflow/catalog.lock.yaml says {sha256(CONTENT)}" in said


def test_what_must_be_had_by_hand_is_one_line_until_its_folder_is_named(tmp_path: Path) -> None:
    settings = {"addresses": {"a.zip": "by hand: data/a.zip"}}
    by_hand = {"places": {"a.zip": Place()}, "manual": "Fill in the form.", "page": "https://a.org/form"}
    assert refusal(tmp_path / "one", "fetch", settings, {}, **told(tmp_path, {}, **by_hand)) == (
        "data: a.zip is to be had by hand: Fill in the form (https://a.org/form); then name its folder in config.yaml, "
        "as copies: {data: FOLDER}"
    )
    (tmp_path / "a.zip").write_bytes(CONTENT)
    run(tmp_path / "two", "fetch", settings, {}, **told(tmp_path, {"a.zip": str(tmp_path / "a.zip")}, **by_hand))
    assert read(tmp_path / "two" / "origins.json")["a.zip"]["origin"] == "a copy on disk, for what is to be had by hand"


def test_a_copy_is_never_written_to_though_a_download_follows(tmp_path: Path, server: FaultyServer) -> None:
    """A job with copies fails half-way, the key is taken away, and the download goes where the link was."""
    mine = tmp_path / "mine.zip"
    mine.write_bytes(CONTENT[:1000] + b"mine")
    before = mine.read_bytes()
    places = {"a.zip": Place(url=server.url("/a.zip")), "b": Place(url=server.url("/b"))}
    settings = {"addresses": {name: place.url for name, place in places.items()}}
    execution = told(tmp_path, {"a.zip": str(mine)}, places=places, at_once=1)
    server.faults["/b"] = [status(404)]
    refusal(tmp_path / "out", "fetch", settings, {}, **execution)
    linked = tmp_path / "out.scratch" / "files" / "a.zip"
    assert os.path.samefile(linked, mine)
    (tmp_path / "lock.yaml").unlink()
    server.files["/b"] = b"b"
    server.faults["/a.zip"] = [cut(2000)]
    os.rename(tmp_path / "out.scratch", tmp_path / "again.scratch")
    run(tmp_path / "again", "fetch", settings, {}, **(execution | {"copies": {}}))
    assert (tmp_path / "again" / "a.zip").read_bytes() == CONTENT
    assert mine.read_bytes() == before
