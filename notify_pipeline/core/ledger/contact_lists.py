"""Lists and counts of a domain's contacts.

Belongs here: what is asked about many contacts, each answered by an index. Does not belong here: changing them, and
those of visitors (``contacts``).
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, func, literal, not_, select, tuple_, union_all

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger.contact_rows import DELETE, DROP, IS_ACTIVE, IS_CONTACT, UPSERT, Contact, contact_of
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.tables import DEVICES

# A position in a list: when a contact was changed, in microseconds since the epoch, and its token.
Key = tuple[int, str]

_BY = (DEVICES.c.changed_at, DEVICES.c.token)


@dataclass(frozen=True, slots=True)
class ContactFilter:
    """Which of a domain's contacts; None means any. ``changed_until`` itself is out."""

    email: str | None = None
    changed_from: datetime | None = None
    changed_until: datetime | None = None
    is_active: bool | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """How many contacts a domain has."""

    active: int
    inactive: int


def query(
    ledger: Ledger, tenant: str, domain: str, where: ContactFilter, limit: int, after: Key | None = None
) -> list[Contact]:
    """Return a domain's contacts, longest unchanged first: what changes while one reads comes later, and is not missed.

    Args:
        ledger: The ledger.
        tenant: Whose domain it is.
        domain: Its name.
        where: Which.
        limit: At most so many.
        after: The last one before these.
    """
    mine = select(DEVICES).where(*_of(tenant, domain), *_filters(where, after)).order_by(*_BY).limit(limit)
    with ledger.read() as conn:
        rows = conn.execute(_in_states(mine, where, limit)).mappings().all()
    return [contact_of(row) for row in rows]


def counts(ledger: Ledger, tenant: str, domain: str) -> Counts:
    """Return how many contacts a domain has now."""
    by_state = select(DEVICES.c.op, func.count()).where(*_of(tenant, domain)).group_by(DEVICES.c.op)
    with ledger.read() as conn:
        found = dict(conn.execute(by_state).tuples().all())
    active = found.pop(UPSERT, 0)
    return Counts(active, sum(found.values()))


def exists(ledger: Ledger, tenant: str, domain: str, visitor_guid: str) -> bool:
    """Tell whether a visitor has an active contact."""
    these = (*_of(tenant, domain), DEVICES.c.visitor_guid == visitor_guid, IS_ACTIVE)
    with ledger.read() as conn:
        return conn.execute(select(literal(1)).where(*these).limit(1)).first() is not None


def _of(tenant: str, domain: str) -> tuple[ColumnElement[bool], ...]:
    return DEVICES.c.tenant == tenant, DEVICES.c.domain == domain, IS_CONTACT


def _filters(where: ContactFilter, after: Key | None) -> list[ColumnElement[bool]]:
    filters = []
    if where.email is not None:
        filters.append(DEVICES.c.email == where.email)
    if where.changed_from is not None:
        filters.append(DEVICES.c.changed_at >= to_micros(where.changed_from))
    if where.changed_until is not None:
        filters.append(DEVICES.c.changed_at < to_micros(where.changed_until))
    if after is not None:
        filters.append(tuple_(*_BY) > tuple_(literal(after[0]), literal(after[1])))
    return filters


def _in_states(mine: Select[Any], where: ContactFilter, limit: int) -> Select[Any]:
    """Return the query for active or inactive ones: the index has one state after the other, each in order."""
    if where.is_active is None:
        return mine
    if where.email is not None:  # which leaves few
        return mine.where(IS_ACTIVE if where.is_active else not_(IS_ACTIVE))
    each = [mine.where(DEVICES.c.op == state) for state in ((UPSERT,) if where.is_active else (DELETE, DROP))]
    if len(each) == 1:
        return each[0]
    both = union_all(*(select(one.subquery()) for one in each)).subquery()
    return select(both).order_by(both.c.changed_at, both.c.token).limit(limit)
