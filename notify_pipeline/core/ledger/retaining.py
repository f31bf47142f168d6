"""What the ledger says of how long the lake's files are needed, and forgetting files that go.

Belongs here: those queries. Does not belong here: the rule (``core.retention``), deleting files.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, Select, delete, func, select

from notify_pipeline.core.ids import from_micros, to_micros
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.outbox_tables import OUTBOX, SEGMENTS
from notify_pipeline.core.ledger.tables import REQUESTS

# Paths in one statement; far below both stores' limits of parameters.
_PIECE = 500


def oldest_open_request(ledger: Ledger) -> datetime | None:
    """Return when the oldest request was accepted that is not final, scheduled ones too; None: all are."""
    # Literally as the partial index ix_requests_open says it.
    query = select(func.min(REQUESTS.c.accepted_at)).where(REQUESTS.c.state.in_(("accepted", "routed", "sending")))
    return _moment(ledger, query)


def oldest_unlanded(ledger: Ledger) -> datetime | None:
    """Return the partition time of the oldest row on its way to the lake; None: all are there."""
    return _moment(ledger, select(func.min(OUTBOX.c.at)))


def forget_files(ledger: Ledger, lake_table: str, paths: Sequence[str], before: datetime) -> set[str]:
    """Forget files that are to be deleted next, and compactions planned in their partitions.

    Nobody asks for the files then. The caller holds the table's compaction lease: no compaction is under way.

    Args:
        ledger: The ledger.
        lake_table: Their table.
        paths: Theirs.
        before: The end of the last partition that goes.

    Returns:
        Those to be left: the lander has planned them, and may be writing them.
    """
    return ledger.write(_forget_files, (lake_table, tuple(paths), before))


def _moment(ledger: Ledger, query: Select[tuple[int | None]]) -> datetime | None:
    with ledger.read() as conn:
        found = conn.execute(query).scalar()
    return None if found is None else from_micros(found)


def _forget_files(conn: Connection, items: Sequence[tuple[str, Sequence[str], datetime]]) -> list[set[str]]:
    results = []
    for table, paths, before in items:
        planned = (SEGMENTS.c.lake_table == table, SEGMENTS.c.state == "planned")
        old = SEGMENTS.c.partition_at < to_micros(before)
        conn.execute(delete(SEGMENTS).where(*planned, SEGMENTS.c.kind == "compaction", old))
        left = set(conn.execute(select(SEGMENTS.c.path).where(*planned, old)).scalars())
        for start in range(0, len(paths), _PIECE):
            piece = paths[start : start + _PIECE]
            conn.execute(delete(SEGMENTS).where(SEGMENTS.c.path.in_(piece), SEGMENTS.c.state != "planned"))
        results.append(left)
    return results
