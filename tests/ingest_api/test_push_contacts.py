"""Contacts over HTTP: what pages do with them, and what their domain's owner sees."""

import secrets
from datetime import timedelta
from typing import Any

import pytest
from werkzeug.test import TestResponse

from ingest_api.push_contacts.models import ContactShown
from notify_pipeline.core.ledger import contacts, devices
from notify_pipeline.core.ledger.devices import TokenDrop
from notify_pipeline.core.token_desk import TokenState
from notify_pipeline.core.vocabulary import Platform
from tests.ingest_api.conftest import House, fields_of, registration
from tests.ingest_api.test_domains import OFF, ON, PAGE, code, cors
from tests.ingest_api.test_webpush import subscription

SITE = "example.com"
EVIL = "https://evil.example"


@pytest.fixture
def site(any_house: House) -> House:
    """A house with a domain, on both stores."""
    any_house.secret.ok("PUT", f"/domains/{SITE}", ON)
    return any_house


@pytest.fixture
def quick_site(house: House) -> House:
    """The same on SQLite, where the store makes no difference."""
    house.secret.ok("PUT", f"/domains/{SITE}", ON)
    return house


def call(house: House, method: str, path: str, body: Any = None, origin: str | None = PAGE) -> TestResponse:
    """Call as a page does."""
    return house.anonymous.call(method, path, body, headers={} if origin is None else {"Origin": origin})


def post(house: House, origin: str | None = PAGE, **said: Any) -> TestResponse:
    return call(house, "POST", "/push-contacts", {"domain": SITE} | said, origin)


def listed(house: House, query: str = "") -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = house.secret.ok("GET", f"/push-contacts?domain={SITE}{query}")["items"]
    for item in items:
        ContactShown.model_validate(item)
    return items


def test_a_page_s_browser_is_a_contact_through_all_its_life(site: House) -> None:
    made = post(site, deviceToken="fcm:1", email="Ada@Example.com")
    assert (made.status_code, made.json) == (201, {"deviceToken": "fcm:1", "domain": SITE})
    site.clock.advance(minutes=1)
    for path, body in (("email", {"email": "bob@example.com"}), ("visitor-guid", {"visitorGuid": "v-1"})):
        assert call(site, "PUT", f"/push-contacts/fcm:1/{path}", body).status_code == 204
    at, later = "2026-11-21T06:33:59.123456Z", "2026-11-21T06:34:59.123456Z"
    assert listed(site) == [
        {
            "deviceToken": "fcm:1",
            "token": "fcm:1",
            "domain": SITE,
            "platform": "web",
            "email": "bob@example.com",
            "visitorGuid": "v-1",
            "isActive": True,
            "createdAt": at,
            "modifiedAt": later,
            "registeredAt": at,
            "deletedAt": None,
            "deleteReason": None,
            "deletedByMessageId": None,
        }
    ]
    moved = call(site, "PUT", "/push-contacts/fcm:1/subscription", {"subscription": subscription()})
    assert moved.status_code == 204
    [contact] = listed(site)
    assert (contact["platform"], contact["deviceToken"], contact["email"]) == ("webpush", "fcm:1", "bob@example.com")
    assert contact["token"].startswith("wp.") and contact["createdAt"] == at
    assert site.secret.ok("GET", f"/devices/{contact['token']}")["platform"] == "webpush"
    assert site.secret.call("GET", "/devices/fcm:1").status_code == 404, "it gets one push, not two"
    again = post(site, deviceToken="fcm:1")
    assert again.json == {"deviceToken": "fcm:1", "domain": SITE}
    site.clock.advance(minutes=1)
    for _ in range(2):
        assert call(site, "DELETE", "/push-contacts/fcm:1").status_code == 204
    [gone] = listed(site)
    assert (gone["isActive"], gone["deleteReason"], gone["deletedAt"]) == (
        False,
        "unsubscribed",
        "2026-11-21T06:35:59.123456Z",
    )
    assert call(site, "PUT", "/push-contacts/fcm:1/email", {"email": None}).status_code == 404
    assert post(site, deviceToken="fcm:1").status_code == 201
    assert [(each["token"], each["isActive"], each["email"]) for each in listed(site)] == [
        ("fcm:1", True, "bob@example.com")
    ]
    assert site.secret.ok("GET", f"/domains/{SITE}/stats") == {
        "name": SITE,
        "contacts": {"active": 1, "inactive": 0, "total": 1},
    }


