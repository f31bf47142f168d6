"""What is told of users: stored for the tenant that told it, shown as it is stored."""

from tests.ingest_api.conftest import House, fields_of


def test_a_user_s_time_zone_and_quiet_hours(any_house: House) -> None:
    api = any_house.secret
    shown = api.ok("PUT", "/users/u-1", {"timezone": "Asia/Tokyo"})
    assert (shown["user_id"], shown["timezone"]) == ("u-1", "Asia/Tokyo")
    night = {"from": "23:00", "until": "08:00", "timezone": None}
    assert api.call("GET", "/users/u-1/quiet-hours").status_code == 404
    assert api.ok("PUT", "/users/u-1/quiet-hours", {"from": "23:00", "until": "08:00"}) == night
    assert api.ok("GET", "/users/u-1/quiet-hours") == night
    assert api.ok("GET", "/users/u-1") == {**shown, "quiet_hours": night}
    assert any_house.stranger.call("GET", "/users/u-1").status_code == 404
    assert api.ok("PUT", "/users/u-1", {})["timezone"] is None
    assert api.ok("GET", "/users/u-1/quiet-hours") == night
    assert any_house.stranger.call("GET", "/users/u-1/quiet-hours").status_code == 404
    assert any_house.stranger.call("DELETE", "/users/u-1/quiet-hours").status_code == 404
    assert [api.call("DELETE", "/users/u-1/quiet-hours").status_code for _ in range(2)] == [204, 404]


PROFILE = {
    "email": "ada@example.com",
    "phone": "+447700900123",
    "locale": "en-GB",
    "timezone": "Europe/London",
    "attributes": {"name": "Ada", "pets": [1, 2.5, None]},
}


def test_a_profile_is_replaced_as_a_whole_or_changed_in_part(any_house: House) -> None:
    api = any_house.secret
    assert api.call("PATCH", "/users/u-1", {"locale": "en"}).status_code == 404
    shown = api.ok("PUT", "/users/u-1", {**PROFILE, "phone": "+44 7700 900-123"})
    assert shown.items() >= {**PROFILE, "user_id": "u-1", "quiet_hours": None}.items()
    assert api.ok("GET", "/users/u-1") == shown
    assert api.ok("PATCH", "/users/u-1", {"phone": None, "attributes": {}}) == {
        **shown,
        "phone": None,
        "attributes": {},
    }
    assert any_house.stranger.call("PATCH", "/users/u-1", {"locale": "en"}).status_code == 404
    replaced = api.ok("PUT", "/users/u-1", {"email": "a@example.com"})
    assert {name: replaced[name] for name in PROFILE} == {**dict.fromkeys(PROFILE), "email": "a@example.com"}


def test_what_cannot_be_is_named(house: House) -> None:
    api = house.secret
    assert fields_of(api.call("PUT", "/users/u-1", {"timezone": "Mars/Olympus"})) == {"timezone"}
    assert fields_of(api.call("PUT", "/users/u-1/quiet-hours", {"from": "24:00"})) == {"from", "until"}
    assert api.call("PUT", "/users/u-1/quiet-hours", {"from": "07:00", "until": "07:00"}).status_code == 422
    for field, wrong in {
        "email": ("ada", "ada@example.com ", "@", "a@b@c"),
        "phone": ("07700900123", "+0447700900123", "+44 7700 9001234567", 447700900123),
        "locale": ("", "en GB", "x" * 36),
        "attributes": ("x", {"x": "y" * 16_384}),
    }.items():
        for value in wrong:
            for method in ("PUT", "PATCH"):
                assert fields_of(api.call(method, "/users/u-1", {field: value})) == {field}, value
    for raw in (
        b'{"attributes": {"x": 1180591620717411303424}}',
        b'{"attributes": {"x": %s}}' % (b"[" * 12 + b"]" * 12),
    ):
        assert fields_of(api.call("PUT", "/users/u-1", raw)) == {"attributes"}
    assert api.call("PUT", "/users/u-1", b'{"attributes": {"x": %s0%s}}' % (b"[" * 11, b"]" * 11)).status_code == 200
    assert fields_of(api.call("PUT", "/users/" + "u" * 257, {})) == {"user_id"}
