"""Templates: every version of each, per tenant and name.

Belongs here: storing and finding versions. Does not belong here: what a template may say (``core.templating``).

Versions count from 1 and are never changed. A deletion is a version too, without a body: what comes after it goes on
counting. An organization uses its product's template where it has none of its own by that name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, Row, Select, func, insert, select, tuple_

from notify_pipeline.core.ids import from_micros, to_micros
from notify_pipeline.core.ledger import audit
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.tenant_tables import TEMPLATES, TENANTS

Part = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Template:
    """One version. ``tenant`` is who made it, which may be the product of the one who asks."""

    tenant: str
    name: str
    version: int
    content: Part
    overrides: Mapping[str, Part]
    created_at: datetime
    actor: str


@dataclass(frozen=True, slots=True)
class Version:
    """One version as history has it; ``template`` is None where it is a deletion."""

    version: int
    created_at: datetime
    actor: str
    template: Template | None


@dataclass(frozen=True, slots=True)
class _Change:
    tenant: str
    name: str
    body: Part | None
    actor: str
    now: datetime


def put(
    ledger: Ledger, tenant: str, name: str, content: Part, overrides: Mapping[str, Part], actor: str, now: datetime
) -> tuple[Template, bool]:
    """Store a template as its next version; saying the same again is the same version.

    Returns:
        The version in use now, and whether it is new.
    """
    body = {"content": content, "overrides": overrides}
    made, is_new = ledger.write(_change, _Change(tenant, name, body, actor, now))
    if made is None:
        raise RuntimeError("only a deletion leaves no template")
    return made, is_new


def remove(ledger: Ledger, tenant: str, name: str, actor: str, now: datetime) -> bool:
    """Delete a tenant's own template; False when it has none by that name. Its versions stay in its history."""
    _, changed = ledger.write(_change, _Change(tenant, name, None, actor, now))
    return changed


def find(ledger: Ledger, tenant: str, name: str, version: int | None = None) -> Template | None:
    """Return the template that a tenant uses by a name: its own, or else its product's.

    Args:
        ledger: The ledger.
        tenant: Who asks.
        name: Which.
        version: An earlier one of the same template; by default the newest.

    Returns:
        None when there is none, it was deleted, or it never had that version.
    """
    with ledger.read() as conn:
        row = _in_use(conn, tenant, name)
        if row is not None and version is not None and version != row.version:
            this = (TEMPLATES.c.tenant == row.tenant, TEMPLATES.c.name == name, TEMPLATES.c.version == version)
            row = conn.execute(select(TEMPLATES).where(*this)).one_or_none()
    return None if row is None else _template(row)


def list_page(ledger: Ledger, tenant: str, limit: int = 100, after: str | None = None) -> list[Template]:
    """Return the templates that a tenant uses, its product's included, by name.

    Args:
        ledger: The ledger.
        tenant: Who asks.
        limit: At most so many.
        after: The last name of the page before.
    """
    newest = _newest(tenant)
    if after is not None:
        newest = newest.where(TEMPLATES.c.name > after)
    key = tuple_(TEMPLATES.c.tenant, TEMPLATES.c.name, TEMPLATES.c.version)
    query = select(TEMPLATES).where(key.in_(newest), TEMPLATES.c.body.isnot(None)).order_by(TEMPLATES.c.name)
    with ledger.read() as conn:
        # A name comes twice where an organization has its own.
        rows = conn.execute(query.limit(2 * limit)).all()
    found: dict[str, Template] = {}
    for row in rows:
        if row.name not in found or row.tenant == tenant:
            found[row.name] = _parsed(row)
    return list(found.values())[:limit]


def versions(
    ledger: Ledger, tenant: str, name: str, limit: int = 100, before: int | None = None
) -> tuple[str, list[Version]] | None:
    """Return the history of the template that a tenant uses by a name, newest first, and whose it is.

    A tenant's own, if it ever had one: also when it was deleted.

    Args:
        ledger: The ledger.
        tenant: Who asks.
        name: Which.
        limit: At most so many.
        before: The last version of the page before.
    """
    with ledger.read() as conn:
        owners = conn.execute(_newest(tenant).where(TEMPLATES.c.name == name)).all()
        if not owners:
            return None
        owner = max(owners, key=lambda row: row.tenant == tenant).tenant
        query = select(TEMPLATES).where(TEMPLATES.c.tenant == owner, TEMPLATES.c.name == name)
        if before is not None:
            query = query.where(TEMPLATES.c.version < before)
        rows = conn.execute(query.order_by(TEMPLATES.c.version.desc()).limit(limit)).all()
    return owner, [Version(row.version, from_micros(row.created_at), row.actor, _template(row)) for row in rows]


def _newest(tenant: str) -> Select[tuple[str, str, int]]:
    """Select tenant, name and newest version of a tenant's and its product's templates."""
    parent = select(TENANTS.c.parent).where(TENANTS.c.tenant == tenant).scalar_subquery()
    return (
        select(TEMPLATES.c.tenant, TEMPLATES.c.name, func.max(TEMPLATES.c.version))
        .where((TEMPLATES.c.tenant == tenant) | (TEMPLATES.c.tenant == parent))
        .group_by(TEMPLATES.c.tenant, TEMPLATES.c.name)
    )


def _in_use(conn: Connection, tenant: str, name: str) -> Row[Any] | None:
    key = tuple_(TEMPLATES.c.tenant, TEMPLATES.c.name, TEMPLATES.c.version)
    newest = _newest(tenant).where(TEMPLATES.c.name == name)
    rows = conn.execute(select(TEMPLATES).where(key.in_(newest), TEMPLATES.c.body.isnot(None))).all()
    return max(rows, key=lambda row: row.tenant == tenant, default=None)


def _change(conn: Connection, items: Sequence[_Change]) -> list[tuple[Template | None, bool]]:
    return [_change_one(conn, item) for item in items]


def _change_one(conn: Connection, item: _Change) -> tuple[Template | None, bool]:
    # The tenant's row is what two that change the same template wait at: a new one has no row of its own.
    conn.execute(select(TENANTS.c.tenant).where(TENANTS.c.tenant == item.tenant).with_for_update(key_share=True))
    this = (TEMPLATES.c.tenant == item.tenant, TEMPLATES.c.name == item.name)
    query = select(TEMPLATES).where(*this).order_by(TEMPLATES.c.version.desc()).limit(1)
    last = conn.execute(query).one_or_none()
    before = None if last is None else last.body
    after = None if item.body is None else orjson.dumps(item.body, option=orjson.OPT_SORT_KEYS).decode()
    if before == after:
        return None if last is None else _template(last), False
    at = to_micros(item.now)
    values = {
        "tenant": item.tenant,
        "name": item.name,
        "version": 1 if last is None else last.version + 1,
        "body": after,
        "created_at": at,
        "actor": item.actor,
    }
    conn.execute(insert(TEMPLATES).values(values))
    event = "template.deleted" if after is None else "template.put"
    detail = {"name": item.name, "version": values["version"]}
    audit.write(conn, [audit.Entry(event, item.actor, at, tenant=item.tenant, detail=detail)], item.now)
    return _template(conn.execute(query).one()), True


def _template(row: Row[Any]) -> Template | None:
    return None if row.body is None else _parsed(row)


def _parsed(row: Row[Any]) -> Template:
    body = orjson.loads(row.body)
    at = from_micros(row.created_at)
    return Template(row.tenant, row.name, row.version, body["content"], body["overrides"], at, row.actor)
