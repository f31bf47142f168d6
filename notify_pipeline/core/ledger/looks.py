"""Looks: what people like, as far as the one who tells their owner must know it.

Belongs here: storing and finding them. Does not belong here: likes (``likes``), what an enricher makes of a look
(``delivery.enrichment``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, select

from notify_pipeline.core.ids import from_micros, to_micros
from notify_pipeline.core.ledger import audit
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.event_tables import LOOKS
from notify_pipeline.core.ledger.statements import insert_for


@dataclass(frozen=True, slots=True)
class NewLook:
    """What a tenant tells of a look; ``owner_id`` is the user who is told when somebody likes it."""

    tenant: str
    look_id: str
    owner_id: str
    image_url: str | None = None
    deep_link: str | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """A stored look."""

    look_id: str
    owner_id: str
    image_url: str | None
    deep_link: str | None
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class _Put:
    look: NewLook
    actor: str
    now: datetime


def put(ledger: Ledger, look: NewLook, actor: str, now: datetime) -> Look:
    """Store a look in the place of what there was; the same again changes nothing."""
    return ledger.write(_put, _Put(look, actor, now))


def get(ledger: Ledger, tenant: str, look_id: str) -> Look | None:
    """Return a look, or None."""
    with ledger.read() as conn:
        return of(conn, tenant, look_id)


def of(conn: Connection, tenant: str, look_id: str) -> Look | None:
    """Return a look as a transaction sees it, or None."""
    row = conn.execute(select(LOOKS).where(LOOKS.c.tenant == tenant, LOOKS.c.look_id == look_id)).first()
    return None if row is None else _look(row)


def remove(ledger: Ledger, tenant: str, look_id: str, actor: str, now: datetime) -> bool:
    """Forget a look; False when there was none. Its likes stay, so that nobody is told of one twice."""
    return ledger.write(_remove, (tenant, look_id, actor, now))


def _put(conn: Connection, items: Sequence[_Put]) -> list[Look]:
    return [_put_one(conn, item) for item in items]


def _put_one(conn: Connection, item: _Put) -> Look:
    new, at = item.look, to_micros(item.now)
    values = {"owner_id": new.owner_id, "image_url": new.image_url, "deep_link": new.deep_link}
    this = (LOOKS.c.tenant == new.tenant, LOOKS.c.look_id == new.look_id)
    before = conn.execute(select(LOOKS).where(*this).with_for_update()).first()
    if before is not None and all(getattr(before, name) == value for name, value in values.items()):
        return _look(before)
    row = {"tenant": new.tenant, "look_id": new.look_id, **values, "updated_at": at}
    upsert = insert_for(conn.dialect.name)(LOOKS).values(row)
    conn.execute(upsert.on_conflict_do_update(index_elements=["tenant", "look_id"], set_={**values, "updated_at": at}))
    _tell(conn, "look.set", new.tenant, {"look_id": new.look_id, **values}, item.actor, item.now)
    return Look(new.look_id, new.owner_id, new.image_url, new.deep_link, from_micros(at))


def _remove(conn: Connection, items: Sequence[tuple[str, str, str, datetime]]) -> list[bool]:
    results = []
    for tenant, look_id, actor, now in items:
        gone = conn.execute(delete(LOOKS).where(LOOKS.c.tenant == tenant, LOOKS.c.look_id == look_id)).rowcount == 1
        results.append(gone)
        if gone:
            _tell(conn, "look.removed", tenant, {"look_id": look_id}, actor, now)
    return results


def _tell(conn: Connection, event: str, tenant: str, detail: dict[str, Any], actor: str, now: datetime) -> None:
    audit.write(conn, [audit.Entry(event, actor, to_micros(now), tenant=tenant, detail=detail)], now)


def _look(row: Any) -> Look:
    return Look(row.look_id, row.owner_id, row.image_url, row.deep_link, from_micros(row.updated_at))
