"""Keys: making, finding, rotating and revoking them.

Belongs here: keys and when they were used. Does not belong here: whose they are (``tenants``), what a key allows on
which route, how long one is remembered (``ingest_api``).

A key is 256 random bits behind a prefix that tells its scope; only its SHA-256 is stored. A plain digest is enough:
nobody can try out 2^256 keys, unlike passwords.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from notify_pipeline.core.ids import from_micros, new_id, to_micros
from notify_pipeline.core.ledger import audit
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.statements import Prepared, insert_for
from notify_pipeline.core.ledger.tenant_tables import KEYS, TENANTS
from notify_pipeline.core.vocabulary import KeyScope

_PREFIXES = {KeyScope.ADMIN: "nak_", KeyScope.SECRET: "nsk_", KeyScope.PUBLISHABLE: "npk_"}
_KEY_BYTES = 32


class NoSuchKey(Exception):
    """The tenant has no key of this id that still counts."""


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """Whose key it is and whether it still counts; admin keys have no tenant.

    Attributes:
        key_id: Its id, which tells nothing of the key.
        tenant: A product or an organization.
        parent: The organization's product.
        scope: What it may do.
        active: Whether its tenant is active, and an organization's product too.
        revoked: Whether it was.
        expires_at: From when on it does not count any more.
        user_id: The one user that it speaks for; None for a key, which speaks for its tenant.
    """

    key_id: str
    tenant: str | None
    parent: str | None
    scope: KeyScope
    active: bool
    revoked: bool
    expires_at: datetime | None = None
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """What is stored of a tenant's key."""

    key_id: str
    scope: KeyScope
    label: str | None
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was made, shown once and never again; ``replaces`` is the one that it takes the place of."""

    key_id: str
    plaintext: str
    scope: KeyScope
    label: str | None
    created_at: datetime
    replaces: Key | None = None


@dataclass(frozen=True, slots=True)
class _Rotation:
    tenant: str
    key_id: str
    overlap: timedelta
    label: str | None
    actor: str
    now: datetime


_PRODUCTS = TENANTS.alias("products")
_COLUMNS = (
    KEYS.c.sha256,
    KEYS.c.key_id,
    KEYS.c.tenant,
    TENANTS.c.parent,
    KEYS.c.scope,
    TENANTS.c.active,
    _PRODUCTS.c.active.label("product_active"),
    KEYS.c.revoked_at,
    KEYS.c.expires_at,
)
_WITH_OWNERS = select(*_COLUMNS).select_from(
    KEYS.outerjoin(TENANTS, TENANTS.c.tenant == KEYS.c.tenant).outerjoin(
        _PRODUCTS, _PRODUCTS.c.tenant == TENANTS.c.parent
    )
)
_FIND = Prepared(lambda _: _WITH_OWNERS.where(KEYS.c.sha256 == bindparam("sha256")), ("sha256",))


def new_key(scope: KeyScope) -> str:
    """Return a fresh key: the scope's prefix and 256 random bits."""
    return _PREFIXES[scope] + secrets.token_urlsafe(_KEY_BYTES)


def find(ledger: Ledger, plaintext: str) -> KeyInfo | None:
    """Return what is known of a key, revoked ones included; None for an unknown one. Any text is allowed."""
    digest = _digest(plaintext)
    with ledger.read() as conn:
        found = _FIND.run_values(conn, (digest,)).first()
    # The index compares digests, whose timing tells nothing of the key; the last word is constant-time all the same.
    if found is None or not hmac.compare_digest(found[0], digest):
        return None
    return _info(found)


def find_by_id(ledger: Ledger, key_id: str) -> KeyInfo | None:
    """Return what is known of a key, revoked ones included; None for an unknown id."""
    with ledger.read() as conn:
        found = conn.execute(_WITH_OWNERS.where(KEYS.c.key_id == key_id)).first()
    return None if found is None else _info(found)


def _info(found: Any) -> KeyInfo:
    _, key_id, tenant, parent, scope, active, product_active, revoked_at, expires_at = found
    counts = tenant is None or (bool(active) and (parent is None or bool(product_active)))
    return KeyInfo(key_id, tenant, parent, KeyScope(scope), counts, revoked_at is not None, _moment(expires_at))


def create_admin(ledger: Ledger, plaintext: str, now: datetime) -> str:
    """Store a key that may do everything to tenants; harmless when it is stored already. Return its id."""
    return ledger.write(_create_admin, (plaintext, now))


def create(ledger: Ledger, tenant: str, scope: KeyScope, label: str | None, actor: str, now: datetime) -> NewKey:
    """Make another key of an existing tenant."""
    made = NewKey(new_id(), new_key(scope), scope, label, now)
    ledger.write(_create, (tenant, made, actor))
    return made


def rotate(
    ledger: Ledger, tenant: str, key_id: str, overlap: timedelta, label: str | None, actor: str, now: datetime
) -> NewKey:
    """Make a key in the place of a tenant's other one, which counts until the overlap ends.

    The new one has its scope, and its label unless another is given. An end that was set before is not put off.

    Raises:
        NoSuchKey: The tenant has no such key, or it does not count any more.
    """
    return ledger.write(_rotate, _Rotation(tenant, key_id, overlap, label, actor, now))


def revoke(ledger: Ledger, tenant: str, key_id: str, actor: str, now: datetime) -> bool:
    """Revoke a tenant's key, for good; harmless when it was before. False when the tenant has no such key."""
    return ledger.write(_revoke, (tenant, key_id, actor, now))


