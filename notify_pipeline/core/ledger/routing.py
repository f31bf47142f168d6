"""Requests on their way from accepted to sending: claimed by lease, then routed once.

Belongs here: the claim, and the one transaction that stores a plan. Does not belong here: deciding the plan
(``delivery.planning``), what a plan is (``plans``), the queue that a plan fills (``deliveries``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, insert, or_, select, text, update

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import fair, moves, outbox, progress
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.fair import Queue, Wanted
from notify_pipeline.core.ledger.holding import within_limits
from notify_pipeline.core.ledger.limits import Limits
from notify_pipeline.core.ledger.moves import Move
from notify_pipeline.core.ledger.planned_items import store_items
from notify_pipeline.core.ledger.plans import NewDelivery, Plan, within_caps
from notify_pipeline.core.ledger.requests import RequestRow, to_row
from notify_pipeline.core.ledger.statements import Prepared
from notify_pipeline.core.ledger.tables import DELIVERIES, REQUESTS
from notify_pipeline.core.vocabulary import RequestState

# In the words of the partial index, literally: only then does SQLite know that the index covers the query.
_OPEN = text("requests.state IN ('accepted', 'routed', 'sending')")
_ACCEPTED, _ROUTED, _SENDING = (
    str(state) for state in (RequestState.ACCEPTED, RequestState.ROUTED, RequestState.SENDING)
)
ACTOR = "drain"
_WAITING = Queue(
    REQUESTS,
    REQUESTS.c.request_id,
    (_OPEN, REQUESTS.c.state == _ACCEPTED),
    # Held by a planner, or postponed: at most as many as planners hold.
    (or_(REQUESTS.c.lease_until.is_(None), REQUESTS.c.lease_until <= bindparam("now")),),
    list(REQUESTS.c),
)
_ANY = Wanted.of(1)
_NO_LIMITS: Mapping[str, Limits] = {}

_DELIVERY = (
    "delivery_id",
    "request_id",
    "tenant",
    "channel",
    "platform",
    "address",
    "recipient",
    "priority_rank",
    "state",
    "attempt_no",
    "due_at",
    "counted_from",
    "expires_at",
)
_QUEUE = Prepared(lambda _: insert(DELIVERIES).values({name: bindparam(name) for name in _DELIVERY}), _DELIVERY)
_ROUTE = (
    update(REQUESTS)
    .where(REQUESTS.c.request_id == bindparam("of_request"))
    .values(
        state=bindparam("state"),
        mode=bindparam("mode"),
        reason=bindparam("reason"),
        updated_at=bindparam("updated_at"),
        counts=bindparam("counts"),
        lease_owner=None,
        lease_until=None,
    )
)


@dataclass(frozen=True, slots=True)
class _Claim:
    owner: str
    now: int
    until: int
    wanted: Wanted


@dataclass(frozen=True, slots=True)
class _Plans:
    owner: str
    now: datetime
    plans: Sequence[Plan]
    limits: Mapping[str, Limits]


def claim(ledger: Ledger, owner: str, now: datetime, lease_s: float, limit: int | Wanted) -> list[RequestRow]:
    """Lease accepted requests: by priority, then tenants in turn, each one's longest due first (``fair``)."""
    at, wanted = to_micros(now), limit if isinstance(limit, Wanted) else Wanted.of(limit)
    return ledger.write(_claim, _Claim(owner, at, at + round(lease_s * 1e6), wanted))


def is_due(ledger: Ledger, now: datetime, wanted: Wanted = _ANY) -> bool:
    """Tell, without writing, whether ``claim`` would find anything."""
    with ledger.read() as conn:
        return fair.is_due(conn, _WAITING, wanted, now=to_micros(now))


def load(ledger: Ledger, request_ids: Sequence[str]) -> list[RequestRow]:
    """Return requests by id, whatever their tenant and state; unknown ids are left out."""
    found: list[RequestRow] = []
    with ledger.read() as conn:
        for start in range(0, len(request_ids), progress.PIECE):
            piece = request_ids[start : start + progress.PIECE]
            rows = conn.execute(select(REQUESTS).where(REQUESTS.c.request_id.in_(piece))).mappings()
            found.extend(to_row(row) for row in rows)
    return found


def postpone(ledger: Ledger, owner: str, request_ids: Sequence[str], reason: str, now: datetime, wait_s: float) -> None:
    """Give claimed requests back, not to be claimed again before ``wait_s`` seconds, and say why they wait."""
    if request_ids:
        at = to_micros(now)
        ledger.write(_postpone, (owner, tuple(request_ids), reason, at, at + round(wait_s * 1e6)))


def release(ledger: Ledger, owner: str, request_ids: Sequence[str]) -> None:
    """Give claimed requests back at once."""
    if request_ids:
        ledger.write(_release, (owner, tuple(request_ids)))


def renew(ledger: Ledger, owner: str, request_ids: Sequence[str], now: datetime, lease_s: float) -> None:
    """Extend the leases that the owner still holds on requests in planning."""
    if request_ids:
        ledger.write(_renew, (owner, tuple(request_ids), to_micros(now) + round(lease_s * 1e6)))


