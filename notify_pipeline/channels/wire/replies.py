"""Answers on their way in: header blocks in pieces, informational answers, bodies, trailers, and our window.

Belongs here: putting one answer together, and the limits that a hostile peer meets. Does not belong here: which
streams there are (``connection``), what a header block says (``heads``).
"""

from notify_pipeline.channels.transport import Answer
from notify_pipeline.channels.wire.frames import CONTINUATION, END_HEADERS, ErrorCode, fail, window_update
from notify_pipeline.channels.wire.heads import Head

# The longest answers of FCM and APNs are a few kilobytes; a peer that sends more is cut off.
MAX_ANSWER_BYTES = 65_536
# What a peer may send of one answer before we take note of it; half of it is given back at a time.
STREAM_WINDOW = 131_072
# ... and of all answers together, a fourth at a time: room for some hundred long error answers.
CONNECTION_WINDOW = 8_388_608
# A compressed block of the largest header list is smaller than this. RFC 9113 section 10.5.1 warns of endless ones.
_MAX_BLOCK_BYTES = 65_536
_MAX_BLOCK_FRAMES = 32
# 103 Early Hints may come a few times; a POST has no use for them.
_MAX_INFORMATIONAL = 16


class Malformed(Exception):
    """An answer that is none (RFC 9113 section 8.1.1): an error of its stream, not of the connection."""


class Block:
    """A header block whose end has not come yet. Until it has, nothing else may come (RFC 9113 section 6.10)."""

    __slots__ = ("_pieces", "_size", "end_stream", "stream")

    def __init__(self, stream: int, end_stream: bool, piece: bytes) -> None:
        self.stream = stream
        self.end_stream = end_stream
        self._pieces = [piece]
        self._size = len(piece)

    def add(self, kind: int, flags: int, stream: int, piece: bytes) -> bytes | None:
        """Take the next frame; return the block when this was its end.

        Raises:
            Violation: The frame is another one than the rest of this block, or the block does not end.
        """
        if kind != CONTINUATION or stream != self.stream:
            fail(ErrorCode.PROTOCOL_ERROR, "a frame in the middle of a header block")
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > _MAX_BLOCK_BYTES or len(self._pieces) > _MAX_BLOCK_FRAMES:
            fail(ErrorCode.ENHANCE_YOUR_CALM, "a header block without an end")
        return b"".join(self._pieces) if flags & END_HEADERS else None


class Reply:
    """One answer of which something has come and something is missing."""

    __slots__ = ("_informational", "_parts", "_size", "_unacknowledged", "head")

    def __init__(self) -> None:
        self.head: Head | None = None  # the final one
        self._parts: list[bytes] = []
        self._size = 0
        self._informational = 0
        self._unacknowledged = 0

    def take_head(self, head: Head, end: bool) -> Answer | None:
        """Take a header block; return the answer when this was its end.

        Raises:
            Malformed: It cannot come here.
        """
        if head.fault:
            raise Malformed(head.fault)
        if self.head is not None:
            if head.status or not end:
                raise Malformed("trailers that are none")
            return self._whole()
        if head.status < 200:
            self._informational += 1
            if end or head.status in (0, 101) or self._informational > _MAX_INFORMATIONAL:
                raise Malformed(f"an answer that ends with status {head.status}")
            return None
        self.head = head
        return self._whole() if end else None

    def take_data(self, piece: bytes, end: bool) -> Answer | None:
        """Take a piece of the body; return the answer when this was its end, or is made it.

        Raises:
            Malformed: It cannot come here.
        """
        head = self.head
        if head is None:
            raise Malformed("a body before its head")
        if end and not self._parts and head.length in (None, len(piece)):  # nearly all: one frame, far below the limit
            return Answer(head.status, head.answer.headers, piece)
        self._parts.append(piece)
        self._size += len(piece)
        if self._size > MAX_ANSWER_BYTES:
            return self.so_far()
        return self._whole() if end else None

    def acknowledge(self, stream: int, size: int) -> bytes:
        """Count what came of the stream's window, padding included; return the frame that gives it back, or nothing.

        Raises:
            Malformed: More came than the window allows.
        """
        self._unacknowledged += size
        if self._unacknowledged > STREAM_WINDOW:
            raise Malformed("more than the stream's window")
        if self._unacknowledged < STREAM_WINDOW // 2:
            return b""
        given, self._unacknowledged = self._unacknowledged, 0
        return window_update(stream, given)

    def so_far(self) -> Answer | None:
        """Return the answer with what came of its body, None before its head."""
        if self.head is None:
            return None
        status, headers, _ = self.head.answer
        return Answer(status, headers, b"".join(self._parts)[:MAX_ANSWER_BYTES])

    def _whole(self) -> Answer | None:
        if self.head is not None and self.head.length not in (None, self._size):
            raise Malformed(f"{self._size} of {self.head.length} bytes")
        return self.so_far()
