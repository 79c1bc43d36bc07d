"""A headless Chromium driven over WebDriver with the standard library alone."""

import json
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

MISSING = "UNPROVEN: needs chromium (apt-get install chromium chromium-driver)"
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--hide-scrollbars",
)
_READY_ATTEMPTS = 100
_REPLY_TIMEOUT_S = 120  # a loaded machine may take long to start a browser
_INLINE_SCHEMES = ("data:", "blob:", "about:", "chrome:")


def is_available() -> bool:
    """Whether both the browser and its driver are installed."""
    return bool(shutil.which("chromium") and shutil.which("chromedriver"))


@dataclass(frozen=True, slots=True)
class Browser:
    """One window. Methods wait for the browser; an error reply raises RuntimeError."""

    port: int
    session: str

    def open(self, page: Path) -> None:
        """Load a local file and wait until it has loaded."""
        self._post("url", {"url": page.resolve().as_uri()})

    def run(self, script: str, *arguments: Any) -> Any:
        """The value that a script returns; a promise is waited for."""
        return self._post("execute/sync", {"script": script, "args": list(arguments)})

    def command(self, name: str, **parameters: Any) -> Any:
        """A command of the DevTools protocol."""
        return self._post("goog/cdp/execute", {"cmd": name, "params": parameters})

    def logs(self, kind: str) -> list[dict[str, Any]]:
        """Entries of a log since the last call: "browser" (console) or "performance"."""
        entries: list[dict[str, Any]] = self._post("se/log", {"type": kind})
        return entries

    def console_errors(self) -> list[str]:
        """What the page complained about."""
        return [entry["message"] for entry in self.logs("browser")]

    def requests_beside(self, page: Path) -> list[str]:
        """Addresses asked for since the last call, other than the page and data within it."""
        events = [json.loads(entry["message"])["message"] for entry in self.logs("performance")]
        sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
        urls = [str(event["request"]["url"]) for event in sent]
        own = page.resolve().as_uri()
        return [url for url in urls if url != own and not url.startswith(_INLINE_SCHEMES)]

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return _request(self.port, "POST", f"/session/{self.session}/{path}", body)


def _request(port: int, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    connection = HTTPConnection("127.0.0.1", port, timeout=_REPLY_TIMEOUT_S)
    try:
        payload = None if body is None else json.dumps(body)
        connection.request(method, path, payload, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        value = json.loads(reply.read())["value"]
    finally:
        connection.close()
    if reply.status >= 400:
        raise RuntimeError(f"{value['error']}: {value['message']}")
    return value


@contextmanager
def browser(width: int = 1280, height: int = 1600) -> Iterator[Browser]:
    """Start a driver and a window; both end with the block, and so does the profile."""
    port = _free_port()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        driver = subprocess.Popen(
            ["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            _await_ready(port, driver)
            window = Browser(port, _start(port, profile, width, height))
            try:
                yield window
            finally:
                _request(port, "DELETE", f"/session/{window.session}")
        finally:
            driver.terminate()
            driver.wait()


def _start(port: int, profile: str, width: int, height: int) -> str:
    arguments = [*_FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"]
    capabilities = {
        "browserName": "chrome",
        "goog:chromeOptions": {"args": arguments, "binary": shutil.which("chromium")},
        "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
    }
    wanted = {"capabilities": {"alwaysMatch": capabilities}}
    return str(_request(port, "POST", "/session", wanted)["sessionId"])


def _await_ready(port: int, driver: "subprocess.Popen[bytes]") -> None:
    for _ in range(_READY_ATTEMPTS):
        try:
            if _request(port, "GET", "/status")["ready"]:
                return
        except OSError:
            try:  # not listening yet; give it a moment, or notice that it has ended
                driver.wait(timeout=0.1)
            except subprocess.TimeoutExpired:
                continue
            break
    raise RuntimeError("chromedriver did not start")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
