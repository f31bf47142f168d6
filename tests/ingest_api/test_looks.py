"""Looks: stored for the tenant that told of them, shown as they are stored."""

from tests.ingest_api.conftest import House, fields_of

LOOK = {"owner_id": "ann", "image_url": "https://example.com/look.jpg", "deep_link": "app://looks/1"}


def test_a_look_is_told_of_shown_and_forgotten(any_house: House) -> None:
    api, stranger = any_house.secret, any_house.stranger
    assert api.call("GET", "/looks/1").status_code == 404
    shown = api.ok("PUT", "/looks/1", LOOK)
    assert shown.items() >= {**LOOK, "look_id": "1"}.items()
    any_house.clock.advance(seconds=5)
    assert api.ok("PUT", "/looks/1", LOOK) == api.ok("GET", "/looks/1") == shown
    changed = api.ok("PUT", "/looks/1", {"owner_id": "bob"})
    assert (changed["owner_id"], changed["image_url"], changed["deep_link"]) == ("bob", None, None)
    assert changed["updated_at"] > shown["updated_at"]
    assert [stranger.call(method, "/looks/1").status_code for method in ("GET", "DELETE")] == [404, 404]
    assert [api.call("DELETE", "/looks/1").status_code for _ in range(2)] == [204, 404]
    told = api.ok("GET", "/audit")["items"]
    assert [row["event"] for row in told if row["event"].startswith("look.")] in (
        ["look.set", "look.set", "look.removed"],
        ["look.removed", "look.set", "look.set"],
    )


def test_what_cannot_be_is_named(house: House) -> None:
    api = house.secret
    for body, field in (
        ({}, "owner_id"),
        ({**LOOK, "image_url": "ftp://example.com/"}, "image_url"),
        ({**LOOK, "deep_link": "app://with space"}, "deep_link"),
        ({**LOOK, "owner": "ann"}, "owner"),
    ):
        assert fields_of(api.call("PUT", "/looks/1", body)) == {field}
    assert fields_of(api.call("PUT", "/looks/" + "x" * 257, LOOK)) == {"look_id"}


def test_likes_over_http(any_house: House) -> None:
    api, like = any_house.secret, {"look_id": "1", "customer_id": "bob"}
    assert api.call("POST", "/likes", like).status_code == 404
    api.ok("PUT", "/looks/1", LOOK)
    assert any_house.stranger.call("POST", "/likes", like).status_code == 404
    answer = api.call("POST", "/likes", like)
    first = answer.json
    assert answer.status_code == 202 and first is not None and first["duplicate"] is False
    assert first["notification_id"] == f"{first['event_id']}:likes"
    repeated = api.call("POST", "/likes", like)
    assert (repeated.status_code, repeated.json) == (202, {**first, "duplicate": True})
    own = api.ok("POST", "/likes", {"look_id": "1", "customer_id": "ann"})
    assert (own["notification_id"], own["event_id"]) == (None, None)
    (item,) = api.ok("GET", "/inbox/ann")["items"]
    assert item["notification_id"] == first["notification_id"]
    assert any_house.stranger.call("DELETE", "/looks/1/likes/bob").status_code == 404
    assert [api.call("DELETE", "/looks/1/likes/bob").status_code for _ in range(2)] == [204, 404]
    assert fields_of(api.call("POST", "/likes", {"look_id": "a/b"})) == {"look_id", "customer_id"}


def test_the_built_in_route_is_listed_and_replaced(house: House) -> None:
    (built_in,) = house.secret.ok("GET", "/routes")["items"]
    assert (built_in["name"], built_in["built_in"], built_in["updated_at"]) == ("likes", True, None)
    assert house.secret.ok("GET", "/routes/likes") == built_in
    assert house.secret.call("DELETE", "/routes/likes").status_code == 404
    own = house.secret.ok("PUT", "/routes/likes", built_in["rule"])
    assert (own["built_in"], own["inherited"]) == (False, False)
    organization = house.api(house.mine.organizations[0].secret_key)
    assert organization.ok("GET", "/routes/likes")["inherited"]
    assert house.secret.call("DELETE", "/routes/likes").status_code == 204
    assert house.secret.ok("GET", "/routes/likes") == built_in
