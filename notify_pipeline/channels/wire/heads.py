"""Header blocks (RFC 7541): of requests, encoded once for many, and of answers, decoded once for many.

Belongs here: when the bytes of a block may be used again, and what a block of an answer says. Does not belong here: how
its bytes are read (``blocks``), which blocks are alike (``shapes``), frames that carry it (``frames``), streams
(``connection``).

``hpack`` does the encoding; what is saved here is asking it again for the same.
"""

import re
from collections.abc import Collection, Iterable
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from hpack import Encoder, HPACKError
from hpack.hpack import encode_integer

from notify_pipeline.channels.transport import Answer, Headers
from notify_pipeline.channels.wire.blocks import Blocks
from notify_pipeline.channels.wire.frames import ErrorCode, fail
from notify_pipeline.channels.wire.shapes import Shapes, longest

# Of an answer's header list as RFC 9113 section 6.5.2 counts it. FCM's and APNs' are below 1 KiB.
MAX_HEADER_LIST = 32_768
# The table that both sides have until told otherwise (RFC 9113 section 6.5.2); a larger one would gain nothing here.
TABLE_SIZE = 4_096
# Blocks worth remembering repeat; what does not repeat must not fill the memory.
_REMEMBERED_BLOCKS = 256
_REMEMBERED_HEADS = 64
_REMEMBERED_NAMES = 256
# Entries are evicted from the peer's table at most once in so many streams, so that header sets that do not fit
# together do not push each other out at every request.
_STREAMS_PER_EVICTION = 512
# https://www.rfc-editor.org/rfc/rfc7541#section-4.1
_ENTRY_OVERHEAD = 32
# A literal without indexing whose name is entry 4 of the static table, ":path" (RFC 7541 appendix A).
_PATH = b"\x04"
_SHORT_PATHS = [_PATH + bytes((length,)) for length in range(127)]

