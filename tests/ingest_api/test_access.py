"""How a key is presented, looked up and remembered; every route with every kind of key is in ``test_matrix``."""

from typing import Any

import pytest

from ingest_api.keys import Access, KeyRing
from ingest_api.memory import CACHE_S
from notify_pipeline.core.ledger.keys import KeyInfo
from notify_pipeline.core.vocabulary import KeyScope
from tests.ingest_api.conftest import House, fields_of, registration, send


def test_lists_hold_only_ones_own(house: House) -> None:
    house.secret.ok("POST", "/notifications", send())
    mine = house.secret.ok("GET", "/notifications")["items"]
    assert [item["notification_id"] for item in mine] == ["n-1"]
    assert house.stranger.ok("GET", "/notifications")["items"] == []


def test_two_tenants_may_use_the_same_ids(house: House) -> None:
    house.secret.ok("POST", "/devices", registration())
    house.secret.ok("POST", "/notifications", send())
    theirs = house.stranger.ok("POST", "/notifications", send(type="sport"))
    assert theirs["duplicate"] is False
    assert house.secret.ok("GET", "/notifications/n-1")["type"] == "news"
    house.stranger.ok("POST", "/devices", registration(user_id="theirs"))
    house.stranger.ok("DELETE", "/devices/dGhl:APA91b")
    assert house.secret.ok("GET", "/devices/dGhl:APA91b")["user_id"] == "u-1"


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Basic dXNlcjpwYXNz"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer  "},
        {"Authorization": ""},
        {"Authorization": "Bearer " + "x" * 10_000},
        {"Authorization": "Bearer \u00e9"},
        {"X-Api-Key": "nsk_nobody"},
        {"X-Api-Key": ""},
    ],
)
def test_malformed_credentials_are_401(house: House, headers: dict[str, str]) -> None:
    answered = house.anonymous.call("GET", "/notifications", headers=headers)
    assert answered.status_code == 401
    fields_of(answered)


@pytest.mark.parametrize("name", ["Bearer", "bearer", "BEARER", "X-Api-Key"])
def test_the_key_comes_in_either_header(house: House, name: str) -> None:
    key = house.mine.secret_key
    headers = {name: key} if name == "X-Api-Key" else {"Authorization": f"{name} {key}"}
    assert house.anonymous.call("GET", "/notifications", headers=headers).status_code == 200


def test_a_rejected_key_appears_nowhere_in_the_answer(house: House) -> None:
    answered = house.api("nsk_verysecretverysecret").call("GET", "/notifications")
    assert b"verysecret" not in answered.data


class _Request:
    def __init__(self, key: str) -> None:
        self.environ = {"HTTP_AUTHORIZATION": f"Bearer {key}"}


def _key(revoked: bool = False) -> KeyInfo:
    return KeyInfo("k", "t", None, KeyScope.SECRET, active=True, revoked=revoked)


def test_a_revoked_key_is_refused_within_the_memorys_time() -> None:
    state = {"revoked": False, "reads": 0, "now": 100.0}

    def find(_: str) -> KeyInfo:
        state["reads"] += 1
        return _key(bool(state["revoked"]))

    ring = KeyRing(find, monotonic=lambda: float(state["now"]))
    request: Any = _Request("nsk_a")
    ring.check(request, Access.SECRET)
    ring.check(request, Access.SECRET)
    assert state["reads"] == 1
    state["revoked"] = True
    state["now"] += CACHE_S
    with pytest.raises(Exception, match="not valid"):
        ring.check(request, Access.SECRET)
    # ... and from then on at once, because a bad key is never remembered.
    with pytest.raises(Exception, match="not valid"):
        ring.check(request, Access.SECRET)
    assert state["reads"] == 3


def test_unknown_keys_do_not_fill_the_memory() -> None:
    ring = KeyRing(lambda _: None)
    for n in range(100):
        request: Any = _Request(f"nsk_{n}")
        with pytest.raises(Exception, match="not valid"):
            ring.check(request, Access.SECRET)
    assert ring.remembered == 0
