"""Sends: dedup, replay, and what is stored."""

import threading
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from ingest_api.notifications.answers import SendAccepted
from ingest_api.tracking.models import NotificationShown, RequestShown
from notify_pipeline.core.ledger import requests
from notify_pipeline.core.records import Action, Audience, Content
from notify_pipeline.core.vocabulary import Channel, OnAmbiguous, Priority, QuietHours
from notify_pipeline.delivery.notifications import parse
from tests.ingest_api.conftest import House, fields_of, send


def stored(house: House, notification_id: str = "n-1") -> requests.RequestRow:
    row = requests.get_by_notification(house.services.ledger, house.mine.tenant, notification_id)
    assert row is not None
    return row


def test_a_send_is_accepted(any_house: House) -> None:
    answered = any_house.secret.call("POST", "/notifications", send())
    assert answered.status_code == 202
    assert "Idempotent-Replayed" not in answered.headers
    accepted = answered.json
    assert accepted is not None
    SendAccepted.model_validate(accepted, strict=True)
    assert accepted == {
        "request_id": accepted["request_id"],
        "notification_id": "n-1",
        "state": "accepted",
        "status_url": f"/requests/{accepted['request_id']}",
        "duplicate": False,
    }
    shown = any_house.secret.ok("GET", accepted["status_url"])
    RequestShown.model_validate(shown)
    assert (shown["state"], shown["type"], shown["priority"], shown["channels"]) == ("accepted", "news", "normal", {})
    assert shown["accepted_at"] == "2026-11-21T06:33:59.123456Z"
    assert shown["expires_at"] == "2026-11-22T06:33:59.123456Z"


def test_a_replay_gives_the_first_answer(any_house: House) -> None:
    first = any_house.secret.ok("POST", "/notifications", send())
    any_house.clock.advance(hours=5)
    # Another order of keys and other white space are the same body; null is the same as absent.
    body = orjson.dumps({**dict(reversed(send().items())), "category": None}, option=orjson.OPT_INDENT_2)
    again = any_house.secret.call("POST", "/notifications", body)
    assert again.status_code == 202
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json == first | {"duplicate": True}
    assert any_house.secret.ok("GET", first["status_url"])["accepted_at"] == "2026-11-21T06:33:59.123456Z"


def test_phone_numbers_are_stored_and_compared_in_one_spelling(house: House) -> None:
    house.secret.ok("POST", "/notifications", send(topics=..., phones=["+44 (0)7700 900-123"]))
    assert stored(house).body["phones"] == ["+447700900123"]
    assert house.secret.ok("POST", "/notifications", send(topics=..., phones=["+447700900123"]))["duplicate"]


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "sport"},
        {"topics": ["breaking/us"]},
        {"content": {"title": "Parliament dissolved"}},
        {"priority": "high"},
        {"ttl": 60},
        {"dry_run": True},
        {"send_at": "2026-11-22T00:00:00Z"},
    ],
)
def test_another_body_is_a_conflict(house: House, changes: dict[str, Any]) -> None:
    first = house.secret.ok("POST", "/notifications", send())
    answered = house.secret.call("POST", "/notifications", send(**changes))
    assert answered.status_code == 409
    assert answered.json is not None
    assert answered.json["error"]["code"] == "id_reused"
    assert fields_of(answered) == {"id"}
    assert house.secret.ok("POST", "/notifications", send()) == first | {"duplicate": True}


def test_the_same_moment_in_another_zone_is_the_same_body(house: House) -> None:
    first = house.secret.ok("POST", "/notifications", send(send_at="2026-11-22T09:00:00+01:00"))
    again = house.secret.ok("POST", "/notifications", send(send_at="2026-11-22T08:00:00Z"))
    assert again == first | {"duplicate": True}
    assert house.secret.ok("GET", "/notifications/n-1")["send_at"] == "2026-11-22T08:00:00Z"


@pytest.mark.parametrize("header", ["n-1", '"n-1"'])
def test_the_header_is_the_id(house: House, header: str) -> None:
    first = house.secret.ok("POST", "/notifications", send(id=...), headers={"Idempotency-Key": header})
    assert first["notification_id"] == "n-1"
    assert house.secret.ok("POST", "/notifications", send()) == first | {"duplicate": True}
    both = house.secret.ok("POST", "/notifications", send(), headers={"Idempotency-Key": header})
    assert both == first | {"duplicate": True}


def test_header_and_body_must_agree(house: House) -> None:
    answered = house.secret.call("POST", "/notifications", send(), headers={"Idempotency-Key": "n-2"})
    assert (answered.status_code, fields_of(answered)) == (422, {"id"})