def list_page(ledger: Ledger, tenant: str, limit: int = 100, after: str | None = None) -> list[Key]:
    """Return a tenant's keys, oldest first, those that do not count any more included.

    Args:
        ledger: The ledger.
        tenant: Whose.
        limit: At most so many.
        after: The last ``key_id`` of the page before.
    """
    query = select(KEYS).where(KEYS.c.tenant == tenant)
    if after is not None:
        query = query.where(KEYS.c.key_id > after)
    with ledger.read() as conn:
        return [_key(row) for row in conn.execute(query.order_by(KEYS.c.key_id).limit(limit))]


def note_uses(ledger: Ledger, uses: Mapping[str, datetime]) -> None:
    """Store when keys were used last, by id; an earlier time than is stored changes nothing."""
    ledger.write(_note_uses, uses)


def add(conn: Connection, tenant: str, key: NewKey, actor: str) -> None:
    """Store a new key inside the caller's transaction."""
    at = to_micros(key.created_at)
    values = {"key_id": key.key_id, "tenant": tenant, "scope": str(key.scope), "label": key.label, "created_at": at}
    conn.execute(insert(KEYS).values(values | {"sha256": _digest(key.plaintext)}))
    detail = {"key_id": key.key_id, "scope": str(key.scope), "label": key.label}
    if key.replaces is not None:
        detail["replaces"] = key.replaces.key_id
    _audit(conn, "key.created", tenant, actor, detail, key.created_at)


def _create(conn: Connection, items: Sequence[tuple[str, NewKey, str]]) -> list[None]:
    for tenant, key, actor in items:
        add(conn, tenant, key, actor)
    return [None for _ in items]


def _create_admin(conn: Connection, items: Sequence[tuple[str, datetime]]) -> list[str]:
    key_ids = []
    for plaintext, now in items:
        new = {"key_id": new_id(), "scope": str(KeyScope.ADMIN), "sha256": _digest(plaintext)}
        upsert = insert_for(conn.dialect.name)(KEYS).values(new | {"created_at": to_micros(now)})
        conn.execute(upsert.on_conflict_do_nothing(index_elements=["sha256"]))
        key_ids.append(conn.execute(select(KEYS.c.key_id).where(KEYS.c.sha256 == new["sha256"])).scalar_one())
    return key_ids


def _rotate(conn: Connection, items: Sequence[_Rotation]) -> list[NewKey | Exception]:
    return [_rotate_one(conn, item) for item in items]


def _rotate_one(conn: Connection, item: _Rotation) -> NewKey | Exception:
    this = (KEYS.c.key_id == item.key_id, KEYS.c.tenant == item.tenant)
    row = conn.execute(select(KEYS).where(*this).with_for_update()).one_or_none()
    now, ends = to_micros(item.now), to_micros(item.now + item.overlap)
    if row is None or row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now):
        return NoSuchKey(f"no key {item.key_id} that still counts")
    ends = ends if row.expires_at is None else min(ends, row.expires_at)
    conn.execute(update(KEYS).where(*this).values(expires_at=ends))
    scope, replaced = KeyScope(row.scope), _key(conn.execute(select(KEYS).where(*this)).one())
    label = row.label if item.label is None else item.label
    made = NewKey(new_id(), new_key(scope), scope, label, item.now, replaced)
    add(conn, item.tenant, made, item.actor)
    detail = {"key_id": item.key_id, "replaced_by": made.key_id, "expires_at": from_micros(ends).isoformat()}
    _audit(conn, "key.rotated", item.tenant, item.actor, detail, item.now)
    return made


def _revoke(conn: Connection, items: Sequence[tuple[str, str, str, datetime]]) -> list[bool]:
    return [_revoke_one(conn, *item) for item in items]


def _revoke_one(conn: Connection, tenant: str, key_id: str, actor: str, now: datetime) -> bool:
    this = (KEYS.c.key_id == key_id, KEYS.c.tenant == tenant)
    row = conn.execute(select(KEYS.c.revoked_at).where(*this).with_for_update()).one_or_none()
    if row is None:
        return False
    if row.revoked_at is None:
        conn.execute(update(KEYS).where(*this).values(revoked_at=to_micros(now)))
        _audit(conn, "key.revoked", tenant, actor, {"key_id": key_id}, now)
    return True


def _note_uses(conn: Connection, items: Sequence[Mapping[str, datetime]]) -> list[None]:
    uses = [(key_id, to_micros(at)) for item in items for key_id, at in item.items()]
    # In one order, so that two hosts that note the same keys wait for each other instead of in a ring.
    for key_id, at in sorted(uses):
        older = KEYS.c.last_used_at.is_(None) | (KEYS.c.last_used_at < at)
        conn.execute(update(KEYS).where(KEYS.c.key_id == key_id, older).values(last_used_at=at))
    return [None for _ in items]


def _audit(conn: Connection, event: str, tenant: str, actor: str, detail: Mapping[str, Any], now: datetime) -> None:
    audit.write(conn, [audit.Entry(event, actor, to_micros(now), tenant=tenant, detail=detail)], now)


def _key(row: Any) -> Key:
    times = (from_micros(row.created_at), _moment(row.last_used_at), _moment(row.expires_at), _moment(row.revoked_at))
    return Key(row.key_id, KeyScope(row.scope), row.label, *times)


def _moment(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)


def _digest(plaintext: str) -> str:
    # Text from a header may hold lone surrogates; such a key is simply unknown.
    return hashlib.sha256(plaintext.encode("utf-8", "surrogatepass")).hexdigest()
