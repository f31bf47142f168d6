"""The compactor's plan: which landed files become one, and which may go.

Belongs here: the rows of that plan. Does not belong here: reading and writing Parquet (``core.compaction``).

A file of many is named here, and its inputs bound to it, before it is written; they are replaced in the transaction
that marks it landed. So a crash leaves a plan that the next run carries out identically.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, delete, func, insert, or_, select, update

from notify_pipeline.core.ids import new_id, to_micros
from notify_pipeline.core.ledger import leases
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.outbox_tables import SEGMENTS
from notify_pipeline.core.ledger.statements import insert_for
from notify_pipeline.core.ledger.tables import REQUESTS
from notify_pipeline.core.partitions import HOUR, segment_path
from notify_pipeline.core.vocabulary import FINAL_STATES

# Files of this many rows are large enough to be left alone; a compaction stops growing there too.
ENOUGH_ROWS = 1_000_000
# Bounds a plan's transaction and how many files one compaction opens.
MAX_INPUTS = 2_000
# Rows assumed of a file whose count the ledger was not told: a broadcast's chunk.
_ASSUMED_ROWS = 1_000
# How long a replaced file's row stays: others tell by it which rows a compacted file holds.
FORGET_AFTER = timedelta(days=7)
# Ids asked for in one statement; far below both stores' limits of parameters.
_PIECE = 500


@dataclass(frozen=True, slots=True)
class Compaction:
    """A planned file and the paths of the files that it will replace, in the order of their rows."""

    segment_id: str
    path: str
    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    lease: leases.Lease
    lake_table: str
    before: datetime
    now: datetime


@dataclass(frozen=True, slots=True)
class _Finish:
    lease: leases.Lease
    compaction: Compaction
    row_count: int
    now: datetime


def plan(ledger: Ledger, lease: leases.Lease, lake_table: str, before: datetime, now: datetime) -> int:
    """Plan one file for each partition whose hour ended by ``before`` and that holds several small ones.

    Returns:
        How many were planned.

    Raises:
        LeaseLost: The caller is no longer this table's compactor.
    """
    return ledger.write(_plan, _Plan(lease, lake_table, before, now))


def planned(ledger: Ledger, lake_table: str) -> list[Compaction]:
    """Return the table's compactions that are planned and not done, oldest first."""
    output, source = SEGMENTS.alias(), SEGMENTS.alias()
    query = (
        select(output.c.segment_id, output.c.path, source.c.path)
        .join(source, source.c.replaced_by == output.c.segment_id)
        .where(output.c.lake_table == lake_table, output.c.state == "planned", output.c.kind == "compaction")
        .order_by(output.c.planned_at, output.c.segment_id, source.c.segment_id)
    )
    found: dict[tuple[str, str], list[str]] = {}
    with ledger.read() as conn:
        for segment_id, path, input_path in conn.execute(query):
            found.setdefault((segment_id, path), []).append(input_path)
    return [Compaction(segment_id, path, tuple(inputs)) for (segment_id, path), inputs in found.items()]


def finish(ledger: Ledger, lease: leases.Lease, compaction: Compaction, row_count: int, now: datetime) -> None:
    """Record that the new file is durable: from now on it counts, and its inputs do not.

    Raises:
        LeaseLost: The caller is no longer this table's compactor.
    """
    ledger.write(_finish, _Finish(lease, compaction, row_count, now))


def deletable(ledger: Ledger, lake_table: str, replaced_until: datetime, deleted_since: datetime) -> dict[str, str]:
    """Return the files that may go, as path by segment.

    Args:
        ledger: The ledger.
        lake_table: Of this table.
        replaced_until: Those replaced by then, and not deleted yet.
        deleted_since: Those deleted since then too: a lander that slept may have written one again.
    """
    output, source = SEGMENTS.alias(), SEGMENTS.alias()
    query = (
        select(source.c.segment_id, source.c.path)
        .join(output, source.c.replaced_by == output.c.segment_id)
        .where(
            source.c.lake_table == lake_table,
            source.c.state == "replaced",
            output.c.landed_at <= to_micros(replaced_until),
            or_(source.c.deleted_at.is_(None), source.c.deleted_at >= to_micros(deleted_since)),
        )
    )
    with ledger.read() as conn:
        return dict(conn.execute(query).tuples().all())


def mark_deleted(ledger: Ledger, segment_ids: Iterable[str], now: datetime) -> None:
    """Record that the files of these are gone; the first time counts."""
    ledger.write(_mark_deleted, (tuple(segment_ids), now))


def forget(ledger: Ledger, lake_table: str, now: datetime) -> int:
    """Let go of the rows of files deleted longer than ``FORGET_AFTER`` ago; return how many."""
    return ledger.write(_forget, (lake_table, now - FORGET_AFTER))


def finished_requests(ledger: Ledger, request_ids: Iterable[str]) -> set[str]:
    """Return which of these requests are over, so that nothing writes or reads their chunks any more."""
    wanted = sorted(set(request_ids))
    over: set[str] = set()
    states = [str(state) for state in FINAL_STATES]
    with ledger.read() as conn:
        for start in range(0, len(wanted), _PIECE):
            piece = wanted[start : start + _PIECE]
            query = select(REQUESTS.c.request_id).where(REQUESTS.c.request_id.in_(piece), REQUESTS.c.state.in_(states))
            over.update(conn.execute(query).scalars())
    return over