@pytest.mark.parametrize("header", ["", "a b", "a/b", "x" * 129, "\u00e9", '""', '"'])
def test_a_bad_header_is_named(house: House, header: str) -> None:
    answered = house.secret.call("POST", "/notifications", send(id=...), headers={"Idempotency-Key": header})
    if header == '"':
        # One quote alone is visible ASCII like any other.
        assert answered.status_code == 202
        return
    assert (answered.status_code, fields_of(answered)) == (422, {"Idempotency-Key"})


def test_without_an_id_one_is_made_and_nothing_is_deduplicated(house: House) -> None:
    first = house.secret.ok("POST", "/notifications", send(id=...))
    second = house.secret.ok("POST", "/notifications", send(id=...))
    assert first["notification_id"] != second["notification_id"]
    assert not second["duplicate"]


@pytest.mark.parametrize("notification_id", ["a%b?c#d&e=f", "!", "a..b", "~`'\"<>[]{}|\\^", "x" * 128, "7f1c:1"])
def test_odd_ids_come_back_by_path(house: House, notification_id: str) -> None:
    house.secret.ok("POST", "/notifications", send(id=notification_id))
    quoted = "".join(f"%{ord(c):02X}" for c in notification_id)
    shown = house.secret.ok("GET", f"/notifications/{quoted}")
    NotificationShown.model_validate(shown)
    assert shown["notification_id"] == notification_id
    assert house.secret.ok("GET", f"/reports/{quoted}")["notification_id"] == notification_id


def test_what_is_stored_becomes_the_notification(house: House) -> None:
    body = {
        "id": "n-1",
        "type": "news",
        "users": ["u-1", "u-2"],
        "content": {
            "title": "Zażółć \U0001f4f0",
            "body": "line\nline",
            "link": "app://article/1",
            "image_url": "https://example.com/1.jpg",
            "data": {"k": "v", "": "no"} | {"k2": ""},
        },
        "channels": ["apns"],
        "category": "politics",
        "priority": "low",
        "importance": "minor",
        "send_at": "2026-11-22T08:00:00.5Z",
        "ttl": 60,
        "collapse_key": "c-1",
        "retry": False,
        "dry_run": True,
        "on_ambiguous": "leave",
    }
    body["content"]["data"].pop("")
    house.secret.ok("POST", "/notifications", body)
    row = stored(house)
    assert "id" not in row.body
    made = parse(row)
    assert made.audience.users == ("u-1", "u-2")
    assert (made.content.title, made.content.data) == ("Zażółć \U0001f4f0", {"k": "v", "k2": ""})
    assert made.channels == frozenset({Channel.APNS})
    assert (made.priority, made.on_ambiguous, made.retry, made.dry_run) == (
        Priority.LOW,
        OnAmbiguous.LEAVE,
        False,
        True,
    )
    assert made.send_at == row.due_at == datetime(2026, 11, 22, 8, 0, 0, 500_000, UTC)
    assert made.expires_at == datetime(2026, 11, 22, 8, 1, 0, 500_000, UTC)


def test_a_send_at_in_the_past_is_due_and_keeps_its_ttl(house: House) -> None:
    house.secret.ok("POST", "/notifications", send(send_at="2020-01-01T00:00:00Z", ttl=60))
    assert stored(house).expires_at == datetime(2026, 11, 21, 6, 34, 59, 123456, UTC)


def test_the_longest_list_of_devices_fits_the_body_limit(house: House) -> None:
    limit = house.services.settings.max_audience_list
    tokens = [f"{n:022d}:APA91b{'x' * 134}" for n in range(limit)]
    assert len(tokens[0]) == 163
    house.secret.ok("POST", "/notifications", send(topics=..., devices=tokens))
    assert len(stored(house).body["devices"]) == limit


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"everyone": True}, {"everyone"}),
        ({"topics": ..., "everyone": False}, {"everyone"}),
        ({"topics": ..., "condition": "'uk' in topics"}, {"topics", "condition"}),
        ({"condition": "'uk' in topics"}, {"condition"}),
        ({"topics": ..., "everyone": True, "condition": "'uk' in topics &&"}, {"condition"}),
        ({"overrides": {"fcm": {"title": None, "body": None}}}, {"overrides.fcm"}),
        ({"overrides": {"fcm": {"data": {"aps": "x"}}}}, {"overrides.fcm.data.aps"}),
        ({"overrides": {"apns": {"body": "[[[shoe_size]]]"}}}, {"overrides.apns.body"}),
        ({"overrides": {"pigeon": {}}}, {"overrides.pigeon"}),
        ({"send_at": "2026-11-22T09:00:00Z", "send_at_local": "2026-11-22T09:00"}, {"send_at_local"}),
        ({"send_at_local": "2026-11-22T09:00Z"}, {"send_at_local"}),
        ({"send_at_local": "2028-11-22T09:00"}, {"send_at_local"}),
        ({"send_at_local": "0001-01-01T00:00"}, {"send_at_local"}),
        ({"send_at_local": "9999-12-31T23:00"}, {"send_at_local"}),
        ({"quiet_hours": "maybe"}, {"quiet_hours"}),
    ],
)
def test_what_contradicts_itself_is_named(house: House, changes: dict[str, Any], fields: set[str]) -> None:
    answered = house.secret.call("POST", "/notifications", send(**changes))
    assert (answered.status_code, fields_of(answered)) == (422, fields), answered.text


