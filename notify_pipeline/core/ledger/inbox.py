"""Inboxes: what users find in the app, whatever reached their devices.

Belongs here: adding items, and reading them. Does not belong here: reading, deleting and forgetting as users and time
do it (``inbox_changing``), what connected clients are told of it (``inbox_live``), which sends have items
(``delivery.inbox_items``).

An item is shown from ``visible_at`` on, until it expires or is deleted. Ids grow with ``visible_at``, so that an inbox
is sorted by them. A deleted item stays as a row, so that nothing adds it again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from sqlalchemy import ColumnElement, Connection, bindparam, func, insert, or_, select

from notify_pipeline.core.ids import from_micros, new_id, to_micros
from notify_pipeline.core.ledger import inbox_live, user_messages
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.people_tables import INBOX
from notify_pipeline.core.ledger.statements import Prepared

# Users looked up in one statement; SQLite takes 32,766 parameters.
_PIECE = 1_000
# The digits of an item's id that say when it is visible: milliseconds since the epoch, as in UUID version 7 (RFC 9562).
_TIME_DIGITS = 12
_THERE = INBOX.c.deleted_at.is_(None)
_UNREAD = INBOX.c.read_at.is_(None)
_STORED = (
    "item_id",
    "tenant",
    "user_id",
    "notification_id",
    "request_id",
    "type",
    "category",
    "content",
    "visible_at",
    "expires_at",
    "created_at",
    "announced_at",
)
_ADD = Prepared(lambda _: insert(INBOX).values({name: bindparam(name) for name in _STORED}), _STORED)

_NOTHING: Mapping[str, Any] = {
    **dict.fromkeys(("title", "body", "link", "image_url", "icon_url")),
    "actions": [],
    "data": {},
}


@dataclass(frozen=True, slots=True)
class NewItem:
    """One item for one user. Times in microseconds since the epoch.

    Attributes:
        tenant: Whose user.
        user_id: Whose inbox; a user need not be known otherwise.
        notification_id: Of which notification: a user has one item of each.
        type: The notification's.
        content: What is shown, as a send's content has it but for ``html``; absent where there is none.
        category: The notification's.
        request_id: The send's; None where there is none yet.
        visible_at: Not shown before; None means from now on.
        expires_at: Not shown from then on; None means never.
    """

    tenant: str
    user_id: str
    notification_id: str
    type: str
    content: Mapping[str, Any]
    category: str | None = None
    request_id: str | None = None
    visible_at: int | None = None
    expires_at: int | None = None


class Added(NamedTuple):
    """What became of a new item: its id, or that of the one which was there already."""

    item_id: str
    is_new: bool


@dataclass(frozen=True, slots=True)
class InboxItem:
    """One item as it is shown."""

    item_id: str
    user_id: str
    notification_id: str
    type: str
    category: str | None
    content: Mapping[str, Any]
    visible_at: datetime
    expires_at: datetime | None
    read_at: datetime | None


@dataclass(frozen=True, slots=True)
class InboxPage:
    """A page, newest first, and how many items are unread in all, as of one moment."""

    items: Sequence[InboxItem]
    unread_count: int


def add(conn: Connection, items: Sequence[NewItem], now: datetime) -> list[Added]:
    """Add items in the caller's transaction, and tell connected clients of those that are visible.

    Once per tenant, user and notification: whatever was added before stays as it is, also when it was deleted since.

    Args:
        conn: The connection of a write handler; nothing that others may wait for is locked after this.
        items: What to add.
        now: The clock.

    Returns:
        What became of each, in order.
    """
    if not items:
        return []
    user_messages.hold(conn, [(item.tenant, item.user_id) for item in items])
    known = _known(conn, items)
    fresh: dict[tuple[str, str, str], tuple[Any, ...]] = {}
    at = to_micros(now)
    for item in items:
        if (key := _key(item)) not in known and key not in fresh:
            fresh[key] = _row(item, at)
    _ADD.run_many(conn, list(fresh.values()))
    rows = [dict(zip(_STORED, row, strict=True)) | {"read_at": None, "deleted_at": None} for row in fresh.values()]
    announce(conn, [row for row in rows if row["announced_at"] is not None], now)
    ids = {**known, **{key: row[0] for key, row in fresh.items()}}
    return [Added(ids[key], key in fresh) for key in map(_key, items)]


def announce(conn: Connection, rows: Sequence[Mapping[str, Any]], now: datetime) -> None:
    """Tell connected clients of those of these items that are there, by their rows.

    Their users are held (``user_messages.hold``).
    """
    at = to_micros(now)
    rows = [row for row in rows if not row["deleted_at"] and (row["expires_at"] is None or row["expires_at"] > at)]
    counts = unread_counts(conn, [(row["tenant"], row["user_id"]) for row in rows], now)
    told = []
    for row in rows:
        whose = (row["tenant"], row["user_id"])
        payload = {"type": inbox_live.ADDED, "item": as_json(to_item(row)), "unread_count": counts[whose]}
        told.append(inbox_live.Live(*whose, f"{row['item_id']}:added", payload))
    inbox_live.tell(conn, told, now)


def page(
    ledger: Ledger,
    tenant: str,
    user_id: str,
    now: datetime,
    *,
    unread: bool | None = None,
    category: str | None = None,
    limit: int = 50,
    before: str | None = None,
) -> InboxPage:
    """Return a user's items, newest first.

    Args:
        ledger: The ledger.
        tenant: Whose user.
        user_id: Whose inbox.
        now: The clock.
        unread: Only those that are not read yet (True) or only those that are (False).
        category: Only items of this one.
        limit: At most so many.
        before: The last item of the page before.
    """
    where = shown(tenant, user_id, to_micros(now))
    if unread is not None:
        where.append(_UNREAD if unread else INBOX.c.read_at.isnot(None))
    if category is not None:
        where.append(INBOX.c.category == category)
    if before is not None:
        where.append(INBOX.c.item_id < before)
    query = select(INBOX).where(*where).order_by(INBOX.c.item_id.desc()).limit(limit)
    with ledger.read() as conn:
        items = [to_item(row) for row in conn.execute(query).mappings()]
        return InboxPage(items, unread_count(conn, tenant, user_id, now))


def count_unread(ledger: Ledger, tenant: str, user_id: str, now: datetime) -> int:
    """Return how many of a user's items are shown and not read."""
    with ledger.read() as conn:
        return unread_count(conn, tenant, user_id, now)


