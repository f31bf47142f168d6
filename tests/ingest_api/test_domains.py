"""Domains over HTTP, and which pages are answered about them."""

from typing import Any

import pytest
from werkzeug.test import TestResponse

from ingest_api.domains.book import DomainBook
from notify_pipeline.core import vapid
from notify_pipeline.core.ledger import domains
from tests.ingest_api.conftest import House, fields_of

ON = {"isPushFeatureEnabled": True}
OFF = {"isPushFeatureEnabled": False}
PAGE = "https://example.com"
ASK = "/domains/example.com/isPushFeatureEnabled"


def ask(house: House, path: str = ASK, origin: str | None = None, method: str = "GET") -> TestResponse:
    """Call as a page of an origin does, or as nobody's."""
    return house.anonymous.call(method, path, headers={} if origin is None else {"Origin": origin})


def cors(answered: TestResponse) -> dict[str, str]:
    """Return the CORS headers of an answer."""
    return {name: value for name, value in answered.headers.items() if name.startswith("Access-Control-")}


def code(answered: TestResponse) -> str:
    assert answered.json is not None
    return str(answered.json["error"]["code"])


def test_a_domain_is_named_changed_and_shown(any_house: House) -> None:
    house = any_house
    body = ON | {
        "iconUrl": "https://example.com/i.png",
        "allowedOrigins": ["http://localhost:3000", "https://b.example"],
    }
    made = house.secret.ok("PUT", "/domains/Example.COM", body)
    at = "2026-11-21T06:33:59.123456Z"
    assert made == body | {"name": "example.com", "createdAt": at, "updatedAt": at}
    assert house.secret.ok("GET", "/domains/example.com") == made
    house.clock.advance(hours=1)
    assert house.secret.ok("PUT", "/domains/example.com", body) == made, "the same again changes nothing"
    off = house.secret.ok("PUT", "/domains/example.com", OFF)
    assert off == made | OFF | {"updatedAt": "2026-11-21T07:33:59.123456Z"}, "what is not said stays"
    assert house.secret.ok("PUT", "/domains/example.com", OFF | {"iconUrl": None, "allowedOrigins": []}) == off | {
        "iconUrl": None,
        "allowedOrigins": [],
    }
    assert house.secret.ok("PUT", "/domains/b%C3%BCcher.example", ON)["name"] == "xn--bcher-kva.example"
    assert house.secret.ok("GET", "/domains/xn--bcher-kva.example")["name"] == "xn--bcher-kva.example"


def test_anothers_domain_is_taken_and_not_to_be_seen(any_house: House) -> None:
    house = any_house
    house.secret.ok("PUT", "/domains/example.com", ON)
    for api in (house.stranger, house.api(house.mine.organizations[0].secret_key)):
        taken = api.call("PUT", "/domains/EXAMPLE.com", OFF)
        assert (taken.status_code, code(taken), fields_of(taken)) == (409, "domain_taken", {"name"})
        hidden = api.call("GET", "/domains/example.com")
        assert (hidden.status_code, code(hidden)) == (404, "unknown_domain")
        assert api.ok("GET", "/domains") == {"items": [], "nextCursor": None}
    assert house.secret.ok("GET", "/domains/example.com")["isPushFeatureEnabled"] is True


def test_domains_are_listed_in_pages(house: House) -> None:
    for n in range(5):
        house.secret.ok("PUT", f"/domains/{n}.example", ON)
    page, names = house.secret.ok("GET", "/domains?limit=2"), []
    while True:
        names += [item["name"] for item in page["items"]]
        if page["nextCursor"] is None:
            break
        page = house.secret.ok("GET", f"/domains?limit=2&cursor={page['nextCursor']}")
    assert names == [f"{n}.example" for n in range(5)]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/domains/example.com", {}, "isPushFeatureEnabled"),
        ("/domains/example.com", {"isPushFeatureEnabled": 1}, "isPushFeatureEnabled"),
        ("/domains/example.com", {"is_push_feature_enabled": True}, "is_push_feature_enabled"),
        ("/domains/example.com", ON | {"iconUrl": "http://example.com/i.png"}, "iconUrl"),
        (
            "/domains/example.com",
            ON | {"allowedOrigins": ["https://a.example", "http://a.example"]},
            "allowedOrigins.1",
        ),
        ("/domains/example.com", ON | {"allowedOrigins": ["https://a.example:443"]}, "allowedOrigins.0"),
        ("/domains/example.com", ON | {"allowedOrigins": ["*"]}, "allowedOrigins.0"),
        ("/domains/example.com", ON | {"allowedOrigins": None}, "allowedOrigins"),
        ("/domains/example.com", ON | {"allowedOrigins": ["https://a.example"] * 51}, "allowedOrigins"),
        ("/domains/example.com:8080", ON, "name"),
        ("/domains/example..com", ON, "name"),
    ],
)
def test_what_makes_no_sense_is_refused(house: House, path: str, body: Any, field: str) -> None:
    refused = house.secret.call("PUT", path, body)
    assert refused.status_code == 422
    assert field in fields_of(refused)


