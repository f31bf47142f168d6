"""Who works on which part of a broadcast: the leases on its shards, and on the whole of it while it is snapshot.

Belongs here: taking, extending, giving up and ending those leases. Does not belong here: chunks and what they count
(``broadcasts``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, and_, literal, select, text, update

from notify_pipeline.core.ids import from_micros, to_micros
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.leases import LeaseLost
from notify_pipeline.core.ledger.tables import REQUESTS, SHARDS


class HeldBy(Exception):
    """Another process holds this shard or request, and its lease is alive."""


@dataclass(frozen=True, slots=True)
class ShardRow:
    """One shard: its recipients are the rows of the file at ``path``, all on one channel.

    Times in microseconds since the epoch. ``due_at`` None: at once; ``expires_at`` None: with its request; ``skip``:
    why its recipients are not sent to.
    """

    request_id: str
    shard: int
    channel: str
    path: str
    recipients: int
    done_at: int | None
    lease_owner: str | None
    lease_until: int | None
    due_at: int | None = None
    expires_at: int | None = None
    skip: str | None = None


@dataclass(frozen=True, slots=True)
class _Hold:
    request_id: str
    shard: int
    owner: str
    now: int
    until: int


_SHARD_COLUMNS = tuple(SHARDS.c[name] for name in ShardRow.__dataclass_fields__)


def shards(ledger: Ledger, request_id: str) -> list[ShardRow]:
    """Return a broadcast's shards in order; empty before its snapshot."""
    query = select(*_SHARD_COLUMNS).where(SHARDS.c.request_id == request_id).order_by(SHARDS.c.shard)
    with ledger.read() as conn:
        return [ShardRow(*row) for row in conn.execute(query)]


def hold_request(ledger: Ledger, request_id: str, owner: str, now: datetime, lease_s: float) -> None:
    """Take or extend the lease on a whole broadcast, for its snapshot.

    Raises:
        HeldBy: Somebody else has it.
        KeyError: There is no such request.
    """
    at = to_micros(now)
    ledger.write(_hold_request, _Hold(request_id, -1, owner, at, at + round(lease_s * 1e6)))


def release_request(ledger: Ledger, request_id: str, owner: str) -> None:
    """Give up the lease on a whole broadcast, if it is still the owner's."""
    ledger.write(_release_request, (request_id, owner))


def hold_shard(ledger: Ledger, request_id: str, shard: int, owner: str, now: datetime, lease_s: float) -> ShardRow:
    """Take the lease on a shard, or extend it when it is the owner's already.

    Raises:
        HeldBy: Somebody else has it.
        KeyError: There is no such shard.
    """
    at = to_micros(now)
    return ledger.write(_hold_shard, _Hold(request_id, shard, owner, at, at + round(lease_s * 1e6)))


def release_shard(ledger: Ledger, request_id: str, shard: int, owner: str) -> None:
    """Give up the lease on a shard, if it is still the owner's."""
    ledger.write(_release_shard, (request_id, shard, owner))


def end_shard(ledger: Ledger, request_id: str, shard: int, owner: str, now: datetime) -> None:
    """Mark a shard done and give up its lease.

    Raises:
        LeaseLost: The shard is somebody else's now.
    """
    ledger.write(_end_shard, (request_id, shard, owner, to_micros(now)))


def outranked(ledger: Ledger, rank: int, now: datetime) -> bool:
    """Tell whether a process works on a broadcast of a higher priority than this rank now: fixes or sends it.

    A process that died counts until its lease has run out.
    """
    above, alive = REQUESTS.c.priority_rank < rank, to_micros(now)
    # In the words of the partial index, literally; only broadcasts stand at routed.
    open_ = text("requests.state IN ('accepted', 'routed', 'sending')")
    fixed = select(literal(1)).where(open_, REQUESTS.c.state == "routed", above, REQUESTS.c.lease_until > alive)
    sent = (
        select(literal(1))
        .join_from(SHARDS, REQUESTS, SHARDS.c.request_id == REQUESTS.c.request_id)
        .where(SHARDS.c.done_at.is_(None), SHARDS.c.lease_until > alive, above)
    )
    with ledger.read() as conn:
        return any(conn.execute(query.limit(1)).first() is not None for query in (sent, fixed))