def test_a_subscription_alone_is_enough(site: House) -> None:
    made = post(site, subscription=subscription(), visitorGuid="v-1")
    assert made.status_code == 201 and made.json is not None
    token = made.json["deviceToken"]
    assert token.startswith("wp.")
    assert post(site, deviceToken=token).json == made.json
    other = subscription(endpoint="https://updates.push.example/other")
    assert call(site, "PUT", f"/push-contacts/{token}/subscription", {"subscription": other}).status_code == 204
    assert call(site, "PUT", f"/push-contacts/{token}/email", {"email": "a@example.com"}).status_code == 204
    # Its page goes on by the name that it knows.
    assert post(site, subscription=other).json == made.json
    [contact] = listed(site)
    assert (contact["deviceToken"], contact["visitorGuid"], contact["email"]) == (token, "v-1", "a@example.com")
    assert contact["token"] not in (token, "")


def test_visitors_are_known_by_whether_they_have_a_contact(site: House) -> None:
    post(site, deviceToken="a", visitorGuid="v-1")
    path = f"/push-contacts/{SITE}/visitors/"
    assert call(site, "GET", path + "v-1").json == {"exists": True}
    assert call(site, "GET", path + "v-2").json == {"exists": False}
    call(site, "DELETE", "/push-contacts/a")
    assert call(site, "GET", path + "v-1").json == {"exists": False}
    assert code(call(site, "GET", "/push-contacts/unknown.example/visitors/v-1", origin=None)) == "unknown_domain"


def test_evidence_of_a_provider_s_word_is_shown(site: House) -> None:
    post(site, deviceToken="a")
    site.clock.advance(minutes=1)
    drop = TokenDrop("a", "UNREGISTERED", site.clock() - timedelta(seconds=1), "message-7")
    devices.drop(site.services.ledger, site.mine.tenant, [drop], site.clock())
    [gone] = listed(site, "&isActive=false")
    assert (gone["deleteReason"], gone["deletedByMessageId"]) == ("UNREGISTERED", "message-7")
    assert gone["deletedAt"] == gone["modifiedAt"] == "2026-11-21T06:34:59.123456Z"
    assert site.secret.ok("GET", f"/domains/{SITE}/stats")["contacts"] == {"active": 0, "inactive": 1, "total": 1}


@pytest.mark.parametrize("origin", [PAGE, "https://www.example.com", None])
def test_pages_of_the_domain_and_callers_without_an_origin_are_let_in(quick_site: House, origin: str | None) -> None:
    answers = [
        post(quick_site, origin, deviceToken="a"),
        call(quick_site, "PUT", "/push-contacts/a/email", {"email": "a@example.com"}, origin),
        call(quick_site, "PUT", "/push-contacts/a/visitor-guid", {"visitorGuid": "v"}, origin),
        call(quick_site, "PUT", "/push-contacts/a/subscription", {"subscription": subscription()}, origin),
        call(quick_site, "GET", f"/push-contacts/{SITE}/visitors/v", None, origin),
        call(quick_site, "DELETE", "/push-contacts/a", None, origin),
    ]
    assert [each.status_code for each in answers] == [201, 204, 204, 204, 200, 204]
    for answered in answers:
        assert "Origin" in answered.headers["Vary"]
        assert cors(answered).get("Access-Control-Allow-Origin") == origin
    for path, methods in (
        ("/push-contacts/a", "DELETE"),
        ("/push-contacts/a/email", "PUT"),
        ("/push-contacts", "POST"),
    ):
        asked = call(quick_site, "OPTIONS", path, None, origin)
        assert cors(asked).get("Access-Control-Allow-Methods") == (methods if origin else None)


def test_another_site_s_page_changes_nothing(quick_site: House) -> None:
    post(quick_site, deviceToken="a", email="ada@example.com")
    quick_site.secret.ok("PUT", "/domains/other.example", ON)
    before = listed(quick_site)
    for origin in (EVIL, "https://other.example", "null", "http://example.com"):
        for answered in (
            post(quick_site, origin, deviceToken="a", email="eve@example.com"),
            post(quick_site, origin, deviceToken="b"),
            call(quick_site, "PUT", "/push-contacts/a/email", {"email": "eve@example.com"}, origin),
            call(quick_site, "PUT", "/push-contacts/a/visitor-guid", {"visitorGuid": "v"}, origin),
            call(quick_site, "PUT", "/push-contacts/a/subscription", {"subscription": subscription()}, origin),
            call(quick_site, "DELETE", "/push-contacts/a", None, origin),
            call(quick_site, "GET", f"/push-contacts/{SITE}/visitors/v", None, origin),
        ):
            assert (answered.status_code, code(answered)) == (403, "origin_not_allowed")
            assert cors(answered) == {}
    assert listed(quick_site) == before


