"""Inbox routes: what a user's app and a tenant's server see of an inbox and do to it."""

from datetime import timedelta
from typing import Any

from notify_pipeline.core import user_tokens
from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger.inbox import NewItem
from tests.ingest_api.conftest import Api, House, fields_of
from tests.ingest_api.furnished import add_item

CONTENT = {"title": "T", "body": "B", "link": "https://example.com/", "data": {"a": "b"}}


def put(house: House, notification: str, **more: Any) -> str:
    item = NewItem(house.mine.tenant, "u", notification, "news", CONTENT, **more)
    return add_item(house.services.ledger, item, house.clock())


def token(house: House, user: str) -> Api:
    secret, now = house.services.ledger.secret(user_tokens.SECRET), house.clock()
    return house.api(user_tokens.mint(secret, house.mine.tenant, user, now, 60))


def test_an_inbox_is_listed_read_and_emptied(any_house: House) -> None:
    house, app = any_house, token(any_house, "u")
    assert app.ok("GET", "/inbox/u") == {"items": [], "unread_count": 0, "next_cursor": None}
    first, second = put(house, "n1", category="sport"), put(house, "n2")
    assert app.ok("GET", "/inbox/u/unread-count") == {"unread_count": 2}
    listed = app.ok("GET", "/inbox/u")
    assert [item["item_id"] for item in listed["items"]] == sorted((first, second), reverse=True)
    (item,) = app.ok("GET", "/inbox/u?category=sport")["items"]
    assert item == {
        "item_id": first,
        "notification_id": "n1",
        "type": "news",
        "category": "sport",
        "content": {**CONTENT, "image_url": None, "icon_url": None, "actions": []},
        "visible_at": house.clock().isoformat().replace("+00:00", "Z"),
        "expires_at": None,
        "read_at": None,
    }
    done = app.ok("POST", f"/inbox/u/{first}/read")
    assert done == {"item": {**item, "read_at": item["visible_at"]}, "unread_count": 1}
    assert house.secret.ok("POST", f"/inbox/u/{first}/read") == done
    assert [each["item_id"] for each in app.ok("GET", "/inbox/u?unread=true")["items"]] == [second]
    assert app.ok("POST", "/inbox/u/read-all", {}) == {"read": 1, "unread_count": 0}
    assert app.ok("POST", "/inbox/u/read-all", {}) == {"read": 0, "unread_count": 0}
    assert [app.call("DELETE", f"/inbox/u/{first}").status_code for _ in range(2)] == [204, 404]
    assert app.call("POST", f"/inbox/u/{first}/read").status_code == 404
    assert [each["item_id"] for each in app.ok("GET", "/inbox/u")["items"]] == [second]


def test_a_user_s_token_opens_no_other_inbox(house: House) -> None:
    item = put(house, "n1")
    for path in ("/inbox/u", "/inbox/u/unread-count"):
        assert token(house, "v").call("GET", path).status_code == 404
        assert house.publishable.call("GET", path).status_code == 403
        assert house.anonymous.call("GET", path).status_code == 401
    assert token(house, "v").call("DELETE", f"/inbox/u/{item}").status_code == 404
    assert token(house, "v").call("DELETE", f"/inbox/v/{item}").status_code == 404
    assert house.stranger.ok("GET", "/inbox/u")["items"] == []
    assert house.stranger.call("POST", f"/inbox/u/{item}/read").status_code == 404
    assert len(house.secret.ok("GET", "/inbox/u")["items"]) == 1


def test_pages_are_not_moved_by_what_comes_meanwhile(any_house: House) -> None:
    api = any_house.secret
    for number in range(5):
        put(any_house, f"n{number}")
        any_house.clock.now += timedelta(seconds=1)
    found: list[str] = []
    cursor = ""
    while True:
        page = api.ok("GET", f"/inbox/u?limit=2{cursor}")
        found += [item["notification_id"] for item in page["items"]]
        put(any_house, f"later-{len(found)}")
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert found == [f"n{number}" for number in reversed(range(5))]
    through = api.ok("GET", "/inbox/u?limit=1")["items"][0]["item_id"]
    any_house.clock.now += timedelta(seconds=1)
    put(any_house, "unseen")
    assert api.ok("POST", "/inbox/u/read-all", {"through": through})["unread_count"] == 1


def test_an_item_is_shown_in_its_time_only(house: House) -> None:
    at = to_micros(house.clock())
    hidden = put(house, "later", visible_at=at + 1_000_000)
    put(house, "short", expires_at=at + 1_000_000)
    assert house.secret.ok("GET", "/inbox/u/unread-count") == {"unread_count": 1}
    assert house.secret.call("DELETE", f"/inbox/u/{hidden}").status_code == 404
    house.clock.now += timedelta(seconds=1)
    assert [item["item_id"] for item in house.secret.ok("GET", "/inbox/u")["items"]] == [hidden]


def test_what_is_wrong_is_named(house: House) -> None:
    api = house.secret
    assert fields_of(api.call("GET", "/inbox/u?unread=maybe")) == {"unread"}
    assert fields_of(api.call("GET", "/inbox/u?cursor=eA")) == {"cursor"}
    assert fields_of(api.call("GET", "/inbox/u?limit=0")) == {"limit"}
    assert fields_of(api.call("POST", "/inbox/u/nothing/read")) == {"item_id"}
    assert fields_of(api.call("POST", "/inbox/u/read-all", {"through": 1})) == {"through"}
    assert fields_of(api.call("GET", "/inbox/" + "u" * 257)) == {"user_id"}


def test_only_users_have_an_inbox(house: House) -> None:
    api, alone = house.secret, ["inbox"]
    for audience in ({"topics": ["a"]}, {"everyone": True}, {"devices": ["d"]}, {"emails": ["a@example.com"]}):
        body = {"type": "news", "content": {"title": "T"}, **audience}
        assert fields_of(api.call("POST", "/notifications", {**body, "channels": alone})) == {"channels"}
        assert api.call("POST", "/notifications", {**body, "channels": ["fcm", *alone]}).status_code == 202
    users = {"type": "news", "content": {"title": "T"}, "users": ["u"], "channels": alone}
    assert api.call("POST", "/notifications", users).status_code == 202
