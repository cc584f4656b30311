"""A headless Chromium that tests drive through a pipe with the keys and touches of a user."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

PROGRAM = next(
    (p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None
)
CODES = {"ArrowLeft": 37, "ArrowRight": 39, "Backspace": 8, "Enter": 13}
LONG = 60.0
"""Seconds after which nothing more is waited for."""


class Browser:
    """One page, in a profile of its own under `folder`, which is kept between browsers."""

    def __init__(self, folder: Path, width: int = 1280, height: int = 800):
        read, self._to = os.pipe()
        self._from, write = os.pipe()
        flags = ["--headless", "--remote-debugging-pipe", f"--user-data-dir={folder / 'profile'}"]
        flags += ["--no-first-run", "--disable-gpu", *["--no-sandbox"] * (os.geteuid() == 0)]
        # The browser reads commands from its descriptor 3, and writes answers to 4.
        start = (
            "import os, sys; os.dup2({}, 3); os.dup2({}, 4); os.execv(sys.argv[1], sys.argv[1:])"
        )
        line = [sys.executable, "-c", start.format(read, write), str(PROGRAM), *flags]
        none = subprocess.DEVNULL
        self._process = subprocess.Popen(
            [*line, "about:blank"], pass_fds=(read, write), stdout=none, stderr=none
        )
        os.close(read)
        os.close(write)
        self._count, self._held, self._session = 0, b"", ""
        (page,) = [t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        opened = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = opened["sessionId"]
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
        self.resize(width, height)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.call("Browser.close")
        self._process.wait(LONG)
        os.close(self._to)
        os.close(self._from)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol and return its result."""
        self._count += 1
        told = {"id": self._count, "method": method, "params": params}
        told |= {"sessionId": self._session} if self._session else {}
        os.write(self._to, json.dumps(told).encode() + b"\0")
        while (got := self._message()).get("id") != self._count:
            pass
        assert "error" not in got, got
        return got["result"]

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._held:
            assert select.select([self._from], [], [], LONG)[0], "the browser does not answer"
            part = os.read(self._from, 1 << 16)
            assert part, "the browser has ended"
            self._held += part
        told, _, self._held = self._held.partition(b"\0")
        return json.loads(told)

    def open(self, path: Path) -> None:
        got = self.call("Page.navigate", url=path.as_uri())
        if "errorText" in got:  # some are packaged so that they see no such folders
            pytest.skip(f"{PROGRAM} cannot open {path}: {got['errorText']}")
        self.wait("document.readyState == 'complete'")

    def saved(self, folder: Path, pattern: str) -> Path:
        """The file that a page saves, once it is whole."""
        end = time.monotonic() + LONG
        while not (found := [p for p in folder.glob(pattern) if p.stat().st_size]):
            assert time.monotonic() < end, f"{pattern}: never saved"
            time.sleep(0.02)
        return found[0]

    def run(self, code: str) -> Any:
        """Return the value of an expression on the page."""
        got = self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in got, got
        return got["result"].get("value")

    def wait(self, code: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + LONG
        while not self.run(code):
            assert time.monotonic() < end, f"never came: {code}"
            time.sleep(0.02)

    def press(self, key: str) -> None:
        about = {
            "key": key,
            "code": key,
            "windowsVirtualKeyCode": CODES.get(key, ord(key.upper()[0])),
        }
        about |= {"text": "\r"} if key == "Enter" else {"text": key} if len(key) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, **about)

    def tap(self, element: str) -> None:
        """Touch the middle of the element of a selector, once the element no longer moves."""
        frame = "new Promise(requestAnimationFrame)"
        self.run(f"{frame}.then(() => {frame}).then(() => null)")
        box = f"document.querySelector({json.dumps(element)}).getBoundingClientRect()"
        x, y = self.run(f"(b => [b.x + b.width / 2, b.y + b.height / 2])({box})")
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def resize(self, width: int, height: int, ratio: float = 1, mobile: bool = False) -> None:
        size = {"width": width, "height": height}
        about = {"deviceScaleFactor": ratio, "mobile": mobile}
        self.call("Emulation.setDeviceMetricsOverride", **size, **about)
        self.call("Emulation.setTouchEmulationEnabled", enabled=mobile)

    def picture(self, path: Path) -> None:
        """Return the visible page as a PNG file."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))
