"""What a clock that was set back leaves behind: leases and due times that lie ahead of all that was meant.

Belongs here: finding those and mending them. Does not belong here: noticing that a clock was set back (whoever has
one), the lease of a role (``leases``, which mends its own).

Leases are reined in, not broken: a holder that lives extends its own long before it runs out, one that is dead has as
long as any. What was due so long after a moment is due as long after the present one (``counted_from`` is that moment);
what has a time of its own keeps it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Table, and_, select, text, update

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.event_claims import WAITING
from notify_pipeline.core.ledger.event_tables import EVENTS
from notify_pipeline.core.ledger.leases import LONGEST_US
from notify_pipeline.core.ledger.progress import PIECE
from notify_pipeline.core.ledger.tables import DELIVERIES, REQUESTS, SHARDS
from notify_pipeline.core.ledger.tenant_tables import CALLBACK_MESSAGES
from notify_pipeline.core.vocabulary import Channel

# Clocks of two hosts differ by less; what was stored further ahead than that was stored before a clock was set back.
_MARGIN_US = 60_000_000
# In the words of the partial indexes, literally: only then does SQLite know that they cover the queries.
_OPEN = text("requests.state IN ('accepted', 'routed', 'sending')")
_UNFINISHED = text("deliveries.state IN ('waiting', 'sending')")
_UNSENT = text("callback_messages.state IN ('waiting', 'sending')")
_NOT_DONE = SHARDS.c.done_at.is_(None)
_QUEUED = and_(_UNFINISHED, DELIVERIES.c.channel.in_([channel.value for channel in Channel]))
# What waits, maybe a million for tomorrow, has no lease and need not be read.
_BEING_SENT = and_(_QUEUED, DELIVERIES.c.state == "sending")
_LEASED: "tuple[tuple[Table, Column[str], Any], ...]" = (
    (DELIVERIES, DELIVERIES.c.delivery_id, _BEING_SENT),
    (REQUESTS, REQUESTS.c.request_id, _OPEN),
    (SHARDS, SHARDS.c.request_id, _NOT_DONE),
    (CALLBACK_MESSAGES, CALLBACK_MESSAGES.c.message_id, _UNSENT),
)
_COUNTED: "tuple[tuple[Table, Column[str], Any], ...]" = (
    (DELIVERIES, DELIVERIES.c.delivery_id, and_(_QUEUED, DELIVERIES.c.state == "waiting")),
    (SHARDS, SHARDS.c.request_id, _NOT_DONE),
    (CALLBACK_MESSAGES, CALLBACK_MESSAGES.c.message_id, and_(_UNSENT, CALLBACK_MESSAGES.c.state == "waiting")),
)


@dataclass(frozen=True, slots=True)
class _Change:
    """Set columns of rows, of those that are still as they were found."""

    table: Table
    key: "Column[str]"
    where: ColumnElement[bool]
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Found:
    change: _Change
    keys: Sequence[str]


def mend(ledger: Ledger, now: datetime, lease_s: float) -> int:
    """Mend what lies too far ahead of ``now``; return how many rows that were.

    It reads all that waits for a time: a second or two where that is a million deliveries.

    Args:
        ledger: The ledger.
        now: The clock, as it goes on from here.
        lease_s: How long the holders of leases have to extend them.
    """
    at = to_micros(now)
    changes = [*_reined_in(at, at + round(lease_s * 1e6)), *_counted_again(at), *_due_at_once(at)]
    with ledger.read() as conn:
        found = [_Found(each, conn.execute(_keys(each)).scalars().all()) for each in changes]
    return sum(ledger.write(_apply, each) for each in found if each.keys)


def _keys(change: _Change) -> Any:
    return select(change.key).where(change.where).distinct()


def _reined_in(at: int, until: int) -> list[_Change]:
    return [
        _Change(table, key, and_(open_, table.c.lease_until > at + LONGEST_US), {"lease_until": until})
        for table, key, open_ in _LEASED
    ]


def _counted_again(at: int) -> list[_Change]:
    """Retries, and deliveries that were due when they were queued."""
    return [
        _Change(
            table,
            key,
            # Asked first, as the indexes hold it: most that waits has long been due, or is due at a time of its own.
            and_(open_, table.c.due_at > at, table.c.counted_from > at + _MARGIN_US),
            {"due_at": table.c.due_at - table.c.counted_from + at, "counted_from": at},
        )
        for table, key, open_ in _COUNTED
    ]


def _due_at_once(at: int) -> list[_Change]:
    """Requests that were due when they were accepted, and events that wait."""
    ahead, its = at + _MARGIN_US, REQUESTS.c
    accepted = and_(_OPEN, its.state == "accepted", its.accepted_at > ahead, its.due_at > at)
    # An event is due later only where enriching it failed: what was to be tried again minutes after a moment that lies
    # ahead is tried now. (Routers see through leases of theirs that lie ahead.)
    stuck = and_(WAITING, EVENTS.c.due_at > ahead, EVENTS.c.updated_at > ahead)
    return [
        _Change(REQUESTS, its.request_id, and_(accepted, its.due_at <= its.accepted_at), {"due_at": at}),
        _Change(EVENTS, EVENTS.c.event_id, stuck, {"due_at": at}),
    ]


def _apply(conn: Connection, items: Sequence[_Found]) -> list[int]:
    return [_apply_one(conn, item) for item in items]


def _apply_one(conn: Connection, item: _Found) -> int:
    change, changed, ordered = item.change, 0, sorted(item.keys)
    for start in range(0, len(ordered), PIECE):
        mine = change.key.in_(ordered[start : start + PIECE])
        changed += conn.execute(update(change.table).where(mine, change.where).values(change.values)).rowcount
    return changed