def adopt(ledger: Ledger, lake_table: str, files: Sequence[tuple[str, str, datetime]], now: datetime) -> int:
    """Take files into the plan that were written without it, as landed; those known already stay as they are.

    Args:
        ledger: The ledger.
        lake_table: Their table.
        files: (a unique name, the path, the hour of its partition) each.
        now: When.

    Returns:
        How many were new.
    """
    return ledger.write(_adopt, (lake_table, tuple(files), now)) if files else 0


def _plan(conn: Connection, items: Sequence[_Plan]) -> list[int]:
    results = []
    for item in items:
        leases.check(conn, item.lease)
        results.append(sum(_plan_partition(conn, item, at) for at in _partitions(conn, item)))
    return results


def _candidates(item: _Plan) -> list[ColumnElement[bool]]:
    return [
        SEGMENTS.c.lake_table == item.lake_table,
        SEGMENTS.c.state == "landed",
        SEGMENTS.c.replaced_by.is_(None),
        func.coalesce(SEGMENTS.c.row_count, _ASSUMED_ROWS) < ENOUGH_ROWS,
    ]


def _partitions(conn: Connection, item: _Plan) -> list[int]:
    query = (
        select(SEGMENTS.c.partition_at)
        .where(*_candidates(item), SEGMENTS.c.partition_at <= to_micros(item.before - HOUR))
        .group_by(SEGMENTS.c.partition_at)
        .having(func.count() > 1)
        .order_by(SEGMENTS.c.partition_at)
    )
    return list(conn.execute(query).scalars())


def _plan_partition(conn: Connection, item: _Plan, at: int) -> int:
    query = (
        select(SEGMENTS.c.segment_id, func.coalesce(SEGMENTS.c.row_count, _ASSUMED_ROWS))
        .where(*_candidates(item), SEGMENTS.c.partition_at == at)
        .order_by(SEGMENTS.c.segment_id)
        .limit(MAX_INPUTS)
    )
    inputs: list[str] = []
    rows = 0
    for segment_id, row_count in conn.execute(query):
        if rows + row_count > ENOUGH_ROWS and len(inputs) > 1:
            break
        inputs.append(segment_id)
        rows += row_count
    new = new_id()
    values = {
        "segment_id": new,
        "lake_table": item.lake_table,
        "kind": "compaction",
        "path": segment_path(item.lake_table, at, new),
        "partition_at": at,
        "state": "planned",
        "planned_at": to_micros(item.now),
    }
    conn.execute(insert(SEGMENTS).values(values))
    for start in range(0, len(inputs), _PIECE):
        piece = inputs[start : start + _PIECE]
        conn.execute(update(SEGMENTS).where(SEGMENTS.c.segment_id.in_(piece)).values(replaced_by=new))
    return 1


def _finish(conn: Connection, items: Sequence[_Finish]) -> list[None]:
    for item in items:
        leases.check(conn, item.lease)
        segment_id = item.compaction.segment_id
        landed = {"state": "landed", "row_count": item.row_count, "landed_at": to_micros(item.now)}
        mine = (SEGMENTS.c.segment_id == segment_id, SEGMENTS.c.state == "planned")
        if conn.execute(update(SEGMENTS).where(*mine).values(landed)).rowcount == 1:
            replaced = update(SEGMENTS).where(SEGMENTS.c.replaced_by == segment_id).values(state="replaced")
            conn.execute(replaced)
    return [None for _ in items]


def _forget(conn: Connection, items: Sequence[tuple[str, datetime]]) -> list[int]:
    results = []
    for lake_table, before in items:
        old = (SEGMENTS.c.lake_table == lake_table, SEGMENTS.c.deleted_at <= to_micros(before))
        results.append(conn.execute(delete(SEGMENTS).where(SEGMENTS.c.state == "replaced", *old)).rowcount)
    return results


def _mark_deleted(conn: Connection, items: Sequence[tuple[Sequence[str], datetime]]) -> list[None]:
    for segment_ids, now in items:
        for start in range(0, len(segment_ids), _PIECE):
            these = SEGMENTS.c.segment_id.in_(segment_ids[start : start + _PIECE])
            first = update(SEGMENTS).where(these, SEGMENTS.c.deleted_at.is_(None))
            conn.execute(first.values(deleted_at=to_micros(now)))
    return [None for _ in items]


def _adopt(conn: Connection, items: Sequence[tuple[str, Sequence[tuple[str, str, datetime]], datetime]]) -> list[int]:
    results = []
    for lake_table, files, now in items:
        new = 0
        for name, path, hour in files:
            values = {
                "segment_id": name,
                "lake_table": lake_table,
                "kind": "adopted",
                "path": path,
                "partition_at": to_micros(hour),
                "state": "landed",
                "planned_at": to_micros(now),
                "landed_at": to_micros(now),
            }
            statement = insert_for(conn.dialect.name)(SEGMENTS).values(values).on_conflict_do_nothing()
            new += conn.execute(statement).rowcount
        results.append(new)
    return results
