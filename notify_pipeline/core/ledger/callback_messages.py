"""What callbacks are to be told: queued in the transaction that made it true, and looked at afterwards.

Belongs here: what a message says, queueing, listing, sending one again by hand. Does not belong here: claiming and
recording attempts (``callback_claims``), who wants to be told (``callbacks``).

The payload is fixed when it is queued: every attempt sends, and signs, the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from sqlalchemy import Connection, Row, bindparam, func, insert, select, update

from notify_pipeline.core.ids import from_micros, new_id, to_micros
from notify_pipeline.core.ledger import audit
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.statements import Prepared
from notify_pipeline.core.ledger.tables import REQUESTS
from notify_pipeline.core.ledger.tenant_tables import CALLBACK_MESSAGES, CALLBACKS, TENANTS
from notify_pipeline.core.vocabulary import CallbackEvent, MessageState

if TYPE_CHECKING:
    from notify_pipeline.core.ledger.moves import Move

_WAITING, _SENDING = MessageState.WAITING.value, MessageState.SENDING.value
TEST_EVENT = "callback.test"
# Sorts before every time: a clock that is set back shall not keep what was never tried.
AT_ONCE = 0
# Requests asked for in one statement; SQLite takes 32,766 parameters.
_PIECE = 1_000
_TOLD = ("request_id", "type", "category", "reason", "counts", "accepted_at", "replay_of")


def _listening(size: int) -> Prepared:
    """Ask who is told of this many tenants' sends; compiled once, because every end of a send pays for it."""
    names = tuple(f"tenant_{number}" for number in range(size))
    # Shared with others that queue; whoever switches a callback off waits, and then sees what was queued.
    query = (
        select(TENANTS.c.tenant, CALLBACKS.c.callback_id, CALLBACKS.c.tenant.label("owner"), CALLBACKS.c.events)
        .join_from(TENANTS, CALLBACKS, CALLBACKS.c.tenant.in_([TENANTS.c.tenant, TENANTS.c.parent]))
        .where(TENANTS.c.tenant.in_([bindparam(name) for name in names]), CALLBACKS.c.active)
        .order_by(CALLBACKS.c.callback_id)
        .with_for_update(read=True, of=CALLBACKS)
    )
    return Prepared(lambda _: query, names)


# Mostly it is one tenant's; the others are padded.
_SIZES = (1, 8, 64)
_LISTENING = {size: _listening(size) for size in _SIZES}


class CallbackInactive(Exception):
    """The callback is switched off, so nothing can be sent to it."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it stands; ``next_attempt_at`` is None when it is due at once or over."""

    message_id: str
    callback_id: str
    request_id: str | None
    event: str
    payload: str
    state: MessageState
    attempts: int
    next_attempt_at: datetime | None
    status: int | None
    error: str | None
    created_at: datetime
    ended_at: datetime | None


class _Listener(NamedTuple):
    callback_id: str
    owner: str
    events: frozenset[str]


def queue(conn: Connection, ended: "Sequence[Move]", now: datetime) -> None:
    """Queue a message per move to a final state and callback that wants it, in the transaction of the moves.

    A product's callbacks are told of its organizations' sends too. Nobody listening, the usual case, costs one query.
    """
    listening = _listeners(conn, sorted({move.tenant for move in ended}))
    if not listening:
        return
    told = _told(conn, sorted({move.request_id for move in ended if move.tenant in listening}))
    rows = []
    for move in ended:
        event = CallbackEvent[move.to_state.name].value
        wanted = [each for each in listening.get(move.tenant, ()) if event in each.events]
        if wanted:
            payload = _payload(event, move.at, _ending(move, told[move.request_id]))
            rows += [_row(each.callback_id, each.owner, move.request_id, event, payload, now) for each in wanted]
    if rows:
        conn.execute(insert(CALLBACK_MESSAGES), rows)


def test(ledger: Ledger, tenant: str, callback_id: str, actor: str, now: datetime) -> Message | None:
    """Queue a test message; None when the tenant has no such callback.

    Raises:
        CallbackInactive: It is switched off.
    """
    return ledger.write(_test, (tenant, callback_id, "", actor, now))


def send_again(
    ledger: Ledger, tenant: str, callback_id: str, message_id: str, actor: str, now: datetime
) -> Message | None:
    """Send a message again at once, its schedule from the beginning; None when there is no such message.

    One that is being sent at this moment is left alone.

    Raises:
        CallbackInactive: Its callback is switched off.
    """
    return ledger.write(_send_again, (tenant, callback_id, message_id, actor, now))


def page(ledger: Ledger, callback_id: str, state: str | None, limit: int, before: str | None) -> list[Message]:
    """Return a callback's messages, newest first.

    Args:
        ledger: The ledger.
        callback_id: Whose.
        state: Only those that stand so.
        limit: At most so many.
        before: The ``message_id`` of the last message of the page before.
    """
    query = select(CALLBACK_MESSAGES).where(CALLBACK_MESSAGES.c.callback_id == callback_id)
    if state is not None:
        query = query.where(CALLBACK_MESSAGES.c.state == state)
    if before is not None:
        query = query.where(CALLBACK_MESSAGES.c.message_id < before)
    with ledger.read() as conn:
        found = conn.execute(query.order_by(CALLBACK_MESSAGES.c.message_id.desc()).limit(limit))
        return [_message(row) for row in found]


