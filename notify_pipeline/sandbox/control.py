"""The sandbox's own HTTP API: addresses, logs, faults, statistics, the token endpoint and the beacons.

Belongs here: routes and their JSON. Does not belong here: sockets (``http1``), what lies behind a route.

``GET /log?since=N`` gives one JSON object per line and per request that a stand-in got, with numbers above N:
``n``, ``time``, ``channel``, ``recipient``, ``notification_id``, ``d``, ``body`` (parsed), ``headers`` of interest,
``collapse_id``, ``status``, ``answer`` (the parsed body, or ``"reset"`` or ``"hang"`` when none was given, and then
``how``), ``message_id``, ``processed`` (accepted: the device gets it, unless it was a dry run) and ``dry_run``.
``GET /devices/log`` has one line per accepted push when it reaches its device or fails to (``received``), and
``GET /cdn/log`` one per beacon.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs

import orjson
from pydantic import ValidationError

from notify_pipeline.sandbox.cdn import EVENTS, Cdn
from notify_pipeline.sandbox.faults import FaultBook, Faults
from notify_pipeline.sandbox.http1 import NO_CONTENT, HttpRequest, Response
from notify_pipeline.sandbox.oauth import TokenEndpoint
from notify_pipeline.sandbox.parts import Part
from notify_pipeline.sandbox.standin import Clock
from notify_pipeline.sandbox.truthlog import TruthLog

_BEACON = "/notification/"
_FORM = b"application/x-www-form-urlencoded"

Route = Callable[[HttpRequest], Response | Awaitable[Response]]


class Control:
    """The routes. ``handle`` is the server's handler."""

    def __init__(
        self,
        *,
        addresses: Mapping[str, str],
        book: FaultBook,
        logs: Mapping[str, TruthLog],
        cdn: Cdn,
        token_endpoint: TokenEndpoint,
        stats: Callable[[], dict[str, Any]],
        clock: Clock,
        parts: Sequence[Part] = (),
    ) -> None:
        self._addresses = addresses
        self._book = book
        self._cdn = cdn
        self._token_endpoint = token_endpoint
        self._stats = stats
        self._clock = clock
        self._parts = [part for part in parts if part.prefix]
        self._routes: dict[str, dict[str, Route]] = {
            "/": {"GET": lambda _: _json(dict(self._addresses))},
            "/healthz": {"GET": lambda _: _json({"status": "ok"})},
            "/stats": {"GET": lambda _: _json(self._stats())},
            "/faults": {"GET": self._get_faults, "PUT": self._put_faults},
            "/cdn/flush": {"POST": self._flush},
            "/token": {"POST": self._token},
            **{path: {"GET": _log_route(log)} for path, log in logs.items()},
        }

    def handle(self, request: HttpRequest) -> Response | Awaitable[Response]:
        """Answer one request."""
        if request.path.startswith(_BEACON):
            return self._beacon(request)
        for part in self._parts:
            if request.path.startswith(part.prefix):
                return part.handle(request)
        methods = self._routes.get(request.path)
        if methods is None:
            return _error(404, "not_found", f"there is no {request.path} here")
        route = methods.get(request.method)
        if route is None:
            refusal = _error(405, "method_not_allowed", f"{request.path} takes {', '.join(methods)}")
            refusal.headers["Allow"] = ", ".join(methods)
            return refusal
        return route(request)

    def _beacon(self, request: HttpRequest) -> Response:
        event = request.path[len(_BEACON) :]
        if event not in EVENTS:
            return _error(404, "not_found", f"there is no {request.path} here")
        if request.method not in ("GET", "POST"):
            return _error(405, "method_not_allowed", "beacons are GET or POST")
        agent = request.headers.get(b"user-agent", b"").decode("latin-1")
        self._cdn.beacon(event, request.query, agent, request.peer)
        return NO_CONTENT

    def _get_faults(self, request: HttpRequest) -> Response:
        return Response(body=self._book.current.model_dump_json(indent=2).encode())

    def _put_faults(self, request: HttpRequest) -> Response:
        try:
            faults = Faults.model_validate_json(request.body)
        except ValidationError as problem:
            details = [
                {"field": ".".join(str(part) for part in error["loc"]), "message": error["msg"]}
                for error in problem.errors(include_url=False, include_input=False)
            ]
            return _error(422, "invalid_faults", "the faults were not changed", details)
        self._book.set(faults)
        return self._get_faults(request)

    async def _flush(self, request: HttpRequest) -> Response:
        try:
            files = await self._cdn.flush(everything=True)
        except OSError as problem:
            return _error(503, "logs_unwritable", f"the log root could not be written, nothing is lost: {problem}")
        return _json({"files": files})

    def _token(self, request: HttpRequest) -> Response:
        if request.headers.get(b"content-type", b"").split(b";")[0].strip().lower() != _FORM:
            return _json({"error": "invalid_request", "error_description": f"send {_FORM.decode()}"}, 400)
        status, body = self._token_endpoint.answer(request.body, self._clock())
        return Response(status, body)


def _log_route(log: TruthLog) -> Route:
    def route(request: HttpRequest) -> Response:
        since = parse_qs(request.query).get("since", ["0"])[0]
        if not (since.isascii() and since.isdigit() and len(since) < 16):
            detail = [{"field": "since", "message": "a line number, 0 or more"}]
            return _error(400, "invalid_query", "since is not a line number", detail)
        return Response(content_type="application/x-ndjson", stream=log.stream(int(since)))

    return route


def _json(content: object, status: int = 200) -> Response:
    return Response(status, orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def _error(status: int, code: str, message: str, details: Sequence[object] = ()) -> Response:
    return _json({"error": {"code": code, "message": message, "details": list(details)}}, status)
