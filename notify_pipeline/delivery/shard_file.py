"""A shard's recipients, read from its file in the lake as they are needed.

Belongs here: finding rows by their number while holding only a few row groups. Does not belong here: writing the file
(``snapshot``), who comes next (``shard_state``).
"""

import threading
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from notify_pipeline.core.lake import Lake

# Row groups kept decoded, some 2 MB each. Fresh chunks go through the file in order, so those in flight are in at most
# two or three groups; a chunk of retries goes through all groups once, whatever is kept.
_KEPT = 3


class ShardFile:
    """The rows of one shard's file; may be shared by threads. Make one with ``open_shard``."""

    def __init__(self, file: pq.ParquetFile) -> None:
        self._file = file
        self._starts = [0]
        for number in range(file.metadata.num_row_groups):
            self._starts.append(self._starts[-1] + file.metadata.row_group(number).num_rows)
        self._kept: OrderedDict[int, pa.Table] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self._starts[-1]

    def take(self, ordinals: Sequence[int]) -> pa.Table:
        """Return the rows of these numbers, which must ascend; each row group is decoded once at most.

        Raises:
            ValueError: They do not ascend, or there is no such row.
        """
        if not isinstance(ordinals, range) and any(a >= b for a, b in zip(ordinals, ordinals[1:], strict=False)):
            raise ValueError("a chunk's ordinals do not ascend")
        if ordinals and (ordinals[0] < 0 or ordinals[-1] >= self.rows):
            raise ValueError(f"rows {ordinals[0]}…{ordinals[-1]} of a shard that has {self.rows}")
        with self._lock:
            parts = list(self._parts(ordinals))
        return pa.concat_tables(parts) if parts else self._file.schema_arrow.empty_table()

    def _parts(self, ordinals: Sequence[int]) -> Iterator[pa.Table]:
        done = 0
        while done < len(ordinals):
            number = bisect_right(self._starts, ordinals[done]) - 1
            first, end = self._starts[number], self._starts[number + 1]
            group = self._group(number)
            if isinstance(ordinals, range):
                until = min(len(ordinals), done + end - ordinals[done])
                yield group.slice(ordinals[done] - first, until - done)
            else:
                until = bisect_left(ordinals, end, done)
                yield group.take(pa.array(array("I", (at - first for at in ordinals[done:until]))))
            done = until

    def _group(self, number: int) -> pa.Table:
        if number not in self._kept:
            while len(self._kept) >= _KEPT:
                self._kept.popitem(last=False)
            # One thread: a shard's process has its own, and a group is decoded in a few milliseconds.
            self._kept[number] = self._file.read_row_group(number, use_threads=False)
        self._kept.move_to_end(number)
        return self._kept[number]


@contextmanager
def open_shard(lake: Lake, path: str) -> Iterator[ShardFile]:
    """Yield a shard's rows.

    Raises:
        FileNotFoundError: Its file is not there.
    """
    with lake.open_parquet(path) as file:
        yield ShardFile(file)
