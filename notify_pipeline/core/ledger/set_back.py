"""What a clock that was set back leaves behind: leases and due times that lie ahead of all that was meant.

Belongs here: finding those and mending them. Does not belong here: noticing that a clock was set back (whoever has
one), the lease of a role (``leases``, which mends its own).

Leases are reined in, not broken: a holder that lives extends its own long before it runs out, one that is dead has as
long as any. What was due at once when it was stored is due now; what has a time of its own keeps it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Column, Connection, Table, and_, select, text, update

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
# What waits, maybe a million for tomorrow, has no lease and need not be read.
_BEING_SENT = and_(
    _UNFINISHED, DELIVERIES.c.channel.in_([channel.value for channel in Channel]), DELIVERIES.c.state == "sending"
)


@dataclass(frozen=True, slots=True)
class _Change:
    """Set a column of rows, as long as it lies beyond what is set."""

    table: Table
    key: "Column[str]"
    column: "Column[int]"
    keys: Sequence[str]
    value: int


def mend(ledger: Ledger, now: datetime, lease_s: float) -> int:
    """Mend what lies too far ahead of ``now``; return how many rows that were.

    Args:
        ledger: The ledger.
        now: The clock, as it goes on from here.
        lease_s: How long the holders of leases have to extend them.
    """
    at = to_micros(now)
    until = at + round(lease_s * 1e6)
    held = (
        (DELIVERIES, DELIVERIES.c.delivery_id, DELIVERIES.c.lease_until, _BEING_SENT),
        (REQUESTS, REQUESTS.c.request_id, REQUESTS.c.lease_until, _OPEN),
        (SHARDS, SHARDS.c.request_id, SHARDS.c.lease_until, SHARDS.c.done_at.is_(None)),
        (CALLBACK_MESSAGES, CALLBACK_MESSAGES.c.message_id, CALLBACK_MESSAGES.c.lease_until, _UNSENT),
    )
    changes: list[_Change] = []
    with ledger.read() as conn:
        for table, key, column, open_ in held:
            keys = conn.execute(select(key).where(open_, column > at + LONGEST_US).distinct()).scalars().all()
            changes.append(_Change(table, key, column, keys, until))
        changes += _due_at_once(conn, at)
    return sum(ledger.write(_apply, change) for change in changes if change.keys)


def _due_at_once(conn: Connection, at: int) -> list[_Change]:
    """What was due when it was stored, which seems to be ahead: requests, deliveries, events."""
    ahead = at + _MARGIN_US
    accepted = select(REQUESTS.c.request_id).where(
        _OPEN,
        REQUESTS.c.state == "accepted",
        REQUESTS.c.accepted_at > ahead,
        REQUESTS.c.due_at <= REQUESTS.c.accepted_at,
    )
    changes = [_Change(REQUESTS, REQUESTS.c.request_id, REQUESTS.c.due_at, conn.execute(accepted).scalars().all(), at)]
    stored = select(REQUESTS.c.request_id, REQUESTS.c.updated_at).where(
        _OPEN, REQUESTS.c.state == "sending", REQUESTS.c.updated_at > ahead
    )
    found: list[str] = []
    for request_id, updated_at in conn.execute(stored).all():
        # Whoever is due by their own clock has an expiry of their own.
        at_once = DELIVERIES.c.expires_at.is_(None)
        soon = (DELIVERIES.c.due_at > at, DELIVERIES.c.due_at <= updated_at + _MARGIN_US, at_once)
        mine = (DELIVERIES.c.request_id == request_id, DELIVERIES.c.state == "waiting", *soon)
        found.extend(conn.execute(select(DELIVERIES.c.delivery_id).where(*mine)).scalars())
    # An event is due later only where enriching it failed: what was to be tried again minutes after a moment that lies
    # ahead is tried now. (Routers see through leases of theirs that lie ahead.)
    stuck = select(EVENTS.c.event_id).where(WAITING, EVENTS.c.due_at > ahead, EVENTS.c.updated_at > ahead)
    events = conn.execute(stuck).scalars().all()
    return [
        *changes,
        _Change(DELIVERIES, DELIVERIES.c.delivery_id, DELIVERIES.c.due_at, found, at),
        _Change(EVENTS, EVENTS.c.event_id, EVENTS.c.due_at, events, at),
    ]


def _apply(conn: Connection, items: Sequence[_Change]) -> list[int]:
    return [_apply_one(conn, item) for item in items]


def _apply_one(conn: Connection, item: _Change) -> int:
    changed, ordered = 0, sorted(item.keys)
    for start in range(0, len(ordered), PIECE):
        mine = (item.key.in_(ordered[start : start + PIECE]), item.column > item.value)
        changed += conn.execute(update(item.table).where(*mine).values({item.column.name: item.value})).rowcount
    return changed
