"""The transport against a scripted peer: every awkward ending, each request with exactly one end."""

import asyncio
import gc
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from h2.errors import ErrorCodes

from notify_pipeline.channels.transport import Answer, End, NotProcessed, Request, Transport, Unknown
from notify_pipeline.channels.wire.replies import MAX_ANSWER_BYTES
from notify_pipeline.channels.wire.transport import WireTransport
from tests.channels.peer import Drop, GoAway, Hang, Peer, Reply, Reset, Seen, make_certificates, running_peer
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
STATUSES = (200, 400, 404, 410, 429, 503)
HEADERS = (("content-type", "application/json"), ("authorization", "bearer x"))


class Ends(dict[int, End]):
    """Collects ends and refuses a second one for the same request."""

    def __call__(self, number: int, end: End) -> None:
        assert number not in self, f"request {number} ended twice: {self[number]} and {end}"
        self[number] = end

    def kinds(self) -> Counter[str]:
        return Counter(type(end).__name__ for end in self.values())


def transport_to(peer: Peer, *, max_in_flight: int = 16, timeout_s: float = PATIENCE_S) -> Transport:
    return WireTransport(peer.url, ca=peer.ca, max_in_flight=max_in_flight, timeout_s=timeout_s)


def requests(count: int, first: int = 0) -> Iterator[Request]:
    for number in range(first, first + count):
        yield Request(number, f"/r/{number}", HEADERS, b'{"n":%d}' % number)


async def post(transport: Transport, items: Iterable[Request]) -> Ends:
    ends = Ends()
    await transport.post_many(items, ends)
    return ends


def number_of(seen: Seen) -> int:
    return int(seen.path.rpartition("/")[2])


def test_answers_come_back_whole_and_over_one_connection(tmp_path: Path) -> None:
    def script(seen: Seen) -> Reply:
        headers = (("X-Path", seen.path), ("retry-after", " 7 "))
        return Reply(STATUSES[number_of(seen) % 6], b"" if number_of(seen) % 2 else seen.body, headers)

    async def main() -> None:
        async with running_peer(tmp_path, lambda seen: script(seen)) as peer:
            transport = transport_to(peer)
            ends = await post(transport, requests(500))
            await transport.aclose()
            assert len(ends) == 500
            for number, end in ends.items():
                assert isinstance(end, Answer)
                assert end.status == STATUSES[number % 6]
                assert end.headers["x-path"] == f"/r/{number}"
                assert end.headers["retry-after"] == "7"
                assert end.body == (b"" if number % 2 else b'{"n":%d}' % number)
            assert peer.connections == 1
            assert sorted(number_of(seen) for seen in peer.seen) == list(range(500))
            assert peer.seen[0].headers["authorization"] == "bearer x"
            assert peer.seen[0].headers[":method"] == "POST"

    asyncio.run(main())