def unread_count(conn: Connection, tenant: str, user_id: str, now: datetime) -> int:
    """Like ``count_unread``, as a transaction sees it."""
    where = shown(tenant, user_id, to_micros(now))
    return int(conn.execute(select(func.count()).select_from(INBOX).where(*where, _UNREAD)).scalar_one())


def unread_counts(conn: Connection, whose: Sequence[tuple[str, str]], now: datetime) -> dict[tuple[str, str], int]:
    """Like ``unread_count``, of many users by tenant and id."""
    by_tenant: dict[str, set[str]] = {}
    for tenant, user_id in whose:
        by_tenant.setdefault(tenant, set()).add(user_id)
    counts = dict.fromkeys(whose, 0)
    for tenant, users in by_tenant.items():
        ordered = sorted(users)
        for start in range(0, len(ordered), _PIECE):
            mine = (INBOX.c.tenant == tenant, INBOX.c.user_id.in_(ordered[start : start + _PIECE]))
            query = select(INBOX.c.user_id, func.count()).where(*mine, *_showing(to_micros(now)), _UNREAD)
            for user_id, number in conn.execute(query.group_by(INBOX.c.user_id)):
                counts[tenant, user_id] = number
    return counts


def shown(tenant: str, user_id: str, at: int) -> list[ColumnElement[bool]]:
    """Return the conditions of an item being in a user's inbox now."""
    return [INBOX.c.tenant == tenant, INBOX.c.user_id == user_id, *_showing(at)]


def to_item(row: Mapping[Any, Any]) -> InboxItem:
    """Build the item from the columns of ``people_tables.INBOX``."""
    return InboxItem(
        item_id=row["item_id"],
        user_id=row["user_id"],
        notification_id=row["notification_id"],
        type=row["type"],
        category=row["category"],
        content=orjson.loads(row["content"]),
        visible_at=from_micros(row["visible_at"]),
        expires_at=None if row["expires_at"] is None else from_micros(row["expires_at"]),
        read_at=None if row["read_at"] is None else from_micros(row["read_at"]),
    )


def as_json(item: InboxItem) -> dict[str, Any]:
    """Return an item as connected clients are told of it: in the form in which the API shows it."""
    return {
        "item_id": item.item_id,
        "notification_id": item.notification_id,
        "type": item.type,
        "category": item.category,
        "content": {**_NOTHING, **item.content},
        "visible_at": item.visible_at,
        "expires_at": item.expires_at,
        "read_at": item.read_at,
    }


def _showing(at: int) -> tuple[ColumnElement[bool], ...]:
    # What clients were told of is shown, whatever the clock says by now.
    begun = or_(INBOX.c.announced_at.isnot(None), INBOX.c.visible_at <= at)
    return _THERE, begun, or_(INBOX.c.expires_at.is_(None), INBOX.c.expires_at > at)


def _key(item: NewItem) -> tuple[str, str, str]:
    return item.tenant, item.notification_id, item.user_id


def _known(conn: Connection, items: Sequence[NewItem]) -> dict[tuple[str, str, str], str]:
    by_notification: dict[tuple[str, str], set[str]] = {}
    for item in items:
        by_notification.setdefault((item.tenant, item.notification_id), set()).add(item.user_id)
    found: dict[tuple[str, str, str], str] = {}
    for (tenant, notification_id), users in by_notification.items():
        ordered = sorted(users)
        of_this = (INBOX.c.tenant == tenant, INBOX.c.notification_id == notification_id)
        for start in range(0, len(ordered), _PIECE):
            query = select(INBOX.c.user_id, INBOX.c.item_id).where(
                *of_this, INBOX.c.user_id.in_(ordered[start : start + _PIECE])
            )
            found.update(((tenant, notification_id, user_id), item_id) for user_id, item_id in conn.execute(query))
    return found


def _row(item: NewItem, at: int) -> tuple[Any, ...]:
    visible_at = at if item.visible_at is None else max(item.visible_at, at)
    return (
        _item_id(visible_at),
        item.tenant,
        item.user_id,
        item.notification_id,
        item.request_id,
        item.type,
        item.category,
        orjson.dumps({name: value for name, value in item.content.items() if value}).decode(),
        visible_at,
        item.expires_at,
        at,
        at if visible_at <= at else None,
    )


def _item_id(visible_at: int) -> str:
    return f"{visible_at // 1_000:0{_TIME_DIGITS}x}{new_id()[_TIME_DIGITS:]}"
