"""APNs through aioapns: the reference that our own transport is compared with.

Belongs here: what the library is given, and what its results mean as ends of requests. Does not belong here: the
payload (``apns.message``, whose requests these are), what an answer means (``apns.errors``), numbers and time-outs
(``pool``).

Its connections and their pool are used as they are; its loop that sends again after a lost connection is not, for a
lost request may have been processed. What it hides: headers other than ``apns-id`` (so Retry-After), answers without a
reason, and which streams a reset or a GOAWAY was about: such requests end in their time-out or as lost. What it does
otherwise: JSON with spaces (a payload close to the limit exceeds it), an apns-id of its own, an expiration counted from
the moment of sending. It never acknowledges received DATA: once a connection has brought 65,535 bytes of error bodies,
further errors on it end in time-outs, until it has been idle for 10 s.
"""

import asyncio
import logging
import ssl
import time
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aioapns.exceptions
import orjson
from aioapns.common import NotificationRequest, NotificationResult, PushType
from aioapns.connection import (
    APNsBaseClientProtocol,
    APNsBaseConnectionPool,
    APNsProductionClientProtocol,
    AuthorizationHeaderProvider,
)
from h2.errors import ErrorCodes
from h2.exceptions import H2Error

from notify_pipeline.channels.library.pool import CONNECT_SHARE, UNREACHABLE, LibraryTransport
from notify_pipeline.channels.transport import Answer, End, NotProcessed, Request, Unknown

_PATH = "/3/device/"
# How often a request looks whether the peer has given room for its body; the library looks as often for a stream.
_POLL_S = 0.01
# How long a connection may take to say goodbye.
_GOODBYE_S = 1.0

# The authorization of the request that the current task carries: the library would sign tokens of its own.
_AUTHORIZATION: ContextVar[str] = ContextVar("authorization")


class AioapnsTransport(LibraryTransport):
    """Carries ``ApnsCodec``'s requests (a ``Transport``)."""

    def __init__(self, base_url: str, *, ca: Path, max_in_flight: int, timeout_s: float) -> None:
        """Prepare; nothing is opened yet.

        Args:
            base_url: Scheme, host and port, without a trailing slash; https only.
            ca: The bundle that the peer's certificate must chain to.
            max_in_flight: Requests under way at once, over all callers.
            timeout_s: From handing a request to the library to the end of its answer.
        """
        if not base_url.startswith("https://"):
            raise ValueError(f"a provider's address must be https, not {base_url}")
        super().__init__(max_in_flight=max_in_flight, timeout_s=timeout_s)
        where = urlsplit(base_url)
        self._host, self._port = where.hostname or "", where.port or 443
        self._context = ssl.create_default_context(cafile=str(ca))
        self._context.set_alpn_protocols(["h2"])
        self._pool: _Pool | None = None
        self._turn = asyncio.Lock()
        # It logs every failed connection and every odd answer; senders log trouble once per kind.
        logging.getLogger("aioapns").setLevel(logging.CRITICAL)

    async def _post(self, request: Request) -> End:
        notification = read_notification(request)
        try:
            async with asyncio.timeout(self._timeout_s * CONNECT_SHARE):
                # Twice: the library writes JSON with spaces.
                connection = await self._connection(2 * len(request.body))
        except (TimeoutError, aioapns.exceptions.ConnectionError) as error:
            return NotProcessed(UNREACHABLE, type(error).__name__)
        _AUTHORIZATION.set(dict(request.headers)["authorization"])
        try:
            result = await connection.send_notification(notification)
        except aioapns.exceptions.ConnectionClosed as error:
            return Unknown("connection_lost", type(error).__name__)
        except H2Error as error:
            # Raised while the request is written: at most its headers have left.
            return NotProcessed("no_stream", type(error).__name__)
        finally:
            _forget(connection, notification.notification_id)
        return _answer(result)

    async def _connection(self, size: int) -> APNsBaseClientProtocol:
        """Return a connection that has a stream, and room in its window, for a body of this size."""
        if self._pool is None:
            self._pool = _Pool(self._host, self._port, self._context)
        async with self._turn:  # the library's own waiting is not in order
            while True:
                connection = await self._pool.acquire()
                if connection.conn.outbound_flow_control_window >= size:
                    return connection
                await asyncio.sleep(_POLL_S)

    async def _close(self) -> None:
        if self._pool is not None:
            await self._pool.aclose()


