"""A peer's bytes, frame by frame, for a ``Connection`` without a socket."""

import struct

import hpack

from notify_pipeline.channels.transport import Answer, End
from notify_pipeline.channels.wire import frames
from notify_pipeline.channels.wire.connection import Connection
from notify_pipeline.channels.wire.frames import frame

HEADERS = (("content-type", "application/json"), ("authorization", "bearer x"))
OK = b"\x88"  # :status 200, from the static table


def settings(**values: int) -> bytes:
    return frames.settings((getattr(frames, name), value) for name, value in values.items())


def block(*fields: tuple[str, str], status: int | None = 200) -> bytes:
    """A header block that leaves the decoder's table alone."""
    pseudo = [(":status", str(status))] if status is not None else []
    return hpack.Encoder().encode([(name, value, True) for name, value in [*pseudo, *fields]])


def head(stream: int, encoded: bytes = OK, *, end: bool = False, done: bool = True, flags: int = 0) -> bytes:
    flags |= (frames.END_STREAM if end else 0) | (frames.END_HEADERS if done else 0)
    return frame(frames.HEADERS, flags, stream, encoded)


def more(stream: int, encoded: bytes, *, done: bool = True) -> bytes:
    return frame(frames.CONTINUATION, frames.END_HEADERS if done else 0, stream, encoded)


def data(stream: int, body: bytes = b"", *, end: bool = True, padding: int | None = None) -> bytes:
    flags = frames.END_STREAM if end else 0
    if padding is not None:
        return frame(frames.DATA, flags | frames.PADDED, stream, bytes((padding,)) + body + bytes(padding))
    return frame(frames.DATA, flags, stream, body)


def reset(stream: int, code: int) -> bytes:
    return frame(frames.RST_STREAM, 0, stream, struct.pack(">L", code))


def goaway(last: int, code: int = 0, debug: bytes = b"") -> bytes:
    return frame(frames.GOAWAY, 0, 0, struct.pack(">LL", last, code) + debug)


def window(stream: int, increment: int) -> bytes:
    return frame(frames.WINDOW_UPDATE, 0, stream, struct.pack(">L", increment))


def connected(count: int = 0, *, body: bytes = b"{}", **values: int) -> Connection[int]:
    """A connection whose peer has sent its settings, with so many streams open, tagged with their ids 1, 3, 5, …"""
    connection: Connection[int] = Connection("peer.example")
    connection.receive(settings(**values))
    for number in range(count):
        connection.open(2 * number + 1, f"/r/{number}", HEADERS, body)
    return connection


def taken(connection: Connection[int]) -> list[tuple[int, int, int, bytes]]:
    """What the connection writes, as (type, flags, stream, payload); the preface is left out."""
    written = connection.take().removeprefix(frames.PREFACE)
    found = []
    at = 0
    while at < len(written):
        high, low, kind, flags, stream = frames.HEAD.unpack_from(written, at)
        assert high == 0
        found.append((kind, flags, stream, written[at + 9 : at + 9 + low]))
        at += 9 + low
    assert at == len(written)
    return found


def ends(connection: Connection[int]) -> dict[int, End]:
    """The ends so far; none twice."""
    found = dict(connection.ends)
    assert len(found) == len(connection.ends), connection.ends
    return found


def answer(body: bytes = b"", status: int = 200, **headers: str) -> Answer:
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)
