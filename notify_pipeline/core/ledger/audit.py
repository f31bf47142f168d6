"""The audit trail: one row per move or administrative act, in the transaction that made it.

Belongs here: writing and paging audit rows. Does not belong here: deciding which moves are legal (``requests``).

Rows are only ever added: triggers of both stores refuse to change or delete one (``migrations/versions/0003``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, bindparam, insert, select

from notify_pipeline.core.ids import from_micros, new_id, to_micros
from notify_pipeline.core.ledger import outbox, walks
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.statements import Prepared
from notify_pipeline.core.ledger.tables import AUDIT
from notify_pipeline.core.ledger.walks import Key, Order

_NAMES = (
    "audit_id",
    "tenant",
    "request_id",
    "notification_id",
    "event",
    "from_state",
    "to_state",
    "actor",
    "detail",
    "at",
)
_ADD = Prepared(lambda _: insert(AUDIT).values({name: bindparam(name) for name in _NAMES}), _NAMES)


@dataclass(frozen=True, slots=True)
class Entry:
    """What happened. ``detail`` is JSON-able; ``at`` in microseconds since the epoch."""

    event: str
    actor: str
    at: int
    tenant: str | None = None
    request_id: str | None = None
    notification_id: str | None = None
    from_state: str | None = None
    to_state: str | None = None
    detail: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One stored entry; ids grow with time."""

    audit_id: str
    tenant: str | None
    request_id: str | None
    notification_id: str | None
    event: str
    from_state: str | None
    to_state: str | None
    actor: str
    detail: Mapping[str, Any] | None
    at: datetime


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries to list; None means any. ``since`` is inclusive, ``until`` exclusive."""

    event: str | None = None
    actor: str | None = None
    request_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def span(self) -> list[ColumnElement[bool]]:
        """The conditions that an index answers."""
        found = [] if self.since is None else [AUDIT.c.at >= to_micros(self.since)]
        if self.until is not None:
            found.append(AUDIT.c.at < to_micros(self.until))
        return found

    @property
    def rest(self) -> list[ColumnElement[bool]]:
        """The others."""
        equal = {AUDIT.c.event: self.event, AUDIT.c.actor: self.actor}
        return [column == value for column, value in equal.items() if value is not None]


def write(conn: Connection, entries: Sequence[Entry], at: datetime) -> None:
    """Add entries, and their rows for the lake, to the caller's transaction."""
    if not entries:
        return
    stored = [
        (
            new_id(),
            entry.tenant,
            entry.request_id,
            entry.notification_id,
            entry.event,
            entry.from_state,
            entry.to_state,
            entry.actor,
            None if entry.detail is None else orjson.dumps(entry.detail).decode(),
            entry.at,
        )
        for entry in entries
    ]
    _ADD.run_many(conn, stored)
    outbox.add(conn, "audit", [dict(zip(_NAMES, values, strict=True)) for values in stored], at)


def page(
    ledger: Ledger, request_id: str, tenant: str | None = None, limit: int = 100, after: str | None = None
) -> list[AuditRow]:
    """Return a request's entries in order.

    Args:
        ledger: The ledger.
        request_id: Whose.
        tenant: When given, only if the request is this tenant's.
        limit: At most so many.
        after: The ``audit_id`` of the last entry of the page before.
    """
    query = select(*(AUDIT.c[name] for name in _NAMES)).where(AUDIT.c.request_id == request_id)
    if tenant is not None:
        query = query.where(AUDIT.c.tenant == tenant)
    if after is not None:
        query = query.where(AUDIT.c.audit_id > after)
    with ledger.read() as conn:
        found = conn.execute(query.order_by(AUDIT.c.audit_id).limit(limit)).mappings().all()
    return [_row(dict(values)) for values in found]


def timeline(
    ledger: Ledger,
    tenants: Sequence[str] | None,
    where: AuditFilter,
    limit: int,
    after: Key | None = None,
    newest_first: bool = False,
) -> tuple[list[AuditRow], Key | None]:
    """Return entries by time, and where the next page begins; None at the end. A page may be short before it.

    Args:
        ledger: The ledger.
        tenants: Whose; None for everybody's, and what is nobody's: then the order is that of ids, and ``where``'s
            times are looked for on the way.
        where: Which.
        limit: At most so many.
        after: Where the page before ended.
        newest_first: Which way.
    """
    at, name = AUDIT.c.at, AUDIT.c.audit_id
    mine = [] if where.request_id is None else [AUDIT.c.request_id == where.request_id]
    # Everybody's, and one request's, lie together in the order of their ids.
    order = Order(name if tenants is None or mine else at, name, newest_first)
    if tenants is None or mine:
        owner = [] if tenants is None else [AUDIT.c.tenant.in_(tenants)]
        plans = [(mine, [*owner, *where.span, *where.rest])]
    else:
        plans = [([AUDIT.c.tenant == tenant, *where.span], where.rest) for tenant in tenants]
    most_rows = max(walks.MOST_ROWS // len(plans), limit + 1)
    with ledger.read() as conn:
        found = [walks.walk(conn, order, base, rest, after, limit + 1, most_rows) for base, rest in plans]
        keys, following = walks.merge(found, newest_first, limit)
        ids = [audit_id for _, audit_id in keys]
        query = select(*(AUDIT.c[column] for column in _NAMES)).where(name.in_(ids))
        rows = {row["audit_id"]: _row(dict(row)) for row in conn.execute(query).mappings()}
    return [rows[audit_id] for audit_id in ids], following


def _row(values: dict[str, Any]) -> AuditRow:
    detail = values.pop("detail")
    at = from_micros(values.pop("at"))
    return AuditRow(**values, detail=None if detail is None else orjson.loads(detail), at=at)
