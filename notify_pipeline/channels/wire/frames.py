"""HTTP/2 frames as bytes: their numbers, their packing, the checks that need nothing but the frame.

Belongs here: what RFC 9113 sections 4, 6 and 7 say of one frame by itself. Does not belong here: anything that depends
on earlier frames (``connection``).
"""

import struct
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import NoReturn

# Length (24 bits, in two parts), type, flags, stream (RFC 9113 section 4.1).
HEAD = struct.Struct(">BHBBL")
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

ACK = END_STREAM = 0x01
END_HEADERS = 0x04
PADDED = 0x08
HAS_PRIORITY = 0x20

HEADER_TABLE_SIZE = 0x1
ENABLE_PUSH = 0x2
MAX_CONCURRENT_STREAMS = 0x3
INITIAL_WINDOW_SIZE = 0x4
MAX_FRAME_SIZE = 0x5
MAX_HEADER_LIST_SIZE = 0x6

# The size that every peer must take and that we announce ours to be (RFC 9113 section 4.2). Bodies and header blocks
# here are smaller, so that a peer that takes more makes no difference.
FRAME_LIMIT = 16_384
_LARGEST_FRAME_LIMIT = 16_777_215
# Windows before anyone says otherwise, and the largest ones (RFC 9113 section 6.9).
DEFAULT_WINDOW = 65_535
LARGEST_WINDOW = 2**31 - 1
LARGEST_STREAM = 2**31 - 1


class ErrorCode(IntEnum):
    """RFC 9113 section 7."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class Violation(Exception):
    """The peer broke the protocol so that the connection cannot go on (RFC 9113 section 5.4.1)."""

    def __init__(self, code: ErrorCode, detail: str) -> None:
        """Args: code: what to tell the peer. detail: for people."""
        super().__init__(detail)
        self.code = code
        self.detail = detail


def fail(code: ErrorCode, detail: str) -> NoReturn:
    """Raise a ``Violation``."""
    raise Violation(code, detail)


def name_of(code: int) -> str:
    """Return an error code's name, or its number where it has none."""
    return ErrorCode(code).name if code in ErrorCode._value2member_map_ else f"{code:#x}"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Pack one frame."""
    size = len(payload)
    return HEAD.pack(size >> 16, size & 0xFFFF, kind, flags, stream) + payload


def settings(values: Iterable[tuple[int, int]]) -> bytes:
    """Pack a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HL", key, value) for key, value in values))


def window_update(stream: int, increment: int) -> bytes:
    """Pack a WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">L", increment))


def reset(stream: int, code: ErrorCode) -> bytes:
    """Pack an RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, struct.pack(">L", code))


def goodbye(last_stream: int, code: ErrorCode, detail: str = "") -> bytes:
    """Pack a GOAWAY frame."""
    return frame(GOAWAY, 0, 0, struct.pack(">LL", last_stream, code) + detail.encode()[:200])


def header_frames(stream: int, block: bytes) -> bytes:
    """Pack a header block that is too long for one frame as HEADERS and CONTINUATIONs; the stream stays open."""
    pieces = [block[at : at + FRAME_LIMIT] for at in range(0, len(block), FRAME_LIMIT)]
    last = len(pieces) - 1
    return b"".join(
        frame(CONTINUATION if at else HEADERS, END_HEADERS if at == last else 0, stream, piece)
        for at, piece in enumerate(pieces)
    )


def stripped(flags: int, payload: bytes) -> bytes:
    """Return a DATA or HEADERS payload without its padding and priority."""
    start, end = 0, len(payload)
    if flags & PADDED:
        if not payload:
            fail(ErrorCode.FRAME_SIZE_ERROR, "a padded frame without a length of its padding")
        start, end = 1, end - payload[0]
    if flags & HAS_PRIORITY:
        start += 5
    if start > end:
        fail(ErrorCode.PROTOCOL_ERROR, "padding or priority larger than the frame")
    return payload[start:end]


def number(payload: bytes, what: str) -> int:
    """Read a payload that is one 32-bit number."""
    if len(payload) != 4:
        fail(ErrorCode.FRAME_SIZE_ERROR, f"{what} of {len(payload)} bytes")
    return int.from_bytes(payload, "big")


def read_settings(payload: bytes) -> Iterator[tuple[int, int]]:
    """Read a SETTINGS payload and check each value; unknown ones are left out (RFC 9113 section 6.5.2)."""
    if len(payload) % 6:
        fail(ErrorCode.FRAME_SIZE_ERROR, f"SETTINGS of {len(payload)} bytes")
    for key, value in struct.iter_unpack(">HL", payload):
        if key == ENABLE_PUSH and value != 0:
            fail(ErrorCode.PROTOCOL_ERROR, "a server set ENABLE_PUSH")
        if key == INITIAL_WINDOW_SIZE and value > LARGEST_WINDOW:
            fail(ErrorCode.FLOW_CONTROL_ERROR, f"INITIAL_WINDOW_SIZE {value}")
        if key == MAX_FRAME_SIZE and not FRAME_LIMIT <= value <= _LARGEST_FRAME_LIMIT:
            fail(ErrorCode.PROTOCOL_ERROR, f"MAX_FRAME_SIZE {value}")
        if key in (HEADER_TABLE_SIZE, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE):
            yield key, value
