"""Domains: whose they are, whether their push feature is on, and which pages may speak for them.

Belongs here: storing and finding them. Does not belong here: what a name may look like (``core.domain_names``), their
contacts (``contacts``).

A name belongs to whoever named it first, and to nobody else in the installation: browsers come without a key.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypedDict

import orjson
from sqlalchemy import Connection, delete, insert, or_, select, update

from notify_pipeline.core.domain_names import own_origins
from notify_pipeline.core.ids import from_micros, to_micros
from notify_pipeline.core.ledger import audit
from notify_pipeline.core.ledger.contact_tables import DOMAIN_ORIGINS, DOMAINS
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.statements import insert_for
from notify_pipeline.core.ledger.tenant_tables import TENANTS

# Names asked for in one statement.
_PIECE = 1_000


@dataclass(frozen=True, slots=True)
class Domain:
    """A stored domain.

    Attributes:
        name: A host, see ``domain_names.host_name``.
        tenant: Whose it is.
        is_push_feature_enabled: Whether browsers may register for it.
        icon_url: Of messages that have none of their own.
        allowed_origins: Beside its own, sorted.
        created_at: When it was named first.
        updated_at: When it was changed last.
    """

    name: str
    tenant: str
    is_push_feature_enabled: bool
    icon_url: str | None
    allowed_origins: tuple[str, ...]
    created_at: datetime
    updated_at: datetime

    @property
    def origins(self) -> tuple[str, ...]:
        """The origins whose pages may speak for it."""
        return origins(self.name, self.allowed_origins)


class DomainChange(TypedDict, total=False):
    """What is stored of a domain in the place of what there was; what is absent stays.

    A new domain is off, without an icon, and has its own origins only, as far as nothing else is said.
    """

    is_push_feature_enabled: bool
    icon_url: str | None
    allowed_origins: Sequence[str]


class NameTaken(Exception):
    """The name is another tenant's."""


class Stored(NamedTuple):
    """A domain after ``put``, and whether that took the place of anything; neither a new one's nor the same again."""

    domain: Domain
    is_changed: bool


@dataclass(frozen=True, slots=True)
class _Put:
    tenant: str
    name: str
    change: DomainChange
    actor: str
    now: datetime


def origins(name: str, allowed: Sequence[str]) -> tuple[str, ...]:
    """Return a domain's own origins and those that its owner allowed, each once, sorted."""
    return tuple(sorted({*own_origins(name), *allowed}))


def put(ledger: Ledger, tenant: str, name: str, change: DomainChange, actor: str, now: datetime) -> Stored:
    """Store a domain, or change it; the same again changes nothing.

    Raises:
        NameTaken: It is another tenant's.
    """
    return ledger.write(_put, _Put(tenant, name, change, actor, now))


def get(ledger: Ledger, name: str) -> Domain | None:
    """Return a domain, or None."""
    with ledger.read() as conn:
        return of(conn, name)


def of(conn: Connection, name: str) -> Domain | None:
    """Return a domain as a transaction sees it, or None."""
    row = conn.execute(select(DOMAINS).where(DOMAINS.c.name == name)).first()
    return None if row is None else _domain(row)


def find(ledger: Ledger, name: str) -> Domain | None:
    """Return a domain whose owner is active, and an organization's product too; else None."""
    products = TENANTS.alias("products")
    query = (
        select(DOMAINS)
        .join(TENANTS, TENANTS.c.tenant == DOMAINS.c.tenant)
        .outerjoin(products, products.c.tenant == TENANTS.c.parent)
        .where(DOMAINS.c.name == name, TENANTS.c.active, or_(TENANTS.c.parent.is_(None), products.c.active))
    )
    with ledger.read() as conn:
        row = conn.execute(query).first()
    return None if row is None else _domain(row)