def _hold_request(conn: Connection, items: Sequence[_Hold]) -> list[None | Exception]:
    return [_hold_request_one(conn, item) for item in items]


def _hold_request_one(conn: Connection, item: _Hold) -> None | Exception:
    mine = REQUESTS.c.request_id == item.request_id
    found = conn.execute(select(REQUESTS.c.lease_owner, REQUESTS.c.lease_until).where(mine).with_for_update()).first()
    if found is None:
        return KeyError(f"no request {item.request_id}")
    if _is_held(found.lease_owner, found.lease_until, item):
        return _held(f"request {item.request_id}", found.lease_owner, found.lease_until)
    conn.execute(update(REQUESTS).where(mine).values(lease_owner=item.owner, lease_until=item.until))
    return None


def _release_request(conn: Connection, items: Sequence[tuple[str, str]]) -> list[None]:
    for request_id, owner in items:
        mine = and_(REQUESTS.c.request_id == request_id, REQUESTS.c.lease_owner == owner)
        conn.execute(update(REQUESTS).where(mine).values(lease_owner=None, lease_until=None))
    return [None] * len(items)


def _is_held(owner: str | None, until: int | None, by: _Hold) -> bool:
    return owner not in (None, by.owner) and (until or 0) > by.now


def _held(what: str, owner: str, until: int) -> HeldBy:
    return HeldBy(f"{what} is held by {owner} until {from_micros(until).isoformat()}")


def _hold_shard(conn: Connection, items: Sequence[_Hold]) -> list[ShardRow | Exception]:
    return [_hold_shard_one(conn, item) for item in items]


def _hold_shard_one(conn: Connection, item: _Hold) -> ShardRow | Exception:
    mine = and_(SHARDS.c.request_id == item.request_id, SHARDS.c.shard == item.shard)
    found = conn.execute(select(*_SHARD_COLUMNS).where(mine).with_for_update()).first()
    if found is None:
        return KeyError(f"no shard {item.shard} of request {item.request_id}")
    if _is_held(found.lease_owner, found.lease_until, item):
        return _held(f"shard {item.shard} of request {item.request_id}", found.lease_owner, found.lease_until)
    conn.execute(update(SHARDS).where(mine).values(lease_owner=item.owner, lease_until=item.until))
    return replace(ShardRow(*found), lease_owner=item.owner, lease_until=item.until)


def _release_shard(conn: Connection, items: Sequence[tuple[str, int, str]]) -> list[None]:
    for request_id, shard, owner in items:
        mine = and_(SHARDS.c.request_id == request_id, SHARDS.c.shard == shard, SHARDS.c.lease_owner == owner)
        conn.execute(update(SHARDS).where(mine).values(lease_owner=None, lease_until=None))
    return [None] * len(items)


def owns(conn: Connection, request_id: str, shard: int, owner: str) -> bool:
    """Tell, inside a transaction, whether the shard is the owner's; nobody can take it until the transaction ends.

    A lease that merely ran out is still its owner's to use: whoever takes the shard over changes the owner.
    """
    mine = and_(SHARDS.c.request_id == request_id, SHARDS.c.shard == shard)
    return conn.execute(select(SHARDS.c.lease_owner).where(mine).with_for_update()).scalar() == owner


def lost(request_id: str, shard: int, owner: str) -> LeaseLost:
    """Return the error of an owner whose shard was taken over."""
    return LeaseLost(f"{owner} lost shard {shard} of request {request_id}")


def _end_shard(conn: Connection, items: Sequence[tuple[str, int, str, int]]) -> list[None | Exception]:
    results: list[None | Exception] = []
    for request_id, shard, owner, now in items:
        mine = and_(SHARDS.c.request_id == request_id, SHARDS.c.shard == shard, SHARDS.c.lease_owner == owner)
        done = update(SHARDS).where(mine).values(done_at=now, lease_owner=None, lease_until=None)
        results.append(None if conn.execute(done).rowcount == 1 else lost(request_id, shard, owner))
    return results
