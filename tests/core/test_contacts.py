"""Contacts in the ledger, on SQLite and on PostgreSQL."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import contacts, devices
from notify_pipeline.core.ledger.contact_rows import Contact
from notify_pipeline.core.ledger.contacts import NewContact, NotABrowser
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.outbox_tables import OUTBOX
from notify_pipeline.core.ledger.tables import DEVICES
from notify_pipeline.core.push_subscriptions import Subscription, token_of
from notify_pipeline.core.vocabulary import Platform

T = "t1"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SITE, OTHER = "example.com", "example.org"


def subscription(name: str) -> str:
    return token_of(Subscription(f"https://push.example/{name}", b"\x04" + b"p" * 64, b"a" * 16))


A, B = subscription("a"), subscription("b")


def minutes(number: float) -> datetime:
    return NOW + timedelta(minutes=number)


def register(ledger: Ledger, token: str | None, at: float = 0, domain: str = SITE, **more: Any) -> Contact:
    return contacts.register(ledger, T, NewContact(domain, token, **more), minutes(at))


def lake(ledger: Ledger) -> list[dict[str, Any]]:
    query = select(OUTBOX.c.rows).where(OUTBOX.c.lake_table == "registrations").order_by(OUTBOX.c.seq)
    with ledger.read() as conn:
        return [row for rows in conn.execute(query).scalars() for row in orjson.loads(rows)]


def told(ledger: Ledger) -> list[tuple[Any, ...]]:
    return [(row["token"], row["revision"], row["op"], row["domain"]) for row in lake(ledger)]


def rows(ledger: Ledger) -> list[dict[str, Any]]:
    with ledger.read() as conn:
        return [dict(row) for row in conn.execute(select(DEVICES).order_by(DEVICES.c.token)).mappings()]


def test_a_token_is_one_contact_that_is_refreshed(ledger: Ledger) -> None:
    first = register(ledger, "fcm", email="ada@example.com")
    assert (first.domain, first.token, first.device_token, first.platform) == (SITE, "fcm", "fcm", Platform.WEB)
    assert (first.email, first.visitor_guid, first.is_active, first.revision) == ("ada@example.com", None, True, 1)
    seen = register(ledger, "fcm", 1)
    assert (seen.revision, seen.registered_at, seen.changed_at, seen.email) == (1, minutes(1), NOW, "ada@example.com")
    changed = register(ledger, "fcm", 2, visitor_guid="v1")
    assert (changed.revision, changed.changed_at, changed.created_at) == (2, minutes(2), NOW)
    assert changed.email == "ada@example.com"
    assert told(ledger) == [("fcm", 1, "upsert", SITE), ("fcm", 2, "upsert", SITE)]
    assert contacts.find(ledger, "fcm") == [changed]


def test_email_and_visitor_are_changed_by_what_the_page_knows(ledger: Ledger) -> None:
    register(ledger, "fcm", subscription=A)
    assert contacts.update_email(ledger, T, "nobody", "x@example.com", NOW) is None
    assert contacts.update_email(ledger, "t2", "fcm", "x@example.com", NOW) is None
    changed = contacts.update_email(ledger, T, "fcm", "ada@example.com", minutes(1))
    assert changed is not None and (changed.token, changed.email, changed.revision) == (A, "ada@example.com", 2)
    same = contacts.update_email(ledger, T, A, "ada@example.com", minutes(2))
    assert same == changed
    visitor = contacts.update_visitor(ledger, T, "fcm", "v1", minutes(3))
    assert visitor is not None and (visitor.visitor_guid, visitor.email) == ("v1", "ada@example.com")
    gone = contacts.update_email(ledger, T, "fcm", None, minutes(4))
    assert gone is not None and gone.email is None


def test_a_contact_that_went_away_comes_back_as_it_was(ledger: Ledger) -> None:
    register(ledger, "fcm", email="ada@example.com")
    assert contacts.delete(ledger, T, "fcm", "unsubscribed", minutes(1))
    assert not contacts.delete(ledger, T, "fcm", "unsubscribed", minutes(2))
    [gone] = contacts.find(ledger, "fcm")
    assert (gone.is_active, gone.drop_reason, gone.changed_at) == (False, "unsubscribed", minutes(1))
    assert contacts.update_email(ledger, T, "fcm", "x@example.com", minutes(2)) is None
    back = register(ledger, "fcm", 3)
    assert (back.is_active, back.drop_reason, back.email, back.created_at) == (True, None, "ada@example.com", NOW)
    assert [(row["op"], row["reason"]) for row in lake(ledger)] == [
        ("upsert", None),
        ("delete", "unsubscribed"),
        ("upsert", None),
    ]


def test_a_provider_s_word_leaves_its_evidence_unless_the_contact_came_back(ledger: Ledger) -> None:
    register(ledger, "fcm")
    register(ledger, "again")
    register(ledger, "again", 2)
    drops = [devices.TokenDrop(token, "UNREGISTERED", minutes(1), "n1") for token in ("fcm", "again")]
    assert devices.drop(ledger, T, drops, minutes(3)) == 1
    [gone] = contacts.find(ledger, "fcm")
    assert (gone.is_active, gone.drop_reason, gone.dropped_by) == (False, "UNREGISTERED", "n1")
    assert gone.changed_at == minutes(3)
    assert told(ledger)[-1] == ("fcm", 2, "drop", SITE)
    [alive] = contacts.find(ledger, "again")
    assert alive.is_active and alive.dropped_by is None
    back = register(ledger, "fcm", 4)
    assert (back.is_active, back.drop_reason, back.dropped_by) == (True, None, None)


def test_a_browser_moves_to_its_subscription_with_all_that_is_known(ledger: Ledger) -> None:
    register(ledger, "fcm", email="ada@example.com", visitor_guid="v1")
    moved = register(ledger, "fcm", 1, subscription=A)
    assert (moved.token, moved.device_token, moved.platform) == (A, "fcm", Platform.WEBPUSH)
    assert (moved.email, moved.visitor_guid, moved.created_at) == ("ada@example.com", "v1", NOW)
    assert contacts.find(ledger, "fcm") == contacts.find(ledger, A) == [moved]
    assert told(ledger)[1:] == [("fcm", 2, "delete", SITE), (A, 1, "upsert", SITE)]
    # Without its subscription it is still the same browser, and its address is that of the subscription.
    assert register(ledger, "fcm", 2) == contacts.find(ledger, A)[0]
    renewed = contacts.update_subscription(ledger, T, "fcm", B, minutes(3))
    assert renewed is not None and (renewed.token, renewed.device_token, renewed.email) == (B, "fcm", moved.email)
    assert [row["token"] for row in rows(ledger) if row["op"] == "upsert"] == [B]
    assert contacts.find(ledger, A) == []


def test_a_page_that_knows_only_subscriptions_goes_on_with_the_name_it_has(ledger: Ledger) -> None:
    assert register(ledger, None, subscription=A).device_token == A
    renewed = contacts.update_subscription(ledger, T, A, B, minutes(1))
    assert renewed is not None and (renewed.token, renewed.device_token) == (B, A)
    assert contacts.update_email(ledger, T, A, "ada@example.com", minutes(2)) is not None
    # And its post of the new one is the same contact.
    posted = register(ledger, None, 3, subscription=B)
    assert (posted.token, posted.email, posted.revision) == (B, "ada@example.com", 2)


def test_a_dead_subscription_gives_way(ledger: Ledger) -> None:
    register(ledger, "fcm", subscription=A, email="ada@example.com")
    devices.drop(ledger, T, [devices.TokenDrop(A, "http_410", minutes(1), "n1")], minutes(1))
    # What FCM reaches is better than what is dead; a new subscription is better still.
    by_token = register(ledger, "fcm", 2)
    assert (by_token.token, by_token.email) == ("fcm", "ada@example.com")
    devices.drop(ledger, T, [devices.TokenDrop("fcm", "UNREGISTERED", minutes(3), "n2")], minutes(3))
    revived = contacts.update_subscription(ledger, T, "fcm", B, minutes(4))
    assert revived is not None and (revived.token, revived.is_active, revived.email) == (B, True, "ada@example.com")
    contacts.delete(ledger, T, "fcm", "unsubscribed", minutes(5))
    assert contacts.update_subscription(ledger, T, "fcm", A, minutes(6)) is None


def test_a_subscription_is_not_made_up(ledger: Ledger) -> None:
    with pytest.raises(contacts.NeedsSubscription):
        register(ledger, A)
    register(ledger, None, subscription=A)
    assert register(ledger, A, 1).token == A


def test_a_device_that_becomes_a_contact_keeps_its_user_and_topics(ledger: Ledger) -> None:
    said = devices.Registration("fcm", Platform.WEB, "u1", ("news",), locale="fr")
    devices.register(ledger, T, said, NOW)
    moved = register(ledger, "fcm", 1, subscription=A)
    assert (moved.user_id, moved.locale) == ("u1", "fr")
    [device] = devices.find_by_users(ledger, T, ["u1"])
    assert (device.token, device.topics) == (A, ("news",))
    # And a contact that is registered as a device stays a contact.
    again = devices.Registration(A, Platform.WEBPUSH, "u2", ("sport",))
    devices.register(ledger, T, again, minutes(2))
    [contact] = contacts.find(ledger, "fcm")
    assert (contact.user_id, contact.domain, contact.changed_at) == ("u2", SITE, minutes(2))
    assert lake(ledger)[-1]["domain"] == SITE
    devices.set_topics(ledger, T, A, ["x"], minutes(3))
    assert contacts.find(ledger, "fcm")[0].changed_at == minutes(3) and lake(ledger)[-1]["domain"] == SITE
    # One that was taken away does not get them back by what a page says.
    devices.delete(ledger, T, A, minutes(4))
    assert register(ledger, "fcm", 5, subscription=A).user_id is None


def test_an_app_s_registration_is_none_of_a_page_s_business(ledger: Ledger) -> None:
    devices.register(ledger, T, devices.Registration("phone", Platform.ANDROID, "u1"), NOW)
    for said in ({}, {"subscription": A}):
        with pytest.raises(NotABrowser):
            register(ledger, "phone", 1, **said)
    assert contacts.update_email(ledger, T, "phone", "x@example.com", NOW) is None
    assert not contacts.delete(ledger, T, "phone", "unsubscribed", NOW)
    assert contacts.update_subscription(ledger, T, "phone", A, NOW) is None
    assert contacts.find(ledger, "phone") == []
    assert [row["revision"] for row in rows(ledger)] == [1]


def test_an_ordinary_device_has_nothing_of_a_contact(ledger: Ledger) -> None:
    devices.register(ledger, T, devices.Registration("phone", Platform.ANDROID), NOW)
    devices.set_topics(ledger, T, "phone", ["x"], NOW)
    devices.drop(ledger, T, [devices.TokenDrop("phone", "UNREGISTERED", minutes(1), "n1")], minutes(1))
    [row] = rows(ledger)
    assert (row["domain"], row["changed_at"], row["dropped_by"]) == (None, None, "n1")
    devices.register(ledger, T, devices.Registration("phone", Platform.ANDROID), minutes(2))
    assert rows(ledger)[0]["dropped_by"] is None
    assert {each["domain"] for each in lake(ledger)} == {None}


def test_contacts_of_visitors(ledger: Ledger) -> None:
    for token, guid in (("a", "v1"), ("b", "v1"), ("c", "v2"), ("d", None), ("e", "v1")):
        register(ledger, token, visitor_guid=guid)
    register(ledger, "f", domain=OTHER, visitor_guid="v1")
    contacts.delete(ledger, T, "e", "unsubscribed", NOW)
    found = contacts.find_by_visitors(ledger, T, SITE, ["v1", "v2", "v3", "v1"])
    assert [(each.token, each.visitor_guid) for each in found] == [("a", "v1"), ("b", "v1"), ("c", "v2")]
    assert contacts.find_by_visitors(ledger, "t2", SITE, ["v1"]) == []
    assert contacts.find_by_visitors(ledger, T, SITE, []) == []


TOKENS = st.sampled_from(["fcm1", "fcm2"])
SUBSCRIPTIONS = st.sampled_from([A, B])
STEPS = st.one_of(
    st.tuples(st.just("post"), TOKENS, st.none() | SUBSCRIPTIONS, st.sampled_from([SITE, OTHER])),
    st.tuples(st.just("post"), st.none(), SUBSCRIPTIONS, st.sampled_from([SITE, OTHER])),
    st.tuples(st.just("subscription"), TOKENS | SUBSCRIPTIONS, SUBSCRIPTIONS),
    st.tuples(st.just("email"), TOKENS | SUBSCRIPTIONS, st.sampled_from([None, "ada@example.com"])),
    st.tuples(st.just("delete"), TOKENS | SUBSCRIPTIONS),
    st.tuples(st.just("drop"), TOKENS | SUBSCRIPTIONS, st.integers(-3, 0)),
    st.tuples(st.just("device"), TOKENS | SUBSCRIPTIONS),
)


def take(ledger: Ledger, step: tuple[Any, ...], at: int) -> None:
    match step:
        case "post", token, given_subscription, domain:
            said = NewContact(domain, token, given_subscription)
            made = contacts.register(ledger, T, said, minutes(at))
            assert made.is_active and made.domain == domain and made.registered_at == minutes(at)
            assert given_subscription in (None, made.token)
            assert token in (None, made.device_token)
        case "subscription", token, new:
            moved = contacts.update_subscription(ledger, T, token, new, minutes(at))
            assert moved is None or moved.token == new
        case "email", token, email:
            contacts.update_email(ledger, T, token, email, minutes(at))
        case "delete", token:
            contacts.delete(ledger, T, token, "unsubscribed", minutes(at))
        case "drop", token, since:
            registered = {row["token"]: row["registered_at"] for row in rows(ledger) if row["op"] == "upsert"}
            gone = devices.drop(ledger, T, [devices.TokenDrop(token, "gone", minutes(at + since), "n")], minutes(at))
            assert gone == (token in registered and registered[token] <= to_micros(minutes(at + since)))
        case "device", token:
            platform = Platform.WEBPUSH if token in (A, B) else Platform.WEB
            devices.register(ledger, T, devices.Registration(token, platform), minutes(at))


def check(ledger: Ledger, before: dict[str, int]) -> dict[str, int]:
    """Hold what must be true after every step; return the revisions."""
    stored = rows(ledger)
    ours = [row for row in stored if row["domain"] is not None]
    names = Counter(name for row in ours for name in {row["token"], row["device_token"]} - {None})
    assert not [name for name, number in names.items() if number > 1], "a name leads to one contact, alive or gone"
    revisions = {row["token"]: row["revision"] for row in stored}
    assert all(revisions[token] >= revision for token, revision in before.items())
    # The lake's latest revision of each token says what the ledger says.
    latest: dict[str, dict[str, Any]] = {}
    for row in lake(ledger):
        before_it = latest.get(row["token"], {"revision": 0, "op": None})
        assert row["revision"] == before_it["revision"] + 1, "each change is told once"
        assert row["previous"] == before_it["op"]
        latest[row["token"]] = row
    assert revisions == {token: row["revision"] for token, row in latest.items()}
    for row in stored:
        said = latest[row["token"]]
        assert said["op"] == row["op"] and said["platform"] == row["platform"]
        assert row["domain"] in (said["domain"], None) and (row["op"] != "upsert" or row["domain"] == said["domain"])
        assert (row["changed_at"] is None) == (row["domain"] is None)
    return revisions


def lives(ledger: Ledger, examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(st.lists(STEPS, min_size=3, max_size=12))
    def whatever_happens(steps: list[tuple[Any, ...]]) -> None:
        ledger.write(_empty, None)
        revisions: dict[str, int] = {}
        for at, step in enumerate(steps):
            take(ledger, step, at)
            revisions = check(ledger, revisions)

    whatever_happens()


def test_whatever_happens_a_browser_has_one_contact(sqlite_ledger: Ledger) -> None:
    lives(sqlite_ledger, 30)


@pytest.mark.long
def test_whatever_happens_a_browser_has_one_contact_in_many_lives(ledger: Ledger) -> None:
    lives(ledger, 1_000)


def _empty(conn: Any, items: Any) -> list[None]:
    conn.execute(delete(DEVICES))
    conn.execute(delete(OUTBOX))
    return [None for _ in items]


def together(*calls: Any) -> list[Any]:
    """Make calls at once; return their results, and what they raised."""
    with ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(call) for call in calls]
        return [future.exception() or future.result() for future in futures]


def test_what_an_app_says_at_the_same_moment_is_not_lost(ledger: Ledger) -> None:
    for number in range(40):
        token = f"fcm{number}"
        said = devices.Registration(token, Platform.WEB, "u", ["news"])
        calls = [
            lambda: register(ledger, token, visitor_guid="v"),  # noqa: B023 - all are done before the loop goes on
            lambda: devices.register(ledger, T, said, NOW),  # noqa: B023
        ]
        assert not [each for each in together(*calls) if isinstance(each, BaseException)]
        (contact,) = contacts.find(ledger, token)
        device = devices.get(ledger, T, token)
        assert device is not None and (device.user_id, device.topics, device.revision) == ("u", ("news",), 2)
        assert (contact.domain, contact.visitor_guid, contact.user_id) == (SITE, "v", "u")
    check(ledger, {})


def test_what_happens_at_once_leaves_one_contact(ledger: Ledger) -> None:
    for number in range(12):
        token, first, second = f"fcm{number}", subscription(f"{number}-1"), subscription(f"{number}-2")
        calls = [
            lambda: register(ledger, token, 1),  # noqa: B023 - all are done before the loop goes on
            lambda: register(ledger, token, 1, subscription=first),  # noqa: B023
            lambda: register(ledger, token, 1, subscription=second, email="ada@example.com"),  # noqa: B023
            lambda: register(ledger, None, 1, subscription=first),  # noqa: B023
            lambda: contacts.update_subscription(ledger, T, token, second, minutes(1)),  # noqa: B023
            lambda: contacts.update_email(ledger, T, token, "ada@example.com", minutes(1)),  # noqa: B023
            lambda: devices.drop(ledger, T, [devices.TokenDrop(each, "gone", NOW) for each in (second, token)], NOW),  # noqa: B023
        ]
        assert not [each for each in together(*calls) if isinstance(each, BaseException)]
        of_token = [each for each in contacts.find(ledger, token) if each.is_active]
        assert len(of_token) == 1
    check(ledger, {})
