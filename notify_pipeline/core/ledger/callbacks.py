"""Callbacks: where a tenant wants to be told how its sends ended.

Belongs here: registering, changing and forgetting them, and their secrets. Does not belong here: what they are told
(``callback_messages``), telling them (``delivery``), which addresses are allowed (``core.addresses``).

A secret signs, so it is kept readable, and is shown once all the same. After a rotation the old one signs too for a
while, so that a receiver can change over without losing a message.
"""

import base64
import binascii
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import orjson
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from notify_pipeline.core.ids import from_micros, new_id, to_micros
from notify_pipeline.core.ledger import audit
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.tenant_tables import CALLBACK_MESSAGES, CALLBACKS, TENANTS
from notify_pipeline.core.vocabulary import MessageState

SECRET_PREFIX = "whsec_"  # noqa: S105 - its form
# Between 24 and 64 bytes. https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
MIN_SECRET_BYTES, MAX_SECRET_BYTES = 24, 64
_SECRET_BYTES = 32
# Each one is a row more per ended send.
MAX_CALLBACKS = 10
# What a message says that never left because its callback was switched off.
INACTIVE = "callback_inactive"


class TooManyCallbacks(Exception):
    """The tenant has as many callbacks as it may have."""


@dataclass(frozen=True, slots=True)
class Callback:
    """A registered callback, without its secrets.

    Attributes:
        callback_id: Its id.
        tenant: Whose.
        url: Where messages are posted.
        events: What it is told.
        active: False: it is told nothing.
        created_at: When it was made.
        updated_at: When it was changed last.
        old_secret_until: Until when the secret before this one signs too; None: there is none.
    """

    callback_id: str
    tenant: str
    url: str
    events: tuple[str, ...]
    active: bool
    created_at: datetime
    updated_at: datetime
    old_secret_until: datetime | None


@dataclass(frozen=True, slots=True)
class _New:
    tenant: str
    url: str
    events: tuple[str, ...]
    secret: str
    actor: str
    now: datetime


@dataclass(frozen=True, slots=True)
class _Change:
    tenant: str
    callback_id: str
    event: str
    values: Mapping[str, Any]
    actor: str
    now: datetime


def new_secret() -> str:
    """Return a fresh secret."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def secret_bytes(secret: str) -> bytes:
    """Return the bytes that sign.

    Raises:
        ValueError: It is not the prefix and base64 of as many bytes as allowed.
    """
    text = secret.removeprefix(SECRET_PREFIX)
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if text == secret or not MIN_SECRET_BYTES <= len(raw) <= MAX_SECRET_BYTES:
        raise ValueError(f"must be {SECRET_PREFIX} and base64 of {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes")
    return raw


def shown_url(url: str) -> str:
    """Return a URL fit for logs and the audit trail: without the query, which may hold a token."""
    return urlsplit(url)._replace(query="", fragment="").geturl()


def create(
    ledger: Ledger, tenant: str, url: str, events: Sequence[str], secret: str, actor: str, now: datetime
) -> Callback:
    """Register a callback.

    Raises:
        TooManyCallbacks: The tenant has ``MAX_CALLBACKS``.
    """
    return ledger.write(_create, _New(tenant, url, tuple(events), secret, actor, now))


def list_of(ledger: Ledger, tenant: str) -> list[Callback]:
    """Return a tenant's callbacks, oldest first."""
    with ledger.read() as conn:
        query = select(CALLBACKS).where(CALLBACKS.c.tenant == tenant).order_by(CALLBACKS.c.callback_id)
        return [_callback(row) for row in conn.execute(query)]


def get(ledger: Ledger, tenant: str, callback_id: str) -> Callback | None:
    """Return a tenant's callback, or None when there is none or it is another's."""
    with ledger.read() as conn:
        row = conn.execute(select(CALLBACKS).where(*_this(tenant, callback_id))).one_or_none()
    return None if row is None else _callback(row)


def change(
    ledger: Ledger,
    tenant: str,
    callback_id: str,
    actor: str,
    now: datetime,
    *,
    url: str | None = None,
    events: Sequence[str] | None = None,
    active: bool | None = None,
) -> Callback | None:
    """Change what is given of a callback; None when the tenant has no such one.

    One that is made inactive is told nothing more: what waited for it has failed.
    """
    given = {"url": url, "events": None if events is None else _json(events), "active": active}
    values = {name: value for name, value in given.items() if value is not None}
    return ledger.write(_change, _Change(tenant, callback_id, "callback.changed", values, actor, now))


def rotate(
    ledger: Ledger, tenant: str, callback_id: str, secret: str, old_until: datetime, actor: str, now: datetime
) -> Callback | None:
    """Sign with this secret from now on, and with the one before it until then; None when there is no such callback."""
    values = {"old_secret": CALLBACKS.c.secret, "old_secret_until": to_micros(old_until), "secret": secret}
    return ledger.write(_change, _Change(tenant, callback_id, "callback.rotated", values, actor, now))


def remove(ledger: Ledger, tenant: str, callback_id: str, actor: str, now: datetime) -> bool:
    """Forget a callback and its messages; False when the tenant has no such one."""
    return ledger.write(_remove, _Change(tenant, callback_id, "callback.removed", {}, actor, now))


