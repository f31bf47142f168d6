"""Dead letters: deliveries that ended without reaching anybody although that was no fault of the recipient's.

Belongs here: adding them to the transaction that settles their delivery, and forgetting them. Does not belong here:
which deliveries they are (``delivery.retry``), finding them (``letters``), sending them again (``replays``).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, delete, select

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import progress
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.statements import Prepared
from notify_pipeline.core.ledger.tables import DEAD_LETTERS, REQUESTS
from notify_pipeline.core.ledger.tenant_tables import REPLAYS
from notify_pipeline.core.vocabulary import DeadLetterReason, Outcome

_NAMES = (
    "delivery_id",
    "tenant",
    "request_id",
    "notification_id",
    "type",
    "category",
    "channel",
    "platform",
    "address",
    "user_id",
    "outcome",
    "provider_code",
    "reason",
    "attempts",
    "died_at",
    "fields",
)
# A delivery dies once: whoever settles it again, as the successor of a process that was thought dead, adds nothing.
_ADD = Prepared(
    lambda insert: (
        insert(DEAD_LETTERS)
        .values({name: bindparam(name) for name in _NAMES})
        .on_conflict_do_nothing(index_elements=["delivery_id"])
    ),
    _NAMES,
)
# Forgotten in one transaction: some 20 ms.
_FORGOTTEN = 5_000
_ABOUT = ("request_id", "tenant", "notification_id", "type", "category")


class DeadLetter(NamedTuple):
    """One delivery that died.

    Attributes:
        delivery_id: Which.
        platform: Its recipient's.
        address: Its recipient.
        user_id: Whose address that is, where it is known.
        outcome: Of the last attempt.
        provider_code: The provider's word in it.
        reason: Why there is no further attempt.
        attempts: How many there were.
        fields: JSON of what fills its recipient's own fields.
    """

    delivery_id: str
    platform: str
    address: str
    user_id: str | None
    outcome: Outcome
    provider_code: str | None
    reason: DeadLetterReason
    attempts: int
    fields: str | None = None


def forget(ledger: Ledger, before: datetime) -> int:
    """Forget dead letters, and answers to replays, from before a moment; return how many letters."""
    old = select(DEAD_LETTERS.c.delivery_id).where(DEAD_LETTERS.c.died_at < to_micros(before)).limit(_FORGOTTEN)
    gone = 0
    while True:
        with ledger.read() as conn:
            ids = conn.execute(old).scalars().all()
        ledger.write(_forget, (ids, to_micros(before)))
        gone += len(ids)
        if len(ids) < _FORGOTTEN:
            return gone


def add(conn: Connection, channel: str, dead: Mapping[str, Sequence[DeadLetter]], now: int) -> None:
    """Add the dead letters of one channel, by request, to the caller's transaction.

    Args:
        conn: The connection of the write handler, which holds the requests' locks.
        channel: Theirs.
        dead: By request.
        now: Microseconds since the epoch.
    """
    ids = sorted(request_id for request_id, letters in dead.items() if letters)
    for start in range(0, len(ids), progress.PIECE):
        mine = REQUESTS.c.request_id.in_(ids[start : start + progress.PIECE])
        about = conn.execute(select(*(REQUESTS.c[name] for name in _ABOUT)).where(mine).order_by(REQUESTS.c.request_id))
        rows = [
            (
                each.delivery_id,
                tenant,
                request_id,
                notification_id,
                kind,
                category,
                channel,
                each.platform,
                each.address,
                each.user_id,
                str(each.outcome),
                each.provider_code,
                str(each.reason),
                each.attempts,
                now,
                each.fields,
            )
            for request_id, tenant, notification_id, kind, category in about
            for each in dead[request_id]
        ]
        _ADD.run_many(conn, rows)


def _forget(conn: Connection, items: Sequence[tuple[Sequence[str], int]]) -> list[None]:
    for ids, before in items:
        for start in range(0, len(ids), progress.PIECE):
            mine = DEAD_LETTERS.c.delivery_id.in_(ids[start : start + progress.PIECE])
            conn.execute(delete(DEAD_LETTERS).where(mine))
        conn.execute(delete(REPLAYS).where(REPLAYS.c.created_at < before))
    return [None] * len(items)
