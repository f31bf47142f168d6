"""Forgetting events that were over long ago: the lake has them, and a ledger that only grew would end full.

Belongs here: that. Does not belong here: when it is done (``defs.maintenance``), the lake's table of events.

With an event goes what its id was remembered for: whoever posts it again makes another.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, select

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.event_tables import EVENTS
from notify_pipeline.core.vocabulary import EventState

# Events in one transaction: some 20 ms.
_PIECE = 1_000
# The digits of an id that say when it was made: milliseconds since the epoch, as in UUID version 7 (RFC 9562).
_TIME_DIGITS = 12
_E = EVENTS.c
_OVER = _E.state.in_([state.value for state in (EventState.ROUTED, EventState.UNROUTED, EventState.DEAD)])


def forget(ledger: Ledger, before: datetime) -> int:
    """Delete the rows of all events that were accepted and over before a moment; return how many.

    What waits stays however old it is, and so does what was replayed since.
    """
    at = to_micros(before)
    # Ids grow with time, so the primary key finds what is old.
    old = (_E.event_id < f"{at // 1_000:0{_TIME_DIGITS}x}", _OVER, _E.updated_at < at)
    after, gone = "", 0
    while True:
        with ledger.read() as conn:
            query = select(_E.event_id).where(*old, _E.event_id > after).order_by(_E.event_id).limit(_PIECE)
            ids = conn.execute(query).scalars().all()
        if not ids:
            return gone
        gone += ledger.write(_forget, (tuple(ids), at))
        after = ids[-1]


def _forget(conn: Connection, items: Sequence[tuple[tuple[str, ...], int]]) -> list[int]:
    results = []
    for ids, before in items:
        these = (_E.event_id.in_(ids), _OVER, _E.updated_at < before)
        # In one order, like everybody who locks several.
        conn.execute(select(_E.event_id).where(*these).order_by(_E.event_id).with_for_update()).all()
        results.append(conn.execute(delete(EVENTS).where(*these)).rowcount)
    return results
