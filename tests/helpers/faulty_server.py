"""A real HTTP server for tests, which serves files properly but for the faults that it is told to have.

with FaultyServer() as server:
    server.files["/a.zip"] = content
    server.faults["/a.zip"] = [cut(1000), status(503)]      # the first request, the second; then all is well
    ... server.url("/a.zip") ...
    assert [one.sent for one in server.requests] == [1000, 0, len(content) - 1000]
"""

import hashlib
import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Request:
    """A request that came, and how many bytes of a body were sent in answer."""

    method: str
    path: str
    headers: dict[str, str]
    status: int = 0
    sent: int = 0


class Answer(BaseHTTPRequestHandler):
    """One request, with what faults need to answer it."""

    protocol_version = "HTTP/1.1"
    server: "_Server"
    seen: Request

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        owner = self.server.owner
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.seen = Request(self.command, self.path, headers)
        with owner.lock:
            owner.requests.append(self.seen)
            faults = owner.faults.get(self.path, [])
            fault = faults.pop(0) if faults else owner.serve
        self.close_connection = True
        with suppress(ConnectionError):
            fault(self)

    def begin(self, code: int, headers: dict[str, str]) -> None:
        """Send the status and the headers."""
        self.seen.status = code
        self.send_response(code)
        for name, value in {"Connection": "close", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def send(self, body: bytes) -> None:
        """Send a piece of the body."""
        if self.command != "HEAD":
            self.seen.sent += len(body)  # first: a client that has it all may be asking what was sent
            self.wfile.write(body)

    def cut(self) -> None:
        """Reset the connection, as a network that breaks down does."""
        self.wfile.flush()
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


Fault = Callable[[Answer], None]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    owner: "FaultyServer"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that went away


@dataclass
class FaultyServer:
    """The server; ``ranges``, ``etags`` and ``dates`` say what it can do when it has no fault."""

    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    ranges: bool = True
    etags: bool = True
    dates: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopped: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "FaultyServer":
        self._server = _Server(("127.0.0.1", 0), Answer)
        self._server.owner = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def sent(self) -> list[int]:
        """Bytes of body that were sent for each request."""
        return [one.sent for one in self.requests]

    def describe(self, content: bytes) -> dict[str, str]:
        """The headers that tell versions of a file apart."""
        digest = hashlib.sha256(content).hexdigest()
        headers = {"ETag": f'"{digest[:16]}"'} if self.etags else {}
        # A date for each content, so that it changes with it.
        date = f"Mon, 06 Jan 2025 00:{int(digest[:2], 16) % 60:02}:{int(digest[2:4], 16) % 60:02} GMT"
        return headers | ({"Last-Modified": date} if self.dates else {})

    def serve(self, answer: Answer) -> None:
        """Answer as a good server does."""
        content = self.files.get(answer.path)
        if content is None:
            answer.begin(404, {"Content-Length": "0"})
            return
        start, headers = self.start(answer, content), self.describe(content)
        if start is not None and start >= len(content):
            answer.begin(416, {**headers, "Content-Range": f"bytes */{len(content)}", "Content-Length": "0"})
            return
        body = content[start or 0 :]
        headers["Content-Length"] = str(len(body))
        if start is not None:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        answer.begin(200 if start is None else 206, headers)
        answer.send(body)

    def start(self, answer: Answer, content: bytes) -> int | None:
        """The first byte that a request asks for; None if it is to get the whole file."""
        found = re.fullmatch(r"bytes=(\d+)-", answer.seen.headers.get("range", ""))
        condition = answer.seen.headers.get("if-range")
        known = self.describe(content).values()
        if found is None or not self.ranges or (condition is not None and condition not in known):
            return None
        return int(found[1])


def _whole_headers(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body that a good answer would have."""
    owner = answer.server.owner
    content = owner.files[answer.path]
    start = owner.start(answer, content)
    body = content[start or 0 :]
    headers = owner.describe(content) | {"Content-Length": str(len(body))}
    if start is not None:
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
    return (200 if start is None else 206), headers, body


def cut(after: int) -> Fault:
    """Announce the whole and break the connection after so many bytes."""

    def fault(answer: Answer) -> None:
        code, headers, body = _whole_headers(answer)
        answer.begin(code, headers)
        answer.send(body[:after])
        answer.cut()

    return fault


def no_length(after: int | None = None) -> Fault:
    """Send the file in chunks, without its length; break off after so many bytes."""

    def fault(answer: Answer) -> None:
        code, headers, body = _whole_headers(answer)
        del headers["Content-Length"]
        answer.begin(code, {**headers, "Transfer-Encoding": "chunked"})
        for start in range(0, len(body[:after]), 1000):
            piece = body[:after][start : start + 1000]
            answer.wfile.write(f"{len(piece):x}\r\n".encode())
            answer.send(piece)
            answer.wfile.write(b"\r\n")
        if after is None:
            answer.wfile.write(b"0\r\n\r\n")
        else:
            answer.cut()

    return fault


def stall(after: int) -> Fault:
    """Send so many bytes and then nothing more, with the connection open."""

    def fault(answer: Answer) -> None:
        code, headers, body = _whole_headers(answer)
        answer.begin(code, headers)
        answer.send(body[:after])
        answer.wfile.flush()
        answer.server.owner.stopped.wait(30)

    return fault


def drip(seconds: float) -> Fault:
    """Send a byte now and then, often enough for a time-out never to pass."""

    def fault(answer: Answer) -> None:
        code, headers, body = _whole_headers(answer)
        answer.begin(code, headers)
        for place in range(len(body)):
            answer.send(body[place : place + 1])
            answer.wfile.flush()
            if answer.server.owner.stopped.wait(seconds):
                return

    return fault


def status(code: int, **headers: str) -> Fault:
    """Answer with a status and no body."""
    return lambda answer: answer.begin(
        code, {"Content-Length": "0", **{name.replace("_", "-"): value for name, value in headers.items()}}
    )


def sends(body: bytes) -> Fault:
    """Answer with other bytes, whatever was asked for."""

    def fault(answer: Answer) -> None:
        answer.begin(200, {"Content-Length": str(len(body))})
        answer.send(body)

    return fault


def endless(most: int = 1 << 28) -> Fault:
    """Send bytes for as long as the client takes them."""

    def fault(answer: Answer) -> None:
        answer.begin(200, {})
        while answer.seen.sent < most:
            answer.send(b"\0" * 65536)

    return fault


def shifted(answer: Answer) -> None:
    """Answer a request for a range with another one."""
    content = answer.server.owner.files[answer.path]
    answer.begin(206, {"Content-Range": f"bytes 7-{len(content) - 1}/{len(content)}", "Content-Length": "0"})
