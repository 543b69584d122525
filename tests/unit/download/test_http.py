"""Downloads by the stage fetch from a real server with faults: each ends right or in one line, and loses nothing."""

import hashlib
import json
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from faulty_server import FaultyServer, Request, cut, drip, endless, no_length, sends, shifted, stall, status
from lntune.config.catalog import Place
from lntune.download.http import Download, Expected, Remote, RetryPolicy, StoppedError, retry_after
from lntune.download.local import Partial, Version
from lntune.errors import UserError
from stage_runs import read, refusal, run

CONTENT = random.Random(0).randbytes(60_000)
OTHER = random.Random(1).randbytes(60_000)
PATH = "/files/a.zip"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with FaultyServer() as started:
        started.files[PATH] = CONTENT
        yield started


class Fetch:
    """One entry with one file at the server, fetched as often as asked into folders of one scratch."""

    def __init__(self, folder: Path, server: FaultyServer, pinned: bool = True, size: bool = True) -> None:
        self.folder, self.server = folder, server
        place = Place(url=server.url(PATH), bytes=len(CONTENT) if size else None)
        self.settings: dict[str, Any] = (
            {"files": {"a.zip": sha256(CONTENT)}} if pinned else {"addresses": {"a.zip": server.url(PATH)}}
        )
        self.execution: dict[str, Any] = {
            "entry": "data", "about": "a zip", "licence": "MIT", "places": {"a.zip": place}, "root": str(folder),
            "lock": str(folder / "catalog.lock.yaml"), "pause": 0.01, "timeout": 0.8, "attempts": 4,
        }  # fmt: skip
        self.times = 0

    @property
    def scratch(self) -> Path:
        return self.folder / "out0.scratch" / "files"

    def _out(self) -> Path:
        """A new folder beside the same scratch: an attempt's output is lost with it, the scratch is not."""
        if self.times:
            os.rename(self.folder / f"out{self.times - 1}.scratch", self.folder / f"out{self.times}.scratch")
        self.times += 1
        return self.folder / f"out{self.times - 1}"

    def right(self) -> dict[str, Any]:
        """Fetch it; what ``origins.json`` says of the file."""
        out = self._out()
        assert run(out, "fetch", self.settings, {}, **self.execution) == {"bytes": len(CONTENT)}
        assert (out / "a.zip").read_bytes() == CONTENT
        assert sorted(path.name for path in out.iterdir()) == ["a.zip", "origins.json"]
        told: dict[str, Any] = read(out / "origins.json")["a.zip"]
        assert (told["bytes"], told["sha256"]) == (len(CONTENT), sha256(CONTENT))
        return told

    def refused(self) -> str:
        """Fetch it in vain; the line that says why. Nothing is left in the folder of the result."""
        out = self._out()
        said = refusal(out, "fetch", self.settings, {}, **self.execution)
        assert list(out.iterdir()) == []
        return said

    def kept(self) -> bytes:
        """What has arrived so far."""
        path = self.folder / f"out{self.times - 1}.scratch" / "files" / "a.zip"
        return path.read_bytes() if path.exists() else b""


@pytest.fixture
def fetch(tmp_path: Path, server: FaultyServer) -> Fetch:
    return Fetch(tmp_path, server)


# --- faults that pass ------------------------------------------------------------------------------------------------


def test_a_good_server_is_asked_once(fetch: Fetch, server: FaultyServer) -> None:
    assert fetch.right()["origin"] == server.url(PATH)
    assert server.sent() == [len(CONTENT)]
    assert server.requests[0].headers["accept-encoding"] == "identity"


def test_a_connection_that_is_cut_goes_on_where_it_was(fetch: Fetch, server: FaultyServer) -> None:
    server.faults[PATH] = [cut(20_000), cut(15_000), cut(0)]
    fetch.right()
    assert server.sent() == [20_000, 15_000, 0, 25_000]
    assert [one.headers.get("range") for one in server.requests] == [None, "bytes=20000-", *["bytes=35000-"] * 2]
    assert all(one.headers["if-range"].startswith('"') for one in server.requests[1:])


@pytest.mark.parametrize("etags", [True, False])
def test_a_server_without_ranges_sends_all_again_and_nothing_is_thrown_away(
    fetch: Fetch, server: FaultyServer, etags: bool
) -> None:
    server.ranges, server.etags = False, etags
    server.faults[PATH] = [cut(40_000), cut(30_000), stall(45_000)]
    fetch.right()
    # The second is cut before it comes to where the first was: had that been thrown away, less would be there now.
    assert server.sent() == [40_000, 30_000, 45_000, 60_000]
    assert server.requests[-1].headers["range"] == "bytes=45000-"


