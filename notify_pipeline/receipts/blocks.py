"""A log file's bytes as blocks of whole lines, however the file is compressed and however it is damaged.

Belongs here: gzip, zstd and plain files, cutting at newlines, what can be read of a broken file. Does not belong here:
what a line means (``lines``).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import zstandard
from isal import isal_zlib

from notify_pipeline.receipts.lines import MAX_LINE_BYTES, Reason
from notify_pipeline.receipts.vectors import bytes_of

# 256 KiB of gzip inflate in about a millisecond and stay in the cache; larger steps only cost memory copies.
_STEP = 256 * 1024
# What a step of gzip inflates to at once; usually it is a fourth of this, but a thousandfold may be in it.
_PIECE = 8 * 1024 * 1024
# A block holds some 36,000 lines: enough that the vectorised parse's fixed cost, and waiting for other threads between
# its steps, hardly show. Larger ones are slower again: fresh memory for so many columns costs more than the work.
_BLOCK = 12 * 1024 * 1024
_NEWLINE = ord("\n")
_KEEP_RAW = 1024
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
# ISA-L's stubs call its exception class an instance.
_INFLATE_ERRORS: tuple[type[Exception], ...] = (isal_zlib.error, zstandard.ZstdError)  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines, and the number of the first (from 1)."""

    data: bytes
    first_line: int


@dataclass(frozen=True, slots=True)
class Damage:
    """A line, or the rest of the file, that cannot be read at all. ``raw`` is its beginning."""

    reason: Reason
    line_no: int
    raw: bytes


class _BrokenStreamError(Exception):
    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class _Member(Protocol):
    """One compressed stream within the file."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def inflate(self, data: bytes) -> Iterator[bytes]:
        """Yield what a step gives; nothing is held back."""


class _Gzip:
    """ISA-L's: a zlib, twice as fast."""

    def __init__(self) -> None:
        self._stream = isal_zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def inflate(self, data: bytes) -> Iterator[bytes]:
        while True:
            piece = self._stream.decompress(data, _PIECE)
            yield piece
            data = self._stream.unconsumed_tail
            if len(piece) < _PIECE and not data:
                return


class _Zstd:
    def __init__(self) -> None:
        self._stream = zstandard.ZstdDecompressor().decompressobj()

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def inflate(self, data: bytes) -> Iterator[bytes]:
        yield self._stream.decompress(data)


def read_blocks(name: str, raw: bytes, block_bytes: int = _BLOCK) -> Iterator[Block | Damage]:
    """Yield a log file's lines in blocks, in order, and what is damaged where it is met.

    Args:
        name: The file's name; ``.gz`` and ``.zst`` must be what they say.
        raw: The file as stored.
        block_bytes: Blocks are at least this large, but for the last.

    Yields:
        Blocks that end at a line's end. Of a line that grows beyond MAX_LINE_BYTES without an end in sight only the
        report is kept. The torn last line of a truncated file is part of the report of that damage.
    """
    cutter = _Cutter(block_bytes)
    try:
        for piece in _pieces(name, raw):
            # What repeats itself inflates a thousandfold; parsed at once, it would take many times that again.
            for start in range(0, len(piece), block_bytes):
                yield from cutter.feed(piece[start : start + block_bytes])
    except _BrokenStreamError as broken:
        yield from cutter.cut()
        yield Damage(broken.reason, cutter.line_no, cutter.rest[:_KEEP_RAW])
        return
    yield from cutter.finish()


class _Cutter:
    """Gathers pieces and cuts them at newlines."""

    def __init__(self, block_bytes: int) -> None:
        self._block_bytes = block_bytes
        self._pieces: list[bytes] = []
        self._size = 0
        self._skipping = False  # within an endless line that is already reported
        self.line_no = 1

    @property
    def rest(self) -> bytes:
        """What has not been cut off yet."""
        return b"".join(self._pieces)

    def feed(self, piece: bytes) -> Iterator[Block | Damage]:
        if self._skipping:
            _, newline, piece = piece.partition(b"\n")
            if not newline:
                return
            self._skipping = False
            self.line_no += 1
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size >= self._block_bytes:
            yield from self.cut()
            yield from self._refuse_endless()

    def cut(self) -> Iterator[Block]:
        """Yield all whole lines gathered so far."""
        rest: list[bytes] = []
        while self._pieces:
            last = self._pieces.pop()
            if end := last.rfind(b"\n") + 1:
                data = b"".join((*self._pieces, last[:end]))
                yield Block(data, self.line_no)
                self.line_no += int((bytes_of(data) == _NEWLINE).sum())
                self._pieces.clear()
                last = last[end:]
            rest.append(last)
        self._pieces = rest[::-1]
        self._size = sum(map(len, rest))

    def finish(self) -> Iterator[Block]:
        """Yield what is left at the file's end; its last line needs no newline."""
        yield from self.cut()
        if self._pieces:
            yield Block(self.rest, self.line_no)

    def _refuse_endless(self) -> Iterator[Damage]:
        if self._size > MAX_LINE_BYTES:
            yield Damage(Reason.TOO_LONG, self.line_no, self.rest[:_KEEP_RAW])
            self._pieces, self._size, self._skipping = [], 0, True


def _pieces(name: str, raw: bytes) -> Iterator[bytes]:
    if name.endswith(".gz") or raw.startswith(_GZIP_MAGIC):
        yield from _members(raw, _Gzip, _GZIP_MAGIC)
    elif name.endswith((".zst", ".zstd")) or raw.startswith(_ZSTD_MAGIC):
        yield from _members(raw, _Zstd, _ZSTD_MAGIC)
    else:
        for start in range(0, len(raw), _STEP):
            yield raw[start : start + _STEP]


def _members(raw: bytes, start: Callable[[], _Member], magic: bytes) -> Iterator[bytes]:
    """Inflate one compressed stream after another; zero padding after the last is legal (RFC 1952 writers do it)."""
    position, member = 0, start()
    while position < len(raw):
        step = raw[position : position + _STEP]
        position += len(step)
        try:
            yield from member.inflate(step)
        except _INFLATE_ERRORS:
            # What this step would have given is lost with it: bytes next to damage cannot be trusted anyway.
            raise _BrokenStreamError(Reason.CORRUPT_FILE) from None
        if member.eof:
            position -= len(member.unused_data)
            if not raw[position:].strip(b"\0"):
                return
            if not raw.startswith(magic, position):
                raise _BrokenStreamError(Reason.CORRUPT_FILE)
            member = start()
    raise _BrokenStreamError(Reason.TRUNCATED_FILE)
