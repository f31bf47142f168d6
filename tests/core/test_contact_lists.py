"""Lists and counts of contacts, on SQLite and on PostgreSQL."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import contact_lists, contacts, devices
from notify_pipeline.core.ledger.contact_lists import ContactFilter, Counts
from notify_pipeline.core.ledger.contacts import NewContact
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.vocabulary import Platform

T, SITE = "t1", "example.com"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


def furnish(ledger: Ledger) -> None:
    """Seven contacts, the last two at one moment; 1 unsubscribed and 2 was dropped. And others' things."""
    for number in range(7):
        email = "ada@example.com" if number % 2 else None
        said = NewContact(SITE, f"c{number}", email=email, visitor_guid=f"v{number % 3}")
        contacts.register(ledger, T, said, at(min(number, 5)))
    contacts.delete(ledger, T, "c1", "unsubscribed", at(10))
    devices.drop(ledger, T, [devices.TokenDrop("c2", "UNREGISTERED", at(11), "n1")], at(11))
    contacts.register(ledger, T, NewContact("example.org", "elsewhere", email="ada@example.com"), NOW)
    contacts.register(ledger, "t2", NewContact(SITE, "c0"), NOW)
    devices.register(ledger, T, devices.Registration("device", Platform.WEB), NOW)


def pages(ledger: Ledger, where: ContactFilter, limit: int = 2) -> list[str]:
    """Return the tokens of all pages, in order."""
    found: list[str] = []
    after: contact_lists.Key | None = None
    while rows := contact_lists.query(ledger, T, SITE, where, limit, after):
        found += [row.token for row in rows]
        after = (to_micros(rows[-1].changed_at), rows[-1].token)
    return found


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (ContactFilter(), ["c0", "c3", "c4", "c5", "c6", "c1", "c2"]),
        (ContactFilter(is_active=True), ["c0", "c3", "c4", "c5", "c6"]),
        (ContactFilter(is_active=False), ["c1", "c2"]),
        (ContactFilter(email="ada@example.com"), ["c3", "c5", "c1"]),
        (ContactFilter(email="ada@example.com", is_active=False), ["c1"]),
        (ContactFilter(email="ada@example.com", is_active=True), ["c3", "c5"]),
        (ContactFilter(email="nobody@example.com"), []),
        (ContactFilter(changed_from=at(4), changed_until=at(10)), ["c4", "c5", "c6"]),
        (ContactFilter(changed_from=at(4), changed_until=at(11), is_active=False), ["c1"]),
    ],
)
def test_contacts_are_listed_in_pages(sqlite_ledger: Ledger, where: ContactFilter, expected: list[str]) -> None:
    furnish(sqlite_ledger)
    for limit in (1, 2, 100):
        assert pages(sqlite_ledger, where, limit) == expected


def test_both_stores_list_alike_and_count(ledger: Ledger) -> None:
    furnish(ledger)
    assert pages(ledger, ContactFilter()) == ["c0", "c3", "c4", "c5", "c6", "c1", "c2"]
    assert pages(ledger, ContactFilter(is_active=False), 1) == ["c1", "c2"]
    assert pages(ledger, ContactFilter(email="ada@example.com", is_active=True), 1) == ["c3", "c5"]
    assert contact_lists.counts(ledger, T, SITE) == Counts(active=5, inactive=2)
    assert contact_lists.counts(ledger, T, "nobody.example") == Counts(0, 0)
    assert [contact_lists.exists(ledger, T, SITE, guid) for guid in ("v0", "v1", "v9")] == [True, True, False]
    assert not contact_lists.exists(ledger, "t2", SITE, "v0")
    contacts.delete(ledger, T, "c4", "deleted", at(12))
    assert not contact_lists.exists(ledger, T, SITE, "v1"), "both of its contacts are gone"


def test_what_pages_and_lists_ask_is_answered_by_the_index_that_was_made_for_it(sqlite_ledger: Ledger) -> None:
    seen: list[tuple[str, tuple[object, ...]]] = []
    for engine in (sqlite_ledger._reader, sqlite_ledger._engine):
        event.listen(
            engine, "before_cursor_execute", lambda c, cur, text, values, ctx, many: seen.append((text, values))
        )
    calls = {
        "domain (tenant=? AND domain=? AND (changed_at,token)>": lambda: contact_lists.query(
            sqlite_ledger, T, SITE, ContactFilter(), 50, (1, "a")
        ),
        "domain_op (tenant=? AND domain=? AND op=? AND (changed_at,token)>": lambda: contact_lists.query(
            sqlite_ledger, T, SITE, ContactFilter(is_active=False), 50, (1, "a")
        ),
        "domain_email (tenant=? AND domain=? AND email=?": lambda: contact_lists.query(
            sqlite_ledger, T, SITE, ContactFilter(email="x", is_active=True), 50
        ),
        "domain_op (tenant=? AND domain=?)": lambda: contact_lists.counts(sqlite_ledger, T, SITE),
        "domain_visitor (tenant=? AND domain=? AND visitor_guid=?)": lambda: contact_lists.exists(
            sqlite_ledger, T, SITE, "v"
        ),
        "contact_token (token=?)": lambda: contacts.find(sqlite_ledger, "c"),
        "contact_device_token (device_token=?)": lambda: contacts.update_email(sqlite_ledger, T, "c", None, NOW),
    }
    for expected, call in calls.items():
        seen.clear()
        call()
        plans = []
        with sqlite_ledger.read() as conn:
            for text, values in [each for each in seen if "FROM devices" in each[0]]:
                plans += [str(row[-1]) for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values)]
        assert any(f"INDEX ix_devices_{expected}" in plan for plan in plans), plans
        assert not [plan for plan in plans if plan.startswith("SCAN devices")]
