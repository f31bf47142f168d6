"""The outbox: what the lake must come to know, written in the transaction that made it true.

Belongs here: adding rows, planning and settling the segments that carry them, and waiting for them. Does not belong
here: Parquet and files (``core.lander``).

Exactly once: a row is assigned to one segment in the transaction that creates the segment, and leaves in the
transaction that marks it landed. On PostgreSQL a lower ``seq`` may become visible after a higher one; nothing here
depends on the order, because what counts is whether a row has a segment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from notify_pipeline.core.ids import new_id, to_micros
from notify_pipeline.core.ledger import leases
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.outbox_tables import OUTBOX, OUTBOX_REJECTED, SEGMENTS
from notify_pipeline.core.ledger.statements import Prepared
from notify_pipeline.core.partitions import HOUR_US, segment_path
from notify_pipeline.core.schemas import LANDING_TABLES

# One plan looks at this many outbox rows per lake table at most, so that it never holds the ledger for long.
PLAN_OUTBOX_ROWS = 2_000
# A segment takes outbox rows until it holds this many lake rows (a batch may carry thousands).
SEGMENT_ROWS = 200_000

_COLUMNS = {name: frozenset(table.schema.names) for name, table in LANDING_TABLES.items()}
_ADD = Prepared(
    lambda _: insert(OUTBOX).values(
        lake_table=bindparam("lake_table"),
        rows=bindparam("rows"),
        row_count=bindparam("row_count"),
        at=bindparam("at"),
    ),
    ("lake_table", "rows", "row_count", "at"),
)


@dataclass(frozen=True, slots=True)
class Segment:
    """A file of the lake that is planned: all its rows are assigned and never change."""

    segment_id: str
    lake_table: str
    path: str


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One outbox row of a planned segment; ``rows`` is a JSON list of rows of the lake table."""

    seq: int
    rows: str
    at: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """An outbox row that could not become rows of its table, and why."""

    row: OutboxRow
    error: str


@dataclass(frozen=True, slots=True)
class Landed:
    """What the lander reports of one segment."""

    lease: leases.Lease
    segment: Segment
    row_count: int
    rejected: tuple[Rejected, ...]
    at: datetime


