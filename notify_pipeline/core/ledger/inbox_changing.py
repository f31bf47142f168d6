"""What users and time do to inboxes: items are read, deleted, become visible, and are forgotten.

Belongs here: those changes, each of which connected clients are told of. Does not belong here: adding and listing
(``inbox``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, select, update

from notify_pipeline.core.ids import new_id, to_micros
from notify_pipeline.core.ledger import inbox, inbox_live, user_messages
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.inbox import InboxItem, shown
from notify_pipeline.core.ledger.inbox_live import Live
from notify_pipeline.core.ledger.people_tables import INBOX

# Items that become visible, or are forgotten, in one transaction: some 20 ms.
_PIECE = 1_000
# In the words of the partial index.
_UNANNOUNCED = INBOX.c.announced_at.is_(None)


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change left: how many items it changed, how many are unread now, and the one that it was about."""

    number: int
    unread_count: int
    item: InboxItem | None = None


@dataclass(frozen=True, slots=True)
class _Change:
    tenant: str
    user_id: str
    item_id: str | None
    now: datetime


def read(ledger: Ledger, tenant: str, user_id: str, item_id: str, now: datetime) -> Changed | None:
    """Mark an item as read, once: it keeps the time of the first. None when the user has no such item."""
    return ledger.write(_read, _Change(tenant, user_id, item_id, now))


def read_all(ledger: Ledger, tenant: str, user_id: str, through: str | None, now: datetime) -> Changed:
    """Mark all items as read; with ``through``, only that one and what is older, so that none is that nobody saw."""
    return ledger.write(_read_all, _Change(tenant, user_id, through, now))


def remove(ledger: Ledger, tenant: str, user_id: str, item_id: str, now: datetime) -> bool:
    """Delete an item; False when the user has no such item."""
    return ledger.write(_remove, _Change(tenant, user_id, item_id, now))


def due(ledger: Ledger, now: datetime) -> bool:
    """Tell, without writing, whether ``announce_due`` would find anything."""
    with ledger.read() as conn:
        return conn.execute(_due(now).with_only_columns(INBOX.c.item_id).limit(1)).first() is not None


def announce_due(ledger: Ledger, now: datetime) -> int:
    """Tell connected clients of items that have become visible since; return how many, at most a thousand."""
    return ledger.write(_announce, now)


def forget(ledger: Ledger, before: datetime) -> int:
    """Delete the rows of all items that became visible before a moment, read or not; return how many."""
    forgotten = 0
    while number := ledger.write(_forget, before):
        forgotten += number
    return forgotten


def _read(conn: Connection, items: Sequence[_Change]) -> list[Changed | None]:
    return [_read_one(conn, item) for item in items]


def _read_one(conn: Connection, change: _Change) -> Changed | None:
    if (row := _held(conn, change)) is None:
        return None
    item, at = inbox.to_item(row), to_micros(change.now)
    if item.read_at is not None:
        return Changed(0, _unread(conn, change), item)
    conn.execute(update(INBOX).where(INBOX.c.item_id == item.item_id).values(read_at=at))
    unread = _unread(conn, change)
    said = {"type": inbox_live.READ, "item_id": item.item_id, "read_at": change.now, "unread_count": unread}
    inbox_live.tell(conn, [Live(change.tenant, change.user_id, f"{item.item_id}:read", said)], change.now)
    return Changed(1, unread, inbox.to_item({**row, "read_at": at}))


def _read_all(conn: Connection, items: Sequence[_Change]) -> list[Changed]:
    return [_read_all_one(conn, item) for item in items]


def _read_all_one(conn: Connection, change: _Change) -> Changed:
    at = to_micros(change.now)
    user_messages.hold(conn, [(change.tenant, change.user_id)])
    where = [*shown(change.tenant, change.user_id, at), INBOX.c.read_at.is_(None)]
    if change.item_id is not None:
        where.append(INBOX.c.item_id <= change.item_id)
    newest = conn.execute(select(func.max(INBOX.c.item_id)).where(*where)).scalar()
    if newest is None:
        return Changed(0, _unread(conn, change))
    number = conn.execute(update(INBOX).where(*where).values(read_at=at)).rowcount
    unread = _unread(conn, change)
    said = {"type": inbox_live.READ_ALL, "through": newest, "read_at": change.now, "unread_count": unread}
    inbox_live.tell(conn, [Live(change.tenant, change.user_id, new_id(), said)], change.now)
    return Changed(number, unread)


def _remove(conn: Connection, items: Sequence[_Change]) -> list[bool]:
    return [_remove_one(conn, item) for item in items]


def _remove_one(conn: Connection, change: _Change) -> bool:
    if (row := _held(conn, change)) is None:
        return False
    item_id, at = row["item_id"], to_micros(change.now)
    conn.execute(update(INBOX).where(INBOX.c.item_id == item_id).values(deleted_at=at))
    said = {"type": inbox_live.DELETED, "item_id": item_id, "unread_count": _unread(conn, change)}
    inbox_live.tell(conn, [Live(change.tenant, change.user_id, f"{item_id}:deleted", said)], change.now)
    return True


def _held(conn: Connection, change: _Change) -> dict[str, Any] | None:
    """Return the row of an item that is in the user's inbox now, and let nobody else change it."""
    user_messages.hold(conn, [(change.tenant, change.user_id)])
    where = shown(change.tenant, change.user_id, to_micros(change.now))
    row = conn.execute(select(INBOX).where(INBOX.c.item_id == change.item_id, *where)).mappings().first()
    return None if row is None else dict(row)


def _unread(conn: Connection, change: _Change) -> int:
    return inbox.unread_count(conn, change.tenant, change.user_id, change.now)


def _due(now: datetime) -> Any:
    return select(INBOX).where(_UNANNOUNCED, INBOX.c.visible_at <= to_micros(now)).order_by(INBOX.c.visible_at)


def _announce(conn: Connection, items: Sequence[datetime]) -> list[int]:
    return [_announce_once(conn, now) for now in items]


def _announce_once(conn: Connection, now: datetime) -> int:
    at = to_micros(now)
    found = conn.execute(_due(now).limit(_PIECE)).mappings().all()
    user_messages.hold(conn, [(row["tenant"], row["user_id"]) for row in found])
    ids = [row["item_id"] for row in found]
    # Again, now that nobody else changes them: somebody may have announced or deleted them meanwhile.
    mine = (INBOX.c.item_id.in_(ids), _UNANNOUNCED)
    again = conn.execute(select(INBOX).where(*mine).order_by(INBOX.c.item_id)).mappings().all()
    conn.execute(update(INBOX).where(*mine).values(announced_at=at))
    inbox.announce(conn, [dict(row) for row in again], now)
    return len(again)


def _forget(conn: Connection, items: Sequence[datetime]) -> list[int]:
    return [_forget_once(conn, before) for before in items]


def _forget_once(conn: Connection, before: datetime) -> int:
    old = select(INBOX.c.item_id).where(INBOX.c.visible_at < to_micros(before)).limit(_PIECE)
    return conn.execute(delete(INBOX).where(INBOX.c.item_id.in_(old.scalar_subquery()))).rowcount
