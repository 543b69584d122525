"""Debian's Chromium, driven over a pipe as its developer tools drive it (DevTools protocol): no driver, no port."""

import base64
import json
import os
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

KEYS = {"Tab": 9, "Enter": 13, "Escape": 27}

AT_REST = """async (find) => {
  const frame = () => new Promise(requestAnimationFrame);
  const center = (box) => box && [box.x + box.width / 2, box.y + box.height / 2];
  const element = find();
  if (!element) return null;
  element.scrollIntoView({block: "center", behavior: "instant"});
  await frame();
  const before = center(element.getClientRects()[0]);
  await frame();
  await frame();
  const now = center(element.getClientRects()[0]);
  if (!before || !now || before.join() !== now.join()) return null;
  return element.contains(document.elementFromPoint(...now)) && now;
}"""
"""Where in the page the middle of an element is, or nothing while it is moved by what is still being laid out."""


def find_chromium() -> str:
    """Where it is; skips the test, or with LNTUNE_REQUIRE_CHROMIUM fails it, where it is missing."""
    if (found := shutil.which("chromium")) is None:
        absent("chromium is not installed; as root, .ci/install-chromium installs Debian's")
    return str(found)


def absent(reason: str) -> None:
    """Skip the test for this reason, or fail it where a browser and what belongs to it is required."""
    if os.environ.get("LNTUNE_REQUIRE_CHROMIUM"):
        pytest.fail(reason)
    pytest.skip(reason)


class PageError(Exception):
    """An expression that raised an error in the page."""


class Browser:
    """One page in a browser of its own; ``requests`` are the addresses that it asked for, ``errors`` the console's."""

    def __init__(self, profile: Path) -> None:
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
        ]
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}', find_chromium(), *options, "about:blank"],
            pass_fds=(theirs_in, theirs_out), stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self._number, self._loaded, self._read, self._session = 0, 0, b"", ""
        self.requests: list[str] = []
        self.errors: list[str] = []
        (page,) = [one for one in self.send("Target.getTargets")["targetInfos"] if one["type"] == "page"]
        self._session = self.send("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def __enter__(self) -> "Browser":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def send(self, method: str, **given: Any) -> Any:
        """What a method of the protocol returns."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": given}
        session = {"sessionId": self._session} if self._session else {}
        os.write(self._out, json.dumps(message | session).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer)
                return answer["result"]

    def _next(self) -> Any:
        while b"\0" not in self._read:
            read = os.read(self._in, 1 << 16)
            assert read, "the browser has ended"
            self._read += read
        one, _, self._read = self._read.partition(b"\0")
        answer = json.loads(one)
        match answer.get("method"):
            case "Page.loadEventFired":
                self._loaded += 1
            case "Network.requestWillBeSent":
                self.requests.append(answer["params"]["request"]["url"])
            case "Runtime.exceptionThrown":
                self.errors.append(json.dumps(answer["params"]["exceptionDetails"]))
            case "Log.entryAdded":
                self.errors.append(answer["params"]["entry"]["text"])
        return answer

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        """The page's size in pixels, of a phone with two to a point."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)

    def media(self, **features: str) -> None:
        """What the user prefers, such as prefers_color_scheme="dark"."""
        named = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.send("Emulation.setEmulatedMedia", features=named)

    def javascript(self, allowed: bool) -> None:
        """Whether pages may run JavaScript."""
        self.send("Emulation.setScriptExecutionDisabled", value=not allowed)

    def open(self, address: str) -> None:
        """Load an address, and wait until all of it is there."""
        for url in ("about:blank", address):  # an address that differs by its # alone would not be loaded
            before = self._loaded
            self.send("Page.navigate", url=url)
            while self._loaded == before:
                self._next()

    def ask(self, expression: str) -> Any:
        """The value of an expression in the page."""
        found = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise PageError(json.dumps(found["exceptionDetails"]))
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = 30) -> Any:
        """The value of an expression as soon as it is one that counts as true."""
        until = time.monotonic() + seconds
        found = f"(() => {{ const found = {expression}; return found instanceof Node ? true : found; }})()"
        while True:
            with suppress(PageError):  # while a page is exchanged for the next it has no body
                if value := self.ask(found):
                    return value
            assert time.monotonic() < until, f"still not: {expression}"
            time.sleep(0.05)

    def click(self, element: str) -> None:
        """Click with the mouse on what an expression gives, once it stands still and nothing lies over it."""
        box = self.wait(f"({AT_REST})(() => {element})")
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press a key."""
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            given = text if kind == "keyDown" else {}
            self.send(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=KEYS[key],
                modifiers=8 * shift, **given,
            )  # fmt: skip

    def write(self, text: str) -> None:
        """Type a text where the focus is."""
        self.send("Input.insertText", text=text)

    def picture(self) -> bytes:
        """What is seen, as PNG."""
        return base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"])