def test_a_domain_that_nobody_has_or_that_is_off_takes_nobody(quick_site: House) -> None:
    post(quick_site, deviceToken="a")
    unknown = call(quick_site, "POST", "/push-contacts", {"domain": "unknown.example", "deviceToken": "b"})
    assert (unknown.status_code, code(unknown), fields_of(unknown)) == (404, "unknown_domain", {"domain"})
    quick_site.secret.ok("PUT", f"/domains/{SITE}", OFF)
    for answered in (
        post(quick_site, deviceToken="b"),
        call(quick_site, "PUT", "/push-contacts/a/email", {"email": "a@example.com"}),
    ):
        assert (answered.status_code, code(answered)) == (409, "domain_disabled")
    assert [each["deviceToken"] for each in listed(quick_site)] == ["a"]
    assert call(quick_site, "DELETE", "/push-contacts/a").status_code == 204, "whoever wants to leave may"


class Desk:
    """Says of each token what the test has it say, and remembers what it was asked."""

    def __init__(self, said: dict[str, bool | None]) -> None:
        self.said = said
        self.asked: list[tuple[Platform, str]] = []
        self.anew: list[str] = []

    def check(self, platform: Platform, token: str, anew: bool) -> TokenState:
        self.asked.append((platform, token))
        self.anew += [token] if anew else []
        return TokenState(self.said[token], None)

    def close(self) -> None:
        """Nothing is open."""


def test_a_token_that_the_provider_calls_none_is_not_stored(quick_site: House) -> None:
    desk = Desk({"good": True, "bad": False, "unknown": None})
    quick_site.services.__dict__["token_desk"] = desk
    refused = post(quick_site, deviceToken="bad")
    assert (refused.status_code, code(refused), fields_of(refused)) == (400, "invalid_token", {"deviceToken"})
    assert listed(quick_site) == []
    for token in ("good", "unknown"):
        assert post(quick_site, deviceToken=token).status_code == 201
    # A subscription is the address; what its page calls it is nothing that FCM has to know.
    assert post(quick_site, deviceToken="bad", subscription=subscription()).status_code == 201
    # Nor is it when the page says no more than that.
    assert post(quick_site, deviceToken="bad").status_code == 201
    assert desk.asked == [(Platform.WEB, token) for token in ("bad", "good", "unknown")]
    assert post(quick_site, EVIL, deviceToken="good").status_code == 403
    assert len(desk.asked) == 3, "strangers ask the provider nothing"


def test_a_token_that_a_message_found_dead_is_asked_about_anew(quick_site: House) -> None:
    desk = Desk({"a": True, "b": True})
    quick_site.services.__dict__["token_desk"] = desk
    for token in ("a", "b"):
        assert post(quick_site, deviceToken=token).status_code == 201
    (tenant,) = {each.tenant for each in contacts.find(quick_site.services.ledger, "a")}
    now = quick_site.services.clock()
    devices.drop(quick_site.services.ledger, tenant, [TokenDrop("a", "UNREGISTERED", now, "m1")], now)
    desk.said["a"] = False
    assert (post(quick_site, deviceToken="a").status_code, post(quick_site, deviceToken="b").status_code) == (400, 201)
    assert desk.anew == ["a"]
    (gone,) = contacts.find(quick_site.services.ledger, "a")
    assert (gone.is_active, gone.drop_reason, gone.dropped_by) == (False, "UNREGISTERED", "m1")


def test_an_app_s_device_is_not_for_pages(quick_site: House) -> None:
    quick_site.secret.ok("POST", "/devices", registration())
    token = registration()["token"]
    refused = post(quick_site, deviceToken=token)
    assert (refused.status_code, code(refused)) == (400, "not_a_browser")
    for method, path, body in (
        ("PUT", "/email", {"email": "a@example.com"}),
        ("PUT", "/subscription", {"subscription": subscription()}),
        ("DELETE", "", None),
    ):
        assert call(quick_site, method, f"/push-contacts/{token}{path}", body).status_code == 404
    assert quick_site.secret.ok("GET", f"/devices/{token}")["user_id"] == "u-1"


