"""The transport against peers that behave like no library would let them, over TLS."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from notify_pipeline.channels.transport import Answer, End, Request, Unknown
from notify_pipeline.channels.wire import dial, frames, link
from notify_pipeline.channels.wire.connection import Connection
from notify_pipeline.channels.wire.transport import WireTransport
from tests.channels.peer import running_peer
from tests.channels.wire.raw_peer import RawConnection, RawPeer, raw_peer
from tests.channels.wire.script import HEADERS, data, head, reset, settings
from tests.waiting import PATIENCE_S


class Ends(dict[int, End]):
    """Collects ends and refuses a second one for the same request."""

    def __call__(self, number: int, end: End) -> None:
        assert number not in self, f"request {number} ended twice: {self[number]} and {end}"
        self[number] = end

    def kinds(self) -> Counter[str]:
        return Counter(type(end).__name__ for end in self.values())

    def reasons(self) -> set[object]:
        return {end[0] for end in self.values()}


def transport_to(
    peer: RawPeer, *, max_in_flight: int = 16, timeout_s: float = PATIENCE_S, **more: int
) -> WireTransport:
    return WireTransport(peer.url, ca=peer.ca, max_in_flight=max_in_flight, timeout_s=timeout_s, **more)


def requests(count: int, first: int = 0, body: bytes = b"{}") -> Iterator[Request]:
    for number in range(first, first + count):
        yield Request(number, f"/r/{number}", HEADERS, body)


async def post(transport: WireTransport, count: int, first: int = 0, body: bytes = b"{}") -> Ends:
    ends = Ends()
    await transport.post_many(requests(count, first, body), ends)
    assert sorted(ends) == list(range(first, first + count))
    return ends


async def answer_all(connection: RawConnection, **values: int) -> None:
    connection.hello(**values)
    async for stream, _ in connection.requests():
        connection.write(head(stream, end=True))


def test_the_limit_of_streams_falls_to_one_and_rises_again(tmp_path: Path) -> None:
    async def serve(connection: RawConnection) -> None:
        connection.hello(MAX_CONCURRENT_STREAMS=50)
        limit, waiting, acknowledged, seen = 50, list[int](), 0, 0
        async for stream, _ in connection.requests():
            seen += 1
            waiting.append(stream)
            acknowledged = connection.frames_seen.count(frames.SETTINGS) - 1  # the first is the client's own
            if acknowledged >= 2:  # it has taken note of the change
                assert len(waiting) <= limit
            if seen in (100, 150):
                limit = 1 if seen == 100 else 50
                for late in waiting:
                    connection.write(head(late, end=True))
                waiting.clear()
                connection.write(settings(MAX_CONCURRENT_STREAMS=limit))
            elif len(waiting) >= min(limit, 10):
                for late in waiting:
                    connection.write(head(late, end=True))
                waiting.clear()

    async def main() -> None:
        async with raw_peer(tmp_path, serve) as peer:
            transport = transport_to(peer, max_in_flight=40, max_connections=1)
            ends = await post(transport, 400)
            await transport.aclose()
            assert ends.kinds() == {"Answer": 400}
            assert len(peer.connections) == 1

    asyncio.run(main())


def test_one_stream_until_the_first_answer(tmp_path: Path) -> None:
    """As APNs has it under token authentication."""
    before_first: list[int] = []

    async def serve(connection: RawConnection) -> None:
        connection.hello(MAX_CONCURRENT_STREAMS=1)
        first = True
        async for stream, number in connection.requests():
            if first:
                first = False
                before_first.append(number)
                await asyncio.sleep(0.1)
                connection.write(settings(MAX_CONCURRENT_STREAMS=1000))
            connection.write(head(stream, end=True))

    async def main() -> None:
        async with raw_peer(tmp_path, serve) as peer:
            transport = transport_to(peer, max_in_flight=100)
            ends = await post(transport, 500)
            await transport.aclose()
            assert ends.kinds() == {"Answer": 500}
            assert before_first == [0]
            assert len(peer.connections) == 1

    asyncio.run(main())


def test_more_connections_where_the_peer_allows_fewer_streams_than_wanted(tmp_path: Path) -> None:
    open_now = highest = 0

    async def serve(connection: RawConnection) -> None:
        nonlocal open_now, highest
        connection.hello(MAX_CONCURRENT_STREAMS=2)
        loop = asyncio.get_running_loop()

        def answer(stream: int) -> None:
            nonlocal open_now
            open_now -= 1
            connection.write(head(stream, end=True))

        async for stream, _ in connection.requests():
            open_now += 1
            highest = max(highest, open_now)
            loop.call_later(0.01, answer, stream)

    async def main() -> None:
        async with raw_peer(tmp_path, serve) as peer:
            transport = transport_to(peer, max_connections=3)
            ends = await post(transport, 400)
            await transport.aclose()
            assert ends.kinds() == {"Answer": 400}
            assert len(peer.connections) == 3
            assert highest == 6

    asyncio.run(main())


def test_a_peer_that_gives_no_sign_of_life_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "_SIGN_OF_LIFE_S", 0.1)

    async def serve(connection: RawConnection) -> None:
        if connection.number > 1:
            return await answer_all(connection)
        connection.hello()
        async for _ in connection.requests(pong=False):
            pass
        return None

    async def main() -> None:
        async with raw_peer(tmp_path, serve) as peer:
            transport = transport_to(peer, timeout_s=0.6)
            ends = await post(transport, 40)
            assert ends.kinds() == {"Unknown": 16, "Answer": 24}
            assert {end[0] for end in ends.values() if isinstance(end, Unknown)} <= {"silent", "timeout"}
            assert len(peer.connections) == 2
            await transport.aclose()

    asyncio.run(main())


def test_a_slow_peer_that_answers_pings_is_kept(tmp_path: Path) -> None:
    async def serve(connection: RawConnection) -> None:
        connection.hello()
        async for stream, number in connection.requests():
            if number >= 3:
                connection.write(head(stream, end=True))

    async def main() -> None:
        async with raw_peer(tmp_path, serve) as peer:
            transport = transport_to(peer, max_in_flight=3, timeout_s=0.6)
            ends = await post(transport, 10)
            await transport.aclose()
            assert ends.kinds() == {"Unknown": 3, "Answer": 7}
            assert len(peer.connections) == 1
            assert frames.PING in peer.connections[0].frames_seen
            assert frames.RST_STREAM in peer.connections[0].frames_seen

    asyncio.run(main())


def test_a_late_answer_is_nobodys(tmp_path: Path) -> None:
    async def serve(connection: RawConnection) -> None:
        connection.hello()
        late: list[int] = []
        async for stream, number in connection.requests():
            if number < 2:
                late.append(stream)
            else:
                for old in late:
                    connection.write(head(old) + data(old, b"late"))
                connection.write(head(stream, end=True))

    async def main() -> None:
        async with raw_peer(tmp_path, serve) as peer:
            transport = transport_to(peer, max_in_flight=2, timeout_s=0.4)
            ends = await post(transport, 6)
            await transport.aclose()
            assert ends.kinds() == {"Unknown": 2, "Answer": 4}
            assert len(peer.connections) == 1

    asyncio.run(main())


async def _mute(connection: RawConnection) -> None:
    await asyncio.sleep(10)


async def _hang_up(connection: RawConnection) -> None:
    pass


async def _http1(connection: RawConnection) -> None:
    connection.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await asyncio.sleep(0.05)


async def _no_streams(connection: RawConnection) -> None:
    connection.hello(MAX_CONCURRENT_STREAMS=0)
    async for _ in connection.requests():
        pass


@pytest.mark.parametrize(
    ("serve", "reason"), [(_mute, "connect"), (_hang_up, "connect"), (_http1, "connect"), (_no_streams, "no_stream")]
)
def test_a_peer_that_takes_no_requests(tmp_path: Path, serve: object, reason: str) -> None:
    async def main() -> None:
        async with raw_peer(tmp_path, serve) as peer:  # type: ignore[arg-type]
            transport = transport_to(peer, timeout_s=0.3)
            ends = await post(transport, 20)
            await transport.aclose()
            assert ends.kinds() == {"NotProcessed": 20}
            assert ends.reasons() == {reason}
            assert len(peer.connections) <= 4

    asyncio.run(main())


def test_a_peer_without_http2_or_with_another_name_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        for alpn, host in ((None, "127.0.0.1"), ("http/1.1", "127.0.0.1"), ("h2", "127.0.0.2")):
            async with raw_peer(tmp_path, answer_all, alpn=alpn, host=host) as peer:
                transport = transport_to(peer)
                ends = await post(transport, 3)
                await transport.aclose()
                assert ends.kinds() == {"NotProcessed": 3}
                assert ends.reasons() == {"tls"}
                assert all(not connection.frames_seen for connection in peer.connections)

    asyncio.run(main())


@pytest.mark.parametrize("url", ["http://x", "https://", "https://x/y", "https://u@x", "x"])
def test_an_address_must_be_a_host_over_tls(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValueError, match="https"):
        WireTransport(url, ca=tmp_path, max_in_flight=1, timeout_s=1)


def test_a_name_that_does_not_exist_and_a_bundle_that_does_not(tmp_path: Path) -> None:
    async def main() -> None:
        transport = WireTransport("https://no.such.host.invalid", ca=tmp_path, max_in_flight=2, timeout_s=1)
        ends = await post(transport, 2)
        await transport.aclose()
        assert ends.kinds() == {"NotProcessed": 2}

    asyncio.run(main())


def test_nothing_is_drawn_for_a_socket_that_does_not_keep_up(tmp_path: Path) -> None:
    reading = asyncio.Event()
    drawn = 0

    async def serve(connection: RawConnection) -> None:
        connection.hello(INITIAL_WINDOW_SIZE=2**20)
        await reading.wait()
        async for stream, _ in connection.requests():
            connection.write(head(stream, end=True))

    async def main() -> None:
        def counted() -> Iterator[Request]:
            nonlocal drawn
            for request in requests(3000, body=b"x" * 16_000):
                drawn += 1
                yield request

        async with raw_peer(tmp_path, serve) as peer:
            transport = transport_to(peer, max_in_flight=3000)
            ends = Ends()
            task = asyncio.create_task(transport.post_many(counted(), ends))
            before = -1
            while drawn == 0 or drawn != before:
                before = drawn
                await asyncio.sleep(0.2)
            assert drawn < 2000, "the rest waits for the socket"
            reading.set()
            await task
            await transport.aclose()
            assert ends.kinds() == {"Answer": 3000}

    asyncio.run(main())


def test_an_idle_connection_must_show_that_it_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A router forgot it: no request is lost to it."""
    monkeypatch.setattr(link, "_STALE_AFTER_S", 0.2)
    monkeypatch.setattr(link, "_SIGN_OF_LIFE_S", 0.1)

    async def serve(connection: RawConnection) -> None:
        connection.hello()
        async for stream, number in connection.requests(pong=connection.number > 1):
            assert number < 10 or connection.number > 1
            connection.write(head(stream, end=True))

    async def main() -> None:
        async with raw_peer(tmp_path, serve) as peer:
            transport = transport_to(peer, timeout_s=0.5)
            assert (await post(transport, 10)).kinds() == {"Answer": 10}
            for first in (10, 20):
                await asyncio.sleep(0.5)
                assert (await post(transport, 10, first)).kinds() == {"Answer": 10}
            await transport.aclose()
            assert len(peer.connections) == 2
            assert frames.PING in peer.connections[1].frames_seen

    asyncio.run(main())