def store(
    ledger: Ledger, owner: str, plans: Sequence[Plan], now: datetime, limits: Mapping[str, Limits] = _NO_LIMITS
) -> list[bool]:
    """Store plans in one transaction; False for each request that the owner lost or that is not what it was.

    Those that are over their tenant's ``limits`` are stored as failed.
    """
    return ledger.write(_store, _Plans(owner, now, plans, limits)) if plans else []


def _claim(conn: Connection, items: Sequence[_Claim]) -> list[list[RequestRow]]:
    return [_claim_one(conn, item) for item in items]


def _claim_one(conn: Connection, item: _Claim) -> list[RequestRow]:
    def mark(conn: Connection, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), progress.PIECE):
            mine = REQUESTS.c.request_id.in_(ids[start : start + progress.PIECE])
            conn.execute(update(REQUESTS).where(mine).values(lease_owner=item.owner, lease_until=item.until))

    return [to_row(row) for row in fair.claim(conn, _WAITING, item.wanted, mark, now=item.now)]


def _renew(conn: Connection, items: Sequence[tuple[str, tuple[str, ...], int]]) -> list[None]:
    for owner, ids, until in items:
        mine = (REQUESTS.c.request_id.in_(ids), REQUESTS.c.lease_owner == owner, REQUESTS.c.state == _ACCEPTED)
        conn.execute(update(REQUESTS).where(*mine).values(lease_until=until))
    return [None] * len(items)


def _release(conn: Connection, items: Sequence[tuple[str, tuple[str, ...]]]) -> list[None]:
    for owner, ids in items:
        mine = (REQUESTS.c.request_id.in_(ids), REQUESTS.c.lease_owner == owner, REQUESTS.c.state == _ACCEPTED)
        conn.execute(update(REQUESTS).where(*mine).values(lease_owner=None, lease_until=None))
    return [None] * len(items)


def _postpone(conn: Connection, items: Sequence[tuple[str, tuple[str, ...], str, int, int]]) -> list[None]:
    for owner, ids, reason, now, until in items:
        mine = (REQUESTS.c.request_id.in_(ids), REQUESTS.c.lease_owner == owner, REQUESTS.c.state == _ACCEPTED)
        waits = {"lease_owner": None, "lease_until": until, "reason": reason, "updated_at": now}
        conn.execute(update(REQUESTS).where(*mine).values(waits))
    return [None] * len(items)


def _store(conn: Connection, items: Sequence[_Plans]) -> list[list[bool]]:
    return [_store_batch(conn, item) for item in items]


def _store_batch(conn: Connection, item: _Plans) -> list[bool]:
    found = progress.standing(conn, [plan.request_id for plan in item.plans])
    mine = {plan.request_id for plan in item.plans if _is_for(plan, found.get(plan.request_id), item.owner)}
    plans = [plan for plan in item.plans if plan.request_id in mine]
    now = to_micros(item.now)
    tenants = {plan.request_id: found[plan.request_id].tenant for plan in plans}
    if item.limits:
        plans = within_limits(conn, plans, tenants, item.limits, item.now)
    plans = within_caps(conn, plans)
    queued = [_queue_row(plan, tenants[plan.request_id], each, now) for plan in plans for each in plan.deliveries]
    _QUEUE.run_many(conn, queued)
    if plans:
        conn.execute(_ROUTE, [_route_row(plan, now) for plan in plans])
    moves.record(conn, [move for plan in plans for move in _moves(found[plan.request_id], plan, now)], item.now)
    outbox.add(conn, "audiences", [row for plan in plans for row in plan.audiences], item.now)
    outbox.add(conn, "attempts", [row for plan in plans for row in plan.skipped], item.now)
    store_items(conn, [each for plan in plans for each in plan.inbox], item.now)
    return [plan.request_id in mine for plan in item.plans]


def _is_for(plan: Plan, request: progress.Standing | None, owner: str) -> bool:
    if request is None or request.state != _ACCEPTED or request.lease_owner != owner:
        return False
    return request.revision == plan.revision


def _route_row(plan: Plan, now: int) -> dict[str, Any]:
    return {
        "of_request": plan.request_id,
        "state": str(plan.moves[-1]),
        "mode": plan.mode,
        "reason": plan.reason,
        "updated_at": now,
        "counts": orjson.dumps(plan.counts).decode(),
    }


def _queue_row(plan: Plan, tenant: str, new: NewDelivery, now: int) -> tuple[Any, ...]:
    return (
        new.delivery_id,
        plan.request_id,
        tenant,
        new.channel,
        new.platform,
        new.address,
        new.recipient,
        plan.priority_rank,
        "waiting",
        0,
        *((now, now) if new.due_at is None else (new.due_at, None)),
        new.expires_at,
    )


def _moves(request: progress.Standing, plan: Plan, now: int) -> list[Move]:
    states = (RequestState.ACCEPTED, *plan.moves)
    return [
        request.move(before, after, now, ACTOR, plan.told_at(after, now))
        for before, after in zip(states, states[1:], strict=False)
    ]