def test_no_more_than_the_limit_is_in_flight_over_all_callers(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_peer(tmp_path, lambda _: Reply(delay_s=0.01)) as peer:
            transport = transport_to(peer, max_in_flight=7)
            drawn, ended, highest = 0, 0, 0

            def watched(first: int) -> Iterator[Request]:
                nonlocal drawn, highest
                for request in requests(40, first):
                    drawn += 1
                    highest = max(highest, drawn - ended)
                    yield request

            def on_end(_number: int, _end: End) -> None:
                nonlocal ended
                ended += 1

            await asyncio.gather(*(transport.post_many(watched(first), on_end) for first in (0, 1000, 2000)))
            await transport.aclose()
            assert (drawn, ended) == (120, 120)
            assert highest == 7

    asyncio.run(main())


def test_callers_take_turns(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_peer(tmp_path) as peer:
            transport = transport_to(peer, max_in_flight=2)
            long = asyncio.create_task(post(transport, requests(2000)))
            await asyncio.sleep(0.02)
            short = await post(transport, requests(5, first=5000))
            assert short.kinds() == {"Answer": 5}
            assert not long.done()
            assert (await long).kinds() == {"Answer": 2000}
            await transport.aclose()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (Reset(ErrorCodes.REFUSED_STREAM), NotProcessed),
        (Reset(ErrorCodes.INTERNAL_ERROR), Unknown),
        (Reset(ErrorCodes.CANCEL), Unknown),
        (GoAway(refuse=True), NotProcessed),
        (GoAway(), Unknown),
        (Drop(), Unknown),
        (Drop(abort=True), Unknown),
    ],
    ids=str,
)
@pytest.mark.parametrize("warm", [False, True])
def test_a_request_that_met_trouble_is_called_what_it_is(
    tmp_path: Path, action: object, expected: type[End], warm: bool
) -> None:
    async def main() -> None:
        async with running_peer(tmp_path) as peer:
            transport = transport_to(peer)
            if warm:  # a reused connection is where clients like to resend by themselves
                await post(transport, requests(1, first=100))
            peer.script = lambda seen: action if number_of(seen) == 0 else Reply()  # type: ignore[assignment,return-value]
            ends = await post(transport, requests(1))
            assert isinstance(ends[0], expected), ends[0]
            assert [number_of(seen) for seen in peer.seen].count(0) == 1, "it was sent again"
            after = await post(transport, requests(3, first=10))
            assert after.kinds() == {"Answer": 3}
            await transport.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("action", [Drop(), Drop(abort=True), GoAway(), GoAway(refuse=True)], ids=str)
def test_when_a_connection_ends_nothing_that_was_seen_is_called_unprocessed(tmp_path: Path, action: object) -> None:
    """Over and over, with many requests in flight: each has one end, and none was sent twice."""

    def script(seen: Seen) -> object:
        return action if number_of(seen) % 40 == 39 else Reply(delay_s=0.002)

    async def main() -> None:
        async with running_peer(tmp_path) as peer:
            peer.script = script  # type: ignore[assignment]
            transport = transport_to(peer, max_in_flight=32)
            ends = await post(transport, requests(400))
            await transport.aclose()
            assert len(ends) == 400
            times_seen = Counter(number_of(seen) for seen in peer.seen)
            assert max(times_seen.values()) == 1
            for number, end in ends.items():
                if isinstance(end, Answer):
                    assert times_seen[number] == 1
                elif isinstance(end, NotProcessed) and not isinstance(action, GoAway):
                    assert times_seen[number] == 0, end
            assert ends.kinds()["Unknown"] + ends.kinds()["NotProcessed"] >= 10

    asyncio.run(main())


@pytest.mark.parametrize("answered", [1, 150, 700])
def test_when_the_peer_is_killed_only_what_was_under_way_is_unknown(tmp_path: Path, answered: int) -> None:
    ca, _ = make_certificates(tmp_path)
    log = tmp_path / "seen"
    command = [sys.executable, "-m", "tests.channels.logging_peer", str(tmp_path), str(log)]

    async def main() -> None:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            assert process.stdout is not None
            url = (await asyncio.to_thread(process.stdout.readline)).strip()
            transport = WireTransport(url, ca=ca, max_in_flight=64, timeout_s=PATIENCE_S)
            ends = Ends()
            task = asyncio.create_task(transport.post_many(requests(answered + 100), ends))
            while len(ends) < answered:
                await asyncio.sleep(0.001)
            process.kill()
        await task
        await transport.aclose()
        seen = Counter(int(line.rpartition("/")[2]) for line in log.read_text().splitlines())
        assert max(seen.values()) == 1
        assert len(ends) == answered + 100
        assert ends.kinds()["Unknown"] <= 64
        for number, end in ends.items():
            assert number in seen or not isinstance(end, Answer)
            assert number not in seen or not isinstance(end, NotProcessed), end

    asyncio.run(main())


