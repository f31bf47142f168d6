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


def test_what_cannot_be_is_named(house: House) -> None:
    api = house.secret
    assert fields_of(api.call("PUT", "/users/u-1", {"timezone": "Mars/Olympus"})) == {"timezone"}
    assert fields_of(api.call("PUT", "/users/u-1/quiet-hours", {"from": "24:00"})) == {"from", "until"}
    assert api.call("PUT", "/users/u-1/quiet-hours", {"from": "07:00", "until": "07:00"}).status_code == 422
    assert fields_of(api.call("PUT", "/users/" + "u" * 257, {})) == {"user_id"}
