"""A gateway in the test's event loop, and clients of another library than its own.

Belongs here: starting both. Does not belong here: what is checked.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from aiohttp import web
from websockets.asyncio.client import ClientConnection, connect

from ingest_api.gateway.server import Gateway
from notify_pipeline.core import gateway, user_tokens
from notify_pipeline.core.ids import new_id, to_micros
from notify_pipeline.core.ledger import tenants, user_messages
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.user_messages import NOTIFICATION, NewMessage, Stored
from notify_pipeline.core.settings import Settings
from tests.waiting import PATIENCE_S


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Running:
    """A gateway that serves."""

    gateway: Gateway
    ledger: Ledger
    settings: Settings
    endpoint: str
    tenant: str

    def token(self, user: str = "ann", ttl_s: int = 600, tenant: str | None = None) -> str:
        secret = self.ledger.secret(user_tokens.SECRET)
        return user_tokens.mint(secret, tenant or self.tenant, user, utc_now(), ttl_s)

    def url(self, user: str = "ann", cursor: int | None = None, **token: Any) -> str:
        rest = "" if cursor is None else f"&cursor={cursor}"
        return f"{self.endpoint.replace('http', 'ws')}/ws?token={self.token(user, **token)}{rest}"

    @asynccontextmanager
    async def client(self, user: str = "ann", cursor: int | None = None) -> AsyncIterator["Client"]:
        """Connect, and take the greeting."""
        # Unbounded, as the library reads no closing handshake while messages wait.
        async with connect(self.url(user, cursor), max_size=2**20, max_queue=None) as socket:
            yield Client(socket, await received(socket))

    def store(self, *ids: str, user: str = "ann", kind: str = NOTIFICATION, ttl_s: float = 60) -> list[Stored]:
        """Store messages, one transaction each."""
        until = to_micros(utc_now() + timedelta(seconds=ttl_s))
        return [
            user_messages.store(
                self.ledger,
                [NewMessage(self.tenant, user, f"{self.tenant} {each}", kind, {"id": each}, until)],
                utc_now(),
            )[0]
            for each in ids
        ]

    @property
    def credentials(self) -> Any:
        return gateway.credentials(self.settings, self.ledger)


@dataclass
class Client:
    """A client that was greeted."""

    socket: ClientConnection
    hello: dict[str, Any]

    @property
    def connection_id(self) -> str:
        return str(self.hello["connection_id"])

    async def receive(self, count: int = 1) -> list[dict[str, Any]]:
        return [await received(self.socket) for _ in range(count)]

    async def say(self, **said: Any) -> None:
        await self.socket.send(orjson.dumps(said).decode())


async def received(socket: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE_S):
        found: dict[str, Any] = orjson.loads(await socket.recv())
    return found


@asynccontextmanager
async def running(
    ledger: Ledger, clock: Callable[[], datetime] = utc_now, name: str = "g1", **settings: Any
) -> AsyncIterator[Running]:
    """Serve for the length of the block."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=1_000)
    endpoint = f"http://127.0.0.1:{listening.getsockname()[1]}"
    made = Settings(**settings)
    tenant = tenants.create_product(ledger, f"product {new_id()}", (), utc_now()).tenant
    serving = Gateway(made, ledger, endpoint, name, clock)
    runner = web.AppRunner(serving.app(), access_log=None, shutdown_timeout=1)
    await runner.setup()
    await serving.start()
    await web.SockSite(runner, listening).start()
    try:
        yield Running(serving, ledger, made, endpoint, tenant)
    finally:
        await serving.stop()
        await runner.cleanup()


async def until(done: Callable[[], Any], what: str = "it") -> Any:
    """Poll until the condition holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not (found := done()):
            await asyncio.sleep(0.01)
    return found


def ids(messages: Sequence[dict[str, Any]]) -> list[str]:
    return [str(each["id"]) for each in messages]
