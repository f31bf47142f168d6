"""Changing requests that have not started: cancelling and editing them.

Belongs here: the two writes, and what counts as started. Does not belong here: what a valid edit is (``ingest_api``),
other moves (``requests``, ``routing``, ``broadcasts``).

Whoever works on a request stores what comes of it under a lock on its row, and only if it stands as it did: a planner
if the lease is still its own, a snapshot if the request is still routed. So one transaction here decides the race.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, select, update

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import accepting, audit, outbox, progress, requests
from notify_pipeline.core.ledger.accepting import Incoming, NewRequest
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.requests import RequestRow
from notify_pipeline.core.ledger.tables import REQUESTS
from notify_pipeline.core.vocabulary import RequestState

# Who stands at routed is a broadcast whose audience is not fixed: the drain's requests pass it in one transaction.
_CANCELLABLE = (RequestState.ACCEPTED, RequestState.ROUTED)
# What an edit may change; the id, the hash of what was first asked for, and the history stay.
_EDITED = ("body", "type", "priority_rank", "category", "domain", "due_at", "expires_at")


class AlreadyStarted(Exception):
    """It is too late: ``state`` is where the request stands."""

    def __init__(self, state: RequestState) -> None:
        super().__init__(f"the request is {state}")
        self.state = state


class EditedMeanwhile(Exception):
    """Somebody else edited the request since it was read: read it again."""


@dataclass(frozen=True, slots=True)
class _Cancel:
    tenant: str
    notification_id: str
    actor: str
    now: datetime


@dataclass(frozen=True, slots=True)
class _Edit:
    row: RequestRow
    new: Incoming
    actor: str
    now: datetime


def cancel(ledger: Ledger, tenant: str, notification_id: str, actor: str, now: datetime) -> str | None:
    """Cancel a request that nobody got anything of; return its id, None when the tenant has no such notification.

    One that was cancelled before stays so.

    Raises:
        AlreadyStarted: It is being sent, or has ended.
    """
    return ledger.write(_cancel, _Cancel(tenant, notification_id, actor, now))


def edit(ledger: Ledger, row: RequestRow, new: NewRequest, now: datetime) -> None:
    """Change an accepted request into another; whoever plans it begins anew.

    Args:
        ledger: The ledger.
        row: The request as it was read.
        new: What it shall be: its body, times and actor count. A repetition of the first send still finds it.
        now: The time.

    Raises:
        AlreadyStarted: It is not merely accepted any more.
        EditedMeanwhile: ``row`` is not what is stored any more.
    """
    ledger.write(_edit, _Edit(row, accepting.prepare(new), new.actor, now))


def _cancel(conn: Connection, items: Sequence[_Cancel]) -> list[str | None | Exception]:
    ids = [_id_of(conn, item) for item in items]
    progress.standing(conn, [request_id for request_id in ids if request_id is not None])
    found = zip(ids, items, strict=True)
    return [None if request_id is None else _cancel_one(conn, request_id, item) for request_id, item in found]


def _id_of(conn: Connection, item: _Cancel) -> str | None:
    mine = (REQUESTS.c.tenant == item.tenant, REQUESTS.c.notification_id == item.notification_id)
    return conn.execute(select(REQUESTS.c.request_id).where(*mine)).scalar()


def _cancel_one(conn: Connection, request_id: str, item: _Cancel) -> str | Exception:
    reason = "cancelled before it started"
    moved = requests.move(
        conn, request_id, _CANCELLABLE, RequestState.CANCELLED, now=item.now, actor=item.actor, reason=reason
    )
    state = progress.standing(conn, [request_id])[request_id].state
    return request_id if moved or state == RequestState.CANCELLED else AlreadyStarted(RequestState(state))


def _edit(conn: Connection, items: Sequence[_Edit]) -> list[None | Exception]:
    progress.standing(conn, [item.row.request_id for item in items])
    return [_edit_one(conn, item) for item in items]


def _edit_one(conn: Connection, item: _Edit) -> None | Exception:
    request_id = item.row.request_id
    mine = REQUESTS.c.request_id == request_id
    state, revision = conn.execute(select(REQUESTS.c.state, REQUESTS.c.revision).where(mine)).one()
    if state != RequestState.ACCEPTED:
        return AlreadyStarted(RequestState(state))
    if (revision or 0) != item.row.revision:
        return EditedMeanwhile(request_id)
    new = {name: value for name, value in item.new.values().items() if name in _EDITED}
    times = {"due_at": to_micros(item.row.due_at), "expires_at": to_micros(item.row.expires_at)}
    changes = _changes(item.row.body, orjson.loads(new["body"]))
    if not changes["after"] and times == {name: new[name] for name in times}:
        return None
    # A planner that has loaded the old body finds its lease gone; one that a postponement keeps away may come.
    fresh = {"revision": item.row.revision + 1, "updated_at": to_micros(item.now), "reason": None}
    conn.execute(update(REQUESTS).where(mine).values(**new, **fresh, lease_owner=None, lease_until=None))
    outbox.add(conn, "requests", [{**item.new.lake, "request_id": request_id, "revision": fresh["revision"]}], item.now)
    entry = audit.Entry(
        event="request.edited",
        actor=item.actor,
        at=to_micros(item.now),
        tenant=item.row.tenant,
        request_id=request_id,
        notification_id=item.row.notification_id,
        detail=changes,
    )
    audit.write(conn, [entry], item.now)
    return None


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the fields that differ as they were and as they are; null where there was or is none."""
    names = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    return {
        "before": {name: before.get(name) for name in names},
        "after": {name: after.get(name) for name in names},
    }
