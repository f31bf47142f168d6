"""Append-only NDJSON logs on disk: what the sandbox saw, for checks to compare with.

Belongs here: numbering lines, writing them so that they outlive the process, and streaming them back. Does not belong
here: what a line says (``standin``, ``devices``, ``cdn``).

A log is a folder of segments named by the number of their first line. Numbers begin at 1, grow by one per line and go
on after a restart. A line cut off by a crash is removed at the next start: it was never answered for, because
``commit`` comes before the answer. Data survives the death of the process, not of the machine (no fsync).
"""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson

# Small enough that skipping to a line inside one segment costs tens of milliseconds, large enough that a million
# lines are twenty files.
_SEGMENT_LINES = 50_000
_BLOCK = 1 << 18


class TruthLog:
    """One numbered log. Not thread-safe: one event loop writes it."""

    def __init__(self, folder: Path, segment_lines: int = _SEGMENT_LINES) -> None:
        """Open the log, or make it, and find the next number.

        Args:
            folder: Holds nothing but this log's segments.
            segment_lines: Lines per file.
        """
        self._folder = folder
        self._segment_lines = segment_lines
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._firsts = sorted(int(path.stem) for path in folder.glob("*.ndjson"))
        if self._firsts:
            self._next = self._firsts[-1] + _repair(self._path(self._firsts[-1]))
        else:
            self._firsts.append(1)
            self._next = 1
        self._pending: list[bytes] = []
        self._handle = self._open()

    @property
    def last(self) -> int:
        """The number of the last line, 0 before the first."""
        return self._next - 1

    def append(self, record: dict[str, Any]) -> int:
        """Number a record and hold it for the next commit; return its number."""
        number = self._next
        record["n"] = number
        self._pending.append(orjson.dumps(record))
        self._next += 1
        if self._next - self._firsts[-1] >= self._segment_lines:
            self.commit()
            os.close(self._handle)
            self._firsts.append(self._next)
            self._handle = self._open()
        return number

    def commit(self) -> None:
        """Hand every held line to the operating system. Raises OSError when that fails."""
        if not self._pending:
            return
        self._pending.append(b"")
        data = memoryview(b"\n".join(self._pending))
        self._pending.clear()
        while data:
            data = data[os.write(self._handle, data) :]

    async def stream(self, since: int) -> AsyncIterator[bytes]:
        """Yield blocks of whole lines with numbers above ``since``, up to what was committed at the call."""
        self.commit()
        end = self._next
        for index, first in enumerate(list(self._firsts)):
            following = self._firsts[index + 1] if index + 1 < len(self._firsts) else end
            if following - 1 <= since or first >= end:
                continue
            async for block in _lines(self._path(first), max(0, since + 1 - first), min(following, end) - first):
                yield block

    def close(self) -> None:
        """Commit and close. The log must not be used afterwards."""
        self.commit()
        os.close(self._handle)

    def _path(self, first: int) -> Path:
        return self._folder / f"{first:012d}.ndjson"

    def _open(self) -> int:
        return os.open(self._path(self._firsts[-1]), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def _repair(path: Path) -> int:
    """Cut a torn last line off a segment; return how many lines are left."""
    count, whole, offset = 0, 0, 0
    with path.open("rb+") as file:
        while block := file.read(_BLOCK):
            count += block.count(b"\n")
            last = block.rfind(b"\n")
            if last >= 0:
                whole = offset + last + 1
            offset += len(block)
        file.truncate(whole)
    return count


async def _lines(path: Path, skip: int, stop: int) -> AsyncIterator[bytes]:
    """Yield the lines [skip, stop) of one segment in blocks that end at a line's end."""
    position = 0  # lines before the block at hand
    rest = b""
    with path.open("rb") as file:
        while position < stop and (read := file.read(_BLOCK)):
            # Reading a large log must not hold up the stand-ins that share the event loop.
            await asyncio.sleep(0)
            end = read.rfind(b"\n") + 1
            if end == 0:
                rest += read
                continue
            block, rest = rest + read[:end], read[end:]
            lines = block.count(b"\n")
            if position >= skip and position + lines <= stop:
                yield block
            elif position + lines > skip:
                kept = block.splitlines(keepends=True)[max(0, skip - position) : stop - position]
                yield b"".join(kept)
            position += lines
