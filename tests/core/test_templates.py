"""Templates in the ledger: versions that never change, and whose template a tenant uses."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select

from notify_pipeline.core.ledger import templates, tenants
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.tables import AUDIT

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def product(ledger: Ledger) -> tenants.NewTenant:
    return tenants.create_product(ledger, "P", ["O"], NOW)


Put = Callable[..., tuple[templates.Template, bool]]


@pytest.fixture
def put(ledger: Ledger) -> Put:
    def put(tenant: str, name: str, title: str, **overrides: Any) -> tuple[templates.Template, bool]:
        return templates.put(ledger, tenant, name, {"title": title}, overrides, "k", NOW)

    return put


def test_versions_count_on_and_the_same_again_is_none(ledger: Ledger, product: tenants.NewTenant, put: Put) -> None:
    mine = product.tenant
    told = [put(mine, "hello", title) for title in ("a", "a", "b", "a")]
    assert [(made.version, is_new) for made, is_new in told] == [(1, True), (1, False), (2, True), (3, True)]
    put(mine, "hello", "a", fcm={"title": "c"})
    assert templates.remove(ledger, mine, "hello", "k", NOW)
    assert not templates.remove(ledger, mine, "hello", "k", NOW)
    assert templates.find(ledger, mine, "hello") is None
    assert templates.find(ledger, mine, "hello", 2) is None
    again, is_new = put(mine, "hello", "a", fcm={"title": "c"})
    assert (again.version, is_new) == (6, True)
    second = templates.find(ledger, mine, "hello", 2)
    assert second is not None and (second.version, second.content) == (2, {"title": "b"})
    assert templates.find(ledger, mine, "hello", 5) is None, "a deletion"
    assert templates.find(ledger, mine, "hello", 7) is None
    owner, history = templates.versions(ledger, mine, "hello") or ("", [])
    assert owner == mine
    assert [(v.version, v.template is None) for v in history] == [(n, n == 5) for n in (6, 5, 4, 3, 2, 1)]
    paged = templates.versions(ledger, mine, "hello", limit=2, before=5)
    assert paged is not None and [v.version for v in paged[1]] == [4, 3]
    assert history[0].template == again and again.overrides == {"fcm": {"title": "c"}}
    with ledger.read() as conn:
        events = conn.execute(select(AUDIT.c.event).order_by(AUDIT.c.audit_id)).scalars().all()
    assert [e.removeprefix("template.") for e in events if e.startswith("template")] == [
        *("put", "put", "put", "put"),
        *("deleted", "put"),
    ]


def test_an_organization_uses_its_products_where_it_has_none(
    ledger: Ledger, product: tenants.NewTenant, put: Put
) -> None:
    parent, own = product.tenant, product.organizations[0].tenant
    put(parent, "hello", "product")
    put(parent, "hello", "product's second")
    assert templates.find(ledger, own, "hello") == templates.find(ledger, parent, "hello")
    put(own, "hello", "own")
    found = templates.find(ledger, own, "hello")
    assert found is not None and (found.tenant, found.version) == (own, 1)
    assert templates.find(ledger, own, "hello", 2) is None, "a version of the product's is none of its own"
    unchanged = templates.find(ledger, parent, "hello")
    assert unchanged is not None and unchanged.version == 2
    templates.remove(ledger, own, "hello", "k", NOW)
    assert templates.find(ledger, own, "hello") == unchanged
    told = templates.versions(ledger, own, "hello")
    assert told is not None and told[0] == own and [v.version for v in told[1]] == [2, 1]
    put(own, "secret", "own")
    assert templates.find(ledger, parent, "secret") is None
    assert templates.versions(ledger, parent, "secret") is None


def test_pages_hold_each_name_once(ledger: Ledger, product: tenants.NewTenant, put: Put) -> None:
    parent, own = product.tenant, product.organizations[0].tenant
    names = [f"t{n}" for n in range(9)]
    for n, name in enumerate(names):
        put(parent, name, "product")
        if n % 3 == 0:
            put(own, name, "own")
        if n % 4 == 1:
            templates.remove(ledger, parent, name, "k", NOW)
    for limit in range(1, 10):
        seen: list[templates.Template] = []
        while page := templates.list_page(ledger, own, limit, seen[-1].name if seen else None):
            assert len(page) <= limit
            seen += page
        assert [t.name for t in seen] == [name for n, name in enumerate(names) if n % 4 != 1 or n % 3 == 0]
        assert [t.tenant == own for t in seen] == [int(t.name[1:]) % 3 == 0 for t in seen]


def test_concurrent_changes_each_get_a_version(ledger: Ledger, product: tenants.NewTenant, put: Put) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: put(product.tenant, "hello", f"{n}")[0].version, range(24)))
    assert sorted(made) == list(range(1, 25))
