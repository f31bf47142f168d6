"""Requests: finding them, and moving them between states; accepting them is in ``accepting`` and offered here too.

Belongs here: what every room asks of one request. Does not belong here: lists (``request_lists``), claiming and sending
(``deliveries``, ``broadcasts``).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, select, update

from notify_pipeline.core.ids import from_micros, to_micros
from notify_pipeline.core.ledger import moves
from notify_pipeline.core.ledger.accepting import Accepted, IdReused, NewRequest, accept
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.moves import Move
from notify_pipeline.core.ledger.tables import REQUESTS
from notify_pipeline.core.vocabulary import Priority, RequestState

__all__ = [
    "Accepted",
    "IdReused",
    "NewRequest",
    "RequestRow",
    "accept",
    "get",
    "get_of_any",
    "get_by_notification",
    "move",
]


@dataclass(frozen=True, slots=True)
class RequestRow:
    """A stored request.

    ``counts`` is {channel: {outcome, "audience" or "pending": n}}; ``revision`` says how often it was edited.
    """

    tenant: str
    request_id: str
    notification_id: str
    body: Mapping[str, Any]
    type: str
    priority: Priority
    state: RequestState
    mode: str | None
    reason: str | None
    category: str | None
    replay_of: str | None
    revision: int
    accepted_at: datetime
    due_at: datetime
    expires_at: datetime
    updated_at: datetime
    counts: Mapping[str, Mapping[str, int]]


def get(ledger: Ledger, tenant: str, request_id: str) -> RequestRow | None:
    """Return a tenant's request, or None when there is none or it is another's."""
    return _one(ledger, REQUESTS.c.tenant == tenant, REQUESTS.c.request_id == request_id)


def get_of_any(ledger: Ledger, tenants: Collection[str], request_id: str) -> RequestRow | None:
    """Return a request of any of these tenants, or None when there is none or it is another's."""
    return _one(ledger, REQUESTS.c.tenant.in_(tenants), REQUESTS.c.request_id == request_id)


def get_by_notification(ledger: Ledger, tenant: str, notification_id: str) -> RequestRow | None:
    """Return the request behind a tenant's notification id, or None."""
    return _one(ledger, REQUESTS.c.tenant == tenant, REQUESTS.c.notification_id == notification_id)


def move(
    conn: Connection,
    request_id: str,
    from_states: Collection[RequestState],
    to_state: RequestState,
    *,
    now: datetime,
    actor: str,
    detail: Mapping[str, Any] | None = None,
    reason: str | None = None,
) -> bool:
    """Move a request inside the caller's transaction if it stands in one of ``from_states``.

    Writes the audit row, and with it the lake's. Returns False, with nothing written, when it stands elsewhere.
    """
    this = REQUESTS.c.request_id == request_id
    query = select(REQUESTS.c.tenant, REQUESTS.c.notification_id, REQUESTS.c.state).where(this)
    found = conn.execute(query.with_for_update()).one_or_none()
    if found is None or found.state not in from_states:
        return False
    values: dict[str, Any] = {"state": str(to_state), "updated_at": to_micros(now)}
    if reason is not None:
        values["reason"] = reason
    if to_state.is_final:
        values |= {"lease_owner": None, "lease_until": None}
    conn.execute(update(REQUESTS).where(this).values(values))
    move = Move(
        tenant=found.tenant,
        request_id=request_id,
        notification_id=found.notification_id,
        from_state=RequestState(found.state),
        to_state=to_state,
        actor=actor,
        at=to_micros(now),
        detail={**(detail or {}), **({} if reason is None else {"reason": reason})} or None,
    )
    moves.record(conn, [move], now)
    return True


def to_row(values: Mapping[Any, Any]) -> RequestRow:
    """Build the row from the columns of ``tables.REQUESTS``."""
    return RequestRow(
        tenant=values["tenant"],
        request_id=values["request_id"],
        notification_id=values["notification_id"],
        body=orjson.loads(values["body"]),
        type=values["type"],
        priority=tuple(Priority)[values["priority_rank"]],
        state=RequestState(values["state"]),
        mode=values["mode"],
        reason=values["reason"],
        category=values["category"],
        replay_of=values["replay_of"],
        revision=values["revision"] or 0,
        accepted_at=from_micros(values["accepted_at"]),
        due_at=from_micros(values["due_at"]),
        expires_at=from_micros(values["expires_at"]),
        updated_at=from_micros(values["updated_at"]),
        counts=orjson.loads(values["counts"]),
    )


def _one(ledger: Ledger, *where: ColumnElement[bool]) -> RequestRow | None:
    with ledger.read() as conn:
        found = conn.execute(select(REQUESTS).where(*where)).mappings().one_or_none()
    return None if found is None else to_row(found)
