"""A headless Chromium driven over the W3C WebDriver protocol with the standard library alone."""

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_START_LIMIT_S = 30.0


@dataclass
class Browser:
    """One browser; `open` starts a fresh session, so that pages see nothing of each other."""

    server: str
    chromium: str
    session: str = field(default="", init=False)

    def open(self, path: Path, *, scripts: bool = True, width: int = 1200, height: int = 900) -> None:
        """Load a file in a new session."""
        self.close()
        preferences = {} if scripts else {"profile.managed_default_content_settings.javascript": 2}
        arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        options = {
            "binary": self.chromium,
            "args": [*arguments, f"--window-size={width},{height}"],
            "prefs": preferences,
        }
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        answer = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.session = f"/session/{answer['sessionId']}"
        self._call("POST", f"{self.session}/url", {"url": path.as_uri()})

    def run(self, script: str, *values: object) -> Any:
        """The value that a script returns; works with the page's own scripts off, too."""
        return self._call("POST", f"{self.session}/execute/sync", {"script": script, "args": list(values)})

    def wait(self, script: str, limit_s: float = 10.0) -> Any:
        """The value of a script once it is true."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            if value := self.run(script):
                return value
            time.sleep(0.05)
        raise AssertionError(f"Expected this to become true: {script}")

    def press(self, key: str) -> None:
        """Press a key where the focus is."""
        strokes = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        self._act([{"type": "key", "id": "keys", "actions": strokes}])

    def scroll(self, x: int, y: int, delta_y: int) -> None:
        """Turn the wheel over a place of the window."""
        turn = {"type": "scroll", "x": x, "y": y, "deltaX": 0, "deltaY": delta_y, "duration": 0, "origin": "viewport"}
        self._act([{"type": "wheel", "id": "wheel", "actions": [turn]}])

    def complaints(self) -> list[str]:
        """What the console said since the last call."""
        entries = self._call("POST", f"{self.session}/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries]

    def close(self) -> None:
        """End the session, if there is one."""
        if self.session:
            self._call("DELETE", self.session)
            self.session = ""

    def _act(self, actions: list[dict[str, Any]]) -> None:
        self._call("POST", f"{self.session}/actions", {"actions": actions})

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.server + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from error


@contextmanager
def start_browser(chromium: str, driver: str) -> Iterator[Browser]:
    """A driver on a free port and its browser, both ended on leaving."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    browser = Browser(server=f"http://127.0.0.1:{port}", chromium=chromium)
    try:
        _wait_for(browser.server)
        yield browser
        browser.close()
    finally:
        process.terminate()
        process.wait(timeout=10)


def _wait_for(server: str) -> None:
    end = time.monotonic() + _START_LIMIT_S
    while True:
        try:
            with urllib.request.urlopen(f"{server}/status", timeout=5):
                return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