def test_a_body_without_a_length_that_breaks_off(fetch: Fetch, server: FaultyServer) -> None:
    server.faults[PATH] = [no_length(30_000), no_length()]
    fetch.right()
    assert server.sent() == [30_000, 30_000]


def test_a_stalled_connection_counts_as_cut_and_is_told_of(
    fetch: Fetch, server: FaultyServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.faults[PATH] = [stall(25_000)]
    started = time.monotonic()
    fetch.right()
    assert server.sent() == [25_000, 35_000] and time.monotonic() - started < 5
    assert f"warning: data: a.zip ({server.url(PATH)}): nothing came for 0.8 seconds; again in 0.0 s\n" in (
        capsys.readouterr().err
    )


def test_a_drip_counts_as_cut(fetch: Fetch, server: FaultyServer) -> None:
    server.faults[PATH] = [drip(0.05)]
    fetch.right()
    first, second = server.sent()
    assert 3 < first < 50 and first + second <= len(CONTENT) + 3  # a byte or two may be on their way


@pytest.mark.parametrize("code", [408, 500, 502, 503, 504])
def test_a_server_that_is_down_for_a_moment(fetch: Fetch, server: FaultyServer, code: int) -> None:
    server.faults[PATH] = [cut(50_000), status(code), status(code)]
    fetch.right()
    assert server.sent() == [50_000, 0, 0, 10_000]


def test_too_many_requests_are_paused_as_long_as_the_server_asks(fetch: Fetch, server: FaultyServer) -> None:
    server.faults[PATH] = [status(429, Retry_After="1")]
    started = time.monotonic()
    fetch.right()
    assert 1.0 <= time.monotonic() - started < 5
    assert [one.status for one in server.requests] == [429, 200]


def test_a_file_that_changes_between_two_attempts_is_begun_again(tmp_path: Path, server: FaultyServer) -> None:
    fetch = Fetch(tmp_path, server, pinned=False)

    def change(answer: Any) -> None:
        server.files[PATH] = CONTENT
        server.serve(answer)

    server.files[PATH] = OTHER
    server.faults[PATH] = [cut(30_000), change]
    fetch.right()
    assert [(one.status, one.sent) for one in server.requests] == [(200, 30_000), (200, 60_000)]  # If-Range: not 206


def test_a_change_that_only_the_bytes_tell_of_is_seen(fetch: Fetch, server: FaultyServer) -> None:
    """No ETag, no date, the same length: the pieces do not make the right whole, and are fetched once more."""

    def change(answer: Any) -> None:
        server.files[PATH] = CONTENT
        server.serve(answer)

    server.etags, server.files[PATH] = False, OTHER
    server.faults[PATH] = [cut(30_000), change]
    fetch.right()
    assert server.sent() == [30_000, 30_000, 60_000]


@pytest.mark.parametrize("ranges", [True, False])
def test_without_any_sign_of_a_version_all_is_compared(tmp_path: Path, server: FaultyServer, ranges: bool) -> None:
    """Nobody pinned the file, and the server has neither ETag nor date: a joint could not be seen afterwards."""

    def change(answer: Any) -> None:
        server.files[PATH] = CONTENT
        server.serve(answer)

    fetch = Fetch(tmp_path, server, pinned=False, size=False)
    server.etags, server.ranges, server.files[PATH] = False, ranges, OTHER
    server.faults[PATH] = [cut(30_000), change]
    fetch.right()
    assert [(one.status, one.sent) for one in server.requests] == [(200, 30_000), (200, 60_000), (200, 60_000)]


def test_dates_tell_versions_apart_where_there_are_no_etags(tmp_path: Path, server: FaultyServer) -> None:
    server.etags, server.dates, server.files[PATH] = False, True, OTHER
    fetch = Fetch(tmp_path, server, pinned=False)
    server.faults[PATH] = [cut(30_000)] + [status(503)] * 3
    assert "503" in fetch.refused() and fetch.kept() == OTHER[:30_000]
    server.files[PATH] = CONTENT
    fetch.right()
    assert server.requests[-1].headers["if-range"].endswith("GMT") and server.sent()[-1] == 60_000


def test_a_range_beyond_the_end_means_that_all_is_there(tmp_path: Path, server: FaultyServer) -> None:
    """The last byte came and the job was killed, and nobody ever said how long the file is: nothing is sent twice."""
    partial = Partial(tmp_path / "a.zip")
    partial.begin(Version(etag=server.describe(CONTENT)["ETag"]))
    partial.write(CONTENT)
    partial.close()
    again = Partial(tmp_path / "a.zip")
    Download("a", lambda: Remote(server.url(PATH)), again, Expected(), RetryPolicy()).run()
    assert (again.size, again.sha256) == (60_000, sha256(CONTENT))
    assert [(one.status, one.sent) for one in server.requests] == [(416, 0)]


def test_a_range_beyond_the_end_of_a_file_that_has_shrunk(tmp_path: Path, server: FaultyServer) -> None:
    fetch = Fetch(tmp_path, server, pinned=False, size=False)
    server.etags, server.files[PATH] = False, OTHER + OTHER
    server.faults[PATH] = [no_length(90_000)] + [status(503)] * 3
    assert fetch.refused().endswith("try again later; 90 kB of it are kept")
    server.files[PATH] = CONTENT
    fetch.right()
    assert [(one.status, one.sent) for one in server.requests][-1] == (200, 60_000)
    server.etags, server.files[PATH] = True, OTHER + OTHER
    pinned = Fetch(tmp_path / "pinned", server, size=False)
    pinned.folder.mkdir()
    server.faults[PATH] = [no_length(90_000), status(416)]
    server.files["/right"] = CONTENT
    server.faults[PATH].append(status(302, Location="/right"))
    pinned.right()
    assert [one.status for one in server.requests][-3:] == [416, 302, 200]


def test_a_part_that_was_not_asked_for(fetch: Fetch, server: FaultyServer) -> None:
    server.faults[PATH] = [cut(30_000), shifted]
    fetch.right()
    assert server.sent() == [30_000, 0, 30_000]


# --- faults that do not pass ------------------------------------------------------------------------------------------


def test_a_server_that_stays_down_is_told_of_and_what_came_is_kept(fetch: Fetch, server: FaultyServer) -> None:
    server.faults[PATH] = [cut(45_000), *[status(503)] * 3]
    assert fetch.refused() == (
        f"data: a.zip ({server.url(PATH)}): HTTP 503 Service Unavailable, 4 times in a row; try again later; "
        "45 kB of it are kept"
    )
    assert fetch.kept() == CONTENT[:45_000]
    fetch.right()
    assert server.sent() == [45_000, 0, 0, 0, 15_000]


@pytest.mark.parametrize(
    ("code", "what"),
    [(401, "asks for a password"), (403, "refuses it"), (404, "has no such file"), (410, "has no such file any more"),
     (418, "cannot give it")],
)  # fmt: skip
def test_a_refusal_is_not_asked_again_and_costs_nothing(
    fetch: Fetch, server: FaultyServer, code: int, what: str
) -> None:
    server.faults[PATH] = [cut(45_000), status(code)]
    assert fetch.refused() == (
        f"data: a.zip ({server.url(PATH)}): the server {what} (HTTP {code}); get it in another way and name its folder "
        "under `copies` in config.yaml"
    )
    assert fetch.kept() == CONTENT[:45_000]
    fetch.right()
    assert server.sent() == [45_000, 0, 15_000]


def test_wrong_bytes(fetch: Fetch, server: FaultyServer) -> None:
    server.faults[PATH] = [sends(OTHER)]
    assert fetch.refused() == (
        f"data: a.zip ({server.url(PATH)}): its sha256 is {sha256(OTHER)}, workflow/catalog.yaml says "
        f"{sha256(CONTENT)}; it is not the file that it was: find out why before you change what is recorded"
    )
    assert fetch.kept() == b""


def test_another_length_is_refused_before_a_byte_is_read_and_what_came_is_kept(
    fetch: Fetch, server: FaultyServer
) -> None:
    server.faults[PATH] = [cut(45_000), sends(b"<html>Please log in</html>")]
    assert "the server has 26 bytes, workflow/catalog.yaml says 60000; it is not the file" in fetch.refused()
    assert fetch.kept() == CONTENT[:45_000]


def test_a_redirect_is_followed_and_a_circle_is_not(fetch: Fetch, server: FaultyServer) -> None:
    server.files["/moved"] = CONTENT
    server.faults[PATH] = [status(302, Location="/moved")]
    fetch.right()
    server.faults["/circle"] = [status(302, Location="/circle")] * 50
    server.faults[PATH] = [cut(1), status(307, Location="/circle")]
    other = Fetch(fetch.folder / "other", server)
    other.folder.mkdir()
    assert other.refused().endswith(
        "the server redirects more than 10 times; get it in another way and name its folder under `copies` in "
        "config.yaml"
    )
    assert len(server.requests) == 2 + 2 + 10 and other.kept() == CONTENT[:1]


def test_an_address_that_is_none(fetch: Fetch, server: FaultyServer) -> None:
    server.faults[PATH] = [status(302, Location="ftp://127.0.0.1/a.zip")]
    assert "its address cannot be asked (InvalidSchema); correct it" in fetch.refused()


def test_an_endless_body_is_stopped_where_the_file_must_end(fetch: Fetch, server: FaultyServer) -> None:
    server.faults[PATH] = [endless()]
    assert "the server sends more than 60000 bytes; it is not the file that it was" in fetch.refused()
    assert fetch.kept() == b"" and server.sent()[0] < 50 << 20  # what the system's buffers take, and not all


def test_an_endless_body_of_unknown_length_is_stopped(tmp_path: Path, server: FaultyServer) -> None:
    server.faults[PATH] = [endless()]
    download = Download(
        "a.zip", lambda: Remote(server.url(PATH)), Partial(tmp_path / "a.zip"), Expected(),
        RetryPolicy(largest=1 << 20),
    )  # fmt: skip
    with pytest.raises(UserError, match=r"^a\.zip: the server sends more than 1048576 bytes"):
        download.run()
    assert list(tmp_path.iterdir()) == []


def test_a_compressed_answer(fetch: Fetch, server: FaultyServer) -> None:
    server.faults[PATH] = [lambda answer: answer.begin(200, {"Content-Encoding": "gzip"})]
    assert "the server sends it compressed, though it was asked not to" in fetch.refused()


def test_no_server_at_all(fetch: Fetch) -> None:
    fetch.execution["places"] = {"a.zip": Place(url="http://127.0.0.1:9/a.zip")}
    assert "no connection to the server, 4 times in a row; try again later" in fetch.refused()


def test_pieces_that_never_fit_are_told_of_after_one_more_try(fetch: Fetch, server: FaultyServer) -> None:
    server.files[PATH] = OTHER
    server.faults[PATH] = [cut(30_000), server.serve, cut(20_000)]
    assert f"put together from several pieces, its sha256 is {sha256(OTHER)}" not in (said := fetch.refused())
    assert f"its sha256 is {sha256(OTHER)}, workflow/catalog.yaml says {sha256(CONTENT)}" in said
    assert server.sent() == [30_000, 30_000, 20_000, 40_000]


# --- several files, disks, kills ----------------------------------------------------------------------------------


def test_files_come_several_at_a_time_but_no_more_than_asked(tmp_path: Path, server: FaultyServer) -> None:
    most, now, lock = [0], [0], threading.Lock()

    def counted(answer: Any) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.15)
        with lock:
            now[0] -= 1
        server.serve(answer)

    names = [f"{k}.bin" for k in range(6)]
    for name in names:
        server.files[f"/{name}"], server.faults[f"/{name}"] = name.encode() * 1000, [counted]
    fetch = Fetch(tmp_path, server)
    fetch.execution |= {"places": {name: Place(url=server.url(f"/{name}")) for name in names}, "at_once": 2}
    settings = {"files": {name: sha256(server.files[f"/{name}"]) for name in names}}
    assert run(tmp_path / "out", "fetch", settings, {}, **fetch.execution) == {"bytes": 6 * 5000}
    assert most == [2]
    assert all((tmp_path / "out" / name).read_bytes() == server.files[f"/{name}"] for name in names)


