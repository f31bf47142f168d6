"""Messages to callbacks on their way: claimed by lease, and what came of each attempt.

Belongs here: finding what is due, claiming it, recording attempts, forgetting what is long over. Does not belong here:
queueing (``callback_messages``), sending, and when an attempt is repeated (``delivery``).

A claim counts the attempt before anything is sent. A process that dies between sending and recording leaves its lease
to run out, and the message is sent again with the same id: at least once, never not at all.

Leases are wall-clock times. One that ends further ahead than any lease lasts was given before the clock was set back,
and counts as run out.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, bindparam, delete, exists, func, or_, select, text, update

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import audit, callbacks
from notify_pipeline.core.ledger.callback_messages import AT_ONCE
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.tenant_tables import CALLBACK_MESSAGES, CALLBACKS, TENANTS
from notify_pipeline.core.vocabulary import MessageState

ACTOR = "callbacks"
# The answer by which a receiver asks to be told nothing more.
GONE = "gone"
# In the words of the partial index, literally: only then does SQLite know that the index covers the query.
_UNSENT = text("callback_messages.state IN ('waiting', 'sending')")
_M = CALLBACK_MESSAGES.c
_WAITING, _SENDING = MessageState.WAITING.value, MessageState.SENDING.value
_DELIVERED, _FAILED = MessageState.DELIVERED.value, MessageState.FAILED.value
# What waits for an inactive tenant waits until it is active again: it could not switch a callback off either.
_IS_TOLD = (CALLBACKS.c.active, TENANTS.c.active)
# Forgotten in one transaction; each is a row and two index entries.
_FORGET_BATCH = 1_000


# Its owner knows what became of its own claims, even when the clock has jumped over their leases.
_LAPSED = and_(
    _M.lease_owner != bindparam("me"),
    or_(_M.lease_until <= bindparam("now"), _M.lease_until > bindparam("longest")),
)
_CLAIMABLE = (_UNSENT, _M.due_at <= bindparam("now"), or_(_M.state == _WAITING, _LAPSED))


def _due() -> Select[Any]:
    first = select(func.min(_M.callback_id).label("callback_id")).where(_UNSENT)
    seen = first.cte("seen", recursive=True)
    following = select(func.min(_M.callback_id)).where(_UNSENT, _M.callback_id > seen.c.callback_id)
    seen = seen.union_all(select(following.scalar_subquery()).where(seen.c.callback_id.isnot(None)))
    any_due = exists().where(_M.callback_id == CALLBACKS.c.callback_id, *_CLAIMABLE)
    return (
        select(CALLBACKS.c.callback_id, CALLBACKS.c.tenant, CALLBACKS.c.url)
        .join_from(seen, CALLBACKS, CALLBACKS.c.callback_id == seen.c.callback_id)
        .join(TENANTS, TENANTS.c.tenant == CALLBACKS.c.tenant)
        .where(*_IS_TOLD, any_due)
    )


# Built once: every idle drain asks it five times a second, and building it takes ten times as long as running it.
_DUE = _due()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An active callback that has messages due."""

    callback_id: str
    tenant: str
    url: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """A message that may be sent now. ``secrets`` sign it, the newest first."""

    message_id: str
    callback_id: str
    tenant: str
    url: str = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    payload: str = field(repr=False)
    attempt_no: int
    owner: str


@dataclass(frozen=True, slots=True)
class Told:
    """What came of one attempt.

    Attributes:
        claimed: The claim.
        state: ``delivered``, ``failed``, or ``waiting`` when it is to be sent again.
        status: The answer's; None when there was none.
        error: What went wrong instead of an answer.
        again_at: When it is due again, microseconds since the epoch, for ``waiting``.
        decided_at: What the clock said when that was counted from it.
        counts: False when the attempt was broken off by us: it is as if it had not begun.
    """

    claimed: Claimed
    state: MessageState
    status: int | None = None
    error: str | None = None
    again_at: int = AT_ONCE
    decided_at: int | None = None
    counts: bool = True


@dataclass(frozen=True, slots=True)
class _Claim:
    owner: str
    rooms: Mapping[str, int]
    now: int
    lease: int


