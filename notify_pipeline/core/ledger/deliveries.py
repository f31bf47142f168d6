"""The drain's queue: one row per recipient of a small send, claimed with a durable intent and settled by outcomes.

Belongs here: claiming, keeping, settling and finding abandoned deliveries. Does not belong here: filling the queue
(``routing``), deciding what an outcome means (``delivery.retry``), sending.

A claim makes the intent durable before anything is sent: state ``sending``, the attempt's number, who and when. An
outcome only counts for the attempt and the owner that it was claimed for, so whatever a process says after its lease
was taken over changes nothing.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, text, update

from notify_pipeline.core.ids import from_micros, to_micros
from notify_pipeline.core.ledger import audit, dead_letters, fair, outbox, progress
from notify_pipeline.core.ledger.dead_letters import DeadLetter
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.fair import Queue, Wanted
from notify_pipeline.core.ledger.tables import DELIVERIES
from notify_pipeline.core.vocabulary import Outcome

WAITING, SENDING = "waiting", "sending"
ACTOR = "drain"
# In the words of the partial index, literally: only then does SQLite know that the index covers the query.
_UNFINISHED = text("deliveries.state IN ('waiting', 'sending')")
_QUEUED = (
    *("delivery_id", "request_id", "tenant", "priority_rank", "platform", "address", "recipient", "attempt_no"),
    "expires_at",
)
_CLAIMED = (*_QUEUED, "intended_at", "lease_owner")
_QUEUE = Queue(
    DELIVERIES,
    DELIVERIES.c.delivery_id,
    (_UNFINISHED, DELIVERIES.c.channel == bindparam("channel"), DELIVERIES.c.state == WAITING),
    (),
    [DELIVERIES.c[name] for name in _QUEUED],
)
_ANY = Wanted.of(1)

_TIMES: dict[str, Any] = {"due_at": bindparam("due_at"), "counted_from": bindparam("counted_from")}
_AGAIN = (
    update(DELIVERIES)
    .where(DELIVERIES.c.delivery_id == bindparam("of_delivery"))
    .values(state=WAITING, lease_owner=None, lease_until=None, **_TIMES)
)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery whose intent is durable. Times in microseconds since the epoch; ``expires_at`` None: its request's.

    ``consent`` is on whose word it is sent or not (``core.consents``), where that was asked after the claim.
    """

    delivery_id: str
    request_id: str
    tenant: str
    priority_rank: int
    platform: str
    address: str
    recipient: str
    attempt_no: int
    expires_at: int | None
    intended_at: int
    owner: str
    consent: str | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How one claimed attempt ended, and what follows.

    Attributes:
        claimed: The claim.
        outcome: Its outcome.
        again_at: When it is due again, microseconds since the epoch; None when this was the last attempt.
        attempt: Its attempts row, for the lake.
        gave_up: Why it is final although its outcome alone would have allowed another attempt.
        dead: Its dead letter, where it has become one.
        decided_at: What the clock said when ``again_at`` was counted from it.
    """

    claimed: Claimed
    outcome: Outcome
    again_at: int | None
    attempt: Mapping[str, Any]
    gave_up: str | None = None
    dead: DeadLetter | None = None
    decided_at: int | None = None


@dataclass(frozen=True, slots=True)
class Settlement:
    """What was stored: ``late`` outcomes were somebody else's by then and changed nothing."""

    late: tuple[str, ...] = ()
    finished: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Claim:
    channel: str
    owner: str
    now: int
    until: int
    wanted: Wanted


@dataclass(frozen=True, slots=True)
class _Settle:
    channel: str
    ended: Sequence[Ended]
    now: int
    lapsed_at: int | None = None


@dataclass(slots=True)
class _Batch:
    """What a settlement writes, gathered."""

    valid: list[Ended] = field(default_factory=list)
    changes: dict[str, progress.Counts] = field(default_factory=dict)
    gave_up: dict[str, dict[str, int]] = field(default_factory=dict)
    dead: dict[str, list[DeadLetter]] = field(default_factory=dict)


