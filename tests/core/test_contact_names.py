"""What contacts are called, by any address that they were reached at."""

from datetime import UTC, datetime

from sqlalchemy import event

from notify_pipeline.core.ledger import contact_names, contacts, devices
from notify_pipeline.core.ledger.contact_names import ContactName
from notify_pipeline.core.ledger.contacts import NewContact
from notify_pipeline.core.ledger.devices import Registration
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.vocabulary import Platform

NOW = datetime(2026, 11, 21, 10, 30, tzinfo=UTC)
DOMAIN = "shop.example.com"


def test_a_contact_is_known_by_each_address_it_had_and_to_its_tenant_only(ledger: Ledger) -> None:
    for tenant in ("t1", "t2"):
        contacts.register(ledger, tenant, NewContact(DOMAIN, "page", visitor_guid=f"v-{tenant}"), NOW)
    contacts.register(ledger, "t1", NewContact(DOMAIN, "plain"), NOW)
    devices.register(ledger, "t1", Registration("app", Platform.ANDROID), NOW)
    page = ContactName("page", "v-t1")
    asked = ["page", "plain", "app", "nobody"]
    assert contact_names.by_address(ledger, "t1", asked) == {"page": page, "plain": ContactName("plain", None)}
    contacts.register(ledger, "t1", NewContact(DOMAIN, "page", "wp.subscription"), NOW)
    asked = ["page", "wp.subscription"]
    assert contact_names.by_address(ledger, "t1", asked) == {"page": page, "wp.subscription": page}
    assert contact_names.by_address(ledger, "t2", asked) == {"page": ContactName("page", "v-t2")}
    for name in asked:
        assert contact_names.addresses_of(ledger, "t1", name) == ["page", "wp.subscription"]
    assert contact_names.addresses_of(ledger, "t2", "page") == ["page"]
    assert contact_names.addresses_of(ledger, "t1", "app") == []
    assert contact_names.by_address(ledger, "t1", []) == {}


def test_names_are_looked_up_and_not_searched_for(sqlite_ledger: Ledger) -> None:
    plans: list[str] = []

    def explain(conn: object, cursor: object, statement: str, parameters: tuple[str, ...], *_: object) -> None:
        if statement.startswith("SELECT devices"):
            with sqlite_ledger.read() as other:
                found = other.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
                plans.extend(row[3] for row in found)

    with sqlite_ledger.read() as conn:
        engine = conn.engine
    event.listen(engine, "before_cursor_execute", explain)
    try:
        contact_names.by_address(sqlite_ledger, "t1", ["a", "b"])
    finally:
        event.remove(engine, "before_cursor_execute", explain)
    assert len(plans) == 2
    assert "ix_devices_contact_device_token (device_token=?)" in plans[0]
    assert "(tenant=? AND token=?)" in plans[1]