def test_a_condition_that_cannot_be_read_says_where(house: House) -> None:
    body = send(topics=..., everyone=True, condition="'a' in topics && 'b' in topics || 'c' in topics")
    answered = house.secret.call("POST", "/notifications", body)
    assert "mixes && and || at character 32" in answered.text


def test_everyone_overrides_and_local_time_become_the_notification(house: House) -> None:
    body = send(
        topics=...,
        everyone=True,
        condition="!'sport' in topics",
        overrides={"apns": {"title": "Short", "body": None, "data": {"k": "v"}}, "fcm": {"image_url": None}},
        send_at_local="2026-11-23T09:00:00",
        quiet_hours="skip",
        ttl=60,
    )
    first = house.secret.ok("POST", "/notifications", body)
    row = stored(house)
    made = parse(row)
    assert made.audience == Audience(everyone=True, condition="!'sport' in topics")
    assert made.content_on(Channel.APNS) == Content(title="Short", data={"k": "v"})
    assert made.content_on(Channel.FCM) == made.content == Content("Parliament dissolved", "An election.")
    assert (made.send_at_local, made.quiet_hours) == (datetime(2026, 11, 23, 9), QuietHours.SKIP)  # noqa: DTZ001
    # It is nine o'clock first at UTC+14, and last at UTC-12.
    assert row.due_at == datetime(2026, 11, 22, 19, tzinfo=UTC)
    assert row.expires_at == datetime(2026, 11, 23, 21, 1, tzinfo=UTC)
    assert house.secret.ok("POST", "/notifications", body) == first | {"duplicate": True}
    without = {**body, "overrides": {"apns": {"title": "Short", "data": {"k": "v"}}}}
    assert house.secret.call("POST", "/notifications", without).status_code == 409


def test_icon_and_actions_become_the_notification(house: House) -> None:
    read = {"action": "read", "title": "Read", "link": "https://example.com/1", "icon_url": "https://example.com/r.png"}
    content = {
        "title": "T",
        "icon_url": "https://example.com/i.png",
        "actions": [read, {"action": "mute", "title": "[[[x]]]"}],
    }
    body = send(content=content, overrides={"webpush": {"actions": None}, "fcm": {"actions": [read]}})
    first = house.secret.ok("POST", "/notifications", body)
    row = stored(house)
    assert row.body["content"] == content, "as it was given"
    made = parse(row)
    button = Action("read", "Read", "https://example.com/1", "https://example.com/r.png")
    assert (made.content.icon_url, made.content.actions) == (
        "https://example.com/i.png",
        (button, Action("mute", "[[[x]]]")),
    )
    assert made.content_on(Channel.WEBPUSH).actions == ()
    assert made.content_on(Channel.FCM).actions == (button,)
    assert house.secret.ok("GET", "/notifications/n-1")["request"]["content"] == content
    same = {**content, "actions": [read, {"action": "mute", "title": "[[[x]]]", "link": None}]}
    assert house.secret.ok("POST", "/notifications", {**body, "content": same}) == first | {"duplicate": True}
    house.secret.ok("POST", "/notifications", send(id="n-2", content={"title": "T", "actions": []}))
    assert stored(house, "n-2").body["content"] == {"title": "T"}, "no actions are none"


def test_of_many_identical_posts_at_once_one_is_accepted(any_house: House) -> None:
    answers: list[Any] = []

    def post(number: int) -> None:
        body = send() if number % 4 else send(type="sport")
        client = any_house.client.application.test_client()
        headers = {"Authorization": f"Bearer {any_house.mine.secret_key}", "Idempotency-Key": "n-1"}
        answers.append((body["type"], client.post("/notifications", json=body, headers=headers)))

    threads = [threading.Thread(target=post, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winner = stored(any_house)
    assert len(answers) == 32
    for kind, answered in answers:
        if kind != winner.type:
            assert (answered.status_code, answered.json["error"]["code"]) == (409, "id_reused")
            continue
        assert (answered.status_code, answered.json["request_id"]) == (202, winner.request_id)
        assert (answered.headers.get("Idempotent-Replayed") == "true") is answered.json["duplicate"]
    assert sum(answered.status_code == 202 and not answered.json["duplicate"] for _, answered in answers) == 1
