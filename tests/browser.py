"""A real browser without a window: what a page loads, what ran in it, and what it shows."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--no-first-run", "--disable-extensions", "--disable-background-networking"),
    # Scripts have this long in the page's own time, which passes as fast as they run.
    *("--virtual-time-budget=3000", "--dump-dom"),
)


@dataclass(frozen=True)
class Opened:
    """A page as it was once its scripts had run.

    Attributes:
        title: Of the page.
        text: All that it shows, white space folded.
        loaded: Paths that were asked of the server meanwhile.
    """

    title: str
    text: str
    loaded: list[str]


@dataclass
class Listener:
    """A server that answers whatever is asked, and remembers it."""

    address: str
    asked: list[str] = field(default_factory=list)


@contextmanager
def listen() -> Iterator[Listener]:
    """Serve on a free port, with leave for pages of every origin."""
    found = Listener("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            self.send_response(200)
            self.send_header("Access-Control-Allow-Origin", "*")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()


class Browser:
    """Opens pages one after the other.

    Args:
        program: Chromium.
        folder: For pages and the browser's own files.
        listener: What hostile pages would load from.
    """

    def __init__(self, program: str, folder: Path, listener: Listener) -> None:
        self._program, self._folder, self._listener = program, folder, listener
        self.server = listener.address

    def open(self, page: str) -> Opened:
        """Open a page's HTML from a file, as a user does who clicks on it."""
        path = self._folder / "page.html"
        path.write_text(page, "utf-8")
        self._listener.asked.clear()
        done = subprocess.run(
            [
                self._program,
                *_OPTIONS,
                f"--user-data-dir={self._folder / 'profile'}",
                path.as_uri(),
            ],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=180,
            check=True,
        )
        title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
        body = re.sub(r"<(script|style)\b.*?</\1>", " ", done.stdout, flags=re.DOTALL)
        return Opened(
            title=html.unescape(title[1]) if title else "",
            text=" ".join(html.unescape(re.sub(r"<[^>]*>", "", body)).split()),
            loaded=list(self._listener.asked),
        )


def open_browser(folder: Path, listener: Listener) -> Browser:
    """Return a browser; the test is skipped where this machine has none."""
    return Browser(find_browser(), folder, listener)


def find_browser() -> str:
    """Return the program; the test is skipped where this machine has none."""
    program = next((found for each in _NAMES if (found := shutil.which(each))), None)
    if program is None:
        pytest.skip(f"no browser to open pages in; expected one of {', '.join(_NAMES)}")
    return program