def _forget(connection: APNsBaseClientProtocol, notification_id: str) -> None:
    """Forget a request, which the library does not, and take it back if it was given up.

    A late answer to one that was given up would break the connection, and its stream would stay taken.
    """
    streams = connection.request_streams  # few, as each is taken out here
    stream = next((key for key, value in reversed(streams.items()) if value == notification_id), None)
    if stream is not None:
        del streams[stream]
    if connection.requests.pop(notification_id, None) is None or stream is None:
        return
    if connection.transport is None or connection.transport.is_closing():
        return
    try:
        connection.conn.reset_stream(stream, ErrorCodes.CANCEL)
        connection.flush()
    except H2Error:
        pass  # the peer or the whole connection was first
    connection.free_channels.release()


class _Bearer(AuthorizationHeaderProvider):
    def get_header(self) -> str:
        return _AUTHORIZATION.get()


class _Connection(APNsProductionClientProtocol):
    """The library's connection, to any host; says when the peer's settings have come and when it is lost."""

    def __init__(self, pool: "_Pool", host: str) -> None:
        super().__init__("", asyncio.get_running_loop(), pool.discard_connection, _Bearer())  # type: ignore[arg-type]
        self.APNS_SERVER = host
        self.ready = asyncio.Event()
        self.lost = asyncio.Event()

    def on_remote_settings_changed(self, changed_settings: Any) -> None:
        busy, before = self.is_busy, self.free_channels.bound
        super().on_remote_settings_changed(changed_settings)
        self.ready.set()
        if busy:
            # The library adds what was added to the limit while it still caps at the old one. Without the rest, a
            # connection to APNs would stay at two streams: it begins with one, and goes on with a thousand.
            for _ in range(self.free_channels.bound - 2 * before):
                self.free_channels.release()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()
        self.ready.set()
        # The library stops at the first one that was given up.
        self.requests = {key: future for key, future in self.requests.items() if not future.done()}
        super().connection_lost(exc)


class _Pool(APNsBaseConnectionPool):
    """The library's pool, with our certificates and tokens."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext) -> None:
        super().__init__()
        self.ssl_context = context
        self._host = host
        self._port = port

    async def create_connection(self) -> _Connection:
        """Connect, and wait for the peer's settings: until they are read nobody knows how many streams it takes."""
        _, connection = await self.loop.create_connection(
            lambda: _Connection(self, self._host), self._host, self._port, ssl=self.ssl_context
        )
        try:
            await connection.ready.wait()
        except asyncio.CancelledError:
            connection.close()
            raise
        if connection.lost.is_set():
            raise ConnectionResetError("closed before it was ready")
        return connection

    def discard_connection(self, connection: APNsBaseClientProtocol) -> None:
        """Forget a connection, also one that was lost before it was ready."""
        if connection in self.connections:
            super().discard_connection(connection)

    async def aclose(self) -> None:
        """Close all connections and wait until they are."""
        connections = [connection for connection in self.connections if isinstance(connection, _Connection)]
        self.close()
        goodbyes = [asyncio.create_task(connection.lost.wait()) for connection in connections]
        if goodbyes:
            _, silent = await asyncio.wait(goodbyes, timeout=_GOODBYE_S)
            for connection in connections:
                if connection.transport is not None:
                    connection.transport.abort()
            if silent:
                await asyncio.wait(silent)


def read_notification(request: Request) -> NotificationRequest:
    """Return the library's request for one of ``ApnsCodec``'s.

    Raises:
        ValueError: It is not such a request.
    """
    if not request.path.startswith(_PATH):
        raise ValueError("not a request to a device")
    headers = dict(request.headers)
    # The library adds the time at which it sends.
    time_to_live = int(headers["apns-expiration"]) - int(time.time())
    return NotificationRequest(
        device_token=request.path.removeprefix(_PATH),
        message=orjson.loads(request.body),
        time_to_live=time_to_live,
        priority=int(headers["apns-priority"]),
        collapse_key=headers["apns-collapse-id"],
        push_type=PushType(headers["apns-push-type"]),
        apns_topic=headers["apns-topic"],
    )


def _answer(result: NotificationResult) -> Answer:
    if result.is_successful:
        return Answer(200, {"apns-id": result.notification_id}, b"")
    body = {"reason": result.description, "timestamp": result.timestamp}
    return Answer(
        int(result.status), {}, orjson.dumps({key: value for key, value in body.items() if value is not None})
    )