def test_the_first_that_cannot_be_had_ends_the_others_and_all_is_kept(tmp_path: Path, server: FaultyServer) -> None:
    big = random.Random(2).randbytes(2_000_000)
    server.files |= {"/big": big, "/small": b"small"}
    server.faults = {"/big": [stall(1_000_000)], "/gone": [status(404)]}
    fetch = Fetch(tmp_path, server)
    places = {name: Place(url=server.url(f"/{name}")) for name in ("small", "big", "gone")}
    fetch.execution |= {"places": places, "timeout": 20.0}
    settings = {"files": {name: sha256(server.files.get(f"/{name}", b"")) for name in places}}
    server.faults["/gone"] = [lambda answer: (time.sleep(0.5), status(404)(answer))[1]]
    started = time.monotonic()
    assert "gone" in refusal(tmp_path / "out", "fetch", settings, {}, **fetch.execution)
    assert time.monotonic() - started < 0.5 + 2.0  # and not the 20 seconds for which the other may say nothing
    server.stopped.set()
    kept = tmp_path / "out.scratch" / "files"
    assert (kept / "small").read_bytes() == b"small" and (kept / "big").read_bytes() == big[:1_000_000]
    server.files["/gone"], before = b"", len(server.requests)
    settings["files"]["gone"] = sha256(b"")
    os.rename(tmp_path / "out.scratch", tmp_path / "again.scratch")
    run(tmp_path / "again", "fetch", settings, {}, **fetch.execution)
    assert sorted(server.sent()[before:]) == [0, 1_000_000]  # the small one was there, the big one was half there