def due(ledger: Ledger, owner: str, now: datetime, lease_s: float) -> list[Endpoint]:
    """Return the active callbacks of active tenants with something to be claimed, without writing.

    Takes as long as there are callbacks with unsent messages, however many messages those have.
    """
    with ledger.read() as conn:
        return [Endpoint(*row) for row in conn.execute(_DUE, _times(owner, to_micros(now), round(lease_s * 1e6)))]


def claim(ledger: Ledger, owner: str, rooms: Mapping[str, int], now: datetime, lease_s: float) -> list[Claimed]:
    """Claim due messages, at most so many of each callback, those that wait longest first."""
    return ledger.write(_claim, _Claim(owner, rooms, to_micros(now), round(lease_s * 1e6)))


def record(ledger: Ledger, told: Sequence[Told], now: datetime) -> None:
    """Store what came of attempts. One whose lease was taken over counts only if it was delivered."""
    if told:
        ledger.write(_record, (tuple(told), now))


def forget(ledger: Ledger, before: datetime) -> int:
    """Forget messages queued before then that are over; return how many."""
    bound, total = _id_bound(before), 0
    with ledger.read() as conn:
        if conn.execute(_over_before(bound).limit(1)).first() is None:
            return 0
    while (gone := ledger.write(_forget, bound)) == _FORGET_BATCH:
        total += gone
    return total + gone


def _claim(conn: Connection, items: Sequence[_Claim]) -> list[list[Claimed]]:
    return [_claim_one(conn, item) for item in items]


def _claim_one(conn: Connection, item: _Claim) -> list[Claimed]:
    # Whoever switches a callback off waits for this, or is seen by it.
    whose = select(CALLBACKS).join(TENANTS, TENANTS.c.tenant == CALLBACKS.c.tenant)
    query = whose.where(CALLBACKS.c.callback_id.in_(sorted(item.rooms)), *_IS_TOLD).order_by(CALLBACKS.c.callback_id)
    found = conn.execute(query.with_for_update(read=True, of=CALLBACKS)).all()
    claimed = [each for callback in found for each in _claim_of(conn, item, callback)]
    if claimed:
        mine = {"state": _SENDING, "attempt_no": _M.attempt_no + 1, "due_at": AT_ONCE, "lease_owner": item.owner}
        ids = [each.message_id for each in claimed]
        until = item.now + item.lease
        conn.execute(update(CALLBACK_MESSAGES).where(_M.message_id.in_(ids)).values(**mine, lease_until=until))
    return claimed


def _claim_of(conn: Connection, item: _Claim, callback: Row[Any]) -> list[Claimed]:
    query = (
        select(_M.message_id, _M.payload, _M.attempt_no)
        .where(_M.callback_id == callback.callback_id, *_CLAIMABLE)
        .order_by(_M.due_at, _M.message_id)
        .limit(item.rooms[callback.callback_id])
        .with_for_update(skip_locked=True)
    )
    has_old = callback.old_secret is not None and callback.old_secret_until > item.now
    secrets = (callback.secret, callback.old_secret) if has_old else (callback.secret,)
    whose = (callback.callback_id, callback.tenant, callback.url, secrets)
    return [
        Claimed(message_id, *whose, payload, attempt_no + 1, item.owner)
        for message_id, payload, attempt_no in conn.execute(query, _times(item.owner, item.now, item.lease))
    ]


def _times(owner: str, now: int, lease: int) -> dict[str, Any]:
    """Return what ``_CLAIMABLE`` binds."""
    return {"me": owner, "now": now, "longest": now + 2 * lease}


def _record(conn: Connection, items: Sequence[tuple[tuple[Told, ...], datetime]]) -> list[None]:
    for told, now in items:
        _record_batch(conn, told, now)
    return [None for _ in items]


