"""What only WebSockets do: messages kept for a cursor, connections that go one by one, and real gateways."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event

from notify_pipeline.channels.base import PAYLOAD_TOO_LARGE
from notify_pipeline.channels.each import NotCalled
from notify_pipeline.channels.opening import Around
from notify_pipeline.channels.websocket.carrier import NOT_CONNECTED, open_websocket
from notify_pipeline.channels.websocket.posting import AwsPoster, OwnPoster
from notify_pipeline.core.ids import DeliveryIds
from notify_pipeline.core.ledger import connections, user_messages
from notify_pipeline.core.ledger.connections import FOREIGN, Held
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.user_messages import Stored, User
from notify_pipeline.core.records import AttemptResult, Content, Recipient
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.vocabulary import Outcome, Platform
from tests.channels.harness import notification, utc_now
from tests.channels.outcomes import Case
from tests.channels.websocket_harness import SIGNED, WebSocketHarness, opened, served
from tests.ingest_api.gateway.running import running

TENANT = notification().tenant


def on(ledger: Ledger, body: Callable[[WebSocketHarness], Awaitable[None]]) -> None:
    async def main() -> None:
        async with served() as management, opened(ledger, management) as harness:
            await body(harness)

    asyncio.run(main())


def connect(harness: WebSocketHarness, *ids: str, user: str = "ann", gateway: str = "g1", url: str = "") -> None:
    rows = [Held(TENANT, user, each, url or harness.management.url, gateway) for each in ids]
    connections.register(harness.ledger, rows, utc_now())


async def send(sender: Any, *users: str, **changes: Any) -> list[AttemptResult]:
    sent = notification(**changes)
    ids = DeliveryIds(b"s" * 32, sent.tenant, sent.notification_id, "websocket")
    results: dict[int, AttemptResult] = {}
    recipients = [Recipient(user, Platform.WEBSOCKET, user) for user in users]
    message = sender.prepare(sent, Platform.WEBSOCKET)
    await sender.send(message, recipients, [ids.of(user) for user in users], results.__setitem__)
    return [results[index] for index in range(len(users))]


def there(ledger: Ledger, user: str = "ann", tenant: str = TENANT) -> list[str]:
    key: User = (tenant, user)
    return [held.connection_id for held in connections.of_users(ledger, [key], utc_now()).get(key, ())]


def kept(ledger: Ledger, user: str = "ann") -> int:
    return len(user_messages.since(ledger, TENANT, user, 0, utc_now()))


def test_whoever_is_connected_nowhere_is_skipped_and_the_message_kept(ledger: Ledger) -> None:
    async def body(harness: WebSocketHarness) -> None:
        (result,) = await send(harness.sender, "ann")
        assert (result.outcome, result.provider_code) == (Outcome.SKIPPED, NOT_CONNECTED)
        assert kept(ledger) == 1
        assert not harness.called

    on(ledger, body)


def test_410_removes_that_connection_and_no_other(ledger: Ledger) -> None:
    async def body(harness: WebSocketHarness) -> None:
        connect(harness, "c-1", "c-2")
        connect(harness, "c-3", user="bob")
        harness.management.gone.add("c-1")
        (result,) = await send(harness.sender, "ann")
        assert result.outcome is Outcome.ACCEPTED
        assert there(ledger) == ["c-2"]
        assert there(ledger, "bob") == ["c-3"]
        harness.management.gone.add("c-2")
        (result,) = await send(harness.sender, "ann", notification_id="n-2")
        assert (result.outcome, result.provider_code) == (Outcome.SKIPPED, NOT_CONNECTED)
        assert there(ledger) == []
        assert kept(ledger) == 2

    on(ledger, body)


def test_another_tenant_s_connection_of_the_same_id_stays(ledger: Ledger) -> None:
    async def body(harness: WebSocketHarness) -> None:
        connect(harness, "c-1")
        connections.put(ledger, Held("other", "ann", "c-1", harness.management.url, FOREIGN), utc_now())
        harness.management.gone.add("c-1")
        await send(harness.sender, "ann")
        assert there(ledger) == []
        assert there(ledger, tenant="other") == ["c-1"]

    on(ledger, body)


def test_a_repetition_stores_nothing_and_has_the_same_number(ledger: Ledger) -> None:
    async def body(harness: WebSocketHarness) -> None:
        connect(harness, "c-1")
        harness.answer(Case.TRANSIENT)
        (first,) = await send(harness.sender, "ann")
        assert first.outcome is Outcome.TRANSIENT
        harness.answer(Case.ACCEPTED)
        (second,) = await send(harness.sender, "ann")
        assert second.outcome is Outcome.ACCEPTED
        one, two = (body for _, body in harness.management.posts)
        assert one == two
        assert kept(ledger) == 1
        assert there(ledger) == ["c-1"]

    on(ledger, body)


@pytest.mark.parametrize("gateway", ["g1", FOREIGN])
def test_a_gateway_that_cannot_be_reached_is_tried_again(sqlite_ledger: Ledger, gateway: str) -> None:
    async def body(harness: WebSocketHarness) -> None:
        connect(harness, "c-1", gateway=gateway, url="http://127.0.0.1:9")
        (result,) = await send(harness.sender, "ann")
        assert (result.outcome, result.provider_code) == (Outcome.TRANSIENT, "not_processed:connect")
        assert there(sqlite_ledger) == ["c-1"]
        connect(harness, "c-2")
        (result,) = await send(harness.sender, "ann", notification_id="n-2")
        assert result.outcome is Outcome.ACCEPTED, "one that took it is enough"

    on(sqlite_ledger, body)


def test_personal_fields_are_filled_and_may_make_it_too_large(sqlite_ledger: Ledger) -> None:
    async def body(harness: WebSocketHarness) -> None:
        connect(harness, "c-1")
        named = Content("To [[[user_id]]]", 'Say "[[[user_id]]]"')
        (result,) = await send(harness.sender, "ann", content=named)
        assert result.outcome is Outcome.ACCEPTED
        (row,) = user_messages.since(sqlite_ledger, TENANT, "ann", 0, utc_now())
        assert '"title":"To ann","body":"Say \\"ann\\""' in row.payload
        large = Content("x" * 120_000 + "[[[user_id]]]" * 50)
        (short, long) = await send(harness.sender, "ann", "u" * 256, content=large, notification_id="n-2")
        assert short.outcome is Outcome.ACCEPTED
        assert (long.outcome, long.provider_code) == (Outcome.PERMANENT, PAYLOAD_TOO_LARGE)

    on(sqlite_ledger, body)


@contextmanager
def counted(ledger: Ledger) -> Iterator[list[str]]:
    """Note the statements that run meanwhile."""
    seen: list[str] = []

    def note(conn: Any, cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    engines = (ledger._engine, ledger._reader)
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    yield seen
    for engine in engines:
        event.remove(engine, "before_cursor_execute", note)


def test_a_send_to_many_is_a_handful_of_statements(sqlite_ledger: Ledger) -> None:
    async def main() -> None:
        async with running(sqlite_ledger) as gateway:
            around = Around(gateway.settings, sqlite_ledger, utc_now, "https://receipts.example", None)
            sender = await open_websocket(around)
            assert sender is not None
            users = [f"user-{n}" for n in range(1_000)]
            with counted(sqlite_ledger) as statements:
                results = await send(sender, *users)
            assert {result.outcome for result in results} == {Outcome.SKIPPED}
            assert len([each for each in statements if "user_messages" in each or "connections" in each]) < 100
            await sender.aclose()

    asyncio.run(main())


def test_through_a_real_gateway(ledger: Ledger) -> None:
    """From the channel to two clients of a user, and to one who comes later; and a gateway that restarted."""

    async def main() -> None:
        async with running(ledger) as gateway:
            settings = Settings()
            sender = await open_websocket(Around(settings, ledger, utc_now, "https://receipts.example", None))
            assert sender is not None
            async with gateway.client() as one, gateway.client() as two:
                changes = {"tenant": gateway.tenant, "expires_at": utc_now() + timedelta(minutes=5)}
                (ann, bob) = await send(sender, "ann", "bob", **changes)
                assert ann.outcome is Outcome.ACCEPTED
                assert bob.provider_code == NOT_CONNECTED
                for client in (one, two):
                    (got,) = await client.receive()
                    assert got["type"] == "notification"
                    assert str(got["cursor"]) == ann.provider_message_id
                    assert got["notificationId"] == notification().notification_id
                    assert got["d"] in got["receipt"]
                # A repetition, because the answer was lost: it counts as taken, and no client sees it twice.
                assert (await send(sender, "ann", **changes))[0].outcome is Outcome.ACCEPTED
                await send(sender, "ann", **changes, notification_id="n-2")
                assert (await one.receive())[0]["notificationId"] == "n-2"
            async with gateway.client("bob", cursor=0) as late:
                (got,) = await late.receive()
                assert got["notificationId"] == notification().notification_id
            stale = Held(gateway.tenant, "ann", "former-life", gateway.endpoint, "g9")
            connections.register(ledger, [stale], utc_now())
            (result,) = await send(sender, "ann", **changes, notification_id="n-3")
            assert result.provider_code == NOT_CONNECTED
            assert there(ledger, tenant=gateway.tenant) == []
            await sender.aclose()

    asyncio.run(main())


def test_endpoints_that_tenants_name_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    poster = AwsPoster(1.0)
    made = [poster._client(f"https://a{n}.execute-api.eu-west-{n % 3 + 1}.amazonaws.com/live") for n in range(40)]
    assert len(poster._clients) <= 32
    assert {(each.meta.region_name, each.meta.endpoint_url) for each in made} == {
        (f"eu-west-{n % 3 + 1}", f"https://a{n}.execute-api.eu-west-{n % 3 + 1}.amazonaws.com/live") for n in range(40)
    }
    asyncio.run(poster.aclose())


def test_a_gateway_that_cannot_be_reached_is_not_asked_by_everybody() -> None:
    async def main() -> None:
        poster = OwnPoster(SIGNED, utc_now, 5.0)
        async with served() as management:
            with socket.create_server(("127.0.0.1", 0)) as taken:
                gone = f"http://127.0.0.1:{taken.getsockname()[1]}"
            stored = Stored(1, 0)
            said = []
            for _ in range(3):
                with pytest.raises(NotCalled) as caught:
                    await poster.post(Held("t", "u", "c", gone, "g"), "{}", stored)
                said.append(caught.value.detail)
            assert said == ["the gateway cannot be reached", *["the gateway could not be reached a moment ago"] * 2]
            # Others are.
            assert await poster.post(Held("t", "u", "c-0", management.url, "g"), "{}", stored) in (200, 410)
        await poster.aclose()

    asyncio.run(main())
