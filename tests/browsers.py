"""A real browser for tests, and sites for it to open.

Belongs here: starting headless Chromium, serving pages. Does not belong here: what pages do (the tests).

A test that asks for the fixture ``chromium`` is skipped where there is none. The browser is a module's own: while it is
open, playwright runs an event loop in this thread, so that nothing else may.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome")
# As little as a browser does by itself: it shall speak to our servers only.
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_TYPES = {"html": "text/html; charset=utf-8", "js": "text/javascript; charset=utf-8", "json": "application/json"}


def executable() -> str | None:
    """Return where Chromium is, or None."""
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


@contextmanager
def opened(path: str) -> Iterator[Any]:
    """Yield a headless Chromium (``playwright.sync_api.Browser``)."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def persistent(path: str, profile: Path) -> Iterator[Any]:
    """Yield a headless Chromium with a profile (a playwright ``BrowserContext``): others show no notifications."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=path, headless=True, args=list(_FLAGS)
        )
        try:
            yield context
        finally:
            context.close()


@dataclass(frozen=True, slots=True)
class Site:
    """A site on a port of this machine. Browsers take it for secure by the name localhost."""

    port: int

    @property
    def origin(self) -> str:
        """As browsers write it."""
        return f"http://localhost:{self.port}"


@contextmanager
def served(pages: Mapping[str, str] | None = None) -> Iterator[Site]:
    """Serve pages by path, by default an empty one at ``/``; the type is that of the path's ending, or HTML."""
    found = {"/": "<!doctype html><title>page</title>"} | dict(pages or {})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            body = found.get(path, "").encode()
            self.send_response(200 if path in found else 404)
            self.send_header("Content-Type", _TYPES.get(path.rpartition(".")[2], _TYPES["html"]))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        # Chromium keeps connections open that it does not use.
        daemon_threads = True
        block_on_close = False

    server = Server(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.05,), name="site")
    thread.start()
    try:
        yield Site(server.server_port)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