def test_nothing_is_drawn_for_a_connection_that_is_known_to_be_dead(tmp_path: Path) -> None:
    """The peer dies while requests are being drawn: the next write fails, and that is the last one."""
    ca, _ = make_certificates(tmp_path)
    command = [sys.executable, "-m", "tests.channels.logging_peer", str(tmp_path), str(tmp_path / "seen")]

    async def main() -> None:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            assert process.stdout is not None
            url = (await asyncio.to_thread(process.stdout.readline)).strip()
            transport = WireTransport(url, ca=ca, max_in_flight=1000, timeout_s=PATIENCE_S)
            await post(transport, requests(1))

            def deadly() -> Iterator[Request]:
                for request in requests(1000):
                    if request.number == 100:
                        process.kill()
                        process.wait()
                    yield request

            ends = await post(transport, deadly())
            await transport.aclose()
        assert len(ends) == 1000
        assert 0 < ends.kinds()["Unknown"] <= 512, "some writes of 128 requests, not all of them"
        assert ends.kinds()["NotProcessed"] == 1000 - ends.kinds()["Unknown"]

    asyncio.run(main())


def test_a_refusal_by_goaway_spares_what_came_before_it(tmp_path: Path) -> None:
    """Streams above the last one that GOAWAY names are NotProcessed, the others were seen and may have been."""

    def script(seen: Seen) -> object:
        return GoAway() if number_of(seen) == 3 else Hang()

    async def main() -> None:
        async with running_peer(tmp_path) as peer:
            transport = transport_to(peer)
            await post(transport, requests(1, first=100))
            peer.script = script  # type: ignore[assignment]
            ends = await post(transport, requests(8))
            await transport.aclose()
            kinds = [type(ends[number]).__name__ for number in range(8)]
            assert kinds == ["Unknown"] * 4 + ["NotProcessed"] * 4

    asyncio.run(main())