# Without their constructors' cost: heads are made by the million.
_new = tuple.__new__

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE = re.compile(rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")
_STATUS = re.compile(rb"[1-5][0-9][0-9]")
_LENGTH = re.compile(r"[0-9]{1,18}")
_PSEUDO_FAULT = "a pseudo-header that is wrong or out of place"
_LENGTH_FAULT = "a content-length that is none"
# RFC 9113 section 8.2.2; host is what :authority says.
_FORBIDDEN = frozenset(
    (b"connection", b"host", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade")
)


@lru_cache(maxsize=1)  # FCM's is always the same, APNs' never
def path_field(path: str) -> bytes:
    """Encode a request's path.

    Raises:
        ValueError: It cannot be one.
    """
    if not path.startswith("/") or not path.isascii() or not path.isprintable() or " " in path:
        raise ValueError("not a path")
    length = len(path)
    prefix = _SHORT_PATHS[length] if length < 127 else _PATH + bytes(encode_integer(length, 7))
    return prefix + path.encode()


class _Encoded(NamedTuple):
    """A header set's bytes around the path, good while the peer's table stays as it is."""

    headers: Headers  # held, so that its id stays its own
    before: bytes
    after: bytes


class RequestHeads:
    """The encoding side of one connection.

    Shared headers go into the peer's dynamic table with their first request and are a byte each from then on. Blocks
    must be sent in the order in which they were made.
    """

    def __init__(self, authority: str, unindexed: Collection[str] = ()) -> None:
        """Args: authority: host, and port unless 443. unindexed: names of headers to keep out of the peer's table."""
        self._encoder = Encoder()
        self._pseudo = ((b":method", b"POST"), (b":scheme", b"https"), (b":authority", authority.encode("ascii")))
        self._unindexed = frozenset(name.encode() for name in unindexed)
        self._known: dict[int, _Encoded] = {}
        self._evicted_at = 0

    def limit_table(self, size: int) -> None:
        """Take the size that the peer allows its table to have."""
        encoder = self._encoder
        size = min(size, TABLE_SIZE)
        if size == encoder.header_table_size:
            return  # set again, hpack would forget to tell of a change that is due
        encoder.header_table_size = size
        # The next block tells the smallest size since the last and the final one (RFC 7541 section 4.2). hpack would
        # tell all, also those that the peer does not allow any more.
        smallest = min(encoder.table_size_changes)
        encoder.table_size_changes = [smallest, size] if smallest < size else [size]
        self._known.clear()

    def around_path(self, headers: Headers, stream: int) -> tuple[bytes, bytes]:
        """Return a request's block up to its path and from there on. Every block made must be sent.

        Raises:
            ValueError: A header cannot be sent; nothing was made.
        """
        known = self._known.get(id(headers))
        if known is not None:
            return known.before, known.after
        fields = [_checked(name, value) for name, value in headers]
        table = self._encoder.header_table
        newest = table.dynamic_entries[0] if table.dynamic_entries else None
        resized = table.resized
        index = self._may_index([*self._pseudo, *fields], stream)
        before = self._encode(self._pseudo, index)
        after = self._encode(fields, index)
        if resized or newest is not (table.dynamic_entries[0] if table.dynamic_entries else None):
            # These bytes changed the table: they are good once, and what was known is good no more.
            self._known.clear()
        else:
            if len(self._known) >= _REMEMBERED_HEADS:
                self._known.clear()
            self._known[id(headers)] = _Encoded(headers, before, after)
        return before, after

    def _encode(self, fields: Iterable[tuple[bytes, bytes]], index: bool) -> bytes:
        return self._encoder.encode([(name, value, not index or name in self._unindexed) for name, value in fields])

    def _may_index(self, fields: Collection[tuple[bytes, bytes]], stream: int) -> bool:
        """Tell whether what is new among the fields may enter the table."""
        table = self._encoder.header_table
        entries = set(table.dynamic_entries)
        used = sum(map(_size, entries))
        new = sum(_size(field) for field in fields if field not in entries and field[0] not in self._unindexed)
        if used + new <= table.maxsize:
            return True
        if new <= table.maxsize and stream - self._evicted_at >= _STREAMS_PER_EVICTION:
            self._evicted_at = stream
            return True
        return False


def _size(field: tuple[bytes, bytes]) -> int:
    return len(field[0]) + len(field[1]) + _ENTRY_OVERHEAD


def _checked(name: str, value: str) -> tuple[bytes, bytes]:
    raw_name, raw_value = name.encode("ascii"), value.encode("latin-1")
    if not _NAME.fullmatch(raw_name) or raw_name in _FORBIDDEN or not _VALUE.fullmatch(raw_value):
        raise ValueError(f"header {name!r} cannot be sent")
    return raw_name, raw_value


class Head(NamedTuple):
    """What one header block of an answer says.

    Attributes:
        status: 0 where there is none, as in trailers.
        answer: The answer as it is when no body follows.
        length: Of the body, where it is said.
        fault: Why it is malformed (RFC 9113 section 8.1.1), or empty.
    """

    status: int
    answer: Answer
    length: int | None
    fault: str


# A header field of an answer as it is to be read: name, value, what is wrong with it.
_Field: TypeAlias = tuple[str, str, str]


@lru_cache(maxsize=_REMEMBERED_NAMES)
def _name(name: bytes) -> tuple[str, str]:
    if name.startswith(b":"):
        fault = "" if name == b":status" else _PSEUDO_FAULT
    else:
        fault = "" if _NAME.fullmatch(name) else "a header name that is none"
    return name.decode("latin-1"), fault


def _field(name: bytes, value: bytes) -> _Field:
    key, fault = _name(name)
    text = value.strip(b" \t").decode("latin-1")
    if name == b":status" and not _STATUS.fullmatch(value):
        fault = _PSEUDO_FAULT
    elif name == b"content-length" and not _LENGTH.fullmatch(text):
        fault = _LENGTH_FAULT
    return key, text, fault


# What blocks of one shape share: status, headers (one with another's value), length, and that one's name.
_Rest: TypeAlias = tuple[int, dict[str, str], int | None, str]


class AnswerHeads:
    """The decoding side of one connection. Every block that arrives must pass through it, in order."""

    def __init__(self) -> None:
        self._blocks = Blocks(_field, MAX_HEADER_LIST, TABLE_SIZE)
        self._memo: dict[bytes, Head] = {}
        self._shapes: Shapes[_Rest] = Shapes()
        self._latest = b""

    def read(self, block: bytes) -> Head:
        """Decode a block.

        A block means the same again while the peer's table stays as it was before and after it. One with a field that
        was not seen before is not remembered: it may be one of those that never come again. Of such a block the shape
        is, when it was its only new field.

        Raises:
            Violation: It cannot be decoded, or is too large.
        """
        head = self._memo.get(block)
        if head is not None:
            return head
        try:
            # One that comes twice in a row is about to be remembered as a whole, which is cheaper.
            found = self._shapes.find(block) if block != self._latest else None
            self._latest = block
            return self._read(block) if found is None else _with_value(*found)
        except HPACKError as error:
            # hpack's own words quote what the peer sent.
            fail(ErrorCode.COMPRESSION_ERROR, f"a header block that cannot be read: {type(error).__name__}")

    def _read(self, block: bytes) -> Head:
        blocks = self._blocks
        changes, unknown = blocks.changes, blocks.unknown
        fields = blocks.read(block)
        head = _read_fields(fields)
        if blocks.changes != changes:
            self._memo.clear()
            self._shapes.clear()
        elif blocks.unknown == unknown:
            if len(self._memo) >= _REMEMBERED_BLOCKS:
                self._memo.clear()
            self._memo[block] = head
        elif blocks.unknown == unknown + 1:
            self._learn(block, head, [name for name, _, _ in fields])
        return head

    def _learn(self, block: bytes, head: Head, names: list[str]) -> None:
        """Remember the shape of a block with one new field, if nothing else depends on that field's value."""
        literal, most = self._blocks.latest, longest(block, self._blocks.latest)
        name = literal.name.decode("latin-1")
        if head.fault or name.startswith(":") or name == "content-length" or names.count(name) > 1:
            return
        if most is not None and self._blocks.size + most <= MAX_HEADER_LIST:
            self._shapes.learn(block, literal, (head.status, dict(head.answer.headers), head.length, name))


def _with_value(rest: _Rest, value: str) -> Head:
    """Return the head of a block with this value in the field that varies."""
    status, headers, length, name = rest
    headers = headers.copy()
    headers[name] = value.strip(" \t")
    return _new(Head, (status, _new(Answer, (status, headers, b"")), length, ""))


def _read_fields(fields: Iterable[_Field]) -> Head:
    status, fault = 0, ""
    headers: dict[str, str] = {}
    for name, value, wrong in fields:
        if wrong:
            fault = wrong
        if name[:1] == ":":
            if status or headers:
                fault = _PSEUDO_FAULT
            elif not wrong:
                status = int(value)
        elif name in headers:
            headers[name] = f"{headers[name]}, {value}"
        else:
            headers[name] = value
    length = headers.get("content-length")
    if length is None or fault:
        size = None
    elif _LENGTH.fullmatch(length):
        size = int(length)
    else:  # several of them
        size, fault = None, _LENGTH_FAULT
    return Head(status, Answer(status, MappingProxyType(headers), b""), size, fault)
