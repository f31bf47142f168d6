"""Broadcasts: large sends, cut into shards, each sent in chunks whose intent is durable before anybody is called.

Belongs here: which broadcasts there are to run, and the transactions of snapshot, chunks and end. Does not belong here:
leases (``shards``), reading chunks (``chunks``), recipients and files (``delivery``), what an outcome means
(``delivery.retry``).

A chunk is settled once, whoever comes first: its state leaves ``intended`` in the transaction that adds its counts. So
a process that slept through the loss of its lease can neither begin a chunk nor change one that its successor settled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, and_, case, func, insert, or_, select, text, update

from notify_pipeline.core.ids import from_micros, to_micros
from notify_pipeline.core.ledger import audit, chunks, dead_letters, holding, moves, outbox, progress, requests, shards
from notify_pipeline.core.ledger.chunk_rows import NewChunk, new_chunk_values, pack_retries
from notify_pipeline.core.ledger.dead_letters import DeadLetter
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.limits import NO_LIMITS, Limits
from notify_pipeline.core.ledger.planned_items import InboxPart, store_items
from notify_pipeline.core.ledger.shards import ShardRow
from notify_pipeline.core.ledger.tables import CHUNKS, REQUESTS, SHARDS
from notify_pipeline.core.vocabulary import DeliveryMode, Outcome, Priority, RequestState

ACTOR = "broadcast"


_NO_ITEMS = InboxPart()
_RUNNING = (str(RequestState.ROUTED), str(RequestState.SENDING))


@dataclass(frozen=True, slots=True)
class DueBroadcast:
    """A broadcast that somebody must run, or is running (``lease_alive``: a process holds it or one of its shards)."""

    request_id: str
    tenant: str
    notification_id: str
    priority: Priority
    state: RequestState
    shards: int
    shards_done: int
    lease_alive: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A broadcast's recipients, all durable in the lake: what turns a routed request into a sending one.

    Where they are more than the tenant's ``limits`` allow, into a failed one. What it leaves in inboxes is stored then.
    """

    request_id: str
    shards: Sequence[ShardRow]
    audiences: Sequence[Mapping[str, Any]]
    now: datetime
    limits: Limits = NO_LIMITS
    inbox: InboxPart = _NO_ITEMS


@dataclass(frozen=True, slots=True)
class SettledChunk:
    """How a chunk ended.

    Attributes:
        request_id: Its request.
        shard: Its shard.
        chunk: Its number.
        channel: The shard's channel.
        ambiguous: True when nobody knows its outcomes.
        counts: Recipients that it finished, by outcome.
        retries: (ordinal, due at) of the others.
        gave_up: Why recipients were finished whose outcome would have allowed another attempt.
        now: Microseconds since the epoch.
        dead: Its dead letters.
        path: Where its attempts are, where that is not the path that it was intended with.
    """

    request_id: str
    shard: int
    chunk: int
    channel: str
    ambiguous: bool
    counts: Mapping[Outcome, int]
    retries: Sequence[tuple[int, int]]
    gave_up: Mapping[str, int]
    now: int
    dead: Sequence[DeadLetter] = ()
    path: str | None = None


def due(ledger: Ledger, now: datetime, limit: int = 1_000) -> list[DueBroadcast]:
    """Return broadcasts that somebody can go on with now, in the order in which they should run.

    That is until the end, but for the time in which all shards that are left are due later.
    """
    open_ = text("requests.state IN ('accepted', 'routed', 'sending')")  # the partial index's own words
    alive = case((SHARDS.c.lease_until > to_micros(now), 1), else_=0)
    later = case((and_(SHARDS.c.done_at.is_(None), SHARDS.c.due_at > to_micros(now)), 1), else_=0)
    left = func.count(SHARDS.c.shard) - func.count(SHARDS.c.done_at)
    query = (
        select(
            *(REQUESTS.c[name] for name in ("request_id", "tenant", "notification_id", "priority_rank", "state")),
            REQUESTS.c.lease_until,
            func.count(SHARDS.c.shard),
            func.count(SHARDS.c.done_at),
            func.coalesce(func.sum(alive), 0),
        )
        .join_from(REQUESTS, SHARDS, REQUESTS.c.request_id == SHARDS.c.request_id, isouter=True)
        .where(open_, REQUESTS.c.state.in_(_RUNNING), REQUESTS.c.mode == str(DeliveryMode.BROADCAST))
        .group_by(REQUESTS.c.request_id)
        .having(or_(left == 0, func.coalesce(func.sum(later), 0) < left))
        .order_by(REQUESTS.c.priority_rank, REQUESTS.c.due_at, REQUESTS.c.request_id)
        .limit(limit)
    )
    with ledger.read() as conn:
        return [_due(*row, now=to_micros(now)) for row in conn.execute(query)]


