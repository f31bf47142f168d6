"""A client at work while its peer says anything, in any order: what it sends and what it says must be right.

An observer with tables of its own follows both directions, frame by frame: it knows the windows, the limit of streams
and what the peer said about each stream.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notify_pipeline.channels.transport import Answer, NotProcessed
from notify_pipeline.channels.wire import frames
from notify_pipeline.channels.wire.connection import Connection
from notify_pipeline.channels.wire.frames import ErrorCode
from tests.channels.wire import script
from tests.channels.wire.script import HEADERS, block, data, goaway, head, reset, window
from tests.channels.wire.test_splits import FRAMES
from tests.examples import examples

LAST_IDS = frames.LARGEST_STREAM - 8


@dataclass
class Observer:
    """What both sides have said."""

    connection_window: int = frames.DEFAULT_WINDOW
    initial_window: int = frames.DEFAULT_WINDOW
    windows: dict[int, int] = field(default_factory=dict)
    refused: set[int] = field(default_factory=set)
    spared: int = frames.LARGEST_STREAM
    answered: set[int] = field(default_factory=set)
    newest: int = 0
    block_open: bool = False

    def peer_said(self, raw: bytes) -> None:
        """Take note of one whole frame that the client took."""
        high, low, kind, flags, stream = frames.HEAD.unpack_from(raw)
        payload = raw[9:]
        if kind == frames.SETTINGS and not flags & frames.ACK:
            for at in range(0, len(payload), 6):
                key, value = (
                    int.from_bytes(payload[at : at + 2], "big"),
                    int.from_bytes(payload[at + 2 : at + 6], "big"),
                )
                if key == frames.INITIAL_WINDOW_SIZE:
                    for number in self.windows:
                        self.windows[number] += value - self.initial_window
                    self.initial_window = value
        elif kind == frames.WINDOW_UPDATE and stream == 0:
            self.connection_window += int.from_bytes(payload, "big")
        elif kind == frames.WINDOW_UPDATE and stream in self.windows:
            self.windows[stream] += int.from_bytes(payload, "big")
        elif kind == frames.RST_STREAM and int.from_bytes(payload, "big") == ErrorCode.REFUSED_STREAM:
            self.refused.add(stream)
        elif kind == frames.GOAWAY:
            self.spared = min(self.spared, int.from_bytes(payload[:4], "big"))
        elif kind == frames.HEADERS:
            self.answered.add(stream)

    def client_said(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """Check one frame of the client's."""
        assert len(payload) <= frames.FRAME_LIMIT
        if self.block_open:
            assert kind == frames.CONTINUATION
        if kind == frames.HEADERS:
            assert stream % 2 == 1
            assert stream > self.newest
            self.newest = stream
            self.windows[stream] = self.initial_window
        if kind in (frames.HEADERS, frames.CONTINUATION):
            self.block_open = not flags & frames.END_HEADERS
        if kind == frames.DATA:
            self.connection_window -= len(payload)
            self.windows[stream] -= len(payload)
            assert self.connection_window >= 0, "the connection's window is overrun"
            assert self.windows[stream] >= 0, "a stream's window is overrun"
            if flags & frames.END_STREAM:
                del self.windows[stream]
        if kind == frames.RST_STREAM:
            self.windows.pop(stream, None)


def follow(connection: Connection[int], observer: Observer) -> None:
    for said in script.taken(connection):
        observer.client_said(*said)


Step = bytes | int | str | tuple[int, str]

