"""The management interface, driven by boto3 as API Gateway's is."""

import asyncio
import socket as sockets
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import aiohttp
import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from ingest_api.gateway import connection as connections
from ingest_api.gateway import tail
from notify_pipeline.core import gateway as shared
from notify_pipeline.core import sigv4
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.sigv4 import Credentials
from tests.ingest_api.gateway.running import Running, ids, running, until, utc_now


def client(gateway: Running, credentials: Credentials | None = None) -> Any:
    """Return boto3's client of this gateway."""
    signed = credentials or gateway.credentials
    return boto3.client(
        "apigatewaymanagementapi",
        endpoint_url=gateway.endpoint,
        region_name="eu-west-1",
        aws_access_key_id=signed.access_key,
        aws_secret_access_key=signed.secret_key,
        config=Config(retries={"total_max_attempts": 1}),
    )


def on(ledger: Ledger, body: Callable[[Running], Awaitable[None]], **settings: Any) -> None:
    async def main() -> None:
        async with running(ledger, **settings) as gateway:
            await body(gateway)

    asyncio.run(main())


async def refused(call: Callable[..., Any], **arguments: Any) -> ClientError:
    with pytest.raises(ClientError) as caught:
        await asyncio.to_thread(call, **arguments)
    return caught.value


def test_boto3_posts_looks_and_ends(ledger: Ledger) -> None:
    async def body(gateway: Running) -> None:
        api = client(gateway)
        async with gateway.client() as one, gateway.client() as two:
            posted = await asyncio.to_thread(
                api.post_to_connection, ConnectionId=one.connection_id, Data='{"id": "ä"}'.encode()
            )
            assert posted["ResponseMetadata"]["HTTPStatusCode"] == 200
            assert ids(await one.receive()) == ["ä"]
            shown = await asyncio.to_thread(api.get_connection, ConnectionId=one.connection_id)
            assert shown["Identity"]["SourceIp"] == "127.0.0.1"
            assert "websockets" in shown["Identity"]["UserAgent"]
            assert abs(utc_now() - shown["ConnectedAt"]) < timedelta(seconds=30)
            assert shown["ConnectedAt"] <= shown["LastActiveAt"]
            ended = await asyncio.to_thread(api.delete_connection, ConnectionId=one.connection_id)
            assert ended["ResponseMetadata"]["HTTPStatusCode"] == 204
            await one.socket.wait_closed()
            assert one.socket.close_code == connections.GOING_AWAY
            for call, more in (
                (api.post_to_connection, {"Data": b"{}"}),
                (api.get_connection, {}),
                (api.delete_connection, {}),
            ):
                error = await refused(call, ConnectionId=one.connection_id, **more)
                assert isinstance(error, api.exceptions.GoneException)
                assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 410
            await asyncio.to_thread(api.post_to_connection, ConnectionId=two.connection_id, Data=b'{"id": "2"}')
            assert ids(await two.receive()) == ["2"]

    on(ledger, body)


def test_ids_that_need_encoding_are_simply_gone(sqlite_ledger: Ledger) -> None:
    async def body(gateway: Running) -> None:
        api = client(gateway)
        for name in ("AbC12dEfGh=", "a b/c", "ä%"):
            error = await refused(api.post_to_connection, ConnectionId=name, Data=b"{}")
            assert isinstance(error, api.exceptions.GoneException) or name == "a b/c", error

    on(sqlite_ledger, body)


def test_what_is_too_large_is_refused(sqlite_ledger: Ledger) -> None:
    async def body(gateway: Running) -> None:
        api = client(gateway)
        async with gateway.client() as one:
            for size in (131_073, 2_000_000):
                error = await refused(api.post_to_connection, ConnectionId=one.connection_id, Data=b" " * size)
                assert isinstance(error, api.exceptions.PayloadTooLargeException)
            largest = b'{"id": "' + b"x" * (131_072 - 10) + b'"}'
            await asyncio.to_thread(api.post_to_connection, ConnectionId=one.connection_id, Data=largest)
            assert len((await one.receive())[0]["id"]) == 131_062
            error = await refused(api.post_to_connection, ConnectionId=one.connection_id, Data=b"\xff")
            assert error.response["Error"]["Code"] == "BadRequestException"

    on(sqlite_ledger, body)


