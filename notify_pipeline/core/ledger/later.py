"""Work that was taken and turns out to be for later: given back untouched, due another time.

Belongs here: that, for deliveries and shards. Does not belong here: retries, which follow an attempt (``deliveries``,
``broadcasts``), deciding when (``delivery``).
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, bindparam, select, update

from notify_pipeline.core.ledger import progress
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.tables import DELIVERIES, SHARDS

_BACK = (
    update(DELIVERIES)
    .where(DELIVERIES.c.delivery_id == bindparam("of_delivery"))
    .values(
        state="waiting",
        attempt_no=DELIVERIES.c.attempt_no - 1,
        due_at=bindparam("again_at"),
        counted_from=bindparam("decided_at"),
        intended_at=None,
        lease_owner=None,
        lease_until=None,
    )
)


def put_off(ledger: Ledger, owner: str, due: Mapping[str, int], decided_at: int | None = None) -> None:
    """Give claimed deliveries back of whom nobody was called: no attempt was made.

    Args:
        ledger: The ledger.
        owner: Who claimed them; what is another's by now is left alone.
        due: When each is due, microseconds since the epoch.
        decided_at: What the clock said when these were counted from it; None: they are times of their own.
    """
    if due:
        ledger.write(_put_off, (owner, due, decided_at))


def put_off_shard(ledger: Ledger, request_id: str, shard: int, owner: str, due_at: int, decided_at: int) -> None:
    """Have a shard that is the owner's go on at another time, counted from ``decided_at``; in microseconds."""
    ledger.write(_put_off_shard, (request_id, shard, owner, due_at, decided_at))


def _put_off(conn: Connection, items: Sequence[tuple[str, Mapping[str, int], int | None]]) -> list[None]:
    for owner, due, decided_at in items:
        ids = sorted(due)
        mine = (DELIVERIES.c.state == "sending", DELIVERIES.c.lease_owner == owner)
        query = select(DELIVERIES.c.delivery_id).where(*mine).order_by(DELIVERIES.c.delivery_id).with_for_update()
        for start in range(0, len(ids), progress.PIECE):
            piece = DELIVERIES.c.delivery_id.in_(ids[start : start + progress.PIECE])
            held = conn.execute(query.where(piece)).scalars().all()
            if held:
                times = [{"of_delivery": name, "again_at": due[name], "decided_at": decided_at} for name in held]
                conn.execute(_BACK, times)
    return [None] * len(items)


def _put_off_shard(conn: Connection, items: Sequence[tuple[str, int, str, int, int]]) -> list[None]:
    for request_id, shard, owner, due_at, decided_at in items:
        mine = (SHARDS.c.request_id == request_id, SHARDS.c.shard == shard, SHARDS.c.lease_owner == owner)
        freed = {"lease_owner": None, "lease_until": None}
        conn.execute(update(SHARDS).where(*mine).values(due_at=due_at, counted_from=decided_at, **freed))
    return [None] * len(items)