def depths(ledger: Ledger) -> dict[str, int]:
    """Return how many messages are not delivered yet, by state; for operators."""
    unsent = CALLBACK_MESSAGES.c.state.in_((_WAITING, _SENDING))
    with ledger.read() as conn:
        query = select(CALLBACK_MESSAGES.c.state, func.count()).where(unsent).group_by(CALLBACK_MESSAGES.c.state)
        return {state: int(count) for state, count in conn.execute(query)}


def _listeners(conn: Connection, tenants: Sequence[str]) -> dict[str, list[_Listener]]:
    found: dict[str, list[_Listener]] = {}
    for start in range(0, len(tenants), _SIZES[-1]):
        piece = tenants[start : start + _SIZES[-1]]
        size = next(size for size in _SIZES if size >= len(piece))
        values = (*piece, *[piece[-1]] * (size - len(piece)))
        for tenant, callback_id, owner, events in _LISTENING[size].run_values(conn, values):
            found.setdefault(tenant, []).append(_Listener(callback_id, owner, frozenset(orjson.loads(events))))
    return found


def _told(conn: Connection, request_ids: Sequence[str]) -> dict[str, Row[Any]]:
    found: dict[str, Row[Any]] = {}
    query = select(*(REQUESTS.c[name] for name in _TOLD))
    for start in range(0, len(request_ids), _PIECE):
        piece = query.where(REQUESTS.c.request_id.in_(request_ids[start : start + _PIECE]))
        found.update((row.request_id, row) for row in conn.execute(piece))
    return found


def _ending(move: "Move", request: Row[Any]) -> dict[str, Any]:
    return {
        "tenant": move.tenant,
        "request_id": move.request_id,
        "notification_id": move.notification_id,
        "type": request.type,
        "category": request.category,
        "state": str(move.to_state),
        "reason": request.reason,
        "channels": orjson.loads(request.counts),
        "accepted_at": from_micros(request.accepted_at),
        "ended_at": from_micros(move.at),
        "replay_of": request.replay_of,
    }


def _payload(event: str, at: int, data: dict[str, Any]) -> str:
    message = {"type": event, "timestamp": from_micros(at), "data": data}
    return orjson.dumps(message, option=orjson.OPT_UTC_Z).decode()


def _row(
    callback_id: str, tenant: str, request_id: str | None, event: str, payload: str, now: datetime
) -> dict[str, Any]:
    return {
        "message_id": new_id(),
        "callback_id": callback_id,
        "tenant": tenant,
        "request_id": request_id,
        "event": event,
        "payload": payload,
        "state": _WAITING,
        "attempt_no": 0,
        "due_at": AT_ONCE,
        "created_at": to_micros(now),
    }


_Asked = tuple[str, str, str, str, datetime]


def _test(conn: Connection, items: Sequence[_Asked]) -> list[Message | None | Exception]:
    results: list[Message | None | Exception] = []
    for tenant, callback_id, _, actor, now in items:
        active = _active(conn, tenant, callback_id)
        if not active:
            results.append(None if active is None else CallbackInactive(callback_id))
            continue
        at = to_micros(now)
        payload = _payload(TEST_EVENT, at, {"tenant": tenant, "callback_id": callback_id})
        row = _row(callback_id, tenant, None, TEST_EVENT, payload, now)
        conn.execute(insert(CALLBACK_MESSAGES).values(row))
        detail = {"callback_id": callback_id, "message_id": row["message_id"]}
        audit.write(conn, [audit.Entry("callback.tested", actor, at, tenant=tenant, detail=detail)], now)
        results.append(_one(conn, row["message_id"]))
    return results


def _send_again(conn: Connection, items: Sequence[_Asked]) -> list[Message | None | Exception]:
    results: list[Message | None | Exception] = []
    for tenant, callback_id, message_id, actor, now in items:
        active = _active(conn, tenant, callback_id)
        this = (CALLBACK_MESSAGES.c.callback_id == callback_id, CALLBACK_MESSAGES.c.message_id == message_id)
        state = conn.execute(select(CALLBACK_MESSAGES.c.state).where(*this).with_for_update()).scalar()
        if active is None or state is None:
            results.append(None)
            continue
        if not active:
            results.append(CallbackInactive(callback_id))
            continue
        if state != _SENDING:
            anew = {"state": _WAITING, "attempt_no": 0, "due_at": AT_ONCE, "ended_at": None}
            conn.execute(update(CALLBACK_MESSAGES).where(*this).values(anew))
            detail = {"callback_id": callback_id, "message_id": message_id, "state": state}
            audit.write(conn, [audit.Entry("callback.retried", actor, to_micros(now), tenant, detail=detail)], now)
        results.append(_one(conn, message_id))
    return results


def _active(conn: Connection, tenant: str, callback_id: str) -> bool | None:
    this = (CALLBACKS.c.callback_id == callback_id, CALLBACKS.c.tenant == tenant)
    return conn.execute(select(CALLBACKS.c.active).where(*this).with_for_update(read=True)).scalar()


def _one(conn: Connection, message_id: str) -> Message:
    return _message(conn.execute(select(CALLBACK_MESSAGES).where(CALLBACK_MESSAGES.c.message_id == message_id)).one())


def _message(row: Row[Any]) -> Message:
    waits = row.state == _WAITING and row.due_at != AT_ONCE
    return Message(
        message_id=row.message_id,
        callback_id=row.callback_id,
        request_id=row.request_id,
        event=row.event,
        payload=row.payload,
        state=MessageState(row.state),
        attempts=row.attempt_no,
        next_attempt_at=from_micros(row.due_at) if waits else None,
        status=row.status,
        error=row.error,
        created_at=from_micros(row.created_at),
        ended_at=None if row.ended_at is None else from_micros(row.ended_at),
    )
