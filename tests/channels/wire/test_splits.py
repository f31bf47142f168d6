"""Wherever the peer's bytes are cut, the same ends come of them; and no bytes hang, crash or deceive us."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notify_pipeline.channels.transport import Answer, End
from notify_pipeline.channels.wire import frames
from notify_pipeline.channels.wire.connection import Connection
from notify_pipeline.channels.wire.frames import frame
from tests.channels.wire import script
from tests.channels.wire.script import HEADERS, OK, block, data, goaway, head, more, reset, window

STREAMS = st.sampled_from([0, 1, 3, 5, 7, 9, 2, 11, 2**31 - 1])
BLOCKS = st.sampled_from(
    [
        OK,
        block(status=404),
        block(("retry-after", "7"), status=429),
        block(("content-length", "2")),
        block(status=100),
        block(status=None),
        b"\x88\x40\x01a\x01b",
        b"\x88\xbe",
        b"\x20\x88",
        b"\xff\xff\xff\xff\xff\xff",
        block(("grpc-status", "0"), status=None),
        block(("link", "</x>"), status=103),
        block(("long", "v" * 9_000)),
        OK + b"\x8f" * 900,  # above our limit of a header list
    ]
)
BODIES = st.sampled_from([b"", b"{}", b"x" * 300, b"x" * frames.FRAME_LIMIT])


def padded(stream: int, encoded: bytes, padding: int, *, end: bool) -> bytes:
    """HEADERS with everything that they may carry."""
    payload = bytes((padding,)) + b"\x80\0\0\x01\x10" + encoded + bytes(padding)
    return head(stream, payload, end=end, flags=frames.PADDED | frames.HAS_PRIORITY)


def in_pieces(stream: int, encoded: bytes, cuts: Sequence[int], *, end: bool) -> bytes:
    """A header block as HEADERS and CONTINUATIONs."""
    edges = [0, *sorted(min(cut, len(encoded)) for cut in cuts), len(encoded)]
    pieces = [encoded[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    first = head(stream, pieces[0], end=end, done=len(pieces) == 1)
    return first + b"".join(more(stream, piece, done=at == len(pieces)) for at, piece in enumerate(pieces[1:], 2))


def announced(kind: int, stream: int, size: int) -> bytes:
    """The beginning of a frame of this size, and little of the rest."""
    return frames.HEAD.pack(size >> 16, size & 0xFFFF, kind, 0, stream) + bytes(20)


FRAMES = st.one_of(
    st.builds(head, STREAMS, BLOCKS, end=st.booleans(), done=st.sampled_from([True, True, True, False])),
    st.builds(more, STREAMS, st.sampled_from([b"", OK, b"\x40\x01c\x01d"]), done=st.booleans()),
    st.builds(data, STREAMS, BODIES, end=st.booleans(), padding=st.sampled_from([None, 0, 9])),
    st.builds(padded, STREAMS, BLOCKS, st.sampled_from([0, 1, 200]), end=st.booleans()),
    st.builds(in_pieces, STREAMS, BLOCKS, st.lists(st.integers(0, 20), max_size=3), end=st.booleans()),
    st.builds(announced, st.integers(0, 11), STREAMS, st.sampled_from([16_384, 16_385, 2**24 - 1])),
    st.builds(reset, STREAMS, st.sampled_from([0, 2, 7, 8, 99])),
    st.builds(goaway, STREAMS, st.sampled_from([0, 11]), st.sampled_from([b"", b"debug"])),
    st.builds(window, STREAMS, st.sampled_from([1, 10, 70_000, 0, 2**31 - 1])),
    st.builds(lambda value: script.settings(MAX_CONCURRENT_STREAMS=value), st.sampled_from([0, 1, 100])),
    st.builds(lambda value: script.settings(INITIAL_WINDOW_SIZE=value), st.sampled_from([0, 5, 70_000, 2**31 - 1])),
    st.builds(lambda value: script.settings(HEADER_TABLE_SIZE=value), st.sampled_from([0, 100, 10_000])),
    st.builds(frame, st.integers(0, 12), st.integers(0, 255), STREAMS, st.binary(max_size=12)),
)


def run(pieces: Sequence[bytes], bodies: Sequence[bytes]) -> tuple[dict[int, End], bytes, bool]:
    """Feed a connection that opens a request whenever there is room; return its ends, output and whether it closed."""
    connection: Connection[int] = Connection("peer.example")
    connection.receive(script.settings(MAX_CONCURRENT_STREAMS=10))
    for number, body in enumerate(bodies):
        connection.open(number, f"/r/{number}", HEADERS, body)
    written = connection.take()
    for piece in pieces:
        connection.receive(piece)
    closed = connection.closed
    written += connection.take()
    connection.lost("connection_lost", "")
    ends = dict(connection.ends)
    assert len(ends) == len(connection.ends) == len(bodies), "each request ends once"
    assert not connection.streams
    return ends, written, closed


@settings(deadline=None)
@given(st.lists(FRAMES, max_size=30), st.lists(st.integers(0, 2000), max_size=30), st.sampled_from([10, 20_000]))
def test_any_split_gives_the_same(sent: list[bytes], cuts: list[int], size: int) -> None:
    bodies = [b"x" * size] * 4
    stream = b"".join(sent)
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    pieces = [stream[start:end] for start, end in zip(edges, edges[1:], strict=False)]
    assert run([stream], bodies) == run(pieces, bodies)


@settings(deadline=None)
@given(st.lists(FRAMES, max_size=12))
def test_byte_by_byte_gives_the_same(sent: list[bytes]) -> None:
    stream = b"".join(sent)
    bodies = [b"{}"] * 4
    assert run([stream], bodies) == run([stream[at : at + 1] for at in range(len(stream))], bodies)


def good_answers(dice: random.Random, count: int) -> tuple[bytes, dict[int, tuple[int, bytes]]]:
    """The bytes of a good peer's answers, interleaved, and what they say."""
    said: dict[int, tuple[int, bytes]] = {}
    streams: list[list[bytes]] = []
    for number in range(count):
        stream, status = 2 * number + 1, dice.choice([200, 404, 429, 503])
        body = dice.choice([b"", b"{}", b"e" * dice.randrange(400)])
        said[number] = status, body
        encoded = block(("retry-after", str(dice.randrange(9))), status=status)
        parts = [head(stream, encoded, end=not body)]
        if dice.random() < 0.2:
            parts = [head(stream, encoded[:2], done=False, end=not body) + more(stream, encoded[2:])]
        if dice.random() < 0.2:
            parts.insert(0, head(stream, block(status=103)))
        if body:
            at = dice.randrange(len(body) + 1)
            parts += [data(stream, body[:at], end=False, padding=dice.choice([None, 3])), data(stream, body[at:])]
        streams.append(parts)
    out = [script.settings(MAX_CONCURRENT_STREAMS=1000)]
    while streams:
        parts = dice.choice(streams)
        out.append(parts.pop(0))
        if dice.random() < 0.1:
            out.append(dice.choice([frame(frames.PING, 0, 0, bytes(8)), window(0, 9), frame(77, 1, 5, b"?")]))
        streams = [parts for parts in streams if parts]
    return b"".join(out), said


