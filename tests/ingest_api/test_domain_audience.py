"""Sends to a domain's contacts by the general routes: whose domain, in which state, and what is stored of them."""

from typing import Any

import pytest
from sqlalchemy import select

from notify_pipeline.core.ledger import requests
from notify_pipeline.core.ledger.tables import REQUESTS
from tests.ingest_api.conftest import House, fields_of, send

PATH = "/notifications/n-1"
TO_SITE = send(topics=..., domain="example.com")
LATER = "2026-11-30T09:00:00Z"


def put(house: House, name: str, enabled: bool = True, **more: Any) -> None:
    house.secret.ok("PUT", f"/domains/{name}", {"isPushFeatureEnabled": enabled, **more})


def stored(house: House) -> tuple[dict[str, Any], str | None]:
    """Return a send's body, and the domain that it is listed under."""
    row = requests.get_by_notification(house.services.ledger, house.mine.tenant, "n-1")
    assert row is not None
    with house.services.ledger.read() as conn:
        query = select(REQUESTS.c.domain).where(REQUESTS.c.request_id == row.request_id)
        return dict(row.body), conn.execute(query).scalar_one()


def test_a_send_to_a_domain_is_stored_under_its_one_name_with_its_icon(any_house: House) -> None:
    house, icon = any_house, "https://example.com/icon.png"
    put(house, "example.com", iconUrl=icon)
    first = house.secret.ok("POST", "/notifications", send(topics=..., domain="Example.COM"))
    body, domain = stored(house)
    assert (body["domain"], domain, body["content"]["icon_url"]) == ("example.com", "example.com", icon)
    # A repetition finds it, whatever became of the domain; another body does not.
    put(house, "example.com", enabled=False, iconUrl=None)
    assert house.secret.ok("POST", "/notifications", TO_SITE) == first | {"duplicate": True}
    other = house.secret.call("POST", "/notifications", TO_SITE | {"type": "other"})
    assert (other.status_code, fields_of(other)) == (409, {"id"})


def test_an_icon_of_its_own_stays(house: House) -> None:
    put(house, "example.com", iconUrl="https://example.com/icon.png")
    own = {"title": "T", "icon_url": "https://example.com/own.png"}
    house.secret.ok("POST", "/notifications", TO_SITE | {"content": own})
    assert stored(house)[0]["content"] == own


@pytest.mark.parametrize(
    ("name", "why"), [("unknown.example", "unknown"), ("theirs.example", "unknown"), ("off.example", "off")]
)
def test_a_domain_that_is_not_the_tenants_or_is_off_is_refused(house: House, name: str, why: str) -> None:
    put(house, "off.example", enabled=False)
    house.stranger.ok("PUT", "/domains/theirs.example", {"isPushFeatureEnabled": True})
    refused = house.secret.call("POST", "/notifications", send(topics=..., domain=name))
    assert (refused.status_code, fields_of(refused)) == (422, {"domain"})
    assert why in refused.text
    bulk = house.secret.ok("POST", "/notifications/bulk", {"notifications": [send(topics=..., domain=name), send()]})
    assert [each["status"] for each in bulk["results"]] == [422, 202]


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"topics": ["a"]}, {"domain"}),
        ({"domain": "no host"}, {"domain"}),
        ({"condition": "'a' in topics"}, {"condition"}),
        ({"visitors": [{"visitor_guid": "v"}]}, {"visitors"}),
        ({"device_fields": {}}, {"device_fields"}),
        ({"channels": ["inbox"]}, {"channels"}),
    ],
)
def test_what_contradicts_a_domain_is_named(house: House, changes: dict[str, Any], fields: set[str]) -> None:
    put(house, "example.com")
    refused = house.secret.call("POST", "/notifications", TO_SITE | changes)
    assert (refused.status_code, fields_of(refused)) == (422, fields), refused.text


def test_a_waiting_send_moves_to_another_domain_of_the_tenants(any_house: House) -> None:
    house = any_house
    put(house, "example.com")
    put(house, "example.org")
    put(house, "off.example", enabled=False)
    house.secret.ok("POST", "/notifications", TO_SITE | {"send_at": LATER})
    for changes, field in (({"domain": "off.example"}, "domain"), ({"topics": ["a"]}, "topics")):
        refused = house.secret.call("PATCH", PATH, changes)
        assert (refused.status_code, fields_of(refused)) == (422, {field})
    house.secret.ok("PATCH", PATH, {"domain": "example.org", "content": {"title": "New"}})
    body, domain = stored(house)
    assert (body["domain"], domain, body["content"]["title"]) == ("example.org", "example.org", "New")


def test_a_template_is_filled_for_a_domain_as_for_others(house: House) -> None:
    put(house, "example.com", iconUrl="https://example.com/icon.png")
    house.secret.ok("PUT", "/templates/welcome", {"content": {"title": "Hello {{ name }}"}})
    template = {"name": "welcome", "fields": {"name": "Ann"}}
    house.secret.ok("POST", "/notifications", send(topics=..., domain="example.com", content=..., template=template))
    assert stored(house)[0]["content"] == {"title": "Hello Ann", "icon_url": "https://example.com/icon.png"}


@pytest.mark.parametrize(
    "audience",
    [
        {"domain": "example.com", "visitors": [{"visitor_guid": "v"}]},
        {"domain": "example.com", "devices": ["d"]},
        {"devices": ["d"], "device_fields": {"d": "{}"}},
    ],
)
def test_what_other_routes_made_is_not_edited_here(house: House, audience: dict[str, Any]) -> None:
    now = house.clock()
    body = {"type": "news", "content": {"title": "T"}, **audience}
    requests.accept(house.services.ledger, requests.NewRequest(house.mine.tenant, "n-1", body, now, now))
    refused = house.secret.call("PATCH", PATH, {"type": "other"})
    assert (refused.status_code, fields_of(refused)) == (409, {"notification_id"})
    assert stored(house)[0] == body


def test_an_event_and_a_route_name_a_domain(house: House) -> None:
    match, content = {"type": "post.published"}, {"title": "New"}
    event = {"source": "blog", "type": "post.published", "id": "e", "detail": {"site": "Example.org"}}
    named = {"event": event | {"recipients": {"domain": "Example.com"}}, "route": {"match": match, "content": content}}
    found = {"event": event, "route": {"match": match, "content": content, "recipients": {"domain": "detail.site"}}}
    for asked, name in ((named, "example.com"), (found, "example.org")):
        tried = house.secret.ok("POST", "/routes/dry-run", asked)
        assert [each["domain"] for each in tried["routes"][0]["shown"]] == [name]
    both = event | {"recipients": {"domain": "example.com", "users": ["u"]}}
    refused = house.secret.call("POST", "/events", both)
    assert (refused.status_code, fields_of(refused)) == (422, {"recipients.domain"})
    none = event | {"recipients": {"domain": "no host"}}
    assert fields_of(house.secret.call("POST", "/events", none)) == {"recipients.domain"}
