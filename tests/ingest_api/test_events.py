"""Posting events over HTTP: dedup, bulk, what is refused."""

from typing import Any

import pytest
from sqlalchemy import select

from notify_pipeline.core.ledger.event_tables import EVENTS
from notify_pipeline.core.ledger.outbox_tables import OUTBOX
from tests.ingest_api.conftest import House, fields_of


def event(**changes: Any) -> dict[str, Any]:
    """Return the body of a valid event."""
    body = {"source": "shop", "type": "order.paid", "id": "o-1", "detail": {"total": 5}, "recipients": ["u-1"]}
    return {key: value for key, value in (body | changes).items() if value is not ...}


def stored(house: House) -> list[Any]:
    with house.services.ledger.read() as conn:
        return list(conn.execute(select(EVENTS).order_by(EVENTS.c.event_id)).all())


def test_an_event_is_stored_once_with_its_row_for_the_lake(any_house: House) -> None:
    house = any_house
    first = house.secret.call("POST", "/events", event())
    assert first.status_code == 202 and first.json is not None
    event_id = first.json["event_id"]
    assert first.json == {
        "event_id": event_id,
        "source": "shop",
        "id": "o-1",
        "state": "accepted",
        "status_url": f"/events/{event_id}",
        "duplicate": False,
    }
    house.clock.advance(seconds=5)
    again = house.secret.call("POST", "/events", event())
    assert again.status_code == 202 and again.headers["Idempotent-Replayed"] == "true"
    assert again.json == first.json | {"duplicate": True}
    as_object = event(recipients={"users": ["u-1"]})
    assert house.secret.ok("POST", "/events", as_object)["duplicate"], "a list of users is short for the object"
    assert house.secret.ok("POST", "/events", event(id=...), headers={"Idempotency-Key": "o-1"})["duplicate"]
    for other in (event(detail={"total": 6}), event(type="order.lost"), event(recipients=...)):
        refused = house.secret.call("POST", "/events", other)
        assert refused.status_code == 409 and fields_of(refused) == {"id"}
    assert len(stored(house)) == 1
    with house.services.ledger.read() as conn:
        assert conn.execute(select(OUTBOX.c.row_count).where(OUTBOX.c.lake_table == "events")).scalars().all() == [1]


def test_ids_are_of_a_source_and_of_a_tenant(any_house: House) -> None:
    house = any_house
    posted = [
        house.secret.ok("POST", "/events", event()),
        house.secret.ok("POST", "/events", event(source="till")),
        house.stranger.ok("POST", "/events", event()),
        house.secret.ok("POST", "/events", event(id=...)),
        house.secret.ok("POST", "/events", event(id=...)),
    ]
    assert not any(each["duplicate"] for each in posted)
    assert len({each["event_id"] for each in posted}) == 5
    assert posted[3]["id"] == posted[3]["event_id"]


def test_each_of_many_has_its_own_answer(any_house: House) -> None:
    house = any_house
    items = [event(), event(), event(detail={}), event(source=...), event(id=...), event(id="o-2")]
    answers = house.secret.ok("POST", "/events/bulk", {"events": items}, headers={"Idempotency-Key": "k"})["results"]
    assert [each["status"] for each in answers] == [202, 202, 409, 422, 202, 202]
    assert [each.get("duplicate") for each in answers] == [False, True, None, None, False, False]
    assert answers[4]["id"] == "k:4"
    again = house.secret.ok("POST", "/events/bulk", {"events": items}, headers={"Idempotency-Key": "k"})["results"]
    assert [each.get("event_id") for each in again] == [each.get("event_id") for each in answers]
    assert len(stored(house)) == 3


def nested(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"source": ...}, "source"),
        ({"source": "a b"}, "source"),
        ({"type": ""}, "type"),
        ({"id": "a/b"}, "id"),
        ({"detail": [1]}, "detail"),
        ({"detail": {"a": "x" * 65_536}}, "detail"),
        ({"detail": nested(33)}, "detail"),
        ({"recipients": {}}, "recipients"),
        ({"recipients": []}, "recipients.users"),
        ({"recipients": {"users": ["a"], "emails": ["a@example.com"]}}, "recipients.emails"),
        ({"recipients": {"emails": ["nobody"]}}, "recipients.emails.0"),
        ({"recipients": ["u"] * 10_001}, "recipients.users"),
        ({"channels": ["email"]}, "channels"),
    ],
)
def test_what_is_wrong_is_named(house: House, changes: dict[str, Any], field: str) -> None:
    refused = house.secret.call("POST", "/events", event(**changes))
    assert refused.status_code == 422, refused.text
    assert fields_of(refused) == {field}


def test_what_is_just_allowed_is_accepted(house: House) -> None:
    house.secret.ok("POST", "/events", event(id="1", detail=nested(32)))
    house.secret.ok("POST", "/events", event(id="2", detail={"a": "x" * (65_536 - 8)}))
    house.secret.ok("POST", "/events", event(id="3", detail=..., recipients={"phones": ["+44 7700 900123"]}))
    house.secret.ok("POST", "/events", event(id="4", detail=..., recipients={"domain": "Example.com"}))