def deactivate(conn: Connection, callback_id: str, tenant: str, reason: str, actor: str, now: datetime) -> None:
    """Tell a callback nothing more, in the caller's transaction; what waited for it has failed."""
    at = to_micros(now)
    mine = (CALLBACKS.c.callback_id == callback_id, CALLBACKS.c.active)
    if conn.execute(update(CALLBACKS).where(*mine).values(active=False, updated_at=at)).rowcount:
        detail = {"callback_id": callback_id, "reason": reason, "failed_messages": _fail_unsent(conn, callback_id, at)}
        audit.write(conn, [audit.Entry("callback.deactivated", actor, at, tenant=tenant, detail=detail)], now)


def _this(tenant: str, callback_id: str) -> tuple[Any, Any]:
    return CALLBACKS.c.tenant == tenant, CALLBACKS.c.callback_id == callback_id


def _json(events: Sequence[str]) -> str:
    return orjson.dumps(list(events)).decode()


def _callback(row: Row[Any]) -> Callback:
    until = None if row.old_secret_until is None else from_micros(row.old_secret_until)
    return Callback(
        callback_id=row.callback_id,
        tenant=row.tenant,
        url=row.url,
        events=tuple(orjson.loads(row.events)),
        active=bool(row.active),
        created_at=from_micros(row.created_at),
        updated_at=from_micros(row.updated_at),
        old_secret_until=until,
    )


def _create(conn: Connection, items: Sequence[_New]) -> list[Callback | Exception]:
    return [_create_one(conn, item) for item in items]


def _create_one(conn: Connection, item: _New) -> Callback | Exception:
    # Locked, so that two that register at once are counted one after the other.
    conn.execute(select(TENANTS.c.tenant).where(TENANTS.c.tenant == item.tenant).with_for_update(key_share=True))
    query = select(func.count()).select_from(CALLBACKS).where(CALLBACKS.c.tenant == item.tenant)
    if conn.execute(query).scalar_one() >= MAX_CALLBACKS:
        return TooManyCallbacks(f"a tenant has at most {MAX_CALLBACKS} callbacks")
    at = to_micros(item.now)
    row = {
        "callback_id": new_id(),
        "tenant": item.tenant,
        "url": item.url,
        "secret": item.secret,
        "events": _json(item.events),
        "active": True,
        "created_at": at,
        "updated_at": at,
    }
    conn.execute(insert(CALLBACKS).values(row))
    detail = {"callback_id": row["callback_id"], "url": shown_url(item.url), "events": item.events}
    audit.write(conn, [audit.Entry("callback.created", item.actor, at, tenant=item.tenant, detail=detail)], item.now)
    return _callback(conn.execute(select(CALLBACKS).where(CALLBACKS.c.callback_id == row["callback_id"])).one())


def _change(conn: Connection, items: Sequence[_Change]) -> list[Callback | None]:
    return [_change_one(conn, item) for item in items]


def _change_one(conn: Connection, item: _Change) -> Callback | None:
    at, this = to_micros(item.now), _this(item.tenant, item.callback_id)
    if not conn.execute(update(CALLBACKS).where(*this).values(**item.values, updated_at=at)).rowcount:
        return None
    changed = _callback(conn.execute(select(CALLBACKS).where(*this)).one())
    detail: dict[str, Any] = {"callback_id": item.callback_id, "url": shown_url(changed.url)}
    if item.event == "callback.changed":
        detail |= {"events": changed.events, "active": changed.active}
    if item.values.get("active") is False:
        detail["failed_messages"] = _fail_unsent(conn, item.callback_id, at)
    audit.write(conn, [audit.Entry(item.event, item.actor, at, tenant=item.tenant, detail=detail)], item.now)
    return changed


def _remove(conn: Connection, items: Sequence[_Change]) -> list[bool]:
    results = []
    for item in items:
        at, this = to_micros(item.now), _this(item.tenant, item.callback_id)
        url = conn.execute(select(CALLBACKS.c.url).where(*this).with_for_update()).scalar()
        results.append(url is not None)
        if url is not None:
            conn.execute(delete(CALLBACKS).where(*this))
            conn.execute(delete(CALLBACK_MESSAGES).where(CALLBACK_MESSAGES.c.callback_id == item.callback_id))
            detail = {"callback_id": item.callback_id, "url": shown_url(url)}
            audit.write(conn, [audit.Entry(item.event, item.actor, at, tenant=item.tenant, detail=detail)], item.now)
    return results


def _fail_unsent(conn: Connection, callback_id: str, at: int) -> int:
    unsent = CALLBACK_MESSAGES.c.state.in_((str(MessageState.WAITING), str(MessageState.SENDING)))
    over = {
        "state": str(MessageState.FAILED),
        "error": INACTIVE,
        "lease_owner": None,
        "lease_until": None,
        "ended_at": at,
    }
    return conn.execute(
        update(CALLBACK_MESSAGES).where(CALLBACK_MESSAGES.c.callback_id == callback_id, unsent).values(over)
    ).rowcount