def test_silence_ends_in_unknown_after_the_time_out(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_peer(tmp_path, lambda seen: Hang() if number_of(seen) % 2 else Reply()) as peer:
            transport = transport_to(peer, timeout_s=1)
            ends = await post(transport, requests(10))
            assert ends.kinds() == {"Answer": 5, "Unknown": 5}
            assert {end.reason for end in ends.values() if isinstance(end, Unknown)} == {"timeout"}
            await transport.aclose()

    asyncio.run(main())


def test_a_request_that_never_left_is_not_processed(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_peer(tmp_path) as peer:
            pass  # gone again: nobody listens there now
        transport = transport_to(peer)
        ends = await post(transport, requests(3))
        await transport.aclose()
        assert {(type(end), end[0]) for end in ends.values()} == {(NotProcessed, "connect")}

        (tmp_path / "other").mkdir()
        other_ca, _ = make_certificates(tmp_path / "other")
        async with running_peer(tmp_path) as peer:
            transport = WireTransport(peer.url, ca=other_ca, max_in_flight=2, timeout_s=PATIENCE_S)
            ends = await post(transport, requests(3))
            await transport.aclose()
            assert {(type(end), end[0]) for end in ends.values()} == {(NotProcessed, "tls")}
            assert peer.seen == []

    asyncio.run(main())


def test_a_peer_that_is_down_is_not_asked_once_per_request(tmp_path: Path) -> None:
    """When it comes back, requests that were not yet drawn reach it."""

    async def main() -> None:
        async with running_peer(tmp_path) as gone:
            port = int(gone.url.rpartition(":")[2])
        transport = transport_to(gone, max_in_flight=4)
        ends = Ends()
        task = asyncio.create_task(transport.post_many(requests(40), ends))
        while not ends:
            await asyncio.sleep(0.01)
        async with running_peer(tmp_path, port=port) as peer:
            await task
            await transport.aclose()
            failed = {number for number, end in ends.items() if isinstance(end, NotProcessed)}
            assert {number_of(seen) for seen in peer.seen} == set(range(40)) - failed
            assert 0 < len(failed) < 40

    asyncio.run(main())


def test_waiting_for_a_stream_until_the_time_out_is_not_processed(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_peer(tmp_path, lambda _: Hang(), max_streams=1) as peer:
            transport = transport_to(peer, timeout_s=0.5)
            await post(transport, requests(1, first=50))
            ends = await post(transport, requests(4))
            await transport.aclose()
            assert len(ends) == 4
            seen = {number_of(request) for request in peer.seen}
            for number, end in ends.items():
                assert isinstance(end, Unknown if number in seen else NotProcessed), (number, end)

    asyncio.run(main())


def test_an_endless_answer_is_cut_off(tmp_path: Path) -> None:
    async def main() -> None:
        big = Reply(404, b"x" * 60_000)
        async with running_peer(tmp_path, lambda _: big) as peer:
            transport = transport_to(peer)
            ends = await post(transport, requests(1))
            assert isinstance(ends[0], Answer)
            assert len(ends[0].body) == 60_000
            headers = (("content-length", str(MAX_ANSWER_BYTES + 1)),)
            peer.script = lambda _: Reply(404, b"x" * (MAX_ANSWER_BYTES + 1), headers)
            ends = await post(transport, requests(1))
            await transport.aclose()
            assert isinstance(ends[0], Answer)
            assert ends[0].status == 404
            assert len(ends[0].body) <= MAX_ANSWER_BYTES

    asyncio.run(main())


def test_cancelling_ends_what_was_drawn_and_nothing_else(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_peer(tmp_path, lambda _: Hang()) as peer:
            transport = transport_to(peer, max_in_flight=5)
            ends = Ends()
            task = asyncio.create_task(transport.post_many(requests(100), ends))
            while len(peer.seen) < 5:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert sorted(ends) == [0, 1, 2, 3, 4]
            assert ends.kinds() == {"Unknown": 5}
            peer.script = lambda _: Reply()
            assert (await post(transport, requests(50, first=200))).kinds() == {"Answer": 50}
            assert {number_of(seen) for seen in peer.seen} == {0, 1, 2, 3, 4, *range(200, 250)}
            await transport.aclose()

    asyncio.run(main())


def test_closing_ends_everything(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_peer(tmp_path, lambda _: Hang()) as peer:
            transport = transport_to(peer, max_in_flight=5)
            ends = Ends()
            task = asyncio.create_task(transport.post_many(requests(20), ends))
            while len(peer.seen) < 5:
                await asyncio.sleep(0.01)
            await transport.aclose()
            await task
            assert ends.kinds() == {"Unknown": 5, "NotProcessed": 15}
            await transport.aclose()
            assert (await post(transport, requests(2))).kinds() == {"NotProcessed": 2}

    asyncio.run(main())


def test_what_the_caller_raises_reaches_the_caller(tmp_path: Path) -> None:
    def broken() -> Iterator[Request]:
        yield from requests(3)
        raise RuntimeError("no more")

    def broken_end(number: int, end: End) -> None:
        raise RuntimeError("cannot take it")

    async def main() -> None:
        async with running_peer(tmp_path) as peer:
            transport = transport_to(peer)
            ends = Ends()
            with pytest.raises(RuntimeError, match="no more"):
                await transport.post_many(broken(), ends)
            assert sorted(ends) == [0, 1, 2]
            with pytest.raises(RuntimeError, match="cannot take it"):
                await transport.post_many(requests(3), broken_end)
            with pytest.raises(ValueError, match="request 9"):
                await transport.post_many([Request(9, "/x", HEADERS, b"")], ends)
            assert (await post(transport, requests(5))).kinds() == {"Answer": 5}
            await transport.aclose()

    asyncio.run(main())


def test_an_address_without_tls_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="https"):
        WireTransport("http://127.0.0.1:1", ca=tmp_path, max_in_flight=1, timeout_s=1)


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """No descriptor, watcher or handle outlives its transport."""

    async def main() -> None:
        fds = Path("/proc/self/fd")
        async with running_peer(tmp_path) as peer:
            before = len(list(fds.iterdir()))
            for _ in range(3):
                transport = transport_to(peer)
                await post(transport, requests(30))
                await transport.aclose()
                del transport
            await asyncio.sleep(0.1)
            gc.collect()
            assert len(list(fds.iterdir())) <= before

    asyncio.run(main())