def test_tenants_that_share_a_token_do_not_share_its_contact(quick_site: House) -> None:
    house = quick_site
    house.stranger.ok("PUT", "/domains/other.example", ON)
    post(house, deviceToken="a")
    other = {"domain": "other.example", "deviceToken": "a"}
    assert call(house, "POST", "/push-contacts", other, "https://other.example").status_code == 201
    unclear = call(house, "DELETE", "/push-contacts/a", None, None)
    assert (unclear.status_code, code(unclear)) == (409, "several_contacts")
    set_email = {"email": "ada@example.com"}
    assert call(house, "PUT", "/push-contacts/a/email", set_email, "https://other.example").status_code == 204
    assert listed(house)[0]["email"] is None
    assert house.stranger.ok("GET", "/push-contacts?domain=other.example")["items"][0]["email"] == "ada@example.com"
    assert house.secret.call("DELETE", "/push-contacts/a").status_code == 204, "a key says whose"
    assert [(each["isActive"], each["deleteReason"]) for each in listed(house)] == [(False, "deleted")]
    assert call(house, "DELETE", "/push-contacts/a", None, None).status_code == 204
    assert house.stranger.ok("GET", "/domains/other.example/stats")["contacts"]["active"] == 0


def test_lists_and_counts_are_their_owner_s(quick_site: House) -> None:
    post(quick_site, deviceToken="a")
    organization = quick_site.api(quick_site.mine.organizations[0].secret_key)
    for path in (f"/push-contacts?domain={SITE}", f"/domains/{SITE}/stats"):
        for api in (quick_site.stranger, organization):
            assert code(api.call("GET", path)) == "unknown_domain"
        assert quick_site.publishable.call("GET", path).status_code == 403
        assert quick_site.anonymous.call("GET", path).status_code == 401


def test_contacts_are_listed_in_pages_by_what_is_asked(site: House) -> None:
    # The longest that there are, of a kind that no database could make shorter.
    tokens = [secrets.token_urlsafe(2_000)[:2_000] for _ in range(3)]
    for number, token in enumerate(tokens):
        post(site, deviceToken=token, email="ada@example.com" if number else None)
        site.clock.advance(minutes=1)
    found, cursor = [], ""
    while True:
        page = site.secret.ok("GET", f"/push-contacts?domain={SITE}&limit=1{cursor}")
        found += [each["deviceToken"] for each in page["items"]]
        if page["nextCursor"] is None:
            break
        cursor = f"&cursor={page['nextCursor']}"
    assert found == tokens
    assert [each["deviceToken"] for each in listed(site, "&email=ADA@example.com")] == tokens[1:]
    span = "&modifiedFrom=2026-11-21T06:34:59Z&modifiedUntil=2026-11-21T06:35:59Z"
    assert [each["deviceToken"] for each in listed(site, span)] == tokens[1:2]
    assert len(listed(site, "&modifiedFrom=2026-11-21&modifiedUntil=2026-11-22")) == 3, "dates will do"
    assert listed(site, "&modifiedFrom=2026-11-22") == []
    assert listed(site, "&isActive=false") == []
    assert len(listed(site, "&isActive=true")) == 3


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "deviceToken"),
        ({"deviceToken": "a/b"}, "deviceToken"),
        ({"deviceToken": "x" * 2_001}, "deviceToken"),
        ({"device_token": "a"}, "device_token"),
        ({"deviceToken": "a", "domain": "https://example.com"}, "domain"),
        ({"deviceToken": "a", "email": "ada"}, "email"),
        ({"deviceToken": "a", "visitorGuid": "a/b"}, "visitorGuid"),
        ({"deviceToken": "wp.abc"}, "subscription"),
        ({"subscription": subscription(endpoint="nonsense")}, "subscription.endpoint"),
        ({"subscription": subscription(endpoint="https://push.example/" + "x" * 1_450)}, "subscription.endpoint"),
        ({"subscription": subscription(auth="AAAA")}, "subscription.keys.auth"),
    ],
)
def test_what_makes_no_sense_is_refused(quick_site: House, body: dict[str, Any], field: str) -> None:
    refused = post(quick_site, **body)
    assert refused.status_code == 422
    assert field in fields_of(refused)
    assert cors(refused)["Access-Control-Allow-Origin"] == PAGE, "its page may read why"


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/push-contacts", "domain"),
        (f"/push-contacts?domain={SITE}&cursor=abc", "cursor"),
        (f"/push-contacts?domain={SITE}&isActive=maybe", "isActive"),
        (f"/push-contacts?domain={SITE}&is_active=true", "is_active"),
        (
            f"/push-contacts?domain={SITE}&modifiedFrom=2026-11-22T00:00:00Z&modifiedUntil=2026-11-21T00:00:00Z",
            "modifiedUntil",
        ),
    ],
)
def test_a_list_that_makes_no_sense_is_refused(quick_site: House, path: str, field: str) -> None:
    assert field in fields_of(quick_site.secret.call("GET", path))