def damaged(dice: random.Random, stream: bytes) -> bytes:
    """Flip, drop, repeat or insert some bytes."""
    raw = bytearray(stream)
    for _ in range(dice.choice([1, 1, 1, 2, 5, 30])):
        at = dice.randrange(len(raw))
        what = dice.randrange(5)
        if what == 0:
            raw[at] ^= 1 << dice.randrange(8)
        elif what == 1:
            del raw[at : at + dice.randrange(1, 40)]
        elif what == 2:
            raw[at:at] = raw[at : at + dice.randrange(1, 200)]
        elif what == 3:
            raw[at:at] = dice.randbytes(dice.randrange(1, 20))
        else:
            del raw[at + 1 :]
        if not raw:
            break
    return bytes(raw)


def fuzz(seed: int, rounds: int) -> None:
    """Damage a good peer's bytes. Up to the damage, ends are what the peer said; after it, each request still has one.

    Where bytes are damaged in a way that is still HTTP/2 (a flipped status, say), what it says is what counts; so ends
    are compared only as far as the bytes are the same.
    """
    dice = random.Random(seed)
    for _ in range(rounds):
        count = dice.randrange(1, 20)
        stream, said = good_answers(dice, count)
        broken = damaged(dice, stream)
        same = next(
            (at for at, (a, b) in enumerate(zip(stream, broken, strict=False)) if a != b), min(len(stream), len(broken))
        )
        connection: Connection[int] = Connection("peer.example")
        connection.receive(script.settings())
        for number in range(count):
            connection.open(number, f"/r/{number}", HEADERS, b"{}")
        connection.receive(broken[:same])
        before = dict(connection.ends)
        for number, end in before.items():
            assert isinstance(end, Answer)
            assert (end.status, end.body) == said[number]
        at = same
        while at < len(broken):
            step = dice.randrange(1, 400)
            connection.receive(broken[at : at + step])
            connection.take()
            at += step
        connection.expire(2**31)
        ends = dict(connection.ends)
        assert len(connection.ends) == len(ends) == count
        assert not connection.streams
        assert before.items() <= ends.items()


def test_damaged_bytes_neither_hang_crash_nor_deceive() -> None:
    fuzz(1, 1500)


def test_random_bytes_are_no_peer() -> None:
    dice = random.Random(2)
    for _ in range(500):
        connection: Connection[int] = Connection("peer.example")
        if dice.random() < 0.7:
            connection.receive(script.settings())
            connection.open(0, "/", HEADERS, b"{}")
        connection.receive(dice.randbytes(dice.randrange(400)))
        connection.lost("connection_lost", "")
        assert len(connection.ends) == connection.next_stream // 2


@pytest.mark.long
@pytest.mark.parametrize("seed", range(20))
def test_damaged_bytes_at_length(seed: int) -> None:
    fuzz(1000 + seed, 4_000)


@pytest.mark.long
@pytest.mark.timeout(1800)
@settings(max_examples=20_000, deadline=None)
@given(st.lists(FRAMES, max_size=60), st.lists(st.integers(0, 6000), max_size=60))
def test_any_split_at_length(sent: list[bytes], cuts: list[int]) -> None:
    bodies = [b"x" * 20_000] * 4
    stream = b"".join(sent)
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    assert run([stream], bodies) == run([stream[a:b] for a, b in zip(edges, edges[1:], strict=False)], bodies)
