"""Leases: roles that at most one process holds at a time, with fence numbers.

Belongs here: taking, renewing, giving up and checking a role. Does not belong here: leases on single requests, shards
or deliveries, which are columns of those.

A holder that sleeps past its lease does not know it yet. So what it writes is checked in the same transaction
(``check``): the fence number has grown if anybody took over.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, case, or_, select, update

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.statements import insert_for
from notify_pipeline.core.ledger.tables import LEASES

# No lease is set further ahead than this (the longest, compaction's, is half of it). One that lies further ahead was
# set before a clock was set back: it is reined in, so that a holder who died is not waited for until the clock is back
# where it was.
LONGEST_US = 600_000_000


class LeaseLost(Exception):
    """The caller's lease was taken over; what it was about to write is not written."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A role held: ``until`` in microseconds since the epoch; ``fence`` grows each time it is taken anew."""

    name: str
    owner: str
    fence: int
    until: int


def acquire(ledger: Ledger, name: str, owner: str, ttl_s: float, now: datetime) -> Lease | None:
    """Take the role if it is free, expired or the owner's own already; None while another holds it.

    Args:
        ledger: The ledger.
        name: The role.
        owner: Names this process (or thread), never used by another.
        ttl_s: How long until others may take over, in seconds from ``now``.
        now: The holder's clock. Hosts that share roles need clocks that agree to well below ``ttl_s``.
    """
    return ledger.write(_acquire, (name, owner, to_micros(now) + round(ttl_s * 1e6), to_micros(now)))


def renew(ledger: Ledger, lease: Lease, ttl_s: float, now: datetime) -> Lease | None:
    """Extend a role still held (even if expired, as long as nobody took over); None when it is lost."""
    return ledger.write(_renew, (lease, to_micros(now) + round(ttl_s * 1e6)))


def release(ledger: Ledger, lease: Lease) -> bool:
    """Give the role up at once; False when it was lost before."""
    return ledger.write(_renew, (lease, 0)) is not None


def holder(ledger: Ledger, name: str, now: datetime) -> str | None:
    """Return who holds the role; None when it is free, expired, or not extended since a clock was set back."""
    at = to_micros(now)
    query = select(LEASES.c.owner).where(LEASES.c.name == name, LEASES.c.until.between(at + 1, at + LONGEST_US))
    with ledger.read() as conn:
        return conn.execute(query).scalar()


def check(conn: Connection, lease: Lease) -> None:
    """Make sure, inside a write, that nobody has taken over; nobody can until this transaction ends.

    Raises:
        LeaseLost: Somebody has.
    """
    query = select(LEASES.c.fence, LEASES.c.owner).where(LEASES.c.name == lease.name).with_for_update()
    found = conn.execute(query).tuples().one_or_none()
    if found != (lease.fence, lease.owner):
        raise LeaseLost(f"{lease.owner} lost the lease {lease.name} (fence {lease.fence})")


def _acquire(conn: Connection, items: Sequence[tuple[str, str, int, int]]) -> list[Lease | None]:
    results = []
    for name, owner, until, now in items:
        new = insert_for(conn.dialect.name)(LEASES).values(name=name, owner=owner, until=until, fence=1)
        mine = LEASES.c.owner == owner
        free = LEASES.c.until <= now
        upsert = new.on_conflict_do_update(
            index_elements=["name"],
            set_={"owner": owner, "until": until, "fence": LEASES.c.fence + case((free, 1), else_=0)},
            where=or_(mine, free),
        ).returning(LEASES.c.fence)
        fence = conn.execute(upsert).scalar()
        if fence is None:
            ahead = (LEASES.c.name == name, LEASES.c.until > now + LONGEST_US)
            conn.execute(update(LEASES).where(*ahead).values(until=until))
        results.append(None if fence is None else Lease(name, owner, fence, until))
    return results


def _renew(conn: Connection, items: Sequence[tuple[Lease, int]]) -> list[Lease | None]:
    results = []
    for lease, until in items:
        mine = (LEASES.c.name == lease.name, LEASES.c.owner == lease.owner, LEASES.c.fence == lease.fence)
        held = conn.execute(update(LEASES).where(*mine, LEASES.c.until > 0).values(until=until)).rowcount == 1
        results.append(Lease(lease.name, lease.owner, lease.fence, until) if held else None)
    return results
