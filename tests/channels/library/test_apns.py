"""aioapns where it is led by us: streams that are given up, a limit of streams that rises, requests not of APNs."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import h2.config
import h2.connection
import h2.settings
import pytest

from notify_pipeline.channels.library.apns import AioapnsTransport, _Connection, _Pool
from notify_pipeline.channels.transport import Answer, End, Request, Unknown
from tests.channels.peer import Action, Hang, Reply, Seen, running_peer
from tests.waiting import PATIENCE_S

HEADERS = (
    ("authorization", "bearer x"),
    ("apns-topic", "com.example.app"),
    ("apns-push-type", "alert"),
    ("apns-priority", "5"),
    ("apns-expiration", "4000000000"),
    ("apns-collapse-id", "c"),
)


def requests(count: int, path: str = "/3/device/00") -> Iterator[Request]:
    for number in range(count):
        yield Request(number, path, HEADERS, b'{"aps":{}}')


async def post(transport: AioapnsTransport, requests: Iterator[Request]) -> set[type[Any]]:
    ends: dict[int, End] = {}
    await transport.post_many(requests, lambda number, end: ends.update({number: end}))
    return {type(end) for end in ends.values()}


def test_a_request_that_was_given_up_gives_its_stream_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_peer(tmp_path, lambda _: Hang(), max_streams=2) as peer:
            transport = AioapnsTransport(peer.url, ca=peer.ca, max_in_flight=8, timeout_s=0.4)
            assert Unknown in await post(transport, requests(24))  # on a loaded machine some do not get to the peer
            peer.script, transport._timeout_s = answer, PATIENCE_S
            assert await post(transport, requests(5)) == {Answer}
            assert peer.connections <= 4, "two streams each"
            assert transport._pool is not None
            for connection in transport._pool.connections:
                assert connection.requests == connection.request_streams == {}, "it grows with every request"
            await transport.aclose()

    def answer(seen: Seen) -> Action:
        return Reply(200, b"", (("apns-id", seen.headers["apns-id"]),))

    asyncio.run(main())


def test_a_connection_that_begins_with_one_stream_goes_on_with_as_many_as_the_peer_says() -> None:
    async def main() -> None:
        peer = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        streams = h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS
        peer.local_settings = h2.settings.Settings(client=False, initial_values={streams: 1})
        peer.initiate_connection()
        connection = _Connection(create_autospec(_Pool, instance=True), "peer")
        connection.connection_made(create_autospec(asyncio.Transport, instance=True))
        connection.data_received(peer.data_to_send())
        await connection.free_channels.acquire()  # the first request
        assert connection.is_busy
        peer.update_settings({streams: 1000})
        connection.data_received(peer.data_to_send())
        taken = 1
        while not connection.is_busy:
            await connection.free_channels.acquire()
            taken += 1
        assert taken == 1000
        connection.connection_lost(None)

    asyncio.run(main())


def test_only_requests_to_a_device_are_taken(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_peer(tmp_path) as peer:
            transport = AioapnsTransport(peer.url, ca=peer.ca, max_in_flight=1, timeout_s=PATIENCE_S)
            with pytest.raises(ValueError, match="device"):
                await post(transport, requests(1, "/4/broadcasts"))
            await transport.aclose()
            assert peer.seen == []

    asyncio.run(main())


def test_the_address_must_be_https(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="https"):
        AioapnsTransport("http://api.push.apple.com", ca=tmp_path / "ca.pem", max_in_flight=1, timeout_s=PATIENCE_S)
