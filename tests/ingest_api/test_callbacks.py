"""Callbacks over HTTP: registering, changing, looking at messages; secrets are shown once."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from notify_pipeline.core.ledger import callbacks
from tests.ingest_api.conftest import House, build, copied, fields_of

URL = "https://example.com/hooks?token=t"
SECRET = "whsec_" + base64.b64encode(bytes(range(24))).decode()


def create(house: House, **body: Any) -> Any:
    return house.secret.ok("POST", "/callbacks", {"url": URL, **body})


@pytest.fixture
def lenient(tmp_path: Path, migrated: Path) -> Iterator[House]:
    """An ingress where callbacks may go anywhere."""
    yield from build(copied(migrated, tmp_path), callback_allow_private=True)


def test_the_secret_is_shown_once(house: House) -> None:
    made = create(house)
    assert len(callbacks.secret_bytes(made["secret"])) == 32
    assert made["active"] is True and len(made["events"]) == 5
    path = f"/callbacks/{made['callback_id']}"
    shown = house.secret.ok("GET", path)
    assert shown == {key: value for key, value in made.items() if key != "secret"}
    assert house.secret.ok("GET", "/callbacks") == {"items": [shown], "next_cursor": None}
    assert create(house, secret=SECRET)["secret"] == SECRET


def test_an_answer_with_a_secret_is_not_cached(house: House) -> None:
    made = house.secret.call("POST", "/callbacks", {"url": URL})
    rotated = house.secret.call("POST", f"/callbacks/{made.json['callback_id']}/rotate", {})  # type: ignore[index]
    assert made.headers["Cache-Control"] == rotated.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("url", "http://example.com/"),
        ("url", "https://127.0.0.1/"),
        ("url", "https://user:x@example.com/"),
        ("url", "https://localhost"),
        ("url", "https://example.com/" + "x" * 2_048),
        ("url", "https://ex ample.com/"),
        ("events", []),
        ("events.0", ["notification.sent"]),
        ("events", ["notification.done", "notification.done"]),
        ("secret", "whsec_" + base64.b64encode(b"x" * 23).decode()),
        ("secret", "whsec_" + base64.b64encode(b"x" * 65).decode()),
        ("secret", "x" * 32),
        ("retries", 3),
    ],
)
def test_what_is_refused_names_its_field(house: House, field: str, value: Any) -> None:
    refused = house.secret.call("POST", "/callbacks", {"url": URL, field.partition(".")[0]: value})
    assert refused.status_code == 422
    assert fields_of(refused) == {field}
    assert house.secret.ok("GET", "/callbacks")["items"] == []


def test_private_urls_are_allowed_where_the_setting_says_so(lenient: House) -> None:
    made = create(lenient, url="http://127.0.0.1:8099/x")
    assert made["url"] == "http://127.0.0.1:8099/x"


def test_changes(house: House) -> None:
    made = create(house)
    path = f"/callbacks/{made['callback_id']}"
    house.clock.advance(seconds=1)
    changed = house.secret.ok("PATCH", path, {"events": ["notification.failed"], "active": False})
    assert changed["events"] == ["notification.failed"] and changed["active"] is False
    assert changed["url"] == URL and changed["updated_at"] > made["updated_at"]
    assert house.secret.ok("GET", path) == changed
    assert (
        house.secret.ok("PATCH", path, {"url": "https://example.org/", "active": True})["url"] == "https://example.org/"
    )
    assert fields_of(house.secret.call("PATCH", path, {})) == {"body"}
    assert fields_of(house.secret.call("PATCH", path, {"url": "https://10.0.0.1/"})) == {"url"}
    assert house.secret.call("DELETE", path).status_code == 204
    assert house.secret.call("DELETE", path).status_code == 404
    assert house.secret.call("GET", path).status_code == 404


def test_rotation_keeps_the_old_secret_for_a_while(house: House) -> None:
    made = create(house)
    path = f"/callbacks/{made['callback_id']}/rotate"
    rotated = house.secret.ok("POST", path, {"overlap_s": 60})
    assert rotated["secret"] != made["secret"]
    assert rotated["old_secret_until"] == "2026-11-21T06:34:59.123456Z"
    assert house.secret.ok("POST", path, {"secret": SECRET})["secret"] == SECRET
    assert fields_of(house.secret.call("POST", path, {"overlap_s": 604_801})) == {"overlap_s"}


def test_too_many(house: House) -> None:
    for _ in range(callbacks.MAX_CALLBACKS):
        create(house)
    refused = house.secret.call("POST", "/callbacks", {"url": URL})
    assert refused.status_code == 409
    assert refused.json is not None and refused.json["error"]["code"] == "too_many_callbacks"


def test_messages_are_paged_newest_first_and_sent_again(any_house: House) -> None:
    house = any_house
    path = f"/callbacks/{create(house)['callback_id']}"
    sent = [house.secret.ok("POST", f"{path}/test") for _ in range(5)]
    assert sent[0]["payload"]["type"] == "callback.test" and sent[0]["state"] == "waiting"
    found, cursor = [], ""
    while cursor is not None:
        page = house.secret.ok("GET", f"{path}/messages?limit=2&state=waiting{cursor and f'&cursor={cursor}'}")
        found += page["items"]
        cursor = page["next_cursor"]
    assert found == sent[::-1]
    assert house.secret.ok("GET", f"{path}/messages?state=failed")["items"] == []
    house.secret.ok("PATCH", path, {"active": False})
    retry = f"{path}/messages/{sent[2]['message_id']}/retry"
    for refused in (house.secret.call("POST", retry), house.secret.call("POST", f"{path}/test")):
        assert refused.status_code == 409
    assert len(house.secret.ok("GET", f"{path}/messages?state=failed")["items"]) == 5
    house.secret.ok("PATCH", path, {"active": True})
    assert house.secret.call("POST", retry).status_code == 202
    assert [each["message_id"] for each in house.secret.ok("GET", f"{path}/messages?state=waiting")["items"]] == [
        sent[2]["message_id"]
    ]
    assert house.secret.call("POST", f"{path}/messages/{'0' * 32}/retry").status_code == 404


def test_an_organizations_callback_is_not_its_products(house: House) -> None:
    branch = house.api(house.mine.organizations[0].secret_key)
    path = f"/callbacks/{branch.ok('POST', '/callbacks', {'url': URL})['callback_id']}"
    assert house.secret.call("GET", path).status_code == 404
    assert house.secret.ok("GET", "/callbacks")["items"] == []
