"""Lists of events by filters, newest first, page by page.

Belongs here: which events a page holds. Does not belong here: one event (``event_rows``), replaying
(``event_replays``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, select, text

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import walks
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.event_claims import WAITING
from notify_pipeline.core.ledger.event_rows import EventRow, to_row
from notify_pipeline.core.ledger.event_tables import EVENTS
from notify_pipeline.core.ledger.walks import Key, Order
from notify_pipeline.core.vocabulary import EventState

# In the words of the partial index, literally: only then does SQLite know that the index covers the query.
_STRANDED: Any = text("events.state IN ('unrouted', 'dead')")
STRANDED_STATES = frozenset({EventState.UNROUTED, EventState.DEAD})
_E = EVENTS.c
# Ids grow with time: one order says both.
_ORDER = Order(_E.event_id, _E.event_id)


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events to list; None means any. ``since`` is inclusive, ``until`` exclusive, both of acceptance."""

    state: EventState | None = None
    source: str | None = None
    type: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def rest(self) -> list[ColumnElement[bool]]:
        """The conditions on anything but the state."""
        equal = {_E.source: self.source, _E.type: self.type}
        found = [column == value for column, value in equal.items() if value is not None]
        if self.since is not None:
            found.append(_E.accepted_at >= to_micros(self.since))
        if self.until is not None:
            found.append(_E.accepted_at < to_micros(self.until))
        return found

    @property
    def of_state(self) -> list[ColumnElement[bool]]:
        """The condition on the state, as far as an index answers it."""
        if self.state not in STRANDED_STATES or self.state is None:
            return []
        return [_STRANDED, _E.state == self.state.value]


def page(
    ledger: Ledger, tenants: Sequence[str], where: EventFilter, limit: int, after: Key | None = None
) -> tuple[list[EventRow], Key | None]:
    """Return events of these tenants, and where the next page begins; None at the end. A page may be short before it.

    Args:
        ledger: The ledger.
        tenants: Whose.
        where: Which.
        limit: At most so many.
        after: Where the page before ended.
    """
    base, rest = where.of_state, where.rest
    if where.state is not None and not base:
        rest = [*rest, _E.state == where.state.value]
    most_rows = max(walks.MOST_ROWS // len(tenants), limit + 1)
    with ledger.read() as conn:
        found = [
            walks.walk(conn, _ORDER, [_E.tenant == tenant, *base], rest, after, limit + 1, most_rows)
            for tenant in tenants
        ]
        keys, following = walks.merge(found, newest_first=True, limit=limit)
        ids = [event_id for _, event_id in keys]
        rows = {
            row["event_id"]: to_row(row) for row in conn.execute(select(EVENTS).where(_E.event_id.in_(ids))).mappings()
        }
    return [rows[event_id] for event_id in ids if event_id in rows], following


def depths(ledger: Ledger) -> dict[str, int]:
    """Return how many events wait or are stranded, by state; for metrics."""
    query = select(_E.state, func.count()).group_by(_E.state)
    with ledger.read() as conn:
        found = [*conn.execute(query.where(WAITING)), *conn.execute(query.where(_STRANDED))]
    return {state: count for state, count in found}


def stranded(ledger: Ledger, tenant: str, where: EventFilter, limit: int) -> list[str]:
    """Return the ids of a tenant's events that a route may still be found for, longest there first."""
    states = STRANDED_STATES if where.state is None else STRANDED_STATES & {where.state}
    query = select(_E.event_id).where(
        _STRANDED, _E.tenant == tenant, _E.state.in_([s.value for s in states]), *where.rest
    )
    with ledger.read() as conn:
        return list(conn.execute(query.order_by(_E.event_id).limit(limit)).scalars())
