"""Subscribing browsers: the key to subscribe with, and registering what came of it."""

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from notify_pipeline.core import vapid
from notify_pipeline.core.push_subscriptions import (
    MAX_ENDPOINT_LENGTH,
    from_base64url,
    is_point,
    subscription_of,
    to_base64url,
)
from tests.channels.webpush.browsers import Browser, point
from tests.ingest_api.conftest import House, build, copied, fields_of

ENDPOINT = "https://updates.push.example/wpush/v2/gAAA"
KEY, AUTH = to_base64url(point(Browser.numbered(0).key)), to_base64url(b"a" * 16)


@pytest.fixture(scope="module")
def strict_house(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Iterator[House]:
    """One whose browsers are real ones."""
    yield from build(copied(migrated, tmp_path_factory.mktemp("strict")), vapid_subject="mailto:ops@example.com")


def subscription(**changes: Any) -> dict[str, Any]:
    keys = {name: changes.pop(name, value) for name, value in (("p256dh", KEY), ("auth", AUTH))}
    return {"endpoint": ENDPOINT, "expirationTime": None, "keys": keys} | changes


def body(**changes: Any) -> dict[str, Any]:
    return {"platform": "webpush", "subscription": subscription(), "user_id": "u-1", "topics": ["a"]} | changes


def test_a_page_gets_the_key_that_messages_are_signed_with(any_house: House) -> None:
    shown = any_house.publishable.ok("GET", "/webpush/key")
    assert set(shown) == {"applicationServerKey"}
    assert is_point(from_base64url(shown["applicationServerKey"]))
    services = any_house.services
    key = vapid.installation_key(services.settings, services.ledger)
    assert shown["applicationServerKey"] == vapid.public_text(key)
    assert any_house.secret.ok("GET", "/webpush/key") == shown


def test_a_subscription_is_registered_by_a_token_made_of_it(any_house: House) -> None:
    stored = any_house.publishable.ok("POST", "/devices", body())
    found = subscription_of(stored["token"])
    assert found is not None
    assert (found.endpoint, found.p256dh, found.auth) == (ENDPOINT, from_base64url(KEY), b"a" * 16)
    assert (stored["platform"], stored["user_id"], stored["topics"]) == ("webpush", "u-1", ["a"])
    path = f"/devices/{stored['token']}"
    assert any_house.secret.ok("GET", path) == stored
    assert any_house.publishable.ok("PUT", f"{path}/topics", {"topics": ["b"]})["topics"] == ["b"]
    assert any_house.publishable.call("DELETE", path).status_code == 204
    # However the browser writes its keys, it is the same registration.
    padded = subscription(p256dh=KEY + "=", auth=AUTH + "==", expirationTime=1.5e12)
    assert any_house.publishable.ok("POST", "/devices", body(subscription=padded))["token"] == stored["token"]


def test_the_longest_endpoint_fits_into_every_ledger(any_house: House) -> None:
    noise = secrets.token_urlsafe(MAX_ENDPOINT_LENGTH)
    endpoint = f"https://push.example/{noise}"[:MAX_ENDPOINT_LENGTH]
    stored = any_house.publishable.ok("POST", "/devices", body(subscription=subscription(endpoint=endpoint)))
    assert any_house.publishable.ok("GET", f"/devices/{stored['token']}") == stored
    longer = body(subscription=subscription(endpoint=endpoint + "x"))
    assert fields_of(any_house.publishable.call("POST", "/devices", longer)) == {"subscription.endpoint"}
    escaped = body(subscription=subscription(endpoint="https://push.example/" + '"' * 1_479))
    assert fields_of(any_house.publishable.call("POST", "/devices", escaped)) == {"subscription.endpoint"}


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (body(subscription=None), "subscription"),
        (body(token="a:b"), "token"),
        ({"platform": "webpush", "token": "a:b"}, "token"),
        ({"platform": "webpush"}, "subscription"),
        ({"platform": "android", "subscription": subscription()}, "subscription"),
        ({"platform": "android", "token": "a:b", "subscription": subscription()}, "subscription"),
        ({"platform": "android"}, "token"),
        (body(subscription=subscription(endpoint="http://push.example/a")), "subscription.endpoint"),
        (body(subscription=subscription(endpoint="https://10.0.0.1/a")), "subscription.endpoint"),
        (body(subscription=subscription(endpoint="https://localhost/a")), "subscription.endpoint"),
        (body(subscription=subscription(endpoint="https://u:p@push.example/a")), "subscription.endpoint"),
        (body(subscription=subscription(endpoint="nothing")), "subscription.endpoint"),
        (body(subscription=subscription(endpoint="")), "subscription.endpoint"),
        (body(subscription=subscription(p256dh=to_base64url(b"\4" + b"\1" * 64))), "subscription.keys.p256dh"),
        (body(subscription=subscription(p256dh="a")), "subscription.keys.p256dh"),
        (body(subscription=subscription(p256dh=AUTH)), "subscription.keys.p256dh"),
        (body(subscription=subscription(auth=to_base64url(b"a" * 15))), "subscription.keys.auth"),
        (body(subscription=subscription(auth="a+b")), "subscription.keys.auth"),
        (body(subscription=subscription(auth=1)), "subscription.keys.auth"),
        (body(subscription=subscription(more=1)), "subscription.more"),
        (body(subscription={"endpoint": ENDPOINT}), "subscription.keys"),
    ],
)
def test_what_is_wrong_is_named(strict_house: House, wrong: dict[str, Any], field: str) -> None:
    answer = strict_house.publishable.call("POST", "/devices", wrong)
    assert answer.status_code == 422
    assert fields_of(answer) == {field}
    assert AUTH not in answer.text, "a secret is not repeated"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("updates.push.example", 201),
        ("PUSH.example:443", 201),
        ("evilpush.example", 422),
        ("push.example.evil.example", 422),
        ("push.example.", 422),
    ],
)
def test_only_push_services_that_are_known_are_taken(house: House, host: str, status: int) -> None:
    house.services.settings = house.services.settings.model_copy(update={"webpush_services": ("push.example",)})
    answered = house.secret.call("POST", "/devices", body(subscription=subscription(endpoint=f"https://{host}/x")))
    assert answered.status_code == status
    if status == 422:
        assert fields_of(answered) == {"subscription.endpoint"}


def test_beside_a_sandbox_a_browser_may_be_private(house: House) -> None:
    local = subscription(endpoint="http://127.0.0.1:8090/webpush/push/x")
    assert house.publishable.ok("POST", "/devices", body(subscription=local))["platform"] == "webpush"
