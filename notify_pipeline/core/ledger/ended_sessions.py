"""Sessions of the dashboard that somebody signed out of, as long as their cookies would go on counting.

Belongs here: writing them down and looking one up. Does not belong here: what a session is, cookies (``ingest_api``).
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, delete, select

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.statements import insert_for
from notify_pipeline.core.ledger.tenant_tables import ENDED_SESSIONS


class _End(NamedTuple):
    session: str
    ends_at: int
    now: int


def end(ledger: Ledger, session: str, ends_at: datetime, now: datetime) -> None:
    """End a session for good; forget those whose time is over anyway.

    Args:
        ledger: The ledger.
        session: A digest of what its cookie says.
        ends_at: When the cookie stops counting by itself.
        now: The present.
    """
    ledger.write(_end, _End(session, to_micros(ends_at), to_micros(now)))


def is_ended(ledger: Ledger, session: str) -> bool:
    """Tell whether somebody has signed out of a session."""
    with ledger.read() as conn:
        query = select(ENDED_SESSIONS.c.session).where(ENDED_SESSIONS.c.session == session)
        return conn.execute(query).first() is not None


def _end(conn: Connection, items: Sequence[_End]) -> list[None]:
    conn.execute(delete(ENDED_SESSIONS).where(ENDED_SESSIONS.c.ends_at < min(item.now for item in items)))
    for item in sorted(items):
        new = insert_for(conn.dialect.name)(ENDED_SESSIONS).values(session=item.session, ends_at=item.ends_at)
        conn.execute(new.on_conflict_do_nothing())
    return [None for _ in items]
