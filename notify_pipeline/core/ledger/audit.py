"""The audit trail: one row per move or administrative act, in the transaction that made it.

Belongs here: writing and paging audit rows. Does not belong here: deciding which moves are legal (``requests``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, insert, select

from notify_pipeline.core.ids import from_micros, new_id
from notify_pipeline.core.ledger import outbox
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.statements import Prepared
from notify_pipeline.core.ledger.tables import AUDIT

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


def _row(values: dict[str, Any]) -> AuditRow:
    detail = values.pop("detail")
    at = from_micros(values.pop("at"))
    return AuditRow(**values, detail=None if detail is None else orjson.loads(detail), at=at)
