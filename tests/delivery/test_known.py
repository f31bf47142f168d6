"""Whom a send that names people reaches, on which channels, and at what cost."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import event

from notify_pipeline.core.ledger import contacts, devices, requests, users
from notify_pipeline.core.ledger.contacts import NewContact
from notify_pipeline.core.ledger.devices import Registration
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.users import Profile
from notify_pipeline.core.records import Notification, Recipient
from notify_pipeline.core.vocabulary import Channel, Platform
from notify_pipeline.delivery import notifications
from notify_pipeline.delivery.known import find_known, wanted_channels
from tests.delivery.fakes import TENANT, accept

NOW = datetime(2026, 11, 21, tzinfo=UTC)
ALL = [channel.value for channel in Channel]
ADA = Profile("Ada@Example.com", "+447700900123", "en-GB", "Europe/London")


@pytest.fixture
def people(ledger: Ledger) -> Ledger:
    """Ada has a phone, a browser, a profile and two subscriptions, one of them to the profile's address."""
    for token, platform in (
        ("phone", Platform.ANDROID),
        ("wp.x", Platform.WEBPUSH),
        ("ada@example.com", Platform.EMAIL),
        ("ada@work.example", Platform.EMAIL),
    ):
        devices.register(ledger, TENANT, Registration(token, platform, "ada", locale="fr"), NOW)
    devices.register(ledger, TENANT, Registration("anon@example.com", Platform.EMAIL), NOW)
    users.put(ledger, TENANT, "ada", ADA, "k", NOW)
    users.put(ledger, TENANT, "bob", Profile(phone="+447700900124"), "k", NOW)
    users.put(ledger, "t2", "eve", Profile("eve@example.com"), "k", NOW)
    return ledger


def sent(ledger: Ledger, **body: Any) -> Notification:
    row = requests.get(ledger, TENANT, accept(ledger, **body))
    assert row is not None
    return notifications.parse(row)


def reached(ledger: Ledger, **body: Any) -> list[Recipient]:
    send = sent(ledger, **body)
    return list(find_known(ledger, [send])[send.request_id].recipients)


def test_a_user_is_reached_once_on_every_channel_that_the_send_names(people: Ledger) -> None:
    found = reached(people, users=["ada", "bob", "nobody", "ada", "eve"], channels=ALL)
    assert [r[:3] for r in found if r.user_id == "ada"] == [
        ("ada@example.com", Platform.EMAIL, "ada"),
        ("ada@work.example", Platform.EMAIL, "ada"),
        ("phone", Platform.ANDROID, "ada"),
        ("wp.x", Platform.WEBPUSH, "ada"),
        ("+447700900123", Platform.SMS, "ada"),
        ("ada", Platform.WEBSOCKET, "ada"),
        ("ada", Platform.INBOX, "ada"),
    ]
    assert [r[:2] for r in found if r.user_id == "bob"] == [
        ("+447700900124", Platform.SMS),
        ("bob", Platform.WEBSOCKET),
        ("bob", Platform.INBOX),
    ]
    # Another tenant's profile is nothing to this one.
    assert {r.platform for r in found if r.user_id == "eve"} == {Platform.WEBSOCKET, Platform.INBOX}


def test_a_profile_says_the_language_and_time_zone_where_no_registration_does(people: Ledger) -> None:
    devices.delete(people, TENANT, "ada@example.com", NOW)
    by_address = {r.address: r for r in reached(people, users=["ada"], channels=["email", "sms"])}
    profile = (Platform.EMAIL, "ada", "en-GB", "Europe/London", None)
    assert by_address["Ada@Example.com"][:6] == ("Ada@Example.com", *profile)
    assert by_address["+447700900123"][:6] == ("+447700900123", Platform.SMS, *profile[1:])
    assert by_address["ada@work.example"].locale == "fr"


def test_addresses_are_reached_as_they_are_and_belong_to_whom_they_are_registered_for(people: Ledger) -> None:
    emails = ["Ada@Work.example", "ada@work.example", "anon@example.com", "new@example.com", "bob@example.com"]
    assert [r[:3] for r in reached(people, emails=emails)] == [
        ("Ada@Work.example", Platform.EMAIL, "ada"),
        ("anon@example.com", Platform.EMAIL, None),
        ("new@example.com", Platform.EMAIL, None),
        ("bob@example.com", Platform.EMAIL, None),
    ]
    assert reached(people, phones=["+447700900123"]) == [Recipient("+447700900123", Platform.SMS)]


def test_many_sends_are_found_together_and_each_has_its_own(people: Ledger) -> None:
    bodies = (
        {"users": ["ada"]},
        {"users": ["ada"], "channels": ["sms"]},
        {"users": ["bob"], "channels": ["email"]},
        {"devices": ["phone", "gone"]},
        {"emails": ["anon@example.com"]},
    )
    sends = [sent(people, **body) for body in bodies]
    found = find_known(people, sends)
    for body, send in zip(bodies, sends, strict=True):
        alone, together = find_known(people, [send])[send.request_id], found[send.request_id]
        wanted = wanted_channels(send)
        fitting = [r for r in alone.recipients if r.platform.channel in wanted]
        assert [r for r in together.recipients if r.platform.channel in wanted] == fitting, body
        assert together.unregistered == alone.unregistered


def test_visitors_are_reached_by_all_their_contacts_in_the_domain_with_their_fields(people: Ledger) -> None:
    def contact(token: str, guid: str | None, domain: str = "example.com", tenant: str = TENANT) -> None:
        contacts.register(people, tenant, NewContact(domain, token, visitor_guid=guid), NOW)

    for token, guid in (("c1", "v1"), ("c2", "v1"), ("c3", "v2"), ("c4", None), ("gone", "v1")):
        contact(token, guid)
    contact("elsewhere", "v1", "example.org")
    contact("foreign", "v1", "example.net", "t2")
    contacts.delete(people, TENANT, "gone", "user", NOW)
    wanted = [
        {"visitor_guid": "v1", "fields": {"name": "old"}},
        {"visitor_guid": "v2"},
        {"visitor_guid": "nobody", "fields": {"name": "x"}},
        {"visitor_guid": "v1", "fields": {"name": "Ada"}},
    ]
    ada = '{"name":"Ada"}'
    expected = [("c1", ada), ("c2", ada), ("c3", None)]
    assert [(r.address, r.fields) for r in reached(people, domain="example.com", visitors=wanted)] == expected
    # Beside others of its tenant, for the same visitors of other domains.
    sends = [sent(people, domain=name, visitors=wanted[:1]) for name in ("example.com", "example.org", "example.net")]
    found = find_known(people, [*sends, sent(people, users=["ada"])])
    by_address = [[r.address for r in found[send.request_id].recipients] for send in sends]
    assert by_address == [["c1", "c2"], ["elsewhere"], []]


@pytest.fixture
def statements(people: Ledger) -> Iterator[list[str]]:
    """What the ledger is asked from here on."""
    seen: list[str] = []

    def note(_conn: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        seen.append(statement)

    event.listen(people._reader, "before_cursor_execute", note)
    yield seen
    event.remove(people._reader, "before_cursor_execute", note)


def test_a_push_to_users_reads_registrations_and_nothing_else(people: Ledger, statements: list[str]) -> None:
    send = sent(people, users=["ada", "bob"])
    statements.clear()
    find_known(people, [send])
    assert len([each for each in statements if "SELECT" in each]) == 1 and "devices" in statements[-1]
