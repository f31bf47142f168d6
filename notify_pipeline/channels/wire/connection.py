"""One HTTP/2 connection as a client sees it, without I/O: bytes in, bytes and ends out.

Belongs here: taking frames apart, and those that concern the connection as a whole (RFC 9113 section 6). Does not
belong here: one stream (``streams``), sockets and time (``link``), which request goes where (``transport``).
"""

import struct
from collections.abc import Callable, Collection
from typing import Any, NoReturn

from notify_pipeline.channels.transport import NotProcessed
from notify_pipeline.channels.wire import frames
from notify_pipeline.channels.wire.frames import HEAD, ErrorCode, Violation, fail, name_of
from notify_pipeline.channels.wire.heads import MAX_HEADER_LIST
from notify_pipeline.channels.wire.replies import CONNECTION_WINDOW, STREAM_WINDOW
from notify_pipeline.channels.wire.streams import Streams, Tag

_MAX_DEBUG_CHARS = 100
_OPENING = frames.PREFACE + frames.settings(
    (
        (frames.HEADER_TABLE_SIZE, 0),  # lets blocks of answers be remembered; not every peer heeds it
        (frames.ENABLE_PUSH, 0),
        (frames.INITIAL_WINDOW_SIZE, STREAM_WINDOW),
        (frames.MAX_HEADER_LIST_SIZE, MAX_HEADER_LIST),
    )
)


class Connection(Streams[Tag]):
    """See ``Streams``.

    Attributes:
        ready: The peer's settings have come.
        pongs: PINGs that were acknowledged.
    """

    def __init__(self, authority: str, unindexed: Collection[str] = (), first_stream: int = 1) -> None:
        """Args: see ``Streams``."""
        super().__init__(authority, unindexed, first_stream)
        self._out += (_OPENING, frames.window_update(0, CONNECTION_WINDOW - frames.DEFAULT_WINDOW))
        self.ready = False
        self.pongs = 0
        self._rest = b""

    def take(self) -> bytes:
        """Return what is to be written, and forget it."""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def receive(self, data: bytes) -> None:
        """Take bytes from the peer, cut anywhere."""
        if self._rest:
            data = self._rest + data
        at, size, unpack = 0, len(data), HEAD.unpack_from
        try:
            while size - at >= 9 and not self.closed:
                high, low, kind, flags, stream = unpack(data, at)
                if high or low > frames.FRAME_LIMIT:
                    fail(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {high << 16 | low} bytes")
                end = at + 9 + low
                if end > size:
                    break
                self._take(kind, flags, stream & frames.LARGEST_STREAM, data[at + 9 : end])
                at = end
        except Violation as violation:
            self.close("protocol", violation.detail, violation.code)
        self._rest = b"" if self.closed else data[at:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if self._block is not None:
            block = self._block.add(kind, flags, stream, payload)
            if block is not None:
                end_stream, self._block = self._block.end_stream, None
                self._on_block(stream, end_stream, block)
        elif kind == frames.DATA and self.ready:
            self._on_data(flags, stream, payload)
        elif kind == frames.HEADERS and self.ready:
            self._on_headers(flags, stream, payload)
        elif not self.ready and (kind != frames.SETTINGS or flags & frames.ACK):
            fail(ErrorCode.PROTOCOL_ERROR, "the peer did not begin with its settings")
        else:
            self._idle_frame()
            handler = _HANDLERS.get(kind)
            if handler is not None:
                handler(self, flags, stream, payload)

    def _on_priority(self, flags: int, stream: int, payload: bytes) -> None:
        pass  # advice to whoever sends more than one thing at a time

    def _on_settings(self, flags: int, stream: int, payload: bytes) -> None:
        if stream or (flags & frames.ACK and payload):
            fail(ErrorCode.PROTOCOL_ERROR, "SETTINGS of a stream, or an acknowledgement that says more")
        if flags & frames.ACK:
            return
        if not self.ready:
            self.ready = True
            self.limit = frames.LARGEST_STREAM  # without a word about it there is no limit
        self._out.append(frames.frame(frames.SETTINGS, frames.ACK, 0))
        for key, value in frames.read_settings(payload):
            if key == frames.MAX_CONCURRENT_STREAMS:
                self.limit = value
            elif key == frames.INITIAL_WINDOW_SIZE:
                self.bodies.start_from(value)
            else:
                self._request_heads.limit_table(value)

    def _on_push(self, flags: int, stream: int, payload: bytes) -> NoReturn:
        fail(ErrorCode.PROTOCOL_ERROR, "a push that was forbidden")

    def _on_stray_continuation(self, flags: int, stream: int, payload: bytes) -> NoReturn:
        fail(ErrorCode.PROTOCOL_ERROR, "a CONTINUATION of nothing")

    def _on_ping(self, flags: int, stream: int, payload: bytes) -> None:
        if stream or len(payload) != 8:
            fail(ErrorCode.PROTOCOL_ERROR if stream else ErrorCode.FRAME_SIZE_ERROR, "a PING that is none")
        if flags & frames.ACK:
            self.pongs += 1
        else:
            self._out.append(frames.frame(frames.PING, frames.ACK, 0, payload))

    def ping(self) -> None:
        """Ask the peer for a sign of life."""
        self._out.append(frames.frame(frames.PING, 0, 0, b"\0" * 8))

    def _on_goaway(self, flags: int, stream: int, payload: bytes) -> None:
        if stream or len(payload) < 8:
            fail(ErrorCode.PROTOCOL_ERROR if stream else ErrorCode.FRAME_SIZE_ERROR, "a GOAWAY that is none")
        last, code = struct.unpack_from(">LL", payload)
        said = payload[8 : 8 + _MAX_DEBUG_CHARS].decode("ascii", "replace")
        detail = f"the peer said goodbye: {name_of(code)} {said!r}"
        self.draining = True
        for number in [number for number in self.streams if number > last & frames.LARGEST_STREAM]:
            self._cut(number, NotProcessed("goaway", detail))

    def _on_window(self, flags: int, stream: int, payload: bytes) -> None:
        increment = frames.number(payload, "WINDOW_UPDATE") & frames.LARGEST_WINDOW
        if stream == 0:
            self.bodies.grow(increment)
        elif stream in self.streams:
            self.bodies.grow_stream(stream, increment)
        else:
            self._on_unknown_stream(stream)

    def close(self, reason: str, detail: str, code: ErrorCode = ErrorCode.NO_ERROR) -> None:
        """Say goodbye and give up what is open."""
        if not self.closed:
            # A server opens no streams here, so none of its own was the last.
            self._out.append(frames.goodbye(0, code, detail if code else ""))
        self.lost(reason, detail)


_HANDLERS: dict[int, Callable[[Connection[Any], int, int, bytes], None]] = {
    frames.PRIORITY: Connection._on_priority,
    frames.RST_STREAM: Connection._on_reset,
    frames.SETTINGS: Connection._on_settings,
    frames.PUSH_PROMISE: Connection._on_push,
    frames.PING: Connection._on_ping,
    frames.GOAWAY: Connection._on_goaway,
    frames.WINDOW_UPDATE: Connection._on_window,
    frames.CONTINUATION: Connection._on_stray_continuation,
}