# What a peer may say of a stream that it knows.
OF_A_STREAM: dict[str, Callable[[int], bytes]] = {
    "ends": lambda stream: head(stream, end=True),
    "begins": head,
    "hints": lambda stream: head(stream, block(status=103)),
    "fails": lambda stream: head(stream, block(status=404)),
    "goes on": lambda stream: data(stream, b"{}", end=False),
    "has a body": lambda stream: data(stream, b"{}"),
    "has trailers": lambda stream: head(stream, block(("a", "b"), status=None), end=True),
    "is refused": lambda stream: reset(stream, ErrorCode.REFUSED_STREAM),
    "is reset": lambda stream: reset(stream, ErrorCode.CANCEL),
    "is the last": goaway,
    "opens a little": lambda stream: window(stream, 1),
    "opens": lambda stream: window(stream, 40_000),
}
OF_THE_CONNECTION = st.one_of(
    st.just(goaway(frames.LARGEST_STREAM)),
    st.builds(window, st.just(0), st.sampled_from([1, 1_000, 40_000])),
    st.builds(lambda value: script.settings(MAX_CONCURRENT_STREAMS=value), st.sampled_from([0, 1, 5, 100])),
    st.builds(lambda value: script.settings(INITIAL_WINDOW_SIZE=value), st.sampled_from([0, 5, 1_000, 70_000])),
    st.builds(lambda value: script.settings(HEADER_TABLE_SIZE=value), st.sampled_from([0, 100, 10_000])),
)
# 16,000 bytes leave in one frame where the windows are open, 70,000 never do.
OPEN = st.sampled_from([1, 16_000, 16_000, 70_000])
STEP = st.one_of(
    OPEN,
    OPEN,
    OF_THE_CONNECTION,
    st.tuples(st.integers(0, 9), st.sampled_from(sorted(OF_A_STREAM))),
    st.tuples(st.integers(0, 9), st.sampled_from(sorted(OF_A_STREAM))),
    st.just("late"),
)
# Anything may close the connection, so it comes last.
STEPS = st.builds(
    lambda steps, hostile: [*steps, *hostile], st.lists(STEP, min_size=5, max_size=40), st.lists(FRAMES, max_size=3)
)


def work(steps: list[Step], first_stream: int, window_size: int) -> None:
    connection: Connection[int] = Connection("peer.example", first_stream=first_stream)
    observer = Observer(initial_window=window_size)
    connection.receive(script.settings(MAX_CONCURRENT_STREAMS=8, INITIAL_WINDOW_SIZE=window_size))
    opened = []
    for step in steps:
        if isinstance(step, int):
            if connection.room > 0:
                assert len(connection.streams) < connection.limit
                opened.append(connection.next_stream)
                assert opened[-1] <= frames.LARGEST_STREAM
                headers = HEADERS if step < 70_000 else (("long", "~" * 30_000),)
                connection.open(connection.next_stream, "/r", headers, b"x" * step)
        elif isinstance(step, str):
            connection.expire(connection.next_stream - 4)
        elif opened or isinstance(step, bytes):
            if isinstance(step, tuple):
                which, what = step
                step = OF_A_STREAM[what](opened[-1 - which % len(opened)])
            connection.receive(step)
            said = cut(step)
            if connection.closed or said is None:
                break
            for whole in said:
                observer.peer_said(whole)
        follow(connection, observer)
    connection.lost("connection_lost", "")
    check(connection, observer, opened)


def cut(raw: bytes) -> list[bytes] | None:
    """Take bytes apart into frames; None when the last is not whole, so that what follows is a part of it."""
    found = []
    while raw:
        high, low, *_ = frames.HEAD.unpack_from(raw)
        size = 9 + (high << 16 | low)
        if len(raw) < size:
            return None
        found.append(raw[:size])
        raw = raw[size:]
    return found


def check(connection: Connection[int], observer: Observer, opened: list[int]) -> None:
    ends = dict(connection.ends)
    assert len(connection.ends) == len(ends)
    assert sorted(ends) == opened, "each request ends once"
    assert not connection.streams
    for stream, end in ends.items():
        if isinstance(end, NotProcessed) and end.reason == "refused":
            assert stream in observer.refused
        elif isinstance(end, NotProcessed) and end.reason == "goaway":
            assert stream > observer.spared
        elif isinstance(end, Answer):
            assert stream in observer.answered


@settings(deadline=None, max_examples=examples(150))
@given(STEPS, st.sampled_from([1, LAST_IDS]), st.sampled_from([5, 1_000, frames.DEFAULT_WINDOW]))
def test_a_client_at_work(steps: list[Step], first_stream: int, window_size: int) -> None:
    work(steps, first_stream, window_size)


@pytest.mark.long
@pytest.mark.timeout(1800)
@settings(deadline=None, max_examples=5_000)
@given(STEPS, st.sampled_from([1, LAST_IDS]), st.sampled_from([5, 1_000, frames.DEFAULT_WINDOW]))
def test_a_client_at_work_at_length(steps: list[Step], first_stream: int, window_size: int) -> None:
    work(steps, first_stream, window_size)
