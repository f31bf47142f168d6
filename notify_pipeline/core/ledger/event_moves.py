"""What becomes of claimed events: their moves, and the sends that routes make of them, in one transaction.

Belongs here: that transaction. Does not belong here: claiming (``event_claims``), deciding
(``delivery.event_routing``).

An event and its sends are stored together or not at all: where one of them cannot be accepted, the event is dead, and
none is. Only a claim that still holds counts, so what two routers decide about one event is stored once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, null, select, update

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import accepting, audit, outbox
from notify_pipeline.core.ledger.accepting import IdReused, Incoming
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.event_claims import WAITING
from notify_pipeline.core.ledger.event_rows import EventRow, canonical, lake_row
from notify_pipeline.core.ledger.event_tables import EVENTS
from notify_pipeline.core.ledger.events import AT_ONCE
from notify_pipeline.core.ledger.statements import Prepared
from notify_pipeline.core.ledger.usage import QuotaExceeded
from notify_pipeline.core.vocabulary import EventState

ACTOR = "router"
# Shown to people: a reason that repeats what a caller wrote may be long.
MAX_REASON = 2_000
# Of the ids that an audit entry names; the event names all.
_MOST_AUDITED = 100
_E = EVENTS.c


@dataclass(frozen=True, slots=True)
class Settled:
    """What becomes of one claimed event.

    Attributes:
        row: The claim.
        state: ``routed``, ``unrouted``, ``dead``; ``enriched``; or the state that it has, to be claimed again.
        routes: The names of those that matched.
        sends: What they make of it, for ``routed``.
        reason: Why it is unrouted or dead, or waits.
        enrichment: What was found, by route; None leaves what there is.
        due_at: When it is due again, microseconds since the epoch.
    """

    row: EventRow
    state: EventState
    routes: tuple[str, ...] = ()
    sends: tuple[Incoming, ...] = ()
    reason: str | None = None
    enrichment: Mapping[str, Any] | None = None
    due_at: int = AT_ONCE

    @property
    def is_move(self) -> bool:
        """True when the event leaves its state."""
        return self.state is not self.row.state

    @property
    def notification_ids(self) -> list[str]:
        """Of its sends."""
        return [send.notification_id for send in self.sends]


@dataclass(frozen=True, slots=True)
class _Batch:
    owner: str
    settled: tuple[Settled, ...]
    now: datetime


_NAMES = ("state", "routes", "notification_ids", "reason", "enrichment", "due_at", "updated_at")
_UPDATE = Prepared(
    lambda _: (
        update(EVENTS)
        .where(_E.event_id == bindparam("this"))
        .values({name: bindparam(name) for name in _NAMES} | {"lease_owner": null(), "lease_until": null()})
    ),
    ("state", "enrichment", "routes", "notification_ids", "reason", "due_at", "updated_at", "this"),
)


def settle(ledger: Ledger, owner: str, settled: Sequence[Settled], now: datetime) -> None:
    """Store what becomes of events that ``owner`` has claimed; what it holds no longer is passed over."""
    if settled:
        ledger.write(_settle, _Batch(owner, tuple(settled), now))


def _settle(conn: Connection, items: Sequence[_Batch]) -> list[None]:
    for item in items:
        _settle_batch(conn, item)
    return [None for _ in items]


def _settle_batch(conn: Connection, batch: _Batch) -> None:
    ids = sorted(each.row.event_id for each in batch.settled)
    mine = (_E.event_id.in_(ids), _E.lease_owner == batch.owner, WAITING)
    held = set(conn.execute(select(_E.event_id).where(*mine).order_by(_E.event_id).with_for_update()).scalars())
    settled = _with_sends(conn, [each for each in batch.settled if each.row.event_id in held], batch.now)
    at = to_micros(batch.now)
    if settled:
        conn.exec_driver_sql(_UPDATE.text(conn), [_stored(each, at) for each in settled])
    moved = [each for each in settled if each.is_move]
    audit.write(conn, [_entry(each, at) for each in moved if each.state is not EventState.ENRICHED], batch.now)
    outbox.add(conn, "events", [_lake(each, at) for each in moved], batch.now)


def _with_sends(conn: Connection, settled: Sequence[Settled], now: datetime) -> list[Settled]:
    """Accept the sends of all; where some cannot be accepted, event by event, and those events are dead instead."""
    if not any(each.sends for each in settled):
        return list(settled)
    savepoint = conn.begin_nested()
    # In one order, so that two that accept the same ids do not wait for each other.
    sends = sorted((send for each in settled for send in each.sends), key=lambda s: (s.tenant, s.notification_id))
    if not any(isinstance(found, Exception) for found in accepting.accept_all(conn, sends)):
        savepoint.commit()
        return list(settled)
    savepoint.rollback()
    return [_alone(conn, each) for each in settled]


def _alone(conn: Connection, one: Settled) -> Settled:
    if not one.sends:
        return one
    savepoint = conn.begin_nested()
    refused = next((f for f in accepting.accept_all(conn, one.sends) if isinstance(f, Exception)), None)
    if refused is None:
        savepoint.commit()
        return one
    savepoint.rollback()
    return Settled(one.row, EventState.DEAD, one.routes, reason=_why(refused))


def _why(refused: Exception) -> str:
    if isinstance(refused, QuotaExceeded):
        return f"quota_exceeded: {refused}"
    if isinstance(refused, IdReused):
        return f"id_reused: {refused}"
    raise refused


def _stored(one: Settled, at: int) -> tuple[Any, ...]:
    found = one.row.enrichment if one.enrichment is None else one.enrichment
    return (
        one.state.value,
        None if found is None else canonical(found),
        canonical(one.routes) if one.routes else None,
        canonical(one.notification_ids) if one.sends else None,
        _reason(one),
        one.due_at,
        at,
        one.row.event_id,
    )


def _reason(one: Settled) -> str | None:
    # No store takes half of a surrogate pair, which an expression may write.
    return None if one.reason is None else one.reason[:MAX_REASON].encode(errors="replace").decode().replace("\x00", "")


def _entry(one: Settled, at: int) -> audit.Entry:
    row, ids = one.row, one.notification_ids
    detail: dict[str, Any] = {"event_id": row.event_id, "source": row.source, "type": row.type, "id": row.id}
    if one.routes:
        detail["routes"] = list(one.routes)
    if ids:
        detail |= {"notification_ids": ids[:_MOST_AUDITED], "notifications": len(ids)}
    if one.reason is not None:
        detail["reason"] = _reason(one)
    states = {"from_state": row.state.value, "to_state": one.state.value}
    return audit.Entry(f"event.{one.state}", ACTOR, at, tenant=row.tenant, detail=detail, **states)


def _lake(one: Settled, at: int) -> dict[str, Any]:
    made = {"routes": list(one.routes), "notification_ids": one.notification_ids, "reason": _reason(one)}
    return lake_row(one.row, one.state, at, **made)
