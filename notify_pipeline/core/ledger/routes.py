"""Routes: which sends a tenant wants to be made of which events, one rule per name.

Belongs here: storing and finding them. Does not belong here: what a rule says and means (``core.route_rules``),
checking one (``ingest_api``).

An organization goes by its product's routes too, but for those that it has one of its own for, by the same name. Below
both are those that are built in.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, Row, delete, select

from notify_pipeline.core import built_in_routes
from notify_pipeline.core.ids import from_micros, to_micros
from notify_pipeline.core.ledger import audit
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.event_tables import ROUTES
from notify_pipeline.core.ledger.statements import insert_for
from notify_pipeline.core.ledger.tenant_tables import TENANTS

# Of one tenant: each event is held against all of them.
MAX_ROUTES = 200
# Tenants asked about in one statement.
_PIECE = 500


class TooManyRoutes(Exception):
    """The tenant has as many as one may have."""


@dataclass(frozen=True, slots=True)
class Route:
    """A route; ``rule`` is JSON. ``tenant`` is who set it, which may be the product of the one who asks.

    One that is built in was set by nobody, at no time.
    """

    tenant: str | None
    name: str
    rule: str
    created_at: datetime | None
    updated_at: datetime | None


_BUILT_IN = {
    name: Route(None, name, orjson.dumps(rule, option=orjson.OPT_SORT_KEYS).decode(), None, None)
    for name, rule in built_in_routes.RULES.items()
}


@dataclass(frozen=True, slots=True)
class _Change:
    tenant: str
    name: str
    rule: Mapping[str, Any] | None
    actor: str
    now: datetime


def put(ledger: Ledger, tenant: str, name: str, rule: Mapping[str, Any], actor: str, now: datetime) -> None:
    """Set a route, in the place of what there was; saying the same again changes nothing.

    Raises:
        TooManyRoutes: It would be one more than a tenant may have.
    """
    ledger.write(_change, _Change(tenant, name, rule, actor, now))


def remove(ledger: Ledger, tenant: str, name: str, actor: str, now: datetime) -> bool:
    """Forget a tenant's own route; False when it has none by that name."""
    return ledger.write(_change, _Change(tenant, name, None, actor, now))


def find(ledger: Ledger, tenant: str) -> dict[str, Route]:
    """Return the routes that a tenant goes by, by name in order."""
    with ledger.read() as conn:
        return of_tenants(conn, (tenant,))[tenant]


def of_tenants(conn: Connection, tenants: Collection[str]) -> dict[str, dict[str, Route]]:
    """Return the routes that each of several tenants goes by, by name in order."""
    found: dict[str, dict[str, Route]] = {}
    ordered = sorted(tenants)
    for start in range(0, len(ordered), _PIECE):
        piece = ordered[start : start + _PIECE]
        query = select(TENANTS.c.tenant, TENANTS.c.parent).where(
            TENANTS.c.tenant.in_(piece), TENANTS.c.parent.isnot(None)
        )
        parents = dict(conn.execute(query).tuples().all())
        owners = sorted({*piece, *parents.values()})
        by_owner: dict[str, dict[str, Route]] = {}
        for row in conn.execute(select(ROUTES).where(ROUTES.c.tenant.in_(owners))):
            by_owner.setdefault(row.tenant, {})[row.name] = _route(row)
        for tenant in piece:
            theirs = {**_BUILT_IN, **by_owner.get(parents.get(tenant, ""), {}), **by_owner.get(tenant, {})}
            found[tenant] = dict(sorted(theirs.items()))
    return found


def _change(conn: Connection, items: Sequence[_Change]) -> list[bool | Exception]:
    return [_change_one(conn, item) for item in items]


def _change_one(conn: Connection, item: _Change) -> bool | Exception:
    # The tenant's row is what two that change the same route wait at: a new one has no row of its own.
    conn.execute(select(TENANTS.c.tenant).where(TENANTS.c.tenant == item.tenant).with_for_update(key_share=True))
    mine = dict(conn.execute(select(ROUTES.c.name, ROUTES.c.rule).where(ROUTES.c.tenant == item.tenant)).tuples().all())
    before = mine.get(item.name)
    after = None if item.rule is None else orjson.dumps(item.rule, option=orjson.OPT_SORT_KEYS).decode()
    if before == after:
        return False
    at = to_micros(item.now)
    if after is None:
        conn.execute(delete(ROUTES).where(ROUTES.c.tenant == item.tenant, ROUTES.c.name == item.name))
    elif before is None and len(mine) >= MAX_ROUTES:
        return TooManyRoutes(f"a tenant may have {MAX_ROUTES} routes")
    else:
        new = {"tenant": item.tenant, "name": item.name, "rule": after, "created_at": at, "updated_at": at}
        upsert = insert_for(conn.dialect.name)(ROUTES).values(new)
        changed = {"rule": after, "updated_at": at}
        conn.execute(upsert.on_conflict_do_update(index_elements=["tenant", "name"], set_=changed))
    event = "route.removed" if after is None else "route.set"
    detail = {"name": item.name, **({} if item.rule is None else {"rule": item.rule})}
    audit.write(conn, [audit.Entry(event, item.actor, at, tenant=item.tenant, detail=detail)], item.now)
    return True


def _route(row: Row[Any]) -> Route:
    return Route(row.tenant, row.name, row.rule, from_micros(row.created_at), from_micros(row.updated_at))
