"""Peers at their worst, many requests, and a caller that sends again what was not answered.

Whatever happens, each attempt has one end; nobody is told that the peer processed nothing where it did; and what the
peer processed twice was called unknown in between. The peer's own notes are what counts.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from notify_pipeline.channels.transport import Answer, End, NotProcessed, Request, Unknown
from notify_pipeline.channels.wire import frames
from notify_pipeline.channels.wire.frames import ErrorCode
from notify_pipeline.channels.wire.transport import WireTransport
from tests.channels.wire.raw_peer import RawConnection, raw_peer
from tests.channels.wire.script import HEADERS, data, goaway, head, reset, settings
from tests.waiting import PATIENCE_S

# Attempts of one request differ by this in their numbers.
ATTEMPT = 1_000_000
MOST_ATTEMPTS = 60


class Truth:
    """What the peer knows: how often each attempt took effect."""

    def __init__(self) -> None:
        self.dice = random.Random(5)
        self.processed: Counter[int] = Counter()

    def process(self, connection: RawConnection, stream: int, number: int) -> None:
        """Take effect, and answer."""
        self.processed[number] += 1
        connection.write(head(stream) + data(stream, b"%d" % number))


Misbehave = Callable[[RawConnection, Truth], Awaitable[None]]


async def says_goodbye(connection: RawConnection, truth: Truth) -> None:
    """As servers do that are to be restarted: first a warning, then the last stream; what came before is answered."""
    connection.hello()
    last = 0
    async for stream, number in connection.requests():
        if last and stream > last:
            continue
        truth.process(connection, stream, number)
        if not last and stream > 700:
            last = stream
            connection.write(goaway(frames.LARGEST_STREAM) + goaway(last))


async def slams_the_door(connection: RawConnection, truth: Truth) -> None:
    """GOAWAY, and the connection is closed at once: some of what was processed is never answered."""
    connection.hello()
    until, last = truth.dice.randrange(300, 1200), 0

    def slam() -> None:
        connection.write(goaway(last, ErrorCode.ENHANCE_YOUR_CALM))
        connection.writer.close()

    async for stream, number in connection.requests():
        if connection.writer.is_closing():
            continue
        if stream < until:
            truth.process(connection, stream, number)
        elif stream < until + 40:
            truth.processed[number] += 1
            if not last:
                asyncio.get_running_loop().call_later(0.005, slam)
            last = stream


async def drops(connection: RawConnection, truth: Truth) -> None:
    """The connection is reset without a word."""
    connection.hello()
    until = truth.dice.randrange(300, 1200)
    async for stream, number in connection.requests():
        if stream >= until:
            truth.processed[number] += 1
            connection.writer.transport.abort()
            return
        truth.process(connection, stream, number)


async def resets(connection: RawConnection, truth: Truth) -> None:
    """Streams are refused and cut, before and after they took effect, and in the middle of the answer."""
    connection.hello()
    dice = truth.dice
    async for stream, number in connection.requests():
        what = dice.random()
        if what < 0.3:
            connection.write(reset(stream, ErrorCode.REFUSED_STREAM))
        elif what < 0.4:
            truth.processed[number] += 1
            connection.write(reset(stream, dice.choice([1, 2, 8, 11, 99])))
        elif what < 0.5:
            connection.write(reset(stream, dice.choice([1, 2, 8, 11, 99])))
        elif what < 0.6:
            truth.processed[number] += 1
            connection.write(head(stream) + reset(stream, dice.choice([0, 2, 7])))
        else:
            truth.process(connection, stream, number)


async def narrows(connection: RawConnection, truth: Truth) -> None:
    """The number of streams falls to one and rises again, over and over."""
    connection.hello(MAX_CONCURRENT_STREAMS=100)
    seen = 0
    async for stream, number in connection.requests():
        seen += 1
        truth.process(connection, stream, number)
        if seen % 200 == 0:
            connection.write(settings(MAX_CONCURRENT_STREAMS=1 if seen % 400 else 100))


async def is_mute(connection: RawConnection, truth: Truth) -> None:
    """The first connection takes everything and answers nothing, not even a PING."""
    connection.hello()
    if connection.number == 1:
        async for _, number in connection.requests(pong=False):
            truth.processed[number] += 1
    async for stream, number in connection.requests():
        truth.process(connection, stream, number)


async def is_slow(connection: RawConnection, truth: Truth) -> None:
    """Answers come singly, out of order, and some after the client gave up."""
    connection.hello()
    loop = asyncio.get_running_loop()
    async for stream, number in connection.requests():
        late = truth.dice.uniform(0.05, 0.4) if truth.dice.random() < 0.99 else truth.dice.uniform(0.8, 2)
        loop.call_later(late, truth.process, connection, stream, number)


async def wants_one_first(connection: RawConnection, truth: Truth) -> None:
    """As APNs: one stream until a request was answered; and every connection ends after some hundred."""
    connection.hello(MAX_CONCURRENT_STREAMS=1)
    first, last = True, 0
    async for stream, number in connection.requests():
        if last and stream > last:
            continue
        assert not first or stream == 1
        truth.process(connection, stream, number)
        if first:
            first = False
            connection.write(settings(MAX_CONCURRENT_STREAMS=1000))
        elif not last and stream > 500:
            last = stream
            connection.write(goaway(last))


async def does_anything(connection: RawConnection, truth: Truth) -> None:
    await truth.dice.choice([says_goodbye, slams_the_door, drops, resets, narrows, wants_one_first])(connection, truth)


async def deliver(transport: WireTransport, count: int) -> list[dict[int, End]]:
    """Send until each was answered; return the ends of each round by attempt."""
    rounds: list[dict[int, End]] = []
    waiting = list(range(count))
    while waiting:
        assert len(rounds) < MOST_ATTEMPTS, f"{len(waiting)} were not answered"
        first = len(rounds) * ATTEMPT
        ends: dict[int, End] = {}

        def on_end(number: int, end: End, ends: dict[int, End] = ends) -> None:
            assert number not in ends, f"attempt {number} ended twice: {ends[number]} and {end}"
            ends[number] = end

        await transport.post_many([Request(first + n, f"/r/{first + n}", HEADERS, b"{}") for n in waiting], on_end)
        assert sorted(ends) == [first + n for n in waiting]
        rounds.append(ends)
        waiting = [number - first for number, end in sorted(ends.items()) if not isinstance(end, Answer)]
    return rounds


def check(truth: Truth, rounds: list[dict[int, End]], count: int) -> Counter[str]:
    """Compare the ends with what the peer knows."""
    kinds: Counter[str] = Counter()
    unknown: Counter[int] = Counter()
    for ends in rounds:
        for attempt, end in ends.items():
            kinds[type(end).__name__] += 1
            times = truth.processed[attempt]
            if isinstance(end, Answer):
                assert times == 1
                assert end.body in (b"%d" % attempt, b"")
            elif isinstance(end, NotProcessed):
                assert times == 0, (attempt, end)
            else:
                assert isinstance(end, Unknown)
                assert times <= 1, "no attempt is sent twice"
                unknown[attempt % ATTEMPT] += 1
    assert kinds["Answer"] == count
    effects: Counter[int] = Counter()
    for attempt, times in truth.processed.items():
        effects[attempt % ATTEMPT] += times
    assert sorted(effects) == list(range(count))
    assert all(times <= 1 + unknown[number] for number, times in effects.items()), "duplicates only where unknown"
    return kinds


# What ends there must be beside answers, and what there may be.
BEHAVIOURS: list[tuple[Misbehave, set[str], set[str]]] = [
    (says_goodbye, {"NotProcessed"}, set()),
    (slams_the_door, {"NotProcessed", "Unknown"}, set()),
    (drops, {"Unknown"}, {"NotProcessed"}),
    (resets, {"NotProcessed", "Unknown"}, set()),
    (narrows, set(), set()),
    (is_mute, {"Unknown"}, {"NotProcessed"}),
    (is_slow, {"Unknown"}, {"NotProcessed"}),  # a busy machine may not connect within a second
    (wants_one_first, {"NotProcessed"}, set()),
    (does_anything, set(), {"NotProcessed", "Unknown"}),
]


@pytest.mark.parametrize("count", [1_500, pytest.param(100_000, marks=pytest.mark.long)])
@pytest.mark.parametrize(("misbehave", "must", "may"), BEHAVIOURS, ids=[each[0].__name__ for each in BEHAVIOURS])
def test_every_request_has_one_true_end(
    tmp_path: Path, misbehave: Misbehave, must: set[str], may: set[str], count: int
) -> None:
    truth = Truth()
    late = misbehave in (is_mute, is_slow)

    async def main() -> None:
        async with raw_peer(tmp_path, lambda connection: misbehave(connection, truth)) as peer:
            transport = WireTransport(
                peer.url, ca=peer.ca, max_in_flight=1000 if late else 200, timeout_s=1.0 if late else PATIENCE_S
            )
            rounds = await deliver(transport, count)
            await transport.aclose()
            kinds = set(check(truth, rounds, count))
            assert {"Answer", *must} <= kinds <= {"Answer", *must, *may}

    asyncio.run(main())
