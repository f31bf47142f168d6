"""Rows of the lake's attempts, by request, delivery or user, without reading what is of no concern.

Belongs here: reading attempts files a row group at a time, and waiting for what has not landed. Does not belong here:
which files there are (``core.ledger.segments``), what the rows add up to (``reading_recipients``,
``reading_messages``).
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import outbox
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.schemas import ATTEMPTS
from notify_pipeline.core.vocabulary import Channel, Outcome

Row = dict[str, Any]
COLUMNS = (
    "request_id",
    "channel",
    "platform",
    "recipient",
    "user_id",
    "delivery_id",
    "shard",
    "attempt_no",
    "sent_at",
    "outcome",
    "provider_code",
    "provider_message_id",
    "consent",
)
# Files read side by side: they are small, and on S3 each is a few round trips.
_READERS = 8
# Files whose rows are handed over together.
BATCH = 64
_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class RecipientFilter:
    """Which recipients; None means any. ``pending`` asks for those without an outcome yet."""

    outcome: Outcome | None = None
    pending: bool = False
    channel: Channel | None = None


@dataclass(frozen=True, slots=True)
class RecipientRow:
    """One recipient of a send and what became of it.

    Attributes:
        recipient: The address, such as a device token.
        user_id: Whose it was then, where known.
        channel: None where none was found.
        platform: Likewise.
        delivery_id: The same in every attempt.
        outcome: Of the last attempt; None while there may be another.
        provider_code: What the provider said last, or why it was skipped.
        provider_message_id: The provider's id of an accepted message.
        attempts: Attempts begun; 0 where it got none.
        last_attempt_at: When the last one began, or when it was skipped.
        consent: On whose word it was sent to or not (``core.consents``), where anybody was asked.
    """

    recipient: str
    user_id: str | None
    channel: str | None
    platform: str | None
    delivery_id: str
    outcome: str | None
    provider_code: str | None
    provider_message_id: str | None
    attempts: int
    last_attempt_at: datetime | None
    consent: str | None

    def fits(self, where: RecipientFilter) -> bool:
        """Tell whether a filter asks for it."""
        if where.channel is not None and self.channel != where.channel:
            return False
        return self.outcome is None if where.pending else where.outcome is None or self.outcome == where.outcome


def matching(lake: Lake, paths: Sequence[str], where: Mapping[str, Sequence[str]]) -> Iterator[list[Row]]:
    """Yield the rows that have one of these values in each of these columns, some files' at a time, in their order.

    Raises:
        FileNotFoundError: A file is gone, as after a compaction: ask again which there are.
    """
    if len(paths) <= 1:
        yield [row for path in paths for row in rows(lake, path, where)]
        return
    with ThreadPoolExecutor(_READERS, "attempts") as pool:
        for start in range(0, len(paths), BATCH):
            read = pool.map(lambda path: rows(lake, path, where), paths[start : start + BATCH])
            yield [row for found in read for row in found]


def rows(lake: Lake, path: str, where: Mapping[str, Sequence[str]]) -> list[Row]:
    """Return one file's rows that fit.

    Raises:
        FileNotFoundError: It is not there.
    """
    found: list[Row] = []
    with lake.open_parquet(path) as file:
        names = file.schema_arrow.names
        if not set(where) <= set(names):
            return []
        columns = [name for name in COLUMNS if name in names]
        for number in range(file.metadata.num_row_groups):
            if _may_hold(file.metadata.row_group(number), names, where):
                found += _of_group(file, number, columns, where)
    return found


def _of_group(file: pq.ParquetFile, number: int, columns: list[str], where: Mapping[str, Sequence[str]]) -> list[Row]:
    keys = file.read_row_group(number, list(where), use_threads=False)
    masks = [pc.is_in(keys[name], value_set=pa.array(values, pa.string())) for name, values in where.items()]
    fits = reduce(pc.and_, masks)
    if not pc.any(fits).as_py():
        return []
    found: list[Row] = file.read_row_group(number, columns, use_threads=False).filter(fits).to_pylist()
    return found


def _may_hold(group: pq.RowGroupMetaData, names: list[str], where: Mapping[str, Sequence[str]]) -> bool:
    """Tell by a row group's statistics whether it may have such rows."""
    for name, values in where.items():
        statistics = group.column(names.index(name)).statistics
        if statistics is None or not statistics.has_min_max:
            continue
        if not any(statistics.min <= value <= statistics.max for value in values):
            return False
    return True


def wait_until_landed(ledger: Ledger, wait_s: float) -> bool:
    """Wait for all attempts committed by now to be in the lake; False when that takes too long."""
    mark = outbox.high_water(ledger, ATTEMPTS.name)
    deadline = time.monotonic() + wait_s
    while outbox.pending_through(ledger, ATTEMPTS.name, mark):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_LOOK_S)
    return True