def claim(
    ledger: Ledger, channel: str, owner: str, now: datetime, lease_s: float, limit: int | Wanted
) -> list[Claimed]:
    """Claim due deliveries of a channel: by priority, then tenants in turn, each one's longest due first (``fair``)."""
    at, wanted = to_micros(now), limit if isinstance(limit, Wanted) else Wanted.of(limit)
    return ledger.write(_claim, _Claim(channel, owner, at, at + round(lease_s * 1e6), wanted))


def is_due(ledger: Ledger, channel: str, now: datetime, wanted: Wanted = _ANY) -> bool:
    """Tell, without writing, whether ``claim`` would find anything."""
    with ledger.read() as conn:
        return fair.is_due(conn, _QUEUE, wanted, channel=channel, now=to_micros(now))


def renew(ledger: Ledger, channel: str, owner: str, now: datetime, lease_s: float) -> int:
    """Extend the leases of everything that the owner has claimed on a channel; return how many."""
    return ledger.write(_renew, (channel, owner, to_micros(now) + round(lease_s * 1e6)))


def settle(ledger: Ledger, channel: str, ended: Sequence[Ended], now: datetime) -> Settlement:
    """Store outcomes: deliveries, attempts, counts, and the end of requests that nobody is left of."""
    return ledger.write(_settle, _Settle(channel, ended, to_micros(now))) if ended else Settlement()


def abandoned(ledger: Ledger, channel: str, now: datetime, limit: int) -> list[Claimed]:
    """Return claimed deliveries whose lease ran out: whether they were sent, nobody knows."""
    query = (
        select(*(DELIVERIES.c[name] for name in _CLAIMED))
        .where(
            _UNFINISHED,
            DELIVERIES.c.channel == channel,
            DELIVERIES.c.state == SENDING,
            DELIVERIES.c.lease_until <= to_micros(now),
        )
        # The index's own order. What is being sent is as much as drains have in flight: it is never a backlog.
        .order_by(DELIVERIES.c.priority_rank, DELIVERIES.c.tenant, DELIVERIES.c.due_at)
        .limit(limit)
    )
    with ledger.read() as conn:
        return [Claimed(*row) for row in conn.execute(query)]


def settle_abandoned(ledger: Ledger, channel: str, ended: Sequence[Ended], now: datetime) -> Settlement:
    """Like ``settle``, for what ``abandoned`` gave: leaves alone what its owner has renewed meanwhile."""
    at = to_micros(now)
    return ledger.write(_settle, _Settle(channel, ended, at, lapsed_at=at)) if ended else Settlement()


def depths(ledger: Ledger) -> dict[str, dict[str, int]]:
    """Return how many unfinished deliveries each channel has, by state; for metrics."""
    query = (
        select(DELIVERIES.c.channel, DELIVERIES.c.state, func.count())
        .where(_UNFINISHED)
        .group_by(DELIVERIES.c.channel, DELIVERIES.c.state)
    )
    found: dict[str, dict[str, int]] = {}
    with ledger.read() as conn:
        for channel, state, count in conn.execute(query):
            found.setdefault(channel, {})[state] = int(count)
    return found


def _claim(conn: Connection, items: Sequence[_Claim]) -> list[list[Claimed]]:
    return [_claim_one(conn, item) for item in items]


def _claim_one(conn: Connection, item: _Claim) -> list[Claimed]:
    intent = {
        "state": SENDING,
        "attempt_no": DELIVERIES.c.attempt_no + 1,
        "intended_at": item.now,
        "lease_owner": item.owner,
        "lease_until": item.until,
    }

    def mark(conn: Connection, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), progress.PIECE):
            mine = DELIVERIES.c.delivery_id.in_(ids[start : start + progress.PIECE])
            conn.execute(update(DELIVERIES).where(mine).values(intent))

    rows = fair.claim(conn, _QUEUE, item.wanted, mark, channel=item.channel, now=item.now)
    mine: dict[str, Any] = {"intended_at": item.now, "owner": item.owner}
    queued: list[dict[str, Any]] = [{name: row[name] for name in _QUEUED} for row in rows]
    return [Claimed(**{**row, "attempt_no": row["attempt_no"] + 1}, **mine) for row in queued]


def _renew(conn: Connection, items: Sequence[tuple[str, str, int]]) -> list[int]:
    results = []
    for channel, owner, until in items:
        mine = (_UNFINISHED, DELIVERIES.c.channel == channel, DELIVERIES.c.state == SENDING)
        held = update(DELIVERIES).where(*mine, DELIVERIES.c.lease_owner == owner).values(lease_until=until)
        results.append(conn.execute(held).rowcount)
    return results


