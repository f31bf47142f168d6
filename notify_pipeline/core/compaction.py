"""Compaction: the many small files of a past hour become one, without a row lost or kept twice for long.

Belongs here: reading small Parquet files and writing the large one. Does not belong here: the plan
(``ledger.compactions``), when it runs (``defs.maintenance``).

Readers meet three moments: the small files alone, both (from the rename of the large file until the small ones are
deleted, a grace later so that whoever listed them can still read them), and the large one alone. In the second, rows
appear twice, identical; every reader of these tables tells rows apart by their keys.

Two kinds of files are compacted: what the lander wrote, and the chunks of broadcasts that are over, which are first
taken into the plan. Receipts are not: their files are named after their log files, and made again byte by byte.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import pyarrow as pa

from notify_pipeline.core.ids import new_id
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import compactions, leases
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.partitions import HOUR, partition_of
from notify_pipeline.core.schemas import ATTEMPTS, LANDING_TABLES, LakeTable

# Longer than any query takes from listing a file to reading it.
GRACE = timedelta(minutes=10)
# Replaced files are deleted again for this long: a lander that slept since may have written one once more.
_DELETE_AGAIN = timedelta(hours=6)
# One file takes seconds; a dead compactor's successor comes an hour later anyway.
_LEASE_S = 300.0
# Rows per group of the written file: enough to compress and to skip well, and a bound on memory.
_GROUP_ROWS = 100_000
# How the delivery names a chunk's file: bc-<request_id>-<shard>-<chunk>.parquet.
_CHUNK_PREFIX = "bc-"
# Chunks are looked for in so many days back, not in all of history; a broadcast takes minutes.
_ADOPT_DAYS = 8


@dataclass(frozen=True, slots=True)
class CompactReport:
    """What one run did.

    Attributes:
        adopted: Files of finished broadcasts taken into the plan.
        planned: New files planned.
        compacted: New files written, those of a dead predecessor included.
        inputs: Small files in them.
        rows: Rows in them.
        deleted: Paths of replaced files told to go (again, for some hours).
        stopped_reason: ``done``; ``not_leader``: another works on this table; ``lease_lost``: another took over.
    """

    adopted: int = 0
    planned: int = 0
    compacted: int = 0
    inputs: int = 0
    rows: int = 0
    deleted: int = 0
    stopped_reason: Literal["done", "not_leader", "lease_lost"] = "done"


def compact(
    ledger: Ledger,
    lake: Lake,
    table: LakeTable | str,
    older_than: timedelta,
    now: datetime,
    grace: timedelta = GRACE,
) -> CompactReport:
    """Compact the past hours of one landing table, and delete what earlier runs replaced.

    Args:
        ledger: Holds the plan.
        lake: Holds the files.
        table: One of ``schemas.LANDING_TABLES``.
        older_than: How long ago an hour must have ended. Late rows make small files again, for the next run.
        now: The time.
        grace: How long a replaced file stays.

    Returns:
        What was done.

    Raises:
        KeyError: The table does not land.
        FileNotFoundError: A file that the plan counts on is missing: the lake was tampered with. Nothing is replaced.
    """
    name = LANDING_TABLES[table if isinstance(table, str) else table.name].name
    lease = leases.acquire(ledger, f"compaction/{name}", f"compactor-{new_id()}", _LEASE_S, now)
    if lease is None:
        return CompactReport(stopped_reason="not_leader")
    try:
        adopted = _adopt_chunks(ledger, lake, now - older_than, now) if name == ATTEMPTS.name else 0
        planned = compactions.plan(ledger, lease, name, now - older_than, now)
        todo = compactions.planned(ledger, name)
        rows = sum(_carry_out(ledger, lake, lease, LANDING_TABLES[name], each, now) for each in todo)
        deleted = _delete_replaced(ledger, lake, name, grace, now)
        return CompactReport(adopted, planned, len(todo), sum(len(each.inputs) for each in todo), rows, deleted)
    except leases.LeaseLost:
        return CompactReport(stopped_reason="lease_lost")
    finally:
        leases.release(ledger, lease)


def _carry_out(
    ledger: Ledger,
    lake: Lake,
    lease: leases.Lease,
    table: LakeTable,
    compaction: compactions.Compaction,
    now: datetime,
) -> int:
    rows = _write(lake, table, compaction)
    compactions.finish(ledger, lease, compaction, rows, now)
    return rows


def _delete_replaced(ledger: Ledger, lake: Lake, lake_table: str, grace: timedelta, now: datetime) -> int:
    gone = compactions.deletable(ledger, lake_table, now - grace, now - _DELETE_AGAIN)
    lake.delete(gone.values())
    compactions.mark_deleted(ledger, gone, now)
    compactions.forget(ledger, lake_table, now)
    return len(gone)


def _write(lake: Lake, table: LakeTable, compaction: compactions.Compaction) -> int:
    rows = 0
    with lake.writer(compaction.path, table.schema) as writer:
        for group in _groups(lake, table, compaction.inputs):
            writer.write_table(group)
            rows += group.num_rows
    return rows


def _groups(lake: Lake, table: LakeTable, paths: tuple[str, ...]) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    for path in paths:
        waiting.append(_conform(lake.read(path), table.schema))
        if sum(part.num_rows for part in waiting) >= _GROUP_ROWS:
            yield pa.concat_tables(waiting).combine_chunks()
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()


def _conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the table with exactly the schema's columns: one that it was written without is null."""
    held = set(table.column_names)
    columns = [
        table[field.name].cast(field.type) if field.name in held else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _adopt_chunks(ledger: Ledger, lake: Lake, before: datetime, now: datetime) -> int:
    """Take the chunks of broadcasts that are over, in hours that ended by ``before``, into the plan."""
    found = []
    days = [(before - timedelta(days=n)).date() for n in range(_ADOPT_DAYS)]
    for file in (file for day in days for file in lake.list(f"{ATTEMPTS.name}/date={day}")):
        name = file.path.rpartition("/")[2].removesuffix(".parquet")
        hour = partition_of(file.path)
        if name.startswith(_CHUNK_PREFIX) and hour + HOUR <= before:
            found.append((name, file.path, hour))
    over = compactions.finished_requests(ledger, (name.split("-")[1] for name, _, _ in found))
    return compactions.adopt(ledger, ATTEMPTS.name, [f for f in found if f[0].split("-")[1] in over], now)
