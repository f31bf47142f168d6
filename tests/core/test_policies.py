"""Policies: stored per tenant, kind and name; an organization goes by its product's where it has none."""

from datetime import UTC, datetime

from sqlalchemy import select

from notify_pipeline.core.ledger import policies, tenants
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.tables import AUDIT
from notify_pipeline.core.vocabulary import PolicyKind

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
RETRY = PolicyKind.RETRY


def test_an_organization_goes_by_its_products_policies_until_it_has_its_own(ledger: Ledger) -> None:
    product = tenants.create_product(ledger, "P", ["O"], NOW)
    organization = product.organizations[0].tenant
    policies.put(ledger, product.tenant, RETRY, {"attempts": 3}, "k", NOW, name="fcm")
    policies.put(ledger, product.tenant, RETRY, {"attempts": 4}, "k", NOW, name="apns")
    policies.put(ledger, organization, RETRY, {"attempts": 9}, "k", NOW, name="fcm")
    found = policies.find(ledger, organization, RETRY)
    assert {name: (policy.tenant, policy.value["attempts"]) for name, policy in found.items()} == {
        "fcm": (organization, 9),
        "apns": (product.tenant, 4),
    }
    assert policies.find(ledger, product.tenant, RETRY)["fcm"].value == {"attempts": 3}
    assert policies.remove(ledger, organization, RETRY, "k", NOW, name="fcm")
    assert policies.find(ledger, organization, RETRY)["fcm"].tenant == product.tenant
    assert not policies.remove(ledger, organization, RETRY, "k", NOW, name="fcm")


def test_several_tenants_are_told_apart_in_one_look(ledger: Ledger) -> None:
    product = tenants.create_product(ledger, "P", ["O"], NOW)
    organization, other = product.organizations[0].tenant, tenants.create_product(ledger, "Q", [], NOW).tenant
    asked = (product.tenant, organization, other, "unknown")
    with ledger.read() as conn:
        assert policies.of_tenants(conn, asked, (RETRY,)) == {}
    policies.put(ledger, product.tenant, RETRY, {"attempts": 3}, "k", NOW)
    policies.put(ledger, organization, RETRY, {"attempts": 9}, "k", NOW)
    policies.put(ledger, "unknown", PolicyKind.QUIET_HOURS, {"from": "1"}, "k", NOW)
    with ledger.read() as conn:
        found = policies.of_tenants(conn, asked, (RETRY,))
    attempts = {tenant: [policy.value["attempts"] for policy in theirs] for tenant, theirs in found.items()}
    assert attempts == {product.tenant: [3], organization: [3, 9]}


def test_each_change_is_one_audit_row_and_a_repetition_is_none(ledger: Ledger) -> None:
    product = tenants.create_product(ledger, "P", [], NOW)
    for attempts in (3, 3, 5):
        policies.put(ledger, product.tenant, RETRY, {"attempts": attempts}, "k", NOW, name="fcm")
    policies.remove(ledger, product.tenant, RETRY, "k", NOW, name="fcm")
    with ledger.read() as conn:
        events = conn.execute(select(AUDIT.c.event).order_by(AUDIT.c.audit_id)).scalars().all()
    assert [event for event in events if event.startswith("policy")] == ["policy.set", "policy.set", "policy.removed"]