def enabled(ledger: Ledger, names: Collection[str]) -> dict[str, str]:
    """Return whose domains these are, by name; those whose push feature is off, or that nobody named, are left out."""
    wanted, found = sorted(names), dict[str, str]()
    query = select(DOMAINS.c.name, DOMAINS.c.tenant).where(DOMAINS.c.is_push_feature_enabled)
    with ledger.read() as conn:
        for start in range(0, len(wanted), _PIECE):
            these = query.where(DOMAINS.c.name.in_(wanted[start : start + _PIECE]))
            found.update(conn.execute(these).tuples().all())
    return found


def is_origin(ledger: Ledger, origin: str) -> bool:
    """Tell whether pages of this origin may speak for any domain, be its push feature on or off."""
    query = select(DOMAIN_ORIGINS.c.origin).where(DOMAIN_ORIGINS.c.origin == origin).limit(1)
    with ledger.read() as conn:
        return conn.execute(query).first() is not None


def list_page(ledger: Ledger, tenant: str, limit: int, after: str | None = None) -> list[Domain]:
    """Return a tenant's domains by name, at most ``limit``, from the name ``after`` on."""
    query = select(DOMAINS).where(DOMAINS.c.tenant == tenant)
    if after is not None:
        query = query.where(DOMAINS.c.name > after)
    with ledger.read() as conn:
        return [_domain(row) for row in conn.execute(query.order_by(DOMAINS.c.name).limit(limit))]


def _put(conn: Connection, items: Sequence[_Put]) -> list[Stored | NameTaken]:
    return [_put_one(conn, item) for item in items]


def _put_one(conn: Connection, item: _Put) -> Stored | NameTaken:
    at = to_micros(item.now)
    row = {"name": item.name, "tenant": item.tenant, **_NEW, **_storable(item.change)}
    # Of two who name it at once one waits here for the other, and then finds that there is one.
    new = insert_for(conn.dialect.name)(DOMAINS).values(**row, created_at=at, updated_at=at)
    if conn.execute(new.on_conflict_do_nothing()).rowcount == 1:
        return Stored(_finish(conn, item), False)
    before = conn.execute(select(DOMAINS).where(DOMAINS.c.name == item.name).with_for_update()).one()
    if before.tenant != item.tenant:
        return NameTaken(item.name)
    changed = {name: value for name, value in _storable(item.change).items() if getattr(before, name) != value}
    if not changed:
        return Stored(_domain(before), False)
    conn.execute(update(DOMAINS).where(DOMAINS.c.name == item.name).values(**changed, updated_at=at))
    return Stored(_finish(conn, item), True)


_NEW = {"is_push_feature_enabled": False, "icon_url": None, "allowed_origins": "[]"}


def _storable(change: DomainChange) -> dict[str, Any]:
    row: dict[str, Any] = dict(change)
    if "allowed_origins" in change:
        row["allowed_origins"] = orjson.dumps(sorted(set(change["allowed_origins"]))).decode()
    return row


def _finish(conn: Connection, item: _Put) -> Domain:
    """Store the origins of a domain that was written just now, and tell the audit."""
    domain = of(conn, item.name)
    if domain is None:
        raise RuntimeError("a domain that was written in this transaction is not there")
    conn.execute(delete(DOMAIN_ORIGINS).where(DOMAIN_ORIGINS.c.name == domain.name))
    rows = [{"origin": origin, "name": domain.name} for origin in domain.origins]
    conn.execute(insert(DOMAIN_ORIGINS), rows)
    detail = {
        "name": domain.name,
        "is_push_feature_enabled": domain.is_push_feature_enabled,
        "icon_url": domain.icon_url,
        "allowed_origins": domain.allowed_origins,
    }
    entry = audit.Entry("domain.set", item.actor, to_micros(item.now), tenant=item.tenant, detail=detail)
    audit.write(conn, [entry], item.now)
    return domain


def _domain(row: Any) -> Domain:
    return Domain(
        row.name,
        row.tenant,
        bool(row.is_push_feature_enabled),
        row.icon_url,
        tuple(orjson.loads(row.allowed_origins)),
        from_micros(row.created_at),
        from_micros(row.updated_at),
    )