def add(conn: Connection, lake_table: str, rows: Sequence[Mapping[str, Any]], at: datetime) -> None:
    """Add rows for the lake to the caller's transaction.

    Rows are put in the partition of their own time (the table's ``partition_by`` column), one outbox row per hour.

    Args:
        conn: The connection of the write handler.
        lake_table: A name in ``schemas.LANDING_TABLES``.
        rows: Values by column; absent columns are null; times as microseconds since the epoch.
        at: Dates a row whose own time is null.

    Raises:
        KeyError: The lake table does not exist.
        ValueError: A row has a column that the table lacks.
    """
    columns, partition_by = _COLUMNS[lake_table], LANDING_TABLES[lake_table].partition_by
    hours: dict[int, list[Mapping[str, Any]]] = {}
    for row in rows:
        if not row.keys() <= columns:
            raise ValueError(f"{lake_table} has no column {sorted(row.keys() - columns)}")
        moment = row.get(partition_by)
        hours.setdefault((to_micros(at) if moment is None else moment) // HOUR_US, []).append(row)
    for hour, members in hours.items():
        first = members[0].get(partition_by)
        values = (lake_table, orjson.dumps(members).decode(), len(members), hour * HOUR_US if first is None else first)
        _ADD.run_values(conn, values)


def high_water(ledger: Ledger, lake_table: str) -> int:
    """Return a number such that everything of the table committed before this call has it or a lower one.

    0 when nothing waits. Hand it to ``pending_through`` until that says 0.
    """
    query = select(OUTBOX.c.seq).where(OUTBOX.c.lake_table == lake_table).order_by(OUTBOX.c.seq.desc()).limit(1)
    with ledger.read() as conn:
        return int(conn.execute(query).scalar() or 0)


def pending_through(ledger: Ledger, lake_table: str, seq: int) -> int:
    """Return how many outbox rows of the table up to ``seq`` have not landed yet (counted up to 1,000)."""
    waiting = select(OUTBOX.c.seq).where(OUTBOX.c.lake_table == lake_table, OUTBOX.c.seq <= seq).limit(1_000)
    with ledger.read() as conn:
        return int(conn.execute(select(func.count()).select_from(waiting.subquery())).scalar_one())


def is_empty(ledger: Ledger) -> bool:
    """Tell whether nothing waits for the lake and no landing is half-done."""
    waiting = select(OUTBOX.c.seq).limit(1)
    half_done = (
        select(SEGMENTS.c.segment_id).where(SEGMENTS.c.state == "planned", SEGMENTS.c.kind == "landing").limit(1)
    )
    with ledger.read() as conn:
        return conn.execute(waiting).first() is None and conn.execute(half_done).first() is None


def depth(ledger: Ledger) -> dict[str, int]:
    """Return how many rows wait for the lake, by table; for metrics."""
    query = select(OUTBOX.c.lake_table, func.sum(OUTBOX.c.row_count)).group_by(OUTBOX.c.lake_table)
    with ledger.read() as conn:
        return {name: int(count) for name, count in conn.execute(query)}


def assign(ledger: Ledger, lease: leases.Lease, now: datetime) -> int:
    """Plan segments for waiting rows, one lake table and one hour each; return how many were planned.

    Raises:
        LeaseLost: The caller is no longer the lander.
    """
    return ledger.write(_assign, (lease, now))


def planned(ledger: Ledger) -> list[Segment]:
    """Return the lander's segments that have not landed, oldest plan first."""
    query = (
        select(SEGMENTS.c.segment_id, SEGMENTS.c.lake_table, SEGMENTS.c.path)
        .where(SEGMENTS.c.state == "planned", SEGMENTS.c.kind == "landing")
        .order_by(SEGMENTS.c.planned_at, SEGMENTS.c.segment_id)
    )
    with ledger.read() as conn:
        return [Segment(*row) for row in conn.execute(query)]


def rows(ledger: Ledger, segment: Segment) -> list[OutboxRow] | None:
    """Return all rows of a planned segment by ``seq``; None when it has landed meanwhile (then its rows are gone)."""
    state = select(SEGMENTS.c.state).where(SEGMENTS.c.segment_id == segment.segment_id)
    members = (
        select(OUTBOX.c.seq, OUTBOX.c.rows, OUTBOX.c.at)
        .where(OUTBOX.c.segment_id == segment.segment_id)
        .order_by(OUTBOX.c.seq)
    )
    with ledger.read() as conn:
        if conn.execute(state).scalar() != "planned":
            return None
        return [OutboxRow(*row) for row in conn.execute(members)]


def mark_landed(ledger: Ledger, landed: Landed) -> bool:
    """Record that a segment's file is durable, keep its rejected rows aside and let the others go.

    Returns:
        False when it was landed already.

    Raises:
        LeaseLost: The caller is no longer the lander; its file is the same as its successor's.
    """
    return ledger.write(_mark_landed, landed)


def _assign(conn: Connection, items: Sequence[tuple[leases.Lease, datetime]]) -> list[int]:
    results = []
    for lease, now in items:
        leases.check(conn, lease)
        results.append(sum(_assign_table(conn, name, now) for name in LANDING_TABLES))
    return results


def _assign_table(conn: Connection, lake_table: str, now: datetime) -> int:
    waiting = (
        select(OUTBOX.c.seq, OUTBOX.c.at, OUTBOX.c.row_count)
        .where(OUTBOX.c.segment_id.is_(None), OUTBOX.c.lake_table == lake_table)
        .order_by(OUTBOX.c.seq)
        .limit(PLAN_OUTBOX_ROWS)
    )
    # (first, last) seq of each open segment of an hour, and its lake rows so far.
    spans: list[list[int]] = []
    latest: dict[int, list[int]] = {}
    for seq, at, row_count in conn.execute(waiting):
        span = latest.get(at // HOUR_US)
        if span is None or span[3] + row_count > SEGMENT_ROWS:
            span = latest[at // HOUR_US] = [at // HOUR_US, seq, seq, 0]
            spans.append(span)
        span[2] = seq
        span[3] += row_count
    for hour, first, last, _ in spans:
        _plan(conn, lake_table, hour, (first, last), now)
    return len(spans)


def _plan(conn: Connection, lake_table: str, hour: int, span: tuple[int, int], now: datetime) -> None:
    segment_id = new_id()
    conn.execute(
        insert(SEGMENTS).values(
            segment_id=segment_id,
            lake_table=lake_table,
            kind="landing",
            path=segment_path(lake_table, hour * HOUR_US, segment_id),
            partition_at=hour * HOUR_US,
            state="planned",
            planned_at=to_micros(now),
        )
    )
    # PostgreSQL may show rows here that the SELECT did not see yet: they join, and the file is read back by segment.
    conn.execute(
        update(OUTBOX)
        .where(
            OUTBOX.c.segment_id.is_(None),
            OUTBOX.c.lake_table == lake_table,
            OUTBOX.c.seq.between(*span),
            OUTBOX.c.at.between(hour * HOUR_US, (hour + 1) * HOUR_US - 1),
        )
        .values(segment_id=segment_id)
    )


def _mark_landed(conn: Connection, items: Sequence[Landed]) -> list[bool]:
    return [_mark_one(conn, landed) for landed in items]


def _mark_one(conn: Connection, landed: Landed) -> bool:
    leases.check(conn, landed.lease)
    segment_id = landed.segment.segment_id
    moved = conn.execute(
        update(SEGMENTS)
        .where(SEGMENTS.c.segment_id == segment_id, SEGMENTS.c.state == "planned")
        .values(state="landed", row_count=landed.row_count, landed_at=to_micros(landed.at))
    )
    if moved.rowcount != 1:
        return False
    for bad in landed.rejected:
        conn.execute(
            insert(OUTBOX_REJECTED).values(
                seq=bad.row.seq,
                lake_table=landed.segment.lake_table,
                rows=bad.row.rows,
                at=bad.row.at,
                segment_id=segment_id,
                error=bad.error,
                rejected_at=to_micros(landed.at),
            )
        )
    conn.execute(delete(OUTBOX).where(OUTBOX.c.segment_id == segment_id))
    return True
