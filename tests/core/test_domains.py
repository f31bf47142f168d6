"""Domains in both stores: one owner each, and the origins that go with them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from notify_pipeline.core.ledger import audit, domains, tenants
from notify_pipeline.core.ledger.audit import AuditFilter
from notify_pipeline.core.ledger.contact_tables import DOMAIN_ORIGINS, DOMAINS
from notify_pipeline.core.ledger.domains import DomainChange, NameTaken
from notify_pipeline.core.ledger.engine import Ledger

NOW = datetime(2026, 11, 21, 6, 33, 59, 123456, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
ON = DomainChange(is_push_feature_enabled=True)


def stored_origins(ledger: Ledger) -> set[tuple[str, str]]:
    with ledger.read() as conn:
        return {(row.origin, row.name) for row in conn.execute(select(DOMAIN_ORIGINS))}


def acts(ledger: Ledger, tenant: str) -> list[str]:
    return [row.event for row in audit.timeline(ledger, [tenant], AuditFilter(), 100)[0]]


def test_what_is_not_said_stays(ledger: Ledger) -> None:
    change = DomainChange(
        is_push_feature_enabled=True, icon_url="https://i.example/i.png", allowed_origins=["https://b"]
    )
    made = domains.put(ledger, "t", "example.com", change, "key", NOW)
    assert not made.is_changed
    assert made.domain == domains.get(ledger, "example.com")
    assert made.domain.created_at == made.domain.updated_at == NOW
    off = domains.put(ledger, "t", "example.com", DomainChange(is_push_feature_enabled=False), "key", LATER)
    assert off.is_changed
    assert (off.domain.is_push_feature_enabled, off.domain.icon_url) == (False, "https://i.example/i.png")
    assert off.domain.allowed_origins == ("https://b",)
    assert (off.domain.created_at, off.domain.updated_at) == (NOW, LATER)
    bare = domains.put(ledger, "t", "example.com", DomainChange(icon_url=None, allowed_origins=[]), "key", LATER)
    assert (bare.domain.icon_url, bare.domain.allowed_origins) == (None, ())
    assert domains.get(ledger, "other.example") is None


def test_the_same_again_changes_and_tells_nothing(ledger: Ledger) -> None:
    tenant = tenants.create_product(ledger, "product", (), NOW).tenant
    before = acts(ledger, tenant)
    change = DomainChange(is_push_feature_enabled=True, allowed_origins=["https://b", "https://a", "https://b"])
    first = domains.put(ledger, tenant, "example.com", change, "key", NOW)
    again = domains.put(ledger, tenant, "example.com", change, "key", LATER)
    assert (again.domain, again.is_changed) == (first.domain, False)
    assert first.domain.allowed_origins == ("https://a", "https://b")
    assert acts(ledger, tenant) == [*before, "domain.set"]


def test_origins_follow_their_domain(ledger: Ledger) -> None:
    own = {("https://a.example", "a.example"), ("https://www.a.example", "a.example")}
    shared = DomainChange(allowed_origins=["https://cms.example", "https://www.a.example"])
    domains.put(ledger, "t", "a.example", shared, "key", NOW)
    domains.put(ledger, "u", "b.example", DomainChange(allowed_origins=["https://cms.example"]), "key", NOW)
    assert {name for origin, name in stored_origins(ledger) if origin == "https://cms.example"} == {
        "a.example",
        "b.example",
    }
    domains.put(ledger, "t", "a.example", DomainChange(allowed_origins=[]), "key", LATER)
    assert {each for each in stored_origins(ledger) if each[1] == "a.example"} == own
    assert domains.is_origin(ledger, "https://cms.example")
    assert domains.is_origin(ledger, "https://www.b.example")
    assert not domains.is_origin(ledger, "https://c.example")
    domains.put(ledger, "u", "b.example", DomainChange(allowed_origins=[]), "key", LATER)
    assert not domains.is_origin(ledger, "https://cms.example")


def test_a_name_is_one_tenants(ledger: Ledger) -> None:
    domains.put(ledger, "t", "example.com", ON, "key", NOW)
    with pytest.raises(NameTaken):
        domains.put(ledger, "u", "example.com", DomainChange(is_push_feature_enabled=False), "key", LATER)
    found = domains.get(ledger, "example.com")
    assert found is not None
    assert (found.tenant, found.is_push_feature_enabled, found.updated_at) == ("t", True, NOW)


def test_pages_of_a_tenants_domains(ledger: Ledger) -> None:
    for name in ("c.example", "a.example", "b.example"):
        domains.put(ledger, "t", name, ON, "key", NOW)
    domains.put(ledger, "u", "aa.example", ON, "key", NOW)
    assert [row.name for row in domains.list_page(ledger, "t", 2)] == ["a.example", "b.example"]
    assert [row.name for row in domains.list_page(ledger, "t", 2, "b.example")] == ["c.example"]


def test_domains_of_who_is_out_of_use_are_not_found(ledger: Ledger) -> None:
    product = tenants.create_product(ledger, "product", ("branch",), NOW)
    branch = product.organizations[0].tenant
    domains.put(ledger, product.tenant, "p.example", ON, "key", NOW)
    domains.put(ledger, branch, "b.example", ON, "key", NOW)

    def found() -> list[bool]:
        return [domains.find(ledger, name) is not None for name in ("p.example", "b.example", "nobody.example")]

    assert found() == [True, True, False]
    tenants.change(ledger, branch, "admin", NOW, active=False)
    assert found() == [True, False, False]
    tenants.change(ledger, branch, "admin", NOW, active=True)
    tenants.change(ledger, product.tenant, "admin", NOW, active=False)
    assert found() == [False, False, False]


@pytest.fixture
def two(ledger_url: str) -> Iterator[list[Ledger]]:
    """Two processes' handles of one ledger."""
    with Ledger.open(ledger_url) as one, Ledger.open(ledger_url) as other:
        yield [one, other]


def test_of_two_who_name_it_at_once_one_is_the_owner(two: list[Ledger]) -> None:
    rounds = 15

    def claim(who: int) -> list[str]:
        won = []
        for n in range(rounds):
            change = DomainChange(allowed_origins=[f"https://{who}.example"])
            try:
                domains.put(two[who % 2], f"tenant-{who}", f"{n}.example.com", change, "key", NOW)
            except NameTaken:
                continue
            won.append(f"{n}.example.com")
        return won

    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(claim, range(4)))
    names = sorted(name for each in won for name in each)
    assert names == sorted(f"{n}.example.com" for n in range(rounds)), "each has one owner"
    with two[0].read() as conn:
        owners = dict(conn.execute(select(DOMAINS.c.name, DOMAINS.c.tenant)).tuples().all())
    for who, mine in enumerate(won):
        assert {owners[name] for name in mine} <= {f"tenant-{who}"}
        assert {name for origin, name in stored_origins(two[0]) if origin == f"https://{who}.example"} == set(mine)
