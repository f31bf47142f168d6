"""Cancelling and editing sends over HTTP."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ingest_api.notifications.answers import SendChanged
from notify_pipeline.core.ledger import requests, routing
from notify_pipeline.core.ledger.routing import Plan
from notify_pipeline.core.vocabulary import DeliveryMode, RequestState
from tests.ingest_api.conftest import House, fields_of, send

LATER = "2026-11-22T09:00:00Z"
PATH = "/notifications/n-1"


def stored(house: House) -> requests.RequestRow:
    row = requests.get_by_notification(house.services.ledger, house.mine.tenant, "n-1")
    assert row is not None
    return row


def start(house: House, *states: RequestState) -> None:
    ledger, now = house.services.ledger, house.clock()
    (claimed,) = routing.claim(ledger, "planner", now, 60, 1)
    plan = Plan(claimed.request_id, 1, states, DeliveryMode.DRAIN)
    assert routing.store(ledger, "planner", [plan], now) == [True]


def test_a_send_is_cancelled_and_stays_so(any_house: House) -> None:
    first = any_house.secret.ok("POST", "/notifications", send(send_at=LATER))
    answered = any_house.secret.ok("DELETE", PATH)
    SendChanged.model_validate(answered, strict=True)
    shared = {name: first[name] for name in ("request_id", "notification_id", "status_url")}
    assert answered == {**shared, "state": "cancelled"}
    assert any_house.secret.ok("DELETE", PATH) == answered
    assert any_house.secret.ok("GET", first["status_url"])["state"] == "cancelled"
    again = any_house.secret.call("POST", "/notifications", send(send_at=LATER))
    assert (again.status_code, again.json) == (202, first | {"duplicate": True})
    assert again.headers["Idempotent-Replayed"] == "true"
    answered = any_house.secret.call("PATCH", PATH, {"type": "sport"})
    assert (answered.status_code, fields_of(answered)) == (409, {"state"})
    assert answered.json["error"]["code"] == "already_ended"


@pytest.mark.parametrize(
    ("states", "code"),
    [
        ((RequestState.ROUTED, RequestState.SENDING), "already_started"),
        ((RequestState.DONE,), "already_ended"),
        ((RequestState.EXPIRED,), "already_ended"),
    ],
)
@pytest.mark.parametrize(("method", "body"), [("DELETE", None), ("PATCH", {"type": "sport"})])
def test_what_has_started_is_told_where_it_stands(
    house: House, states: tuple[RequestState, ...], code: str, method: str, body: Any
) -> None:
    house.secret.ok("POST", "/notifications", send())
    start(house, *states)
    answered = house.secret.call(method, PATH, body)
    assert (answered.status_code, fields_of(answered)) == (409, {"state"})
    assert answered.json["error"]["code"] == code
    assert answered.json["error"]["message"] == f"It is too late: its state is {states[-1]}."


@pytest.mark.parametrize(("method", "body"), [("DELETE", None), ("PATCH", {"type": "sport"})])
def test_anothers_and_nobodys_are_not_found(house: House, method: str, body: Any) -> None:
    house.secret.ok("POST", "/notifications", send())
    assert house.stranger.call(method, PATH, body).status_code == 404
    assert house.secret.call(method, "/notifications/n-2", body).status_code == 404
    assert stored(house).state is RequestState.ACCEPTED


def test_an_edit_replaces_fields_and_takes_away(any_house: House) -> None:
    body = send(send_at=LATER, category="politics", overrides={"fcm": {"body": None}}, ttl=60)
    first = any_house.secret.ok("POST", "/notifications", body)
    changes = {
        "topics": ["sport"],
        "content": {"title": "Postponed"},
        "overrides": {"apns": {"title": None, "body": "Later"}},
        "category": None,
        "priority": "high",
        "send_at": "2026-11-23T09:00:00Z",
    }
    answered = any_house.secret.ok("PATCH", PATH, changes)
    assert (answered["state"], answered["request_id"]) == ("accepted", first["request_id"])
    row = stored(any_house)
    assert row.body == {
        "type": "news",
        "topics": ["sport"],
        "content": {"title": "Postponed"},
        "overrides": {"apns": {"title": None, "body": "Later"}},
        "priority": "high",
        "send_at": "2026-11-23T09:00:00Z",
        "ttl": 60,
    }
    assert row.due_at == datetime(2026, 11, 23, 9, tzinfo=UTC)
    assert row.expires_at == datetime(2026, 11, 23, 9, 1, tzinfo=UTC)
    again = any_house.secret.ok("POST", "/notifications", body)
    assert again == first | {"duplicate": True}
    events = [item["event"] for item in any_house.secret.ok("GET", f"{first['status_url']}/audit")["items"]]
    assert events == ["request.accepted", "request.edited"]


def test_a_send_that_is_not_postponed_any_more_is_due_and_keeps_its_ttl(house: House) -> None:
    house.secret.ok("POST", "/notifications", send(send_at="2026-11-30T09:00:00Z", ttl=60))
    house.clock.advance(days=2)
    house.secret.ok("PATCH", PATH, {"send_at": None})
    assert stored(house).due_at == house.clock()
    assert stored(house).expires_at == house.clock() + timedelta(seconds=60)


def test_the_ttl_counts_from_the_same_moment_as_before(house: House) -> None:
    house.secret.ok("POST", "/notifications", send())
    accepted_at = house.clock()
    house.clock.advance(hours=1)
    house.secret.ok("PATCH", PATH, {"ttl": 7200})
    assert (stored(house).due_at, stored(house).expires_at) == (accepted_at, accepted_at + timedelta(hours=2))


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"id": "n-2"}, {"id"}),
        ({"type": None}, {"type"}),
        ({"users": ["u-1"]}, {"users"}),
        ({"everyone": True}, {"everyone"}),
        ({"topics": None}, {"topics"}),
        ({"condition": "'uk' in topics"}, {"condition"}),
        ({"content": None}, {"content"}),
        ({"content": {"title": None}}, {"content"}),
        ({"content": {"data": {"aps": "x"}}}, {"content.data.aps"}),
        ({"overrides": {"fcm": {"title": None, "body": None}}}, {"overrides.fcm"}),
        ({"content": {"title": "x"}, "unknown": 1}, {"unknown"}),
        ({"send_at_local": "2026-11-23T09:00"}, {"send_at_local"}),
        ({"send_at": "2028-11-23T09:00:00Z"}, {"send_at"}),
        ({"priority": None}, {"priority"}),
    ],
)
def test_an_edit_is_validated_as_a_whole(house: House, changes: dict[str, Any], fields: set[str]) -> None:
    house.secret.ok("POST", "/notifications", send(send_at=LATER))
    before = stored(house)
    answered = house.secret.call("PATCH", PATH, changes)
    assert (answered.status_code, fields_of(answered)) == (422, fields), answered.text
    assert stored(house) == before
