"""Connecting, being pushed to, and being ended."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import orjson
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from ingest_api.gateway import connection, server, standing, tail, talking
from notify_pipeline.core.ledger import connections, tenants
from notify_pipeline.core.ledger.connections import Held
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.user_messages import INBOX
from tests.ingest_api.gateway.running import Client, Running, ids, running, until, utc_now
from tests.waiting import PATIENCE_S


def on(ledger: Ledger, body: Callable[[Running], Awaitable[None]], **settings: Any) -> None:
    async def main() -> None:
        async with running(ledger, **settings) as gateway:
            await body(gateway)

    asyncio.run(main())


def rows(gateway: Running, user: str = "ann") -> list[Held]:
    key = (gateway.tenant, user)
    return connections.of_users(gateway.ledger, [key], utc_now()).get(key, [])


async def closed(client: Client) -> int:
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                await client.socket.recv()
    assert caught.value.rcvd is not None
    return int(caught.value.rcvd.code)


def test_a_client_is_greeted_registered_and_forgotten(ledger: Ledger) -> None:
    async def body(gateway: Running) -> None:
        (before,) = gateway.store("before")
        async with gateway.client() as client:
            assert client.hello["type"] == "hello"
            assert client.hello["user_id"] == "ann"
            assert client.hello["cursor"] == before.seq
            (row,) = rows(gateway)
            assert (row.connection_id, row.endpoint) == (client.connection_id, gateway.endpoint)
        await until(lambda: not rows(gateway))

    on(ledger, body)


def test_a_token_need_not_be_in_the_url(sqlite_ledger: Ledger) -> None:
    async def body(gateway: Running) -> None:
        url = f"{gateway.endpoint.replace('http', 'ws')}/ws"
        async with connect(url, subprotocols=["notify", gateway.token()]) as socket:  # type: ignore[list-item]
            assert socket.subprotocol == "notify"
            assert orjson.loads(await socket.recv())["user_id"] == "ann"
        async with connect(url, additional_headers={"Authorization": f"Bearer {gateway.token('bob')}"}) as socket:
            assert orjson.loads(await socket.recv())["user_id"] == "bob"

    on(sqlite_ledger, body)


def test_whoever_has_no_good_token_is_refused(ledger: Ledger) -> None:
    async def body(gateway: Running) -> None:
        base, good = f"{gateway.endpoint.replace('http', 'ws')}/ws", gateway.token()
        inactive = tenants.create_product(ledger, "inactive", (), utc_now()).tenant
        tenants.change(ledger, inactive, "admin", utc_now(), active=False)
        for query, status in (
            ("", 401),
            ("?token=", 401),
            (f"?token={good[:-4]}AAAA", 401),
            (f"?token={gateway.token(ttl_s=-1)}", 401),
            (f"?token={gateway.token(tenant=inactive)}", 401),
            (f"?token={gateway.token(tenant='nobody')}", 401),
            (f"?token={good}&cursor=x", 422),
            (f"?token={good}&cursor=-1", 422),
        ):
            with pytest.raises(InvalidStatus) as caught:
                async with connect(base + query):
                    pass
            response = caught.value.response
            assert response.status_code == status, query
            assert response.body is not None
            assert good not in response.body.decode()
            assert orjson.loads(response.body)["error"]["message"]
        assert len(gateway.gateway.hub) == 0

    on(ledger, body)


def test_clients_may_say_little_and_bad_messages_harm_nobody(sqlite_ledger: Ledger) -> None:
    async def body(gateway: Running) -> None:
        async with gateway.client() as client:
            await client.say(action="ping")
            assert await client.receive() == [{"type": "pong"}]
            bad: list[str | bytes] = ["", "{", "[]", "1", '{"action": 1}', '{"action": "fly"}', b"\xff\xfe", "null"]
            for said in bad:
                await client.socket.send(said)
                (answered,) = await client.receive()
                assert answered["type"] == "error"
            await client.say(action="ack", cursor=10**9)
            assert (await client.receive())[0]["code"] == "bad_cursor"
            await client.say(action="ack", cursor=client.hello["cursor"])
            await client.say(action="ping")
            assert await client.receive() == [{"type": "pong"}]

    on(sqlite_ledger, body)


def test_a_message_that_is_too_large_or_one_too_many_ends_the_connection(sqlite_ledger: Ledger) -> None:
    async def body(gateway: Running) -> None:
        async with gateway.client() as client:
            await client.socket.send("x" * 131_073)
            assert await closed(client) == 1009
        async with gateway.client() as client:
            with pytest.raises(ConnectionClosed):
                for _ in range(talking.MOST_SAID * 40):
                    await client.say(action="ack", cursor=0)
                    await asyncio.sleep(0)
            assert client.socket.close_code == connection.TOO_MANY

    on(sqlite_ledger, body)


class Later:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.by = timedelta(0)

    def __call__(self) -> datetime:
        return utc_now() + self.by


@pytest.mark.parametrize(
    ("by_s", "settings", "code"),
    [
        (601, {}, connection.TOKEN_EXPIRED),
        (590, {"gateway_lifetime_s": 60}, connection.LIFETIME),
        (0, {"gateway_idle_s": 0.1}, connection.IDLE),
    ],
)
def test_connections_end_when_they_are_due(sqlite_ledger: Ledger, by_s: int, settings: Any, code: int) -> None:
    clock = Later()

    async def main() -> None:
        async with running(sqlite_ledger, clock, **settings) as gateway, gateway.client() as client:
            clock.by = timedelta(seconds=by_s)
            assert await closed(client) == code
            clock.by = timedelta(0)
            await until(lambda: not rows(gateway))

    asyncio.run(main())


def test_a_deactivated_tenant_s_connections_end(sqlite_ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_STANDINGS_S", 0.1)
    monkeypatch.setattr(standing, "_REMEMBERED_S", 0.1)

    async def body(gateway: Running) -> None:
        async with gateway.client() as client:
            tenants.change(sqlite_ledger, gateway.tenant, "admin", utc_now(), active=False)
            assert await closed(client) == connection.NOT_ACTIVE

    on(sqlite_ledger, body)


def test_one_connection_too_many_ends_the_oldest(sqlite_ledger: Ledger) -> None:
    async def body(gateway: Running) -> None:
        async with (
            gateway.client() as first,
            gateway.client() as second,
            gateway.client("bob") as other,
            gateway.client() as third,
        ):
            assert await closed(first) == connection.REPLACED
            for client in (second, third, other):
                await client.say(action="ping")
                assert await client.receive() == [{"type": "pong"}]

    on(sqlite_ledger, body, gateway_user_connections=2)


def test_a_gateway_that_stops_ends_its_connections_and_forgets_them(ledger: Ledger) -> None:
    async def main() -> None:
        async with running(ledger) as gateway:
            socket = await connect(gateway.url())
            await socket.recv()
            assert rows(gateway)
        with pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == connection.GOING_AWAY
        assert not rows(gateway)

    asyncio.run(main())


def test_a_gateway_forgets_its_own_former_life_only(ledger: Ledger) -> None:
    now = utc_now()
    connections.register(
        ledger, [Held("t", "ann", "1", "http://x", "g1"), Held("t", "ann", "2", "http://y", "g2")], now
    )

    async def body(gateway: Running) -> None:
        assert [row.connection_id for row in connections.of_users(ledger, [("t", "ann")], now)["t", "ann"]] == ["2"]

    on(ledger, body)


def test_inbox_changes_reach_connected_clients_of_every_gateway(ledger: Ledger) -> None:
    async def main() -> None:
        async with running(ledger) as one, running(ledger, name="g2") as two:
            two.tenant = one.tenant
            async with one.client() as here, two.client() as there, one.client("bob") as other:
                one.store("a", "b", kind=INBOX)
                for client in (here, there):
                    assert ids(await client.receive(2)) == ["a", "b"]
                one.store("c", user="bob", kind=INBOX)
                assert ids(await other.receive()) == ["c"]

    asyncio.run(main())


def test_a_notification_whose_post_was_lost_is_pushed_all_the_same(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "_POST_S", 0.1)

    async def body(gateway: Running) -> None:
        async with gateway.client() as client:
            gateway.store("lost")
            assert ids(await client.receive()) == ["lost"]

    on(ledger, body)


def test_missed_messages_come_first_and_expired_ones_do_not(ledger: Ledger) -> None:
    async def body(gateway: Running) -> None:
        first, _, _ = gateway.store("1", "2", "3")
        gateway.store("short", ttl_s=0)
        gateway.store("theirs", user="bob")
        gateway.store(*(f"n{n}" for n in range(150)))  # more than a page
        async with gateway.client(cursor=first.seq) as client:
            assert client.hello["cursor"] == first.seq
            messages = await client.receive(152)
            assert ids(messages) == ["2", "3", *(f"n{n}" for n in range(150))]
        async with gateway.client(cursor=messages[-1]["cursor"]) as client:
            gateway.store("new", kind=INBOX)
            assert ids(await client.receive()) == ["new"]
        async with gateway.client(cursor=2**62) as client:  # nobody was ever given this
            gateway.store("newer", kind=INBOX)
            assert ids(await client.receive()) == ["newer"]

    on(ledger, body)
