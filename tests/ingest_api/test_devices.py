"""Registering devices."""

import secrets
from typing import Any

import pytest

from ingest_api.devices.models import DeviceShown
from tests.ingest_api.conftest import House, registration


def test_a_registration_is_shown_as_it_is_stored(any_house: House) -> None:
    body = registration(app_version="7.1", locale="en-GB", timezone="Europe/London", topics=["b", "a/b", "b"])
    stored = any_house.publishable.ok("POST", "/devices", body)
    assert stored == {
        "token": body["token"],
        "platform": "android",
        "user_id": "u-1",
        "topics": ["a/b", "b"],
        "app_version": "7.1",
        "locale": "en-GB",
        "timezone": "Europe/London",
        "created_at": "2026-11-21T06:33:59.123456Z",
        "registered_at": "2026-11-21T06:33:59.123456Z",
        "is_valid": None,
    }
    DeviceShown.model_validate(stored)
    assert any_house.secret.ok("GET", f"/devices/{body['token']}") == stored


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ([], []),
        (["a", "a"], ["a"]),
        (["breaking/uk", "b ad", "", "x" * 201, "\u00e9", "-_.~%/"], ["-_.~%/", "breaking/uk"]),
        (["ok\n", "ok"], ["ok"]),
    ],
)
def test_ill_formed_and_repeated_topics_are_left_out(house: House, given: list[str], kept: list[str]) -> None:
    assert house.publishable.ok("POST", "/devices", registration(topics=given))["topics"] == kept
    assert house.publishable.ok("PUT", "/devices/dGhl:APA91b/topics", {"topics": given})["topics"] == kept


def test_the_longest_token_fits_into_every_ledger(any_house: House) -> None:
    # Of a kind that no database could make shorter.
    token = secrets.token_urlsafe(2_500)[:2_500]
    stored = any_house.publishable.ok("POST", "/devices", registration(token=token))
    assert any_house.publishable.ok("GET", f"/devices/{token}") == stored


def test_registering_again_replaces_everything(house: House) -> None:
    house.publishable.ok("POST", "/devices", registration(locale="en-GB"))
    house.clock.advance(hours=1)
    again = house.publishable.ok("POST", "/devices", {"token": "dGhl:APA91b", "platform": "web"})
    assert (again["user_id"], again["topics"], again["locale"], again["platform"]) == (None, [], None, "web")
    assert again["created_at"] < again["registered_at"]


def test_an_empty_topic_list_keeps_the_device(house: House) -> None:
    house.publishable.ok("POST", "/devices", registration())
    assert house.publishable.ok("PUT", "/devices/dGhl:APA91b/topics", {"topics": []})["topics"] == []
    assert house.publishable.ok("GET", "/devices/dGhl:APA91b")["user_id"] == "u-1"


def test_a_deleted_device_is_gone_until_it_comes_back(house: House) -> None:
    api = house.publishable
    api.ok("POST", "/devices", registration())
    deleted = api.call("DELETE", "/devices/dGhl:APA91b")
    assert (deleted.status_code, deleted.data) == (204, b"")
    assert "Content-Type" not in deleted.headers
    for method, body in (("GET", None), ("DELETE", None)):
        assert api.call(method, "/devices/dGhl:APA91b", body).status_code == 404
    assert api.call("PUT", "/devices/dGhl:APA91b/topics", {"topics": []}).status_code == 404
    api.ok("POST", "/devices", registration())
    assert api.ok("GET", "/devices/dGhl:APA91b")["topics"] == ["breaking/uk"]


@pytest.mark.parametrize(
    ("token", "platform"),
    [("a", "android"), ("a:b-c_d.e", "web"), ("x" * 2_500, "android"), ("0aF" * 20, "ios"), ("f" * 200, "ios")],
)
def test_tokens_of_all_forms_come_back_by_path(house: House, token: str, platform: str) -> None:
    house.publishable.ok("POST", "/devices", registration(token=token, platform=platform))
    quoted = token.replace(":", "%3A")
    assert house.publishable.ok("GET", f"/devices/{quoted}")["token"] == token


@pytest.mark.parametrize("name", ["user_id", "app_version", "locale", "timezone"])
def test_null_is_the_same_as_absent(house: House, name: str) -> None:
    body: dict[str, Any] = registration(**{name: None})
    assert house.publishable.ok("POST", "/devices", body)[name] is None
