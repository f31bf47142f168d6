"""Tenants and their keys.

Belongs here: products, organizations, keys: making and finding them. Does not belong here: what a key allows on which
route (``ingest_api``).

A key is 256 random bits behind a prefix that tells its scope; only its SHA-256 is stored. A plain digest is enough:
nobody can try out 2^256 keys, unlike passwords.
"""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select
from sqlalchemy.exc import IntegrityError

from notify_pipeline.core.ids import from_micros, new_id, to_micros
from notify_pipeline.core.ledger import audit
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.statements import Prepared, insert_for
from notify_pipeline.core.ledger.tenant_tables import KEYS, TENANTS
from notify_pipeline.core.vocabulary import KeyScope

_PREFIXES = {KeyScope.ADMIN: "nak_", KeyScope.SECRET: "nsk_", KeyScope.PUBLISHABLE: "npk_"}
_KEY_BYTES = 32


class NameTaken(Exception):
    """Another product, or another organization of the product, has this name."""


@dataclass(frozen=True, slots=True)
class NewTenant:
    """What was made; the keys are shown once and never again."""

    tenant: str
    name: str
    secret_key: str
    publishable_key: str
    organizations: tuple["NewTenant", ...] = ()


@dataclass(frozen=True, slots=True)
class Tenant:
    """A product, or an organization (then ``parent`` is its product)."""

    tenant: str
    parent: str | None
    name: str
    active: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """Whose key it is and whether it still counts; admin keys have no tenant."""

    key_id: str
    tenant: str | None
    parent: str | None
    scope: KeyScope
    active: bool
    revoked: bool


_FIND_KEY = Prepared(
    lambda _: (
        select(
            KEYS.c.sha256,
            KEYS.c.key_id,
            KEYS.c.tenant,
            TENANTS.c.parent,
            KEYS.c.scope,
            TENANTS.c.active,
            KEYS.c.revoked_at,
        )
        .select_from(KEYS.outerjoin(TENANTS, TENANTS.c.tenant == KEYS.c.tenant))
        .where(KEYS.c.sha256 == bindparam("sha256"))
    ),
    ("sha256",),
)


def new_key(scope: KeyScope) -> str:
    """Return a fresh key: the scope's prefix and 256 random bits."""
    return _PREFIXES[scope] + secrets.token_urlsafe(_KEY_BYTES)


def create_product(ledger: Ledger, name: str, organizations: Sequence[str], now: datetime) -> NewTenant:
    """Make a product and its organizations, each with a secret and a publishable key.

    Raises:
        NameTaken: A product has the name, or two of the organizations share one. Nothing is made then.
    """
    parts = tuple(_fresh(part) for part in organizations)
    product = _fresh(name, parts)
    ledger.write(_create, (product, None, now))
    return product


def create_organization(ledger: Ledger, product: str, name: str, now: datetime) -> NewTenant:
    """Make an organization of an existing product.

    Raises:
        NameTaken: The product has one of that name.
    """
    organization = _fresh(name)
    ledger.write(_create, (organization, product, now))
    return organization


def get(ledger: Ledger, tenant: str) -> Tenant | None:
    """Return a product or organization by id, or None."""
    with ledger.read() as conn:
        row = conn.execute(select(TENANTS).where(TENANTS.c.tenant == tenant)).one_or_none()
    if row is None:
        return None
    return Tenant(row.tenant, row.parent, row.name, row.active, from_micros(row.created_at))


def organization_ids(ledger: Ledger, product: str) -> list[str]:
    """Return the ids of a product's organizations, inactive ones included, oldest first."""
    with ledger.read() as conn:
        query = select(TENANTS.c.tenant).where(TENANTS.c.parent == product).order_by(TENANTS.c.tenant)
        return list(conn.execute(query).scalars())


def is_active_organization(ledger: Ledger, product: str, organization: str) -> bool:
    """Tell whether a product has an active organization of this id."""
    this = (TENANTS.c.tenant == organization, TENANTS.c.parent == product, TENANTS.c.active)
    with ledger.read() as conn:
        return conn.execute(select(TENANTS.c.tenant).where(*this)).first() is not None


def create_admin_key(ledger: Ledger, key: str, now: datetime) -> str:
    """Store a key that may make products; harmless when it is stored already. Return its id."""
    return ledger.write(_create_admin, (key, now))


def find_key(ledger: Ledger, plaintext: str) -> KeyInfo | None:
    """Return what is known of a key, revoked ones included; None for an unknown one. Any text is allowed."""
    digest = _digest(plaintext)
    with ledger.read() as conn:
        found = _FIND_KEY.run_values(conn, (digest,)).first()
    # The index compares digests, whose timing tells nothing of the key; the last word is constant-time all the same.
    if found is None or not hmac.compare_digest(found[0], digest):
        return None
    _, key_id, tenant, parent, scope, active, revoked_at = found
    return KeyInfo(key_id, tenant, parent, KeyScope(scope), tenant is None or bool(active), revoked_at is not None)


def _digest(plaintext: str) -> str:
    # Text from a header may hold lone surrogates; such a key is simply unknown.
    return hashlib.sha256(plaintext.encode("utf-8", "surrogatepass")).hexdigest()


def _fresh(name: str, organizations: tuple[NewTenant, ...] = ()) -> NewTenant:
    return NewTenant(new_id(), name, new_key(KeyScope.SECRET), new_key(KeyScope.PUBLISHABLE), organizations)


def _create(conn: Connection, items: Sequence[tuple[NewTenant, str | None, datetime]]) -> list[None | Exception]:
    results: list[None | Exception] = []
    for new, parent, now in items:
        try:
            with conn.begin_nested():
                _insert_tenant(conn, new, parent, now)
                for part in new.organizations:
                    _insert_tenant(conn, part, new.tenant, now)
            results.append(None)
        except IntegrityError:
            results.append(NameTaken("another product, or organization of it, has this name"))
    return results


def _insert_tenant(conn: Connection, new: NewTenant, parent: str | None, now: datetime) -> None:
    at = to_micros(now)
    conn.execute(insert(TENANTS).values(tenant=new.tenant, parent=parent, name=new.name, active=True, created_at=at))
    for scope, key in ((KeyScope.SECRET, new.secret_key), (KeyScope.PUBLISHABLE, new.publishable_key)):
        conn.execute(insert(KEYS).values(_key_values(new.tenant, scope, key, at)))
    detail = {"name": new.name, "parent": parent}
    audit.write(conn, [audit.Entry("tenant.created", "admin", at, tenant=new.tenant, detail=detail)], now)


def _create_admin(conn: Connection, items: Sequence[tuple[str, datetime]]) -> list[str]:
    key_ids = []
    for key, now in items:
        values = _key_values(None, KeyScope.ADMIN, key, to_micros(now))
        conn.execute(
            insert_for(conn.dialect.name)(KEYS).values(values).on_conflict_do_nothing(index_elements=["sha256"])
        )
        key_ids.append(conn.execute(select(KEYS.c.key_id).where(KEYS.c.sha256 == values["sha256"])).scalar_one())
    return key_ids


def _key_values(tenant: str | None, scope: KeyScope, key: str, at: int) -> dict[str, Any]:
    return {"key_id": new_id(), "tenant": tenant, "scope": str(scope), "sha256": _digest(key), "created_at": at}
