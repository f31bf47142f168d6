"""One stored event: what every room asks of it.

Belongs here: the row, finding one, its forms for expressions and for the lake. Does not belong here: accepting
(``events``), lists (``event_lists``), the router's queue (``event_claims``).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import ColumnElement, select

from notify_pipeline.core.ids import from_micros, to_micros
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.event_tables import EVENTS
from notify_pipeline.core.vocabulary import EventState


@dataclass(frozen=True, slots=True)
class EventRow:
    """A stored event.

    ``enrichment`` is by route; ``routes`` are those that matched, ``notification_ids`` the sends that were made;
    ``counts_from`` is when it was accepted or last replayed: a send made of it counts from then.
    """

    event_id: str
    tenant: str
    source: str
    type: str
    id: str
    detail: Mapping[str, Any]
    recipients: Mapping[str, Sequence[str]] | None
    state: EventState
    enrichment: Mapping[str, Any] | None
    routes: tuple[str, ...]
    notification_ids: tuple[str, ...]
    reason: str | None
    attempt_no: int
    replays: int
    actor: str
    accepted_at: datetime
    counts_from: datetime
    due_at: int
    updated_at: datetime

    @property
    def view(self) -> dict[str, Any]:
        """The event as expressions and templates see it."""
        return view(self.source, self.type, self.id, self.detail, self.recipients, self.accepted_at)


def view(
    source: str,
    type_: str,
    own_id: str | None,
    detail: Mapping[str, Any],
    recipients: Mapping[str, Sequence[str]] | None,
    accepted_at: datetime,
) -> dict[str, Any]:
    """Return an event as expressions and templates see it: JSON values."""
    return {
        "source": source,
        "type": type_,
        "id": own_id,
        "detail": detail,
        "recipients": recipients,
        "accepted_at": accepted_at.isoformat().replace("+00:00", "Z"),
    }


def get(ledger: Ledger, tenants: Collection[str], event_id: str) -> EventRow | None:
    """Return an event of one of these tenants, or None."""
    return _one(ledger, EVENTS.c.tenant.in_(tenants), EVENTS.c.event_id == event_id)


def get_by_own(ledger: Ledger, tenant: str, source: str, own_id: str) -> EventRow | None:
    """Return the event behind a tenant's own id of a source, or None."""
    return _one(ledger, EVENTS.c.tenant == tenant, EVENTS.c.source == source, EVENTS.c.id == own_id)


def to_row(values: Mapping[Any, Any]) -> EventRow:
    """Build the row from the columns of ``event_tables.EVENTS``."""
    body = orjson.loads(values["body"])
    accepted_at = from_micros(values["accepted_at"])
    replayed_at = values["replayed_at"]
    return EventRow(
        event_id=values["event_id"],
        tenant=values["tenant"],
        source=values["source"],
        type=values["type"],
        id=values["id"],
        detail=body["detail"],
        recipients=body.get("recipients"),
        state=EventState(values["state"]),
        enrichment=None if values["enrichment"] is None else orjson.loads(values["enrichment"]),
        routes=tuple(orjson.loads(values["routes"] or "[]")),
        notification_ids=tuple(orjson.loads(values["notification_ids"] or "[]")),
        reason=values["reason"],
        attempt_no=values["attempt_no"],
        replays=values["replays"],
        actor=values["actor"],
        accepted_at=accepted_at,
        counts_from=accepted_at if replayed_at is None else from_micros(replayed_at),
        due_at=values["due_at"],
        updated_at=from_micros(values["updated_at"]),
    )


def lake_row(row: EventRow, state: EventState, at: int, **more: Any) -> dict[str, Any]:
    """Return the lake's row of a move of an event; ``more`` are ``routes``, ``notification_ids`` and ``reason``."""
    return {
        "tenant": row.tenant,
        "event_id": row.event_id,
        "source": row.source,
        "type": row.type,
        "id": row.id,
        "state": state.value,
        "routes": [],
        "notification_ids": [],
        "detail": canonical(row.detail),
        "accepted_at": to_micros(row.accepted_at),
        "at": at,
        **more,
    }


def canonical(value: Any) -> str:
    """Return a JSON value's one text."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _one(ledger: Ledger, *where: ColumnElement[bool]) -> EventRow | None:
    with ledger.read() as conn:
        found = conn.execute(select(EVENTS).where(*where)).mappings().one_or_none()
    return None if found is None else to_row(found)
