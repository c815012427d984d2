"""A real browser without a screen (Chromium), spoken to over a pipe in its DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next((path for name in NAMES if (path := shutil.which(name))), None) if os.name == "posix" else None
SECONDS = 120  # for one answer; a busy machine is slow to start a browser

# The protocol is read from descriptor 3 and written to descriptor 4.
_LAUNCH = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)
_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
]
_FLAGS += [
    "--disable-sync",
    "--disable-breakpad",
    "--no-first-run",
    "--hide-scrollbars",
    "--mute-audio",
    # A webcam that shows a pattern and a microphone that beeps, given without asking.
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--remote-debugging-pipe",
]


class Browser:
    """Context manager; `open` gives pages. microphone: a WAV that is said into it again and again."""

    def __init__(self, microphone: Path | None = None) -> None:
        self._flags = [*_FLAGS] + ([f"--use-file-for-fake-audio-capture={microphone}"] if microphone else [])

    def __enter__(self) -> Browser:
        import fcntl

        assert BROWSER is not None
        self._profile = tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True)
        # Numbers from 10 on: none of them is overwritten while the others are put in place.
        ends = [
            fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10)
            for pair in (os.pipe(), os.pipe())
            for end in pair
            if not os.set_inheritable(end, False)
        ]
        theirs_in, self._out, self._in, theirs_out = ends
        command = [
            sys.executable,
            "-c",
            _LAUNCH,
            str(theirs_in),
            str(theirs_out),
            BROWSER,
            *self._flags,
            f"--user-data-dir={self._profile.name}",
        ]
        self._process = subprocess.Popen(
            command,
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._last, self._rest, self.events = 0, b"", []
        return self

    def __exit__(self, *_: object) -> None:
        # A group of its own, ended whatever happened: a browser is many processes.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._out)
        os.close(self._in)
        self._profile.cleanup()

    def ask(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; what happens meanwhile is kept in `events`."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters} | (
            {"sessionId": session} if session else {}
        )
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            told = self._next()
            if told.get("id") == self._last:
                assert "error" not in told, (method, told["error"])
                return told["result"]
            self.events.append(told)

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + SECONDS
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"the browser does not answer within {SECONDS} s"
            more = os.read(self._in, 1 << 20)
            assert more, "the browser ended"
            self._rest += more
        one, _, self._rest = self._rest.partition(b"\0")
        return json.loads(one)

    def open(self, page: Path | str, size: tuple[int, int] = (1280, 900), dark: bool = False) -> Page:
        """A page in a tab of its own, loaded, its films ready to be shown. The tab of a file is offline."""
        tab = self.ask("Target.createTarget", url="about:blank")["targetId"]
        session = self.ask("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        opened = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            opened.ask(f"{domain}.enable")
        offline = isinstance(page, Path)
        opened.ask(
            "Network.emulateNetworkConditions", offline=offline, latency=0, downloadThroughput=-1, uploadThroughput=-1
        )
        opened.ask(
            "Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1, mobile=False
        )
        opened.ask(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )
        opened.ask("Page.navigate", url=page.as_uri() if isinstance(page, Path) else page)
        opened.run("""new Promise((done) => {
          const films = [...document.querySelectorAll("video")];
          const look = () => document.readyState === "complete" && films.every((f) => f.readyState >= 2 || f.error || !(f.src || f.children.length)) ? done() : setTimeout(look, 50);
          look();
        })""")
        return opened


class Page:
    """A page that is open."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.ask(method, self._session, **parameters)

    def run(self, expression: str) -> Any:
        """The value of an expression of JavaScript, awaited, as if a reader had clicked."""
        self.ask("Page.bringToFront")  # what lies behind another tab is not painted
        told = self.ask(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def choose(self, selector: str, *files: Path) -> None:
        """Choose files in a file input, as a reader would in the dialog that it opens."""
        root = self.ask("DOM.getDocument")["root"]["nodeId"]
        node = self.ask("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.ask("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def picture(self) -> Image.Image:
        """The whole page, also what has to be scrolled to."""
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        data = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")

    def _events(self, method: str) -> list[dict[str, Any]]:
        return [
            e["params"] for e in self._browser.events if e.get("sessionId") == self._session and e["method"] == method
        ]

    @property
    def console(self) -> list[str]:
        """What was said: by the page's script, of its errors, by the browser of what it refused."""
        said = [
            str([a.get("value", a.get("description")) for a in e["args"]])
            for e in self._events("Runtime.consoleAPICalled")
        ]
        said += [
            e["exceptionDetails"].get("exception", {}).get("description", "error")
            for e in self._events("Runtime.exceptionThrown")
        ]
        return said + [e["entry"]["text"] for e in self._events("Log.entryAdded")]

    @property
    def asked_for(self) -> list[str]:
        """Every address the page asked for, its own included; what it holds itself is not asked for."""
        return [
            url
            for e in self._events("Network.requestWillBeSent")
            if not (url := e["request"]["url"]).startswith("data:")
        ]