def start(ledger: Ledger, snapshot: Snapshot) -> bool:
    """Store the shards and move the request from routed to sending.

    Returns:
        False when it was not ``routed`` any more, or is over a limit and failed: then the shards are nobody's.
    """
    return ledger.write(_start, snapshot)


def end_unsent(ledger: Ledger, request_id: str, state: RequestState, reason: str, now: datetime) -> bool:
    """End a broadcast before its audience is fixed; False when it was not ``routed`` any more."""
    return ledger.write(_end_unsent, (request_id, state, reason, now))


def intend(ledger: Ledger, owner: str, new: NewChunk) -> None:
    """Make the intent to send a chunk durable.

    Raises:
        LeaseLost: The shard is somebody else's now: the chunk must not be sent.
    """
    ledger.write(_intend, (owner, new))


def settle(ledger: Ledger, settled: SettledChunk) -> bool:
    """Store how a chunk ended, with the request's counts; False when it was settled before (nothing is changed)."""
    return ledger.write(_settle, settled)


def finish(ledger: Ledger, request_id: str, now: datetime) -> RequestState:
    """Move a broadcast whose shards are all done to its end; return where it stands (its end, when it had ended).

    It goes on ``sending`` while shards are left that have a time of their own, even if that came a moment ago.

    Raises:
        ValueError: Other shards are not done, or it was never snapshot.
        KeyError: There is no such request.
    """
    return ledger.write(_finish, (request_id, to_micros(now)))


def _due(
    request_id: str,
    tenant: str,
    notification_id: str,
    rank: int,
    state: str,
    lease_until: int | None,
    shards: int,
    shards_done: int,
    alive: int,
    *,
    now: int,
) -> DueBroadcast:
    return DueBroadcast(
        request_id,
        tenant,
        notification_id,
        tuple(Priority)[rank],
        RequestState(state),
        shards,
        shards_done,
        lease_alive=alive > 0 or (lease_until or 0) > now,
    )


def _start(conn: Connection, items: Sequence[Snapshot]) -> list[bool]:
    return [_start_one(conn, item) for item in items]


def _start_one(conn: Connection, item: Snapshot) -> bool:
    request = progress.standing(conn, [item.request_id])[item.request_id]
    if request.state != RequestState.ROUTED:
        return False
    counts = request.counts
    for row in item.audiences:
        size = int(row["recipients"])
        counts = progress.add(counts, {str(row["channel"]): {progress.AUDIENCE: size, progress.PENDING: size}})
    counts = progress.add(counts, item.inbox.counts)
    if _is_over(conn, item, counts):
        return False
    now = to_micros(item.now)
    new = {"lease_owner": None, "lease_until": None, "counts": orjson.dumps(counts).decode(), "updated_at": now}
    mine = REQUESTS.c.request_id == item.request_id
    conn.execute(update(REQUESTS).where(mine).values(**new, state=str(RequestState.SENDING)))
    if item.shards:
        rows = [{name: getattr(shard, name) for name in ShardRow.__dataclass_fields__} for shard in item.shards]
        conn.execute(insert(SHARDS), rows)
    detail = {"shards": len(item.shards), "recipients": sum(shard.recipients for shard in item.shards)}
    moves.record(conn, [request.move(RequestState.ROUTED, RequestState.SENDING, now, ACTOR, detail)], item.now)
    outbox.add(conn, "audiences", [*item.audiences, *item.inbox.audiences], item.now)
    outbox.add(conn, "attempts", item.inbox.skipped, item.now)
    store_items(conn, item.inbox.items, item.now)
    return True


