"""Chunks as the ledger stores them: sets of ordinals packed small.

Belongs here: the row types of ``tables.CHUNKS`` and their binary columns. Does not belong here: reading them
(``chunks``), transactions (``broadcasts``).

Most chunks are a range of recipients who get their first attempt: then a few bytes say all, at any chunk size.
"""

import struct
import sys
import zlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from notify_pipeline.core.vocabulary import Outcome

# Speed over size: a chunk is written twice in its life and read after crashes only.
_LEVEL = 1
# What a packed column may begin with, beside zlib's 0x78: a range (first, count), one number many times (it, count).
_RANGE = struct.Struct("<cII")
_RANGE_TAG, _SAME_TAG = b"R", b"S"


@dataclass(frozen=True, slots=True)
class NewChunk:
    """The intent to send to some recipients of a shard.

    Attributes:
        ordinals: Which rows of the shard's file, ascending; a ``range`` is stored and comes back as one.
        attempts: The number of the attempt that this is for each.
        path: Where their attempts will be.
    """

    request_id: str
    shard: int
    chunk: int
    ordinals: Sequence[int]
    attempts: Sequence[int]
    intended_at: int
    run_id: str
    path: str


@dataclass(frozen=True, slots=True)
class ChunkRow(NewChunk):
    """A stored chunk: ``counts`` and ``retries`` are what it was settled with."""

    state: str
    counts: Mapping[Outcome, int]
    retries: Sequence[tuple[int, int]]


def new_chunk_values(new: NewChunk) -> dict[str, Any]:
    """Return the row of a new chunk."""
    return {
        "request_id": new.request_id,
        "shard": new.shard,
        "chunk": new.chunk,
        "ordinals": _pack("I", new.ordinals),
        "attempts": _pack("H", new.attempts),
        "intended_at": new.intended_at,
        "run_id": new.run_id,
        "state": "intended",
        "path": new.path,
    }


def chunk_row(row: Mapping[Any, Any]) -> ChunkRow:
    """Build a chunk from the columns of ``tables.CHUNKS``."""
    counts = {} if row["counts"] is None else orjson.loads(row["counts"])
    return ChunkRow(
        request_id=row["request_id"],
        shard=row["shard"],
        chunk=row["chunk"],
        ordinals=_unpack("I", row["ordinals"]),
        attempts=_unpack("H", row["attempts"]),
        intended_at=row["intended_at"],
        run_id=row["run_id"],
        path=row["path"],
        state=row["state"],
        counts={Outcome(name): number for name, number in counts.items()},
        retries=() if row["retries"] is None else unpack_retries(row["retries"]),
    )


def pack_retries(retries: Sequence[tuple[int, int]]) -> bytes:
    """Pack (ordinal, due at) pairs: all ordinals, then all times."""
    ordinals, times = zip(*retries, strict=True)
    return zlib.compress(_bytes("I", ordinals) + _bytes("q", times), _LEVEL)


def unpack_retries(packed: bytes) -> list[tuple[int, int]]:
    """Undo ``pack_retries``."""
    raw = zlib.decompress(packed)
    cut = len(raw) // 12 * 4  # four bytes of each ordinal, eight of each time
    return list(zip(_array("I", raw[:cut]), _array("q", raw[cut:]), strict=True))


def tried_before(packed: bytes) -> int:
    """Return how many of a chunk's recipients, by its packed ``attempts``, had an earlier attempt."""
    if packed[:1] == _SAME_TAG:  # as nearly all are
        _, attempt, count = _RANGE.unpack(packed)
        return count if attempt > 1 else 0
    return sum(attempt > 1 for attempt in _unpack("H", packed))


def _pack(kind: str, numbers: Sequence[int]) -> bytes:
    if isinstance(numbers, range) and numbers.step == 1:
        return _RANGE.pack(_RANGE_TAG, numbers.start, len(numbers))
    packed = numbers if isinstance(numbers, array) and numbers.typecode == kind else array(kind, numbers)
    if packed and packed == packed[:1] * len(packed):
        return _RANGE.pack(_SAME_TAG, packed[0], len(packed))
    return zlib.compress(_bytes(kind, packed), _LEVEL)


def _unpack(kind: str, packed: bytes) -> Sequence[int]:
    if packed[:1] in (_RANGE_TAG, _SAME_TAG):
        tag, first, count = _RANGE.unpack(packed)
        return range(first, first + count) if tag == _RANGE_TAG else array(kind, [first]) * count
    return _array(kind, zlib.decompress(packed))


def _bytes(kind: str, numbers: Sequence[int]) -> bytes:
    packed = array(kind, numbers)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def _array(kind: str, raw: bytes) -> "array[int]":
    numbers = array(kind, raw)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
