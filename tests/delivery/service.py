"""A real HTTP server that enrichment asks: keeps the questions, and answers as a test says."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import orjson


@dataclass(frozen=True)
class Question:
    """One request."""

    method: str
    path: str
    body: Any


@dataclass
class Reply:
    """An answer; ``body`` is JSON unless it is bytes."""

    body: Any = field(default_factory=dict)
    status: int = 200
    type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


class Service(AbstractContextManager["Service"]):
    """Answers ``{}`` unless told otherwise; ``reply`` may block until ``released``."""

    def __init__(self, reply: Callable[[Question], Reply] = lambda _: Reply()) -> None:
        self.reply = reply
        self.questions: list[Question] = []
        self.released = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                question = Question(self.command, self.path, orjson.loads(raw) if raw else None)
                outer.questions.append(question)
                reply = outer.reply(question)
                body = reply.body if isinstance(reply.body, bytes) else orjson.dumps(reply.body)
                self.send_response(reply.status)
                sized = {"Content-Type": reply.type, "Content-Length": str(len(body)), **reply.headers}
                for name, value in sized.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """Say nothing: a client that waits no longer is part of the tests."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.host}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