def test_a_full_disk_is_told_of_before_the_first_byte(
    fetch: Fetch, server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch.execution["places"] = {"a.zip": Place(url=server.url(PATH), bytes=10**15)}
    assert fetch.refused().startswith("data: 1000.0 TB are still to come and do not fit on the store's disk (")
    assert server.requests == []
    unknown = Fetch(fetch.folder / "unknown", server, pinned=False, size=False)
    unknown.folder.mkdir()
    server.faults[PATH] = [lambda answer: answer.begin(200, {"Content-Length": str(10**15)})]
    assert "1000.0 TB are still to come" in unknown.refused()


def test_a_download_that_is_stopped_keeps_what_came(tmp_path: Path, server: FaultyServer) -> None:
    server.faults[PATH] = [stall(20_000)]
    partial, policy = Partial(tmp_path / "a.zip"), RetryPolicy(timeout=5)
    download = Download("a", lambda: Remote(server.url(PATH)), partial, Expected(), policy)
    download.advance = lambda count: download.stop.set()
    with pytest.raises(StoppedError):
        download.run()
    assert 0 < len((tmp_path / "a.zip").read_bytes()) <= 20_000


def test_a_note_that_a_kill_cut_short_makes_the_rest_worthless(fetch: Fetch, server: FaultyServer) -> None:
    server.faults[PATH] = [cut(30_000), *[status(503)] * 3]
    fetch.refused()
    (fetch.folder / "out0.scratch" / "files" / "a.zip.version").write_text('{"etag": ')
    fetch.right()
    assert server.sent()[-1] == 60_000


def test_progress_is_told_in_bytes(fetch: Fetch, server: FaultyServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.faults[PATH] = [cut(20_000)]
    fetch.right()
    assert "out0: 60 kB of 60 kB (100%), " in capsys.readouterr().err


# --- pauses -----------------------------------------------------------------------------------------------------------


def test_pauses_double_with_jitter_and_honour_what_is_asked() -> None:
    patient = RetryPolicy(pause=2.0)
    for attempt, longest in enumerate([2, 4, 8, 16, 32, 64, 120, 120]):
        drawn = {patient.pause_before(attempt, None) for _ in range(50)}
        assert all(longest / 2 <= one <= longest for one in drawn) and len(drawn) > 10
    assert patient.pause_before(0, 30.0) == 30.0
    assert patient.pause_before(0, 10_000_000.0) == 900.0
    assert retry_after("7") == 7.0 and retry_after(None) is None and retry_after("soon") is None
    assert retry_after("Mon, 06 Jan 2025 00:00:00 GMT") == 0.0


# --- what the lock records --------------------------------------------------------------------------------------------


def test_the_first_download_is_recorded_and_a_later_one_must_find_the_same(
    tmp_path: Path, server: FaultyServer
) -> None:
    fetch = Fetch(tmp_path, server, pinned=False, size=False)
    fetch.right()
    lock = tmp_path / "catalog.lock.yaml"
    recorded = lock.read_bytes()
    assert recorded.endswith(
        f"entries:\n  data:\n    a.zip:\n      bytes: 60000\n      sha256: {sha256(CONTENT)}\n"
        f"      origin: {server.url(PATH)}\n".encode()
    )
    fetch.right()
    assert lock.read_bytes() == recorded
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["catalog.lock.yaml"]
    server.files[PATH] = OTHER
    assert fetch.refused() == (
        f"data: a.zip ({server.url(PATH)}): its sha256 is {sha256(OTHER)}, workflow/catalog.lock.yaml says "
        f"{sha256(CONTENT)}; it is not the file that it was: find out why before you change what is recorded"
    )
    assert lock.read_bytes() == recorded


def seen(requests: list[Request]) -> list[tuple[str, str]]:
    return [(one.method, one.path) for one in requests]


def test_json_of_origins_has_no_times(fetch: Fetch, server: FaultyServer) -> None:
    fetch.right()
    first = (fetch.folder / "out0" / "origins.json").read_bytes()
    fetch.right()
    assert (fetch.folder / "out1" / "origins.json").read_bytes() == first
    assert json.loads(first) == {"a.zip": {"bytes": 60_000, "sha256": sha256(CONTENT), "origin": server.url(PATH)}}
    assert seen(server.requests) == [("GET", PATH)] * 2
