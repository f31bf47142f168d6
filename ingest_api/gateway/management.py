"""API Gateway's management interface, so that boto3's ``apigatewaymanagementapi`` drives this gateway too.

Belongs here: posting to, looking at and ending one connection over HTTP. Does not belong here: the signature's
arithmetic (``core.sigv4``), connections (``connection``).

https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-how-to-call-websocket-api-connections.html
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import orjson
from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError

from ingest_api.gateway import connection
from ingest_api.gateway.connection import Connection, Gone, QueueFull
from ingest_api.gateway.hub import Hub
from notify_pipeline.core import sigv4
from notify_pipeline.core.gateway import MAX_MESSAGE_BYTES, SEQUENCE_HEADER
from notify_pipeline.core.ledger.group_commit import LedgerError
from notify_pipeline.core.sigv4 import BadSignature, Credentials

_JSON = "application/json"
_REFUSED: dict[str, tuple[int, str]] = {
    "ForbiddenException": (403, "Forbidden"),
    "GoneException": (410, "The connection is not here any more"),
    "PayloadTooLargeException": (413, f"The message has more than {MAX_MESSAGE_BYTES} bytes"),
    "LimitExceededException": (429, "As many messages wait for the connection as may"),
    "BadRequestException": (400, "The message is not UTF-8, or its sequence header is malformed"),
    "InternalServerErrorException": (500, "The ledger could not be read"),
}


class Management:
    """The interface's handlers."""

    def __init__(
        self, hub: Hub, credentials: Credentials, clock: Callable[[], datetime], loop_time: Callable[[], float]
    ) -> None:
        """Args: hub: the connections. credentials: what callers sign with. clock, loop_time: tell the time."""
        self._hub = hub
        self._credentials = credentials
        self._clock = clock
        self._loop_time = loop_time

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        path = "/@connections/{connection_id}"
        return [web.post(path, self.post), web.get(path, self.get, allow_head=False), web.delete(path, self.delete)]

    async def post(self, request: web.Request) -> web.Response:
        """Send a message to a client."""
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            # Too large to have its signature checked. Whether there is such a connection is not said.
            return _refused("PayloadTooLargeException")
        one = self._found(request, body)
        if isinstance(one, web.Response):
            return one
        if len(body) > MAX_MESSAGE_BYTES:
            return _refused("PayloadTooLargeException")
        try:
            seq, previous = _numbers(request.headers.get(SEQUENCE_HEADER))
            await one.push(body.decode(), seq, previous)
        except ValueError:
            return _refused("BadRequestException")
        except Gone:
            return _refused("GoneException")
        except QueueFull:
            return _refused("LimitExceededException")
        except (LedgerError, SQLAlchemyError):
            return _refused("InternalServerErrorException")
        return web.Response()

    async def get(self, request: web.Request) -> web.Response:
        """Say since when and from where a client is connected."""
        one = self._found(request, b"")
        if isinstance(one, web.Response):
            return one
        client = one.client
        active_at = self._clock() - timedelta(seconds=self._loop_time() - one.active_at)
        shown = {
            "connectedAt": _iso(client.connected_at),
            "identity": {"sourceIp": client.source_ip, "userAgent": client.user_agent},
            "lastActiveAt": _iso(max(active_at, client.connected_at)),
        }
        return web.Response(body=orjson.dumps(shown), content_type=_JSON)

    async def delete(self, request: web.Request) -> web.Response:
        """End a connection."""
        one = self._found(request, b"")
        if isinstance(one, web.Response):
            return one
        self._hub.end(one, connection.GOING_AWAY, "ended by the server")
        return web.Response(status=204)

    def _found(self, request: web.Request, body: bytes) -> Connection | web.Response:
        """Return the connection that a caller may ask for, or the answer that refuses it."""
        try:
            sigv4.check(self._credentials, request.method, request.raw_path, request.headers.get, body, self._clock())
        except BadSignature:
            return _refused("ForbiddenException")
        one = self._hub.get(request.match_info["connection_id"])
        return _refused("GoneException") if one is None else one


def _refused(name: str) -> web.Response:
    status, message = _REFUSED[name]
    # Where botocore's REST-JSON parser looks for the error's name.
    headers = {"x-amzn-ErrorType": name}
    return web.Response(status=status, headers=headers, body=orjson.dumps({"message": message}), content_type=_JSON)


def _numbers(header: str | None) -> tuple[int, int]:
    if header is None:
        return 0, 0
    seq, previous = header.split(" ")
    return int(seq), int(previous)


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
