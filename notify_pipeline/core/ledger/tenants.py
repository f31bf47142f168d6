"""Tenants: products, and the organizations that a product sends on behalf of.

Belongs here: making, finding and changing them. Does not belong here: their keys (``keys``), who may do what
(``ingest_api``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update
from sqlalchemy.exc import IntegrityError

from notify_pipeline.core.ids import from_micros, new_id, to_micros
from notify_pipeline.core.ledger import audit, keys
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.tenant_tables import TENANTS
from notify_pipeline.core.vocabulary import KeyScope


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
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether a tenant counts: it is active, and so is an organization's product (``parent``)."""

    parent: str | None
    counts: bool


@dataclass(frozen=True, slots=True)
class _Creation:
    new: NewTenant
    parent: str | None
    actor: str
    now: datetime


@dataclass(frozen=True, slots=True)
class _Change:
    tenant: str
    name: str | None
    active: bool | None
    actor: str
    now: datetime


def create_product(
    ledger: Ledger, name: str, organizations: Sequence[str], now: datetime, actor: str = "admin"
) -> NewTenant:
    """Make a product and its organizations, each with a secret and a publishable key.

    Raises:
        NameTaken: A product has the name, or two of the organizations share one. Nothing is made then.
    """
    product = _fresh(name, tuple(_fresh(part) for part in organizations))
    ledger.write(_create, _Creation(product, None, actor, now))
    return product


def create_organization(ledger: Ledger, product: str, name: str, now: datetime, actor: str = "admin") -> NewTenant:
    """Make an organization of an existing product.

    Raises:
        NameTaken: The product has one of that name.
    """
    organization = _fresh(name)
    ledger.write(_create, _Creation(organization, product, actor, now))
    return organization


def get(ledger: Ledger, tenant: str) -> Tenant | None:
    """Return a product or organization by id, or None."""
    with ledger.read() as conn:
        row = conn.execute(select(TENANTS).where(TENANTS.c.tenant == tenant)).one_or_none()
    return None if row is None else _tenant(row)


def standing(ledger: Ledger, tenant: str) -> Standing | None:
    """Return whether a tenant counts, or None when there is none of this id."""
    products = TENANTS.alias("products")
    query = (
        select(TENANTS.c.parent, TENANTS.c.active, products.c.active)
        .outerjoin_from(TENANTS, products, products.c.tenant == TENANTS.c.parent)
        .where(TENANTS.c.tenant == tenant)
    )
    with ledger.read() as conn:
        row = conn.execute(query).tuples().one_or_none()
    if row is None:
        return None
    parent, active, product_active = row
    return Standing(parent, bool(active) and (parent is None or bool(product_active)))


def change(
    ledger: Ledger, tenant: str, actor: str, now: datetime, name: str | None = None, active: bool | None = None
) -> Tenant | None:
    """Rename, deactivate or reactivate a tenant; what is None stays. Return it as it is then; None when there is none.

    A product that is not active takes its organizations with it, without changing what is stored of them.

    Raises:
        NameTaken: Its parent has another of that name.
    """
    return ledger.write(_change, _Change(tenant, name, active, actor, now))


def list_page(ledger: Ledger, parent: str | None, limit: int = 100, after: str | None = None) -> list[Tenant]:
    """Return products, or the organizations of one, oldest first.

    Args:
        ledger: The ledger.
        parent: The product; None for products themselves.
        limit: At most so many.
        after: The id of the last one of the page before.
    """
    query = select(TENANTS).where(TENANTS.c.parent.is_(None) if parent is None else TENANTS.c.parent == parent)
    if after is not None:
        query = query.where(TENANTS.c.tenant > after)
    with ledger.read() as conn:
        return [_tenant(row) for row in conn.execute(query.order_by(TENANTS.c.tenant).limit(limit))]


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


def _fresh(name: str, organizations: tuple[NewTenant, ...] = ()) -> NewTenant:
    secret, publishable = keys.new_key(KeyScope.SECRET), keys.new_key(KeyScope.PUBLISHABLE)
    return NewTenant(new_id(), name, secret, publishable, organizations)


def _create(conn: Connection, items: Sequence[_Creation]) -> list[None | Exception]:
    return [_create_one(conn, item) for item in items]


def _create_one(conn: Connection, item: _Creation) -> None | Exception:
    try:
        with conn.begin_nested():
            _insert(conn, item.new, item.parent, item)
            for part in item.new.organizations:
                _insert(conn, part, item.new.tenant, item)
    except IntegrityError:
        return NameTaken("another product, or organization of it, has this name")
    return None


def _insert(conn: Connection, new: NewTenant, parent: str | None, item: _Creation) -> None:
    at = to_micros(item.now)
    conn.execute(insert(TENANTS).values(tenant=new.tenant, parent=parent, name=new.name, active=True, created_at=at))
    _audit(conn, "tenant.created", new.tenant, {"name": new.name, "parent": parent}, item)
    for scope, plaintext in ((KeyScope.SECRET, new.secret_key), (KeyScope.PUBLISHABLE, new.publishable_key)):
        keys.add(conn, new.tenant, keys.NewKey(new_id(), plaintext, scope, None, item.now), item.actor)


def _change(conn: Connection, items: Sequence[_Change]) -> list[Tenant | None | Exception]:
    return [_change_one(conn, item) for item in items]


def _change_one(conn: Connection, item: _Change) -> Tenant | None | Exception:
    query = select(TENANTS).where(TENANTS.c.tenant == item.tenant).with_for_update()
    row = conn.execute(query).one_or_none()
    if row is None:
        return None
    if item.name is not None and item.name != row.name:
        try:
            with conn.begin_nested():
                _set(conn, item, name=item.name)
        except IntegrityError:
            return NameTaken("another product, or organization of it, has this name")
        _audit(conn, "tenant.renamed", item.tenant, {"from": row.name, "to": item.name}, item)
    if item.active is not None and item.active != row.active:
        _set(conn, item, active=item.active)
        _audit(conn, "tenant.reactivated" if item.active else "tenant.deactivated", item.tenant, None, item)
    return _tenant(conn.execute(query).one())


def _set(conn: Connection, item: _Change, **values: Any) -> None:
    this = TENANTS.c.tenant == item.tenant
    conn.execute(update(TENANTS).where(this).values(**values, updated_at=to_micros(item.now)))


def _audit(conn: Connection, event: str, tenant: str, detail: dict[str, Any] | None, item: _Creation | _Change) -> None:
    audit.write(conn, [audit.Entry(event, item.actor, to_micros(item.now), tenant=tenant, detail=detail)], item.now)


def _tenant(row: Row[Any]) -> Tenant:
    made = from_micros(row.created_at)
    changed = made if row.updated_at is None else from_micros(row.updated_at)
    return Tenant(row.tenant, row.parent, row.name, row.active, made, changed)