def test_nobody_posts_without_the_secret(sqlite_ledger: Ledger) -> None:
    async def body(gateway: Running) -> None:
        good = gateway.credentials
        async with gateway.client() as one, aiohttp.ClientSession() as session:
            for other in (
                Credentials(good.access_key, "another", good.region, good.service),
                Credentials("another", good.secret_key, good.region, good.service),
            ):
                api = client(gateway, other)
                for call, more in (
                    (api.post_to_connection, {"Data": b"{}"}),
                    (api.get_connection, {}),
                    (api.delete_connection, {}),
                ):
                    error = await refused(call, ConnectionId=one.connection_id, **more)
                    assert isinstance(error, api.exceptions.ForbiddenException)
            url = f"{gateway.endpoint}/@connections/{one.connection_id}"
            async with session.post(url, data=b"{}") as unsigned:
                assert unsigned.status == 403
            async with session.post(url, data=b"{}", headers={"Authorization": f"Bearer {gateway.token()}"}) as user:
                assert user.status == 403
            await one.say(action="ping")
            assert await one.receive() == [{"type": "pong"}]

    on(sqlite_ledger, body)


def test_credentials_may_be_set(sqlite_ledger: Ledger) -> None:
    async def body(gateway: Running) -> None:
        assert gateway.credentials.access_key == "AKIDSET"
        async with gateway.client() as one:
            await asyncio.to_thread(
                client(gateway).post_to_connection, ConnectionId=one.connection_id, Data=b'{"id":1}'
            )
            assert ids(await one.receive()) == ["1"]

    on(sqlite_ledger, body, gateway_access_key="AKIDSET", gateway_secret_key="s3cret")


async def post(
    session: aiohttp.ClientSession, gateway: Running, connection_id: str, body: bytes, sequence: str | None = None
) -> int:
    path = shared.management_path(connection_id)
    extra = {} if sequence is None else {"notify_sequence": sequence}
    host = gateway.endpoint.partition("//")[2]
    headers = sigv4.sign(gateway.credentials, "POST", path, host, body, utc_now(), **extra)
    async with session.post(gateway.endpoint + path, data=body, headers=headers) as answered:
        return answered.status


def test_numbered_messages_come_once_and_in_order(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    # Only what is posted, and at the end what is not.
    monkeypatch.setattr(tail, "_POST_S", 1.0)

    async def body(gateway: Running) -> None:
        async with gateway.client() as one, aiohttp.ClientSession() as session:
            a, b, c = gateway.store("a", "b", "c")

            async def send(stored: Any, name: str) -> int:
                text = shared.message(stored.seq, f'{{"id":"{name}"}}').encode()
                return await post(session, gateway, one.connection_id, text, f"{stored.seq} {stored.previous}")

            # The last one first: what comes before it is read and sent before it.
            assert [await send(c, "c"), await send(a, "a"), await send(b, "b"), await send(c, "c")] == [200] * 4
            assert ids(await one.receive(3)) == ["a", "b", "c"]
            (d,) = gateway.store("d")
            assert await asyncio.gather(*(send(d, "d") for _ in range(5))) == [200] * 5
            gateway.store("e")
            assert ids(await one.receive(2)) == ["d", "e"]
            assert await post(session, gateway, one.connection_id, b"{}", "x") == 400

    on(ledger, body)


def test_a_slow_client_delays_nobody_and_is_cut_off(sqlite_ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_SLOW_S", 0.5)

    async def body(gateway: Running) -> None:
        async with gateway.client("bob") as quick, aiohttp.ClientSession() as session:
            slow, connection_id = await _stalled(gateway)
            large = b'{"id": "' + b"x" * 120_000 + b'"}'
            posts = [
                asyncio.create_task(post(session, gateway, connection_id, large)) for _ in range(60)
            ]  # far more than kernel and buffers take
            await until(lambda: any(task.done() and task.result() == 429 for task in posts), "the queue is full")
            assert await post(session, gateway, quick.connection_id, b'{"id": "quick"}') == 200
            assert ids(await quick.receive()) == ["quick"]
            statuses = await asyncio.gather(*posts)
            assert {*statuses} <= {200, 410, 429}
            assert 410 in statuses
            assert await post(session, gateway, connection_id, b"{}") == 410
            slow.close()

    on(sqlite_ledger, body, gateway_queue=8)


async def _stalled(gateway: Running) -> tuple[sockets.socket, str]:
    """Connect by hand with a small receive buffer, read the greeting and nothing else."""
    slow = sockets.socket()
    slow.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4_096)
    host, _, port = gateway.endpoint.partition("//")[2].partition(":")
    await asyncio.to_thread(slow.connect, (host, int(port)))
    target = gateway.url().partition(host + ":" + port)[2]
    slow.sendall(
        (
            f"GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        ).encode()
    )
    (one,) = await until(lambda: [each for each in gateway.gateway.hub if each.client.user_id == "ann"])
    return slow, one.client.connection_id


def test_the_probe_answers(sqlite_ledger: Ledger) -> None:
    async def body(gateway: Running) -> None:
        async with aiohttp.ClientSession() as session, session.get(f"{gateway.endpoint}/readyz") as answered:
            assert answered.status == 200

    on(sqlite_ledger, body)