def test_a_peer_that_hangs_up_on_everyone_is_not_stormed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[int] = []

    def recorded(failures: int) -> float:
        pauses.append(failures)
        return 0.01

    monkeypatch.setattr("notify_pipeline.channels.wire.transport.pause_after", recorded)

    async def serve(connection: RawConnection) -> None:
        connection.hello()
        async for _ in connection.requests():
            return

    async def main() -> None:
        async with raw_peer(tmp_path, serve) as peer:
            transport = transport_to(peer, max_in_flight=4)
            ends = await post(transport, 20)
            await transport.aclose()
            assert ends.kinds()["Unknown"] >= 16
            assert pauses == list(range(1, len(peer.connections) + 1))

    asyncio.run(main())
    for failures in range(1, 40):
        assert 0.1 < dial.pause_after(failures) <= 4.0


def test_a_new_connection_when_stream_ids_run_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "Connection", partial(Connection, first_stream=frames.LARGEST_STREAM - 38))

    async def main() -> None:
        async with raw_peer(tmp_path, answer_all) as peer:
            transport = transport_to(peer)
            ends = await post(transport, 100)
            await transport.aclose()
            assert ends.kinds() == {"Answer": 100}
            assert len(peer.connections) in (5, 6), "that nothing more comes is known only when it was asked for"

    asyncio.run(main())