def _record_batch(conn: Connection, told: Sequence[Told], now: datetime) -> None:
    # Callbacks before messages, everywhere: whoever locks both does so in this order.
    active = _active(conn, told)
    stored = _stored(conn, told)
    at, entries = to_micros(now), []
    together: dict[tuple[tuple[str, Any], ...], list[str]] = defaultdict(list)
    for each in told:
        row = stored.get(each.claimed.message_id)
        if row is None or not _counts(each, row):
            continue
        ended = _ending(each, each.claimed.callback_id in active, at)
        together[tuple(ended.items())].append(row.message_id)
        if ended["state"] == _FAILED:
            entries.append(_failure(each, row, ended, at))
    # Mostly all were delivered, with one status: one statement for all.
    for values, ids in together.items():
        conn.execute(update(CALLBACK_MESSAGES).where(_M.message_id.in_(ids)).values(dict(values)))
    audit.write(conn, entries, now)
    # What an old URL said does not concern a new one.
    gone = {(t.claimed.callback_id, t.claimed.tenant, t.claimed.url) for t in told if t.error == GONE}
    for callback_id, tenant, url in sorted(gone):
        if active.get(callback_id) == url:
            callbacks.deactivate(conn, callback_id, tenant, GONE, ACTOR, now)


def _active(conn: Connection, told: Sequence[Told]) -> dict[str, str]:
    """Lock the callbacks that are active, and return their URLs."""
    ids = sorted({each.claimed.callback_id for each in told})
    columns = (CALLBACKS.c.callback_id, CALLBACKS.c.url)
    query = select(*columns).where(CALLBACKS.c.callback_id.in_(ids), CALLBACKS.c.active)
    ends_any = any(each.error == GONE for each in told)
    locked = query.order_by(CALLBACKS.c.callback_id).with_for_update(read=not ends_any, key_share=ends_any)
    return {callback_id: url for callback_id, url in conn.execute(locked)}


def _stored(conn: Connection, told: Sequence[Told]) -> dict[str, Row[Any]]:
    ids = sorted({each.claimed.message_id for each in told})
    columns = (_M.message_id, _M.state, _M.attempt_no, _M.lease_owner, _M.request_id, _M.event)
    query = select(*columns).where(_M.message_id.in_(ids)).order_by(_M.message_id).with_for_update()
    return {row.message_id: row for row in conn.execute(query)}


def _counts(told: Told, row: Row[Any]) -> bool:
    # A delivery is a fact, whoever holds the lease by now.
    if told.state is MessageState.DELIVERED:
        return bool(row.attempt_no == told.claimed.attempt_no and row.state != _DELIVERED)
    held = (_SENDING, told.claimed.attempt_no, told.claimed.owner)
    return (row.state, row.attempt_no, row.lease_owner) == held


def _ending(told: Told, active: bool, at: int) -> dict[str, Any]:
    free = {"lease_owner": None, "lease_until": None}
    if not told.counts and active:
        return {**free, "state": _WAITING, "due_at": AT_ONCE, "attempt_no": told.claimed.attempt_no - 1}
    state, error = told.state.value, told.error
    if state == _WAITING and not active:
        state, error = _FAILED, callbacks.INACTIVE
    ended_at = None if state == _WAITING else at
    return {
        **free,
        "state": state,
        "status": told.status,
        "error": error,
        "due_at": told.again_at,
        "counted_from": told.decided_at,
        "ended_at": ended_at,
    }


def _failure(told: Told, row: Row[Any], ended: Mapping[str, Any], at: int) -> audit.Entry:
    detail = {
        "callback_id": told.claimed.callback_id,
        "message_id": row.message_id,
        "event": row.event,
        "attempts": row.attempt_no,
        "status": ended["status"],
        "error": ended["error"],
    }
    return audit.Entry(
        "callback.failed", ACTOR, at, tenant=told.claimed.tenant, request_id=row.request_id, detail=detail
    )


def _id_bound(before: datetime) -> str:
    # Ids begin with the milliseconds of their time.
    return f"{to_micros(before) // 1_000:012x}"


def _over_before(bound: str) -> Select[Any]:
    return select(_M.message_id).where(_M.message_id < bound, _M.state.in_((_DELIVERED, _FAILED)))


def _forget(conn: Connection, bounds: Sequence[str]) -> list[int]:
    results = []
    for bound in bounds:
        ids = _over_before(bound).order_by(_M.message_id).limit(_FORGET_BATCH).scalar_subquery()
        results.append(conn.execute(delete(CALLBACK_MESSAGES).where(_M.message_id.in_(ids))).rowcount)
    return results