def test_pages_ask_whether_the_feature_is_on_and_what_to_subscribe_with(house: House) -> None:
    house.secret.ok("PUT", "/domains/example.com", ON | {"iconUrl": "https://example.com/i.png"})
    assert ask(house).json == ON
    key = vapid.public_text(vapid.installation_key(house.services.settings, house.services.ledger))
    shown = ask(house, "/domains/EXAMPLE.com/push-configuration", PAGE)
    assert shown.json == ON | {
        "domain": "example.com",
        "applicationServerKey": key,
        "iconUrl": "https://example.com/i.png",
    }
    assert house.secret.ok("GET", "/webpush/key") == {"applicationServerKey": key}
    assert shown.headers["Cache-Control"] == "max-age=60"
    house.secret.ok("PUT", "/domains/example.com", OFF)
    assert ask(house, origin=PAGE).json == OFF
    house.deactivate(house.mine.tenant)
    house.services.domains.forget_everywhere()
    assert code(ask(house)) == "unknown_domain", "whoever is out of use has no domains"


def test_a_pages_origin_must_be_the_domains(house: House) -> None:
    house.secret.ok("PUT", "/domains/example.com", ON | {"allowedOrigins": ["http://localhost:3000"]})
    house.stranger.ok("PUT", "/domains/stranger.example", ON)
    for origin in (PAGE, "https://www.example.com", "http://localhost:3000"):
        answered = ask(house, origin=origin)
        assert answered.json == ON
        assert cors(answered) == {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Expose-Headers": "Retry-After",
        }
        assert answered.headers["Vary"] == "Origin"
    for origin in ("http://example.com", "https://shop.example.com", "https://stranger.example", "null", ""):
        refused = ask(house, origin=origin)
        assert (refused.status_code, code(refused), fields_of(refused)) == (403, "origin_not_allowed", {"Origin"})
        assert cors(refused) == {}
        assert refused.headers["Vary"] == "Origin"
        assert refused.headers["Cache-Control"] == "no-store"
    alone = ask(house)
    assert (alone.json, cors(alone), alone.headers["Vary"]) == (ON, {}, "Origin")


def test_pages_of_any_domain_may_read_what_was_wrong(house: House) -> None:
    house.secret.ok("PUT", "/domains/example.com", ON)
    for path, status in (
        ("/domains/nobody.example/isPushFeatureEnabled", 404),
        ("/domains/a..b/isPushFeatureEnabled", 422),
    ):
        answered = ask(house, path, PAGE)
        assert answered.status_code == status
        assert cors(answered)["Access-Control-Allow-Origin"] == PAGE
        assert answered.headers["Cache-Control"] == "no-store"
        assert cors(ask(house, path, "https://nobody.example")) == {}


def test_a_preflight_is_answered_for_pages_of_domains(house: House) -> None:
    house.secret.ok("PUT", "/domains/example.com", OFF)
    answered = ask(house, origin=PAGE, method="OPTIONS")
    assert (answered.status_code, answered.data) == (204, b"")
    assert cors(answered) == {
        "Access-Control-Allow-Origin": PAGE,
        "Access-Control-Allow-Methods": "GET",
        "Access-Control-Allow-Headers": "Content-Type",
        "Access-Control-Max-Age": "7200",
    }
    assert answered.headers["Vary"] == "Origin"
    for origin in ("https://foreign.example", "null", None):
        answered = ask(house, origin=origin, method="OPTIONS")
        assert (answered.status_code, cors(answered), answered.headers["Vary"]) == (204, {}, "Origin")


def test_a_ledger_that_cannot_answer_is_no_fault_of_ours(house: House) -> None:
    house.secret.ok("PUT", "/domains/example.com", ON)
    ask(house)
    house.services.ledger.close()
    house.services.domains.forget_everywhere()
    for path in (ASK, "/domains/a..b/isPushFeatureEnabled"):
        answered = ask(house, path, PAGE)
        assert (answered.status_code, cors(answered)) == (503 if path == ASK else 422, {})
        assert answered.headers["Vary"] == "Origin"
    assert ask(house, origin=PAGE, method="OPTIONS").status_code == 503


def test_other_routes_and_methods_know_no_preflight(house: House) -> None:
    house.secret.ok("PUT", "/domains/example.com", ON)
    assert ask(house, "/domains/example.com", PAGE, "OPTIONS").status_code == 405
    assert ask(house, "/notifications", PAGE, "OPTIONS").status_code == 405
    for method in ("PUT", "POST", "PATCH", "DELETE"):
        answered = ask(house, ASK, PAGE, method)
        assert (answered.status_code, cors(answered)) == (405, {})
    assert cors(house.secret.call("GET", "/domains/example.com", headers={"Origin": PAGE})) == {}


def test_a_change_holds_when_it_is_answered(house: House) -> None:
    """Another process that remembers a domain has forgotten it by then."""
    house.secret.ok("PUT", "/domains/example.com", ON | {"allowedOrigins": ["https://b.example"]})
    ledger = house.services.ledger
    other = DomainBook(lambda name: domains.find(ledger, name), lambda origin: domains.is_origin(ledger, origin))
    assert other.find("example.com") is not None
    assert other.is_origin("https://b.example")
    house.secret.ok("PUT", "/domains/example.com", OFF | {"allowedOrigins": []})
    found = other.find("example.com")
    assert found is not None
    assert not found.is_push_feature_enabled
    assert not other.is_origin("https://b.example")