@pytest.mark.parametrize("seed", range(8))
def test_noise_instead_of_answers_hangs_nothing(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)

    async def serve(connection: RawConnection) -> None:
        connection.hello()
        async for stream, number in connection.requests():
            if number % 10 == 9:
                kind, flags = dice.randrange(12), dice.randrange(256)
                connection.write(
                    frames.frame(kind, flags, dice.choice([0, stream, 1]), dice.randbytes(dice.randrange(60)))
                )
            elif number % 10 == 8:
                connection.write(reset(stream, dice.randrange(14)))
            else:
                connection.write(head(stream) + data(stream, b"%d" % number))

    async def main() -> None:
        async with raw_peer(tmp_path, serve) as peer:
            transport = transport_to(peer, timeout_s=0.5)
            ends = await post(transport, 60)
            await transport.aclose()
            for number, end in ends.items():
                if isinstance(end, Answer) and end.body:
                    assert end.body == b"%d" % number

    asyncio.run(main())


def test_no_timer_task_or_future_per_request(tmp_path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        made: Counter[str] = Counter()
        async with running_peer(tmp_path) as peer:
            transport = WireTransport(peer.url, ca=peer.ca, max_in_flight=100, timeout_s=PATIENCE_S)
            await post(transport, 10)
            names = ("call_at", "create_future", "create_task")
            originals = {name: getattr(loop, name) for name in names}
            for name, original in originals.items():

                def counted(*args: object, _name: str = name, _original: object = original, **more: object) -> object:
                    made[_name] += 1
                    return _original(*args, **more)  # type: ignore[operator]

                setattr(loop, name, counted)
            await post(transport, 5000)
            for name, original in originals.items():
                setattr(loop, name, original)
            await transport.aclose()
        assert sum(made.values()) < 200, made

    asyncio.run(main())


def test_a_transport_that_nobody_uses_is_closed_for_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        transport = WireTransport("https://127.0.0.1:1", ca=tmp_path, max_in_flight=1, timeout_s=1)
        await transport.aclose()
        ends = await post(transport, 2)
        assert ends.reasons() == {"closed"}

    asyncio.run(main())


def test_closing_while_a_connection_is_being_opened(tmp_path: Path) -> None:
    async def main() -> None:
        async with raw_peer(tmp_path, _mute) as peer:
            transport = transport_to(peer)
            task = asyncio.create_task(post(transport, 5))
            while not peer.connections:
                await asyncio.sleep(0.01)
            await transport.aclose()
            ends = await task
            assert ends.reasons() == {"closed"}
            assert ends.kinds() == {"NotProcessed": 5}

    asyncio.run(main())
