"""The router's queue: events that wait, claimed by lease, tenants in turn.

Belongs here: finding what is due, claiming, extending and giving back. Does not belong here: what becomes of a claimed
event (``event_moves``), which routes match (``delivery``).

A claim stores a lease, and nothing else: a process that dies leaves it to run out, and another claims the same events.
Leases are wall-clock times. One that ends further ahead than any lease lasts was given before the clock was set back,
and counts as run out.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, or_, select, text, update

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.event_rows import EventRow, to_row
from notify_pipeline.core.ledger.event_tables import EVENTS

# In the words of the partial index, literally: only then does SQLite know that the index covers the query.
WAITING = text("events.state IN ('accepted', 'enriched')")
_E = EVENTS.c
# Its owner knows what became of its own claims, even when the clock has jumped over their leases.
_FREE = or_(
    _E.lease_owner.is_(None),
    (_E.lease_owner != bindparam("me"))
    & or_(_E.lease_until <= bindparam("now"), _E.lease_until > bindparam("longest")),
)
_CLAIMABLE = (WAITING, _E.due_at <= bindparam("now"), _FREE)


def _tenants() -> Select[Any]:
    """Every tenant with something to be claimed, found by seeking from one to the next."""
    first = select(func.min(_E.tenant).label("tenant")).where(WAITING)
    seen = first.cte("seen", recursive=True)
    following = select(func.min(_E.tenant)).where(WAITING, _E.tenant > seen.c.tenant)
    seen = seen.union_all(select(following.scalar_subquery()).where(seen.c.tenant.isnot(None)))
    head = select(_E.event_id).where(_E.tenant == seen.c.tenant, *_CLAIMABLE).limit(1).scalar_subquery()
    return select(seen.c.tenant).where(seen.c.tenant.isnot(None), head.isnot(None)).order_by(seen.c.tenant)


def _rows() -> Select[Any]:
    mine = select(EVENTS).where(_E.tenant == bindparam("tenant"), *_CLAIMABLE)
    return mine.order_by(_E.due_at, _E.event_id).limit(bindparam("share")).with_for_update(skip_locked=True)


# Built once: every idle drain asks the first five times a second.
_TENANTS, _ROWS = _tenants(), _rows()


@dataclass(frozen=True, slots=True)
class EventsWanted:
    """How much a claim wants.

    Attributes:
        owner: Who claims.
        limit: At most so many events.
        after: The tenant that the claimer's last claim stopped at.
    """

    owner: str
    limit: int
    after: str = ""


@dataclass(frozen=True, slots=True)
class _Claim:
    wanted: EventsWanted
    now: int
    lease: int


@dataclass(frozen=True, slots=True)
class _Held:
    owner: str
    event_ids: tuple[str, ...]
    values: tuple[tuple[str, Any], ...]


def is_due(ledger: Ledger, wanted: EventsWanted, now: datetime, lease_s: float) -> bool:
    """Tell whether ``claim`` would find anything. Where no event waits, that is one look at an index."""
    with ledger.read() as conn:
        found = conn.execute(_TENANTS, _times(wanted.owner, to_micros(now), round(lease_s * 1e6)))
        return found.first() is not None


def claim(ledger: Ledger, wanted: EventsWanted, now: datetime, lease_s: float) -> list[EventRow]:
    """Claim events that are due: an equal share of each tenant's, those that wait longest first."""
    return ledger.write(_claim, _Claim(wanted, to_micros(now), round(lease_s * 1e6)))


def extend(ledger: Ledger, owner: str, event_ids: Collection[str], now: datetime, lease_s: float) -> None:
    """Let an owner's leases of these events end so much later than ``now``."""
    _change(ledger, owner, event_ids, ("lease_until", to_micros(now) + round(lease_s * 1e6)))


def give_back(ledger: Ledger, owner: str, event_ids: Collection[str]) -> None:
    """Let anybody claim these events at once."""
    _change(ledger, owner, event_ids, ("lease_owner", None), ("lease_until", None))


def begin_enrichment(ledger: Ledger, owner: str, event_ids: Collection[str]) -> None:
    """Count an attempt to enrich these events, before it begins."""
    _change(ledger, owner, event_ids, ("attempt_no", _E.attempt_no + 1))


def _change(ledger: Ledger, owner: str, event_ids: Collection[str], *values: tuple[str, Any]) -> None:
    if event_ids:
        ledger.write(_change_held, _Held(owner, tuple(sorted(event_ids)), values))


def _change_held(conn: Connection, items: Sequence[_Held]) -> list[None]:
    for item in items:
        mine = (_E.event_id.in_(item.event_ids), _E.lease_owner == item.owner, WAITING)
        # In one order, like everybody who locks several.
        conn.execute(select(_E.event_id).where(*mine).order_by(_E.event_id).with_for_update()).all()
        conn.execute(update(EVENTS).where(*mine).values(dict(item.values)))
    return [None for _ in items]


def _claim(conn: Connection, items: Sequence[_Claim]) -> list[list[EventRow]]:
    return [_claim_one(conn, item) for item in items]


def _claim_one(conn: Connection, item: _Claim) -> list[EventRow]:
    wanted, bound = item.wanted, _times(item.wanted.owner, item.now, item.lease)
    tenants = [tenant for (tenant,) in conn.execute(_TENANTS, bound)]
    line = sorted(tenants, key=lambda tenant: (tenant <= wanted.after, tenant))
    taken: list[EventRow] = []
    while line and (left := wanted.limit - len(taken)) > 0:
        share, asked = max(1, left // len(line)), line[:left]
        line = line[left:]
        for tenant in asked:
            rows = conn.execute(_ROWS, {**bound, "tenant": tenant, "share": share}).mappings().all()
            _mark(conn, [row["event_id"] for row in rows], item)
            taken += [to_row(row) for row in rows]
            if len(rows) == share:
                line.append(tenant)
    return taken


def _mark(conn: Connection, event_ids: Sequence[str], item: _Claim) -> None:
    mine = {"lease_owner": item.wanted.owner, "lease_until": item.now + item.lease}
    if event_ids:
        conn.execute(update(EVENTS).where(_E.event_id.in_(event_ids)).values(mine))


def _times(owner: str, now: int, lease: int) -> dict[str, Any]:
    """Return what ``_CLAIMABLE`` binds."""
    return {"me": owner, "now": now, "longest": now + 2 * lease}
