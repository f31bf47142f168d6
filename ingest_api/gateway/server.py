"""Letting clients in: ``GET /ws`` with a user token, and the life of their connections.

Belongs here: the handshake, the loop that hears a client, the gateway's parts and their start and end. Does not belong
here: sending (``connection``), the management interface (``management``), the process (``__main__``).

Whoever connects shows a user token, never a cookie: so a foreign page cannot connect in a user's name, and ``Origin``
is not looked at.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import WSMsgType, web
from sqlalchemy.exc import SQLAlchemyError

from ingest_api.gateway import connection, talking
from ingest_api.gateway.connection import CLOSE_S, Client, Connection, Gone
from ingest_api.gateway.hub import Hub, Tasks
from ingest_api.gateway.management import Management
from ingest_api.gateway.registry import Registry
from ingest_api.gateway.standing import Standings
from ingest_api.gateway.tail import Tail
from notify_pipeline.core import gateway, user_tokens
from notify_pipeline.core.gateway import MAX_MESSAGE_BYTES
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.group_commit import LedgerError
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.user_tokens import InvalidUserToken, UserIdentity

log = logging.getLogger(__name__)

# The subprotocol that clients may name, with their token as a second one: browsers can set no header but this one, and
# a token in a URL ends up in logs.
SUBPROTOCOL = "notify"
_SWEEP_S = 1.0
_STANDINGS_S = 5.0
_KEEP_S = 60.0


def utc_now() -> datetime:
    """The real clock: aware UTC."""
    return datetime.now(UTC)


class Gateway:
    """A gateway: made in the event loop that it is used in."""

    def __init__(
        self, settings: Settings, ledger: Ledger, endpoint: str, name: str, clock: Callable[[], datetime] = utc_now
    ) -> None:
        """Take the parts.

        Args:
            settings: Limits.
            ledger: The ledger.
            endpoint: Where whoever posts reaches this gateway.
            name: Which gateway this is; the same after a restart, and no other's.
            clock: Tells the time.
        """
        self._settings = settings
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._secret = ledger.secret(user_tokens.SECRET)
        self._tasks = Tasks()
        self.hub = Hub(settings, self._tasks)
        self._registry = Registry(ledger, name, endpoint, clock)
        self._standings = Standings(self._registry.counts, self._loop.time)
        self._tail = Tail(ledger, self.hub, self._tasks, clock)
        self._management = Management(self.hub, gateway.credentials(settings, ledger), clock, self._loop.time)
        self._background: list[asyncio.Task[None]] = []

    def app(self) -> web.Application:
        """Return the application: WebSocket and management interface on one port."""
        app = web.Application(client_max_size=MAX_MESSAGE_BYTES)
        app.add_routes([web.get("/ws", self._connect, allow_head=False), web.get("/readyz", _ready)])
        app.add_routes(self._management.routes())
        return app

    async def start(self) -> None:
        """Forget one's former life, and begin to watch."""
        await self._registry.begin()
        await self._tail.begin()
        self._background = [
            asyncio.create_task(self._tail.run()),
            asyncio.create_task(self._repeat(_SWEEP_S, self._sweep)),
            asyncio.create_task(self._repeat(_STANDINGS_S, self._end_inactive)),
            asyncio.create_task(self._repeat(_KEEP_S, self._keep)),
        ]

    async def stop(self) -> None:
        """End all connections and forget them."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self.hub.end_all()
        await self._tasks.ended()
        await self._registry.end()

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        try:
            identity = self._identity(request)
            cursor = talking.cursor_of(request.query.get("cursor"))
        except InvalidUserToken as error:
            return _refused(401, "unauthorized", str(error))
        except ValueError as error:
            return _refused(422, "invalid_request", str(error))
        if not await self._standings.counts(identity.tenant):
            return _refused(401, "unauthorized", "the token's tenant is not active")
        socket = web.WebSocketResponse(
            timeout=CLOSE_S,
            heartbeat=self._settings.gateway_ping_s,
            protocols=(SUBPROTOCOL,),
            compress=False,  # it takes 64 KB and more for each connection
            max_msg_size=MAX_MESSAGE_BYTES,
        )
        await socket.prepare(request)
        await self._live(request, socket, identity, cursor)
        return socket

    async def _live(
        self, request: web.Request, socket: web.WebSocketResponse, identity: UserIdentity, cursor: int | None
    ) -> None:
        client = Client(
            connection_id=secrets.token_urlsafe(18),
            tenant=identity.tenant,
            user_id=identity.user_id,
            token_expires_at=identity.expires_at,
            connected_at=self._clock(),
            source_ip=request.remote or "",
            user_agent=request.headers.get("User-Agent", ""),
        )
        transport = request.transport
        if transport is None:  # the client has gone already
            return
        waits, now = self._settings.gateway_queue, self._loop.time()
        one = Connection(client, socket, transport.abort, self._registry.since, waits, now)
        try:
            await one.begin(lambda: self._arrive(one), cursor, lambda last: self._greeting(client, last))
            await self._hear(one, socket)
        except Gone:
            pass
        except (LedgerError, SQLAlchemyError) as error:
            log.warning("a connection could not begin: %s", error)
            await one.close(connection.TRY_AGAIN, "try again later")
        finally:
            one.closing = True
            self.hub.remove(one)
            self._tasks.start(self._registry.depart(client))

    async def _keep(self) -> None:
        await self._registry.keep([each.client for each in self.hub if not each.closing])

    async def _arrive(self, one: Connection) -> int:
        self.hub.add(one)
        return await self._registry.arrive(one.client)

    def _greeting(self, client: Client, cursor: int) -> str:
        return talking.greeting(client, cursor, self._settings.gateway_ping_s)

    async def _hear(self, one: Connection, socket: web.WebSocketResponse) -> None:
        async for said in socket:
            if said.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                continue
            one.active_at = self._loop.time()
            one.said += 1
            if one.said > talking.MOST_SAID:
                return await one.close(connection.TOO_MANY, "too many messages")
            answered = talking.answer(said.data, one.last)
            if answered is not None:
                await one.send(answered)

    def _identity(self, request: web.Request) -> UserIdentity:
        token = _token(request)
        if token is None:
            raise InvalidUserToken("a user token is needed: as ?token=, subprotocol or bearer")
        return user_tokens.check(self._secret, token, self._clock())

    async def _sweep(self) -> None:
        self.hub.sweep(self._clock(), self._loop.time())

    async def _end_inactive(self) -> None:
        for tenant in self.hub.tenants:
            if not await self._standings.counts(tenant):
                self.hub.end_tenant(tenant)

    async def _repeat(self, every_s: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            await asyncio.sleep(every_s)
            try:
                await work()
            except (LedgerError, SQLAlchemyError) as error:
                log.warning("the gateway's upkeep waits for the ledger: %s", error)


def _token(request: web.Request) -> str | None:
    header = request.headers.get("Authorization", "")
    if header[:7].lower() == "bearer ":
        return header[7:].strip()
    offered = [each.strip() for each in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    if len(offered) == 2 and offered[0] == SUBPROTOCOL:
        return offered[1]
    return request.query.get("token")


async def _ready(_: web.Request) -> web.Response:
    return web.Response(text="ready")


def _refused(status: int, code: str, message: str) -> web.Response:
    """Return the error envelope of the rest of the API."""
    body = orjson.dumps({"error": {"code": code, "message": message, "details": []}})
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    return web.Response(status=status, body=body, headers=headers, content_type="application/json")
