"""The suppression list as its tenant sees it."""

from tests.ingest_api.conftest import House, fields_of


def test_an_address_goes_onto_the_list_and_off_it(any_house: House) -> None:
    api = any_house.secret
    mail = api.ok("POST", "/suppressions", {"channel": "email", "address": "Ada@Example.com", "detail": "asked"})
    assert (mail["address"], mail["reason"], mail["detail"]) == ("ada@example.com", "manual", "asked")
    any_house.clock.advance(seconds=1)
    phone = api.ok("POST", "/suppressions", {"channel": "sms", "address": "+447700900123"})
    again = api.ok("POST", "/suppressions", {"channel": "sms", "address": "+447700900123"})
    assert again == phone
    assert api.ok("GET", "/suppressions") == {"items": [phone, mail], "next_cursor": None}
    assert api.ok("GET", "/suppressions?channel=email&reason=manual")["items"] == [mail]
    assert api.ok("GET", "/suppressions?address=ADA@example.com")["items"] == [mail]
    assert api.ok("GET", "/suppressions?reason=complaint")["items"] == []
    first = api.ok("GET", "/suppressions?limit=1")
    assert api.ok("GET", f"/suppressions?limit=1&cursor={first['next_cursor']}")["items"] == [mail]
    assert any_house.stranger.ok("GET", "/suppressions")["items"] == []
    assert any_house.stranger.call("DELETE", "/suppressions/email/ada@example.com").status_code == 404
    assert [api.call("DELETE", "/suppressions/email/ADA@example.com").status_code for _ in range(2)] == [204, 404]
    assert api.ok("GET", "/suppressions")["items"] == [phone]
    events = [entry["event"] for entry in api.ok("GET", "/audit")["items"]]
    assert events.count("suppression.added") == 2 and events.count("suppression.removed") == 1


def test_what_cannot_be_is_named(house: House) -> None:
    api = house.secret
    wrong = [{"channel": "email", "address": "+447700900123"}, {"channel": "sms", "address": "ada@example.com"}]
    for body in [*wrong, {"channel": "email", "address": "a@b c"}]:
        assert fields_of(api.call("POST", "/suppressions", body)) == {"address"}
    refused = api.call("POST", "/suppressions", {"channel": "fcm", "address": "a@b"})
    assert refused.json["error"]["details"] == [{"field": "channel", "message": "Input should be 'email' or 'sms'"}]
    assert fields_of(api.call("GET", "/suppressions?cursor=x")) == {"cursor"}
