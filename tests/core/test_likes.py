"""Likes: each is stored once and its owner told once, whoever likes at the same time, again, or again after all."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from sqlalchemy import func, select

from notify_pipeline.core import route_rules, route_sends
from notify_pipeline.core.built_in_routes import LIKES
from notify_pipeline.core.ledger import event_rows, inbox, likes, looks, policies, preferences, routes, users
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.event_tables import EVENTS
from notify_pipeline.core.ledger.event_tables import LIKES as LIKED
from notify_pipeline.core.ledger.likes import Liked, NewLike, NoSuchLook
from notify_pipeline.core.ledger.looks import NewLook
from notify_pipeline.core.ledger.people_tables import INBOX
from notify_pipeline.core.ledger.preferences import Change
from notify_pipeline.core.ledger.tables import AUDIT
from notify_pipeline.core.route_sends import Bounds, RouteFindings
from notify_pipeline.core.vocabulary import PolicyKind

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LOOK = NewLook("t", "7", "ann", "https://example.com/7.jpg", "app://looks/7")


def liked(ledger: Ledger, look: str = "7", customer: str = "bob") -> Liked:
    return likes.like(ledger, NewLike("t", look, customer, "k", NOW))


def counts(ledger: Ledger) -> list[int]:
    """Return how many likes, events and inbox items there are."""
    with ledger.read() as conn:
        return [conn.execute(select(func.count()).select_from(table)).scalar_one() for table in (LIKED, EVENTS, INBOX)]


def test_the_owner_finds_it_in_the_inbox_and_the_event_says_who_and_what(ledger: Ledger) -> None:
    looks.put(ledger, LOOK, "k", NOW)
    users.put(ledger, "t", "bob", users.Profile(attributes={"image_url": "https://example.com/bob.jpg"}), "k", NOW)
    first = liked(ledger)
    assert first.event_id is not None
    assert (first.notification_id, first.duplicate) == (route_sends.notification_id(first.event_id, LIKES), False)
    event = event_rows.get(ledger, ["t"], first.event_id)
    assert event is not None
    assert (event.source, event.type, event.recipients) == ("likes", "like.created", {"users": ["ann"]})
    assert event.detail == {
        "notification_id": first.notification_id,
        "look_id": "7",
        "owner_id": "ann",
        "customer_id": "bob",
        "media_urls": ["https://example.com/7.jpg", "https://example.com/bob.jpg"],
        "deep_link": "app://looks/7",
    }
    (item,) = inbox.page(ledger, "t", "ann", NOW).items
    assert (item.notification_id, item.type, item.category) == (first.notification_id, "like", "likes")
    assert item.content == {
        "title": "Someone liked your look!",
        "link": "app://looks/7",
        "image_url": "https://example.com/7.jpg",
        "data": {"look_id": "7", "customer_id": "bob", "liker_image_url": "https://example.com/bob.jpg"},
    }
    assert inbox.page(ledger, "t", "bob", NOW).items == []


def test_nobody_is_told_twice_or_of_their_own(ledger: Ledger) -> None:
    with pytest.raises(NoSuchLook):
        liked(ledger)
    looks.put(ledger, LOOK, "k", NOW)
    with pytest.raises(NoSuchLook):
        likes.like(ledger, NewLike("other", "7", "bob", "k", NOW))
    own = liked(ledger, customer="ann")
    assert (own.notification_id, own.event_id, own.duplicate) == (None, None, False)
    assert counts(ledger) == [1, 0, 0]
    first = liked(ledger)
    again = Liked("7", "bob", first.notification_id, True, first.created_at)
    assert liked(ledger) == again
    assert likes.unlike(ledger, "t", "7", "bob", "k", NOW)
    assert not likes.unlike(ledger, "t", "7", "bob", "k", NOW)
    assert liked(ledger) == again
    assert likes.unlike(ledger, "t", "7", "bob", "k", NOW)
    looks.remove(ledger, "t", "7", "k", NOW)
    looks.put(ledger, LOOK, "k", NOW)
    assert liked(ledger) == again
    assert counts(ledger) == [2, 1, 1]
    liked(ledger, customer="cat")
    assert counts(ledger) == [3, 2, 2]


@pytest.mark.parametrize("who", ["the owner", "the tenant"])
def test_an_owner_who_wants_none_finds_none_and_the_audit_says_why(ledger: Ledger, who: str) -> None:
    looks.put(ledger, LOOK, "k", NOW)
    if who == "the owner":
        preferences.change(ledger, Change("t", "user:ann", {("likes", "inbox"): False}, "api", "k"), NOW)
    else:
        value = {"channels": {"inbox": False}}
        policies.put(ledger, "t", PolicyKind.PREFERENCES, value, "k", NOW, name="likes")
    first = liked(ledger)
    assert counts(ledger) == [1, 1, 0]
    with ledger.read() as conn:
        detail, of = conn.execute(
            select(AUDIT.c.detail, AUDIT.c.notification_id).where(AUDIT.c.event == "inbox.skipped")
        ).one()
    word = "user:api:2026-11-21" if who == "the owner" else "policy"
    assert (orjson.loads(detail), of) == (
        {"user_id": "ann", "reason": "unsubscribed", "consent": word},
        first.notification_id,
    )
    looks.put(ledger, NewLook("t", "8", "bob"), "k", NOW)
    liked(ledger, "8", "cat")
    assert counts(ledger) == [2, 2, 1 if who == "the owner" else 0]


def test_equal_likes_at_once_are_one(ledger: Ledger) -> None:
    looks.put(ledger, LOOK, "k", NOW)
    with ThreadPoolExecutor(64) as pool:
        found = list(pool.map(lambda n: liked(ledger, customer=f"fan-{n % 2}"), range(64)))
    assert sorted(each.duplicate for each in found) == [False] * 2 + [True] * 62
    assert len({each.notification_id for each in found}) == 2
    assert counts(ledger) == [2, 2, 2]


@pytest.mark.parametrize("picture", [None, "", "not a link", 7, "ftp://example.com/x.jpg"])
def test_what_is_no_picture_is_left_out(sqlite_ledger: Ledger, picture: Any) -> None:
    looks.put(sqlite_ledger, NewLook("t", "7", "ann"), "k", NOW)
    users.put(sqlite_ledger, "t", "bob", users.Profile(attributes={"image_url": picture}), "k", NOW)
    made = liked(sqlite_ledger)
    event = event_rows.get(sqlite_ledger, ["t"], made.event_id or "")
    assert event is not None and event.detail["media_urls"] == []
    (item,) = inbox.page(sqlite_ledger, "t", "ann", NOW).items
    assert item.content == {"title": "Someone liked your look!", "data": {"look_id": "7", "customer_id": "bob"}}


@pytest.mark.parametrize("look", [LOOK, NewLook("t", "7", "ann")])
def test_the_built_in_route_makes_the_send(sqlite_ledger: Ledger, look: NewLook) -> None:
    looks.put(sqlite_ledger, look, "k", NOW)
    event = event_rows.get(sqlite_ledger, ["t"], liked(sqlite_ledger).event_id or "")
    assert event is not None
    rule = route_rules.read(LIKES, routes.find(sqlite_ledger, "t")[LIKES].rule)
    assert route_rules.judge(rule, event.view).matches
    (made,) = route_sends.make(rule, event.view, RouteFindings(), None, Bounds(100))
    link = {} if look.deep_link is None else {"link": look.deep_link, "image_url": look.image_url}
    assert made.body == {
        "type": "like",
        "category": "likes",
        "users": ["ann"],
        "content": {
            "title": "Someone liked your look!",
            **link,
            "data": {"look_id": "7", "customer_id": "bob"},
        },
        "channels": ["fcm", "apns", "webpush", "email", "sms", "websocket"],
    }


def test_a_tenant_s_own_route_takes_the_place_of_the_built_in_one(ledger: Ledger) -> None:
    assert routes.find(ledger, "t")[LIKES].tenant is None
    routes.put(ledger, "t", LIKES, {"match": {}, "enabled": False}, "k", NOW)
    found = routes.find(ledger, "t")[LIKES]
    assert (found.tenant, orjson.loads(found.rule)) == ("t", {"match": {}, "enabled": False})
    assert routes.find(ledger, "other")[LIKES].tenant is None
    assert routes.remove(ledger, "t", LIKES, "k", NOW)
    assert routes.find(ledger, "t")[LIKES].tenant is None