def _settle(conn: Connection, items: Sequence[_Settle]) -> list[Settlement]:
    return [_settle_one(conn, item) for item in items]


def _settle_one(conn: Connection, item: _Settle) -> Settlement:
    # Requests before deliveries, everywhere: whoever locks both does so in this order.
    found = progress.standing(conn, [each.claimed.request_id for each in item.ended])
    batch = _gather(item, _still_claimed(conn, item))
    counts = progress.apply(conn, found, batch.changes, item.now)
    over = {request_id for request_id, now in counts.items() if not progress.pending(now)}
    _move(conn, batch.valid, over)
    dead_letters.add(conn, item.channel, batch.dead, item.now)
    outbox.add(conn, "attempts", [each.attempt for each in batch.valid], from_micros(item.now))
    entries = [
        progress.gave_up_entry(found[request_id], item.channel, reasons, item.now, ACTOR)
        for request_id, reasons in batch.gave_up.items()
    ]
    audit.write(conn, entries, from_micros(item.now))
    progress.end(conn, [(found[request_id], counts[request_id]) for request_id in sorted(over)], item.now, ACTOR)
    kept = {each.claimed.delivery_id for each in batch.valid}
    late = tuple(e.claimed.delivery_id for e in item.ended if e.claimed.delivery_id not in kept)
    return Settlement(late, tuple(sorted(over)))


def _move(conn: Connection, ended: Sequence[Ended], over: Set[str]) -> None:
    """Move deliveries on; those of requests that are over go with their request."""
    again = [
        {"of_delivery": e.claimed.delivery_id, "due_at": e.again_at, "counted_from": e.decided_at}
        for e in ended if e.again_at is not None
    ]  # fmt: skip
    if again:
        conn.execute(_AGAIN, again)
    finals: dict[str, list[str]] = {}
    for each in ended:
        if each.again_at is None and each.claimed.request_id not in over:
            finals.setdefault(str(each.outcome), []).append(each.claimed.delivery_id)
    for state, ids in sorted(finals.items()):
        for start in range(0, len(ids), progress.PIECE):
            mine = DELIVERIES.c.delivery_id.in_(ids[start : start + progress.PIECE])
            conn.execute(update(DELIVERIES).where(mine).values(state=state, lease_owner=None, lease_until=None))


def _still_claimed(conn: Connection, item: _Settle) -> set[tuple[str, int, str]]:
    """Return (delivery, attempt, owner) of those that are still as they were claimed."""
    found: set[tuple[str, int, str]] = set()
    ids = sorted({each.claimed.delivery_id for each in item.ended})
    columns = (DELIVERIES.c.delivery_id, DELIVERIES.c.attempt_no, DELIVERIES.c.lease_owner)
    query = select(*columns).where(DELIVERIES.c.state == SENDING).order_by(DELIVERIES.c.delivery_id).with_for_update()
    if item.lapsed_at is not None:
        query = query.where(DELIVERIES.c.lease_until <= item.lapsed_at)
    for start in range(0, len(ids), progress.PIECE):
        piece = ids[start : start + progress.PIECE]
        found.update(conn.execute(query.where(DELIVERIES.c.delivery_id.in_(piece))).tuples())
    return found


def _gather(item: _Settle, claimed: set[tuple[str, int, str]]) -> _Batch:
    batch = _Batch()
    for each in item.ended:
        key = (each.claimed.delivery_id, each.claimed.attempt_no, each.claimed.owner)
        if key not in claimed:
            continue
        claimed.discard(key)
        batch.valid.append(each)
        if each.again_at is None:
            counts = batch.changes.setdefault(each.claimed.request_id, {}).setdefault(item.channel, {})
            counts[each.outcome.value] = counts.get(each.outcome.value, 0) + 1
        if each.gave_up is not None:
            reasons = batch.gave_up.setdefault(each.claimed.request_id, {})
            reasons[each.gave_up] = reasons.get(each.gave_up, 0) + 1
        if each.dead is not None:
            batch.dead.setdefault(each.claimed.request_id, []).append(each.dead)
    return batch
