"""Whatever happens to a client's connections, it gets each message once, in order, and misses none."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import SQLAlchemyError

from ingest_api.gateway import tail
from notify_pipeline.core import gateway as shared
from notify_pipeline.core.ledger import user_messages
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.user_messages import INBOX, NOTIFICATION
from tests.ingest_api.gateway.running import Client, Running, running
from tests.ingest_api.gateway.test_management import post

STEP = st.sampled_from(["store", "store and post", "post again", "store inbox", "read", "drop", "connect"])


@pytest.fixture(scope="module")
def shared_ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """One ledger for all examples: each has a tenant of its own."""
    path: Path = tmp_path_factory.mktemp("cursors")
    with Ledger.open(f"sqlite:///{path}/ledger.db") as ledger:
        yield ledger


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the gateway make up for lost posts at once: most of these are."""
    monkeypatch.setattr(tail, "_POST_S", 0.02)
    monkeypatch.setattr(tail, "POLL_S", 0.02)


class App:
    """A client as docs/websocket.md has it: it keeps the cursor of the last message that it saw."""

    def __init__(self, gateway: Running, session: aiohttp.ClientSession) -> None:
        self.gateway = gateway
        self.session = session
        self.stored: list[tuple[str, Any]] = []
        self.seen: list[str] = []
        self.cursor = 0
        self.client: Client | None = None
        self.life = AsyncExitStack()

    async def step(self, name: str) -> None:
        if name.startswith("store"):
            kind = INBOX if name == "store inbox" else NOTIFICATION
            message = f"m{len(self.stored)}"
            (numbers,) = await asyncio.to_thread(lambda: self.gateway.store(message, kind=kind))
            self.stored.append((message, numbers))
            if name == "store and post":
                await self.post(-1)
        elif name == "post again" and self.stored:
            await self.post(len(self.stored) // 2)
        elif name == "read" and self.client is not None:
            if self.stored and len(self.seen) < len(self.stored):
                await self.read()
        elif name == "drop":
            await self.drop()
        elif name == "connect":
            await self.connect()

    async def post(self, index: int) -> None:
        if self.client is not None:
            message, numbers = self.stored[index]
            text = shared.message(numbers.seq, f'{{"id":"{message}"}}').encode()
            numbered = f"{numbers.seq} {numbers.previous}"
            await post(self.session, self.gateway, self.client.connection_id, text, numbered)

    async def read(self) -> None:
        assert self.client is not None
        (message,) = await self.client.receive()
        self.seen.append(message["id"])
        self.cursor = message["cursor"]

    async def drop(self) -> None:
        await self.life.aclose()
        self.client = None

    async def connect(self) -> None:
        if self.client is None:
            self.client = await self.life.enter_async_context(self.gateway.client(cursor=self.cursor))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, max_size=25))
def test_each_message_comes_once_in_order(shared_ledger: Ledger, steps: list[str]) -> None:
    async def main() -> None:
        async with running(shared_ledger) as gateway, aiohttp.ClientSession() as session:
            app = App(gateway, session)
            try:
                for name in ["connect", *steps, "connect"]:
                    await app.step(name)
                while len(app.seen) < len(app.stored):
                    await app.read()
                assert app.seen == [message for message, _ in app.stored]
            finally:
                await app.drop()

    asyncio.run(main())


def test_many_who_write_push_and_reconnect_at_once(ledger: Ledger) -> None:
    """Posts in any order from several sides, while clients come and go."""
    count = 60

    async def main() -> None:
        async with running(ledger) as gateway, aiohttp.ClientSession() as session:
            app = App(gateway, session)

            async def write(side: int) -> None:
                for n in range(count // 3):
                    kind = INBOX if n % 3 == 0 else NOTIFICATION
                    (numbers,) = await asyncio.to_thread(
                        lambda n=n, kind=kind: gateway.store(f"{side}-{n}", kind=kind)  # type: ignore[misc]
                    )
                    app.stored.append((f"{side}-{n}", numbers))
                    if kind == NOTIFICATION:
                        await app.post(-1 if n % 2 else len(app.stored) // 2)

            writers = asyncio.gather(*(write(side) for side in range(3)))
            await app.connect()
            while len(app.seen) < count:
                for _ in range(min(7, count - len(app.seen))):
                    await app.read()
                await app.drop()
                await app.connect()
            await writers
            in_order = sorted(app.stored, key=lambda each: each[1].seq)
            assert app.seen == [message for message, _ in in_order]
            await app.drop()

    asyncio.run(main())


def test_a_number_that_is_committed_late_is_pushed_all_the_same(ledger: Ledger, monkeypatch: Any) -> None:
    """On PostgreSQL another user's smaller number may appear after a larger one: seen here by hiding it for a while."""
    hidden: set[int] = set()
    real = user_messages.news

    def news(*arguments: Any) -> list[Any]:
        return [each for each in real(*arguments) if each.seq not in hidden]

    monkeypatch.setattr(user_messages, "news", news)

    async def main() -> None:
        async with running(ledger) as gateway, gateway.client("late") as late, gateway.client() as early:
            hidden.update(range(1, 10_000, 2))
            first, second = gateway.store("x", user="late", kind=INBOX) + gateway.store("y", kind=INBOX)
            hidden.clear()
            hidden.add(first.seq)
            assert (await early.receive())[0]["cursor"] == second.seq
            hidden.clear()
            assert (await late.receive())[0]["cursor"] == first.seq

    asyncio.run(main())


def test_a_ledger_that_fails_for_a_while_ends_nothing(sqlite_ledger: Ledger, monkeypatch: Any) -> None:
    real, failing = user_messages.news, [True]

    def news(*arguments: Any) -> Any:
        if failing:
            raise SQLAlchemyError("gone for a moment")
        return real(*arguments)

    monkeypatch.setattr(user_messages, "news", news)

    async def main() -> None:
        async with running(sqlite_ledger) as gateway, gateway.client() as client:
            gateway.store("a", kind=INBOX)
            failing.clear()
            assert [each["id"] for each in await client.receive()] == ["a"]

    asyncio.run(main())
