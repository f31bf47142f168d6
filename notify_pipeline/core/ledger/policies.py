"""Policies: what a tenant wants done differently, one JSON value per kind and name.

Belongs here: storing and finding them. Does not belong here: what a value of each kind holds and means (beside whoever
goes by it), which key may set which (``ingest_api``).

An organization without a policy of its own goes by its product's.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, delete, or_, select

from notify_pipeline.core.ids import from_micros, to_micros
from notify_pipeline.core.ledger import audit
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.statements import insert_for
from notify_pipeline.core.ledger.tenant_tables import POLICIES, TENANTS
from notify_pipeline.core.vocabulary import PolicyKind

Value = Mapping[str, Any]
# Tenants asked about in one statement.
_PIECE = 500


@dataclass(frozen=True, slots=True)
class Policy:
    """A stored policy; ``tenant`` is who set it, which may be the product of the one who asks."""

    tenant: str
    kind: PolicyKind
    name: str
    value: Value
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class _Change:
    tenant: str
    kind: PolicyKind
    name: str
    value: Value | None
    actor: str
    now: datetime


def put(
    ledger: Ledger, tenant: str, kind: PolicyKind, value: Value, actor: str, now: datetime, *, name: str = ""
) -> None:
    """Set a policy, in the place of what there was; saying the same again changes nothing."""
    ledger.write(_change, _Change(tenant, kind, name, value, actor, now))


def remove(ledger: Ledger, tenant: str, kind: PolicyKind, actor: str, now: datetime, *, name: str = "") -> bool:
    """Forget a tenant's own policy; False when there was none."""
    return ledger.write(_change, _Change(tenant, kind, name, None, actor, now))


def find(ledger: Ledger, tenant: str, kind: PolicyKind) -> dict[str, Policy]:
    """Return the policies of a kind that a tenant goes by, its own before its product's, by name."""
    with ledger.read() as conn:
        return find_in(conn, tenant, kind)


def find_in(conn: Connection, tenant: str, kind: PolicyKind) -> dict[str, Policy]:
    """Like ``find``, inside the caller's transaction."""
    parent = select(TENANTS.c.parent).where(TENANTS.c.tenant == tenant).scalar_subquery()
    query = select(POLICIES).where(
        POLICIES.c.kind == str(kind), (POLICIES.c.tenant == tenant) | (POLICIES.c.tenant == parent)
    )
    found = [to_policy(row) for row in conn.execute(query)]
    return {policy.name: policy for policy in sorted(found, key=lambda policy: policy.tenant == tenant)}


def of_tenants(conn: Connection, tenants: Collection[str], kinds: Collection[PolicyKind]) -> dict[str, list[Policy]]:
    """Return the policies of these kinds that each of several tenants goes by, its product's before its own.

    Tenants without any are left out; where nobody has one, that costs one look at an index.
    """
    wanted = [str(kind) for kind in kinds]
    if conn.execute(select(POLICIES.c.kind).where(POLICIES.c.kind.in_(wanted)).limit(1)).first() is None:
        return {}
    found: dict[str, list[Policy]] = {}
    ordered = sorted(tenants)
    for start in range(0, len(ordered), _PIECE):
        piece = ordered[start : start + _PIECE]
        query = select(TENANTS.c.tenant, TENANTS.c.parent).where(
            TENANTS.c.tenant.in_(piece), TENANTS.c.parent.isnot(None)
        )
        parents = dict(conn.execute(query).tuples().all())
        owners = {*piece, *parents.values()}
        stored = select(POLICIES).where(POLICIES.c.kind.in_(wanted), POLICIES.c.tenant.in_(owners))
        by_owner: dict[str, list[Policy]] = {}
        for row in conn.execute(stored):
            by_owner.setdefault(row.tenant, []).append(to_policy(row))
        for tenant in piece:
            theirs = [*by_owner.get(parents.get(tenant, ""), ()), *by_owner.get(tenant, ())]
            if theirs:
                found[tenant] = theirs
    return found


def to_policy(row: Any) -> Policy:
    """Build the policy from a row of ``tenant_tables.POLICIES``."""
    return Policy(row.tenant, PolicyKind(row.kind), row.name, orjson.loads(row.value), from_micros(row.updated_at))


def lock(conn: Connection, tenants: Collection[str], kind: PolicyKind) -> None:
    """Lock the policies of a kind that these tenants go by, always in one order, until the transaction ends."""
    parents = select(TENANTS.c.parent).where(TENANTS.c.tenant.in_(tenants), TENANTS.c.parent.isnot(None))
    theirs = or_(POLICIES.c.tenant.in_(tenants), POLICIES.c.tenant.in_(parents))
    query = select(POLICIES.c.name).where(POLICIES.c.kind == str(kind), theirs)
    conn.execute(query.order_by(POLICIES.c.tenant, POLICIES.c.name).with_for_update()).all()


def _change(conn: Connection, items: Sequence[_Change]) -> list[bool]:
    return [_change_one(conn, item) for item in items]


def _change_one(conn: Connection, item: _Change) -> bool:
    this = (POLICIES.c.tenant == item.tenant, POLICIES.c.kind == str(item.kind), POLICIES.c.name == item.name)
    before = conn.execute(select(POLICIES.c.value).where(*this).with_for_update()).scalar()
    after = None if item.value is None else orjson.dumps(item.value, option=orjson.OPT_SORT_KEYS).decode()
    if before == after:
        return False
    at = to_micros(item.now)
    if after is None:
        conn.execute(delete(POLICIES).where(*this))
    else:
        new = {"tenant": item.tenant, "kind": str(item.kind), "name": item.name, "value": after, "updated_at": at}
        upsert = insert_for(conn.dialect.name)(POLICIES).values(new)
        conn.execute(
            upsert.on_conflict_do_update(
                index_elements=["tenant", "kind", "name"], set_={"value": after, "updated_at": at}
            )
        )
    what = {"kind": str(item.kind), "name": item.name, "value": item.value}
    event = "policy.removed" if after is None else "policy.set"
    audit.write(conn, [audit.Entry(event, item.actor, at, tenant=item.tenant, detail=what)], item.now)
    return True
