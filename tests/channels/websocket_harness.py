"""WebSockets for the outcomes suite: users with a connection each, and a management interface that answers as told.

Both posters are here: ours to a gateway of ours, and boto3 to what stands in for API Gateway.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import orjson
from aiohttp import web

from notify_pipeline.channels.each import EachSender
from notify_pipeline.channels.rates import Gate
from notify_pipeline.channels.websocket.carrier import WebSocketCarrier
from notify_pipeline.channels.websocket.desk import Desk
from notify_pipeline.channels.websocket.message import WebSocketMessage
from notify_pipeline.channels.websocket.posting import AwsPoster, OwnPoster
from notify_pipeline.core import sigv4
from notify_pipeline.core.gateway import REGION, SERVICE
from notify_pipeline.core.ledger import connections
from notify_pipeline.core.ledger.connections import FOREIGN, Held
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.rates import Limits
from notify_pipeline.core.records import Content
from notify_pipeline.core.sigv4 import Credentials
from notify_pipeline.core.vocabulary import Channel, Platform
from tests.channels.buckets import OwnBucket
from tests.channels.harness import notification, utc_now
from tests.channels.outcomes import Case, Harness, Open
from tests.ledgers import made_at
from tests.waiting import PATIENCE_S

USERS = 100
SIGNED = Credentials("AKID", "s3cret", REGION, SERVICE)
_STATUS = {
    Case.ACCEPTED: (200, ""),
    Case.THROTTLED: (429, "LimitExceededException"),
    Case.TRANSIENT: (500, "InternalServerErrorException"),
    Case.PERMANENT: (400, "BadRequestException"),
}


@dataclass
class Management:
    """Answers every post alike; without a status it reads it and closes the connection."""

    status: int | None = 200
    error: str = ""
    gone: set[str] = field(default_factory=set)
    hangs: bool = False
    posts: list[tuple[str, bytes]] = field(default_factory=list)
    let_go: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        sigv4.check(SIGNED, "POST", request.raw_path, request.headers.get, body, utc_now())
        connection_id = request.match_info["connection_id"]
        self.posts.append((connection_id, body))
        if self.hangs:
            await self.let_go.wait()
        if connection_id in self.gone:
            return self._answer(410, "GoneException")
        if self.hangs or self.status is None:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return self._answer(self.status, self.error)

    def _answer(self, status: int, error: str) -> web.Response:
        return web.Response(status=status, headers={"x-amzn-ErrorType": error} if error else {}, body=b"{}")


@dataclass
class WebSocketHarness:
    """The channel, open."""

    management: Management
    ledger: Ledger
    sender: EachSender[WebSocketMessage]
    gate: Gate

    platform = Platform.WEBSOCKET
    gives_ids = True
    throttled_s = None
    oversized = Content("Title", "ä" * 70_000)

    def address(self, number: int) -> str:
        return f"wsuser-{number:02}"

    def answer(self, case: Case) -> None:
        self.management.let_go.set()
        self.management.hangs = False
        self.management.status, self.management.error = _STATUS.get(case, (None, ""))

    def hang(self) -> None:
        self.management.let_go = asyncio.Event()
        self.management.hangs = True

    @property
    def called(self) -> list[str]:
        return [connection_id.removeprefix("c-") for connection_id, _ in self.management.posts]

    @property
    def marks(self) -> list[str]:
        return [orjson.loads(body)["d"] for _, body in self.management.posts]


@asynccontextmanager
async def served() -> AsyncIterator[Management]:
    """Serve a management interface."""
    management = Management()
    app = web.Application()
    app.router.add_post("/@connections/{connection_id}", management.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    management.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield management
    finally:
        management.let_go.set()
        await runner.cleanup()


@asynccontextmanager
async def opened(ledger: Ledger, management: Management) -> AsyncIterator[WebSocketHarness]:
    """Open the channel over a ledger."""
    gate = Gate(OwnBucket(), Limits(None), utc_now)
    carrier = WebSocketCarrier(
        Desk(ledger, utc_now),
        OwnPoster(SIGNED, utc_now, PATIENCE_S),
        AwsPoster(PATIENCE_S),
        utc_now,
        "https://receipts.example",
    )
    sender = EachSender(carrier, gate, utc_now, 32)
    environment = {"AWS_ACCESS_KEY_ID": SIGNED.access_key, "AWS_SECRET_ACCESS_KEY": SIGNED.secret_key}
    with mock.patch.dict("os.environ", environment):
        try:
            yield WebSocketHarness(management, ledger, sender, gate)
        finally:
            management.let_go.set()
            await sender.aclose()


def _open(gateway: str) -> Open:
    @asynccontextmanager
    async def open_websocket(folder: Path) -> AsyncIterator[Harness]:
        with Ledger.open(made_at(folder / "websocket.db")) as ledger:
            async with served() as management, opened(ledger, management) as harness:
                tenant = notification().tenant
                rows = [
                    Held(tenant, harness.address(n), f"c-{harness.address(n)}", management.url, gateway)
                    for n in range(USERS)
                ]
                connections.register(ledger, rows, utc_now())
                yield harness

    return open_websocket


HARNESSES: dict[str, tuple[Channel, Open]] = {
    "websocket": (Channel.WEBSOCKET, _open("g1")),
    "websocket-aws": (Channel.WEBSOCKET, _open(FOREIGN)),
}
NEVER_INVALID = "a user's id is never dead: whoever is connected nowhere is skipped, and may be back in a moment"
CANNOT: dict[tuple[str, Case], str] = {(name, Case.INVALID_RECIPIENT): NEVER_INVALID for name in HARNESSES}