def _is_over(conn: Connection, item: Snapshot, counts: progress.Counts) -> bool:
    """Tell whether a broadcast is over a limit; it has failed then."""
    if item.limits is NO_LIMITS:
        return False
    number = holding.recipients(counts)
    reason = holding.refusal(conn, item.limits, number, item.now)
    if reason is None:
        return False
    from_states, to_state, detail = (RequestState.ROUTED,), RequestState.FAILED, {"recipients": number}
    move = requests.move
    return move(conn, item.request_id, from_states, to_state, now=item.now, actor=ACTOR, detail=detail, reason=reason)


def _end_unsent(conn: Connection, items: Sequence[tuple[str, RequestState, str, datetime]]) -> list[bool]:
    return [
        requests.move(conn, request_id, (RequestState.ROUTED,), state, now=now, actor=ACTOR, reason=reason)
        for request_id, state, reason, now in items
    ]


def _intend(conn: Connection, items: Sequence[tuple[str, NewChunk]]) -> list[None | Exception]:
    results: list[None | Exception] = []
    for owner, new in items:
        if shards.owns(conn, new.request_id, new.shard, owner):
            conn.execute(insert(CHUNKS).values(new_chunk_values(new)))
            results.append(None)
        else:
            results.append(shards.lost(new.request_id, new.shard, owner))
    return results


def _settle(conn: Connection, items: Sequence[SettledChunk]) -> list[bool]:
    return [_settle_one(conn, item) for item in items]


def _settle_one(conn: Connection, item: SettledChunk) -> bool:
    found = progress.standing(conn, [item.request_id])
    mine = and_(CHUNKS.c.request_id == item.request_id, CHUNKS.c.shard == item.shard, CHUNKS.c.chunk == item.chunk)
    counts = {outcome.value: number for outcome, number in item.counts.items()}
    moved = conn.execute(
        update(CHUNKS)
        .where(mine, CHUNKS.c.state == "intended")
        .values(
            state="ambiguous" if item.ambiguous else "recorded",
            counts=orjson.dumps(counts).decode(),
            retries=pack_retries(item.retries) if item.retries else None,
            **({} if item.path is None else {"path": item.path}),
        )
    )
    if moved.rowcount != 1:
        return False
    progress.apply(conn, found, {item.request_id: {item.channel: counts}}, item.now)
    if item.gave_up:
        entry = progress.gave_up_entry(found[item.request_id], item.channel, item.gave_up, item.now, ACTOR)
        audit.write(conn, [entry], from_micros(item.now))
    dead_letters.add(conn, item.channel, {item.request_id: item.dead}, item.now)
    return True


def _finish(conn: Connection, items: Sequence[tuple[str, int]]) -> list[RequestState | Exception]:
    return [_finish_one(conn, request_id, now) for request_id, now in items]


def _finish_one(conn: Connection, request_id: str, now: int) -> RequestState | Exception:
    request = progress.standing(conn, [request_id]).get(request_id)
    if request is None:
        return KeyError(f"no request {request_id}")
    state = RequestState(request.state)
    if state.is_final:
        return state
    this = (SHARDS.c.request_id == request_id, SHARDS.c.done_at.is_(None))
    left = conn.execute(select(SHARDS.c.shard, SHARDS.c.due_at).where(*this).order_by(SHARDS.c.shard)).all()
    missing = [shard for shard, due_at in left if due_at is None]
    if state is RequestState.SENDING and left and not missing:
        return state
    if state is not RequestState.SENDING or missing:
        return ValueError(f"request {request_id} is {state}, its shards {missing} are not done")
    progress.end(conn, [(request, request.counts)], now, ACTOR, {request_id: chunks.attempts(conn, request_id)})
    return progress.final_state(request.counts)[0]
