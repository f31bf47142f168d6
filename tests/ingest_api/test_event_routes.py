"""Routing rules over HTTP: set, inherited, removed, audited, and refused with the place of what is wrong."""

from typing import Any

import pytest
from sqlalchemy import select

from notify_pipeline.core.ledger import routes
from notify_pipeline.core.ledger.tables import AUDIT
from tests.ingest_api.conftest import Api, House, fields_of

PATH = "/routes/order-shipped"


def rule(**changes: Any) -> dict[str, Any]:
    """Return the body of a valid route."""
    body = {
        "match": {"source": "shop", "type": "order.*", "when": "detail.total > `100`"},
        "content": {"title": "Order {{ detail.order.id }}", "body": "It is on its way."},
        "recipients": "detail.customer_id",
    }
    return {key: value for key, value in (body | changes).items() if value is not ...}


def own_routes(api: Api) -> list[dict[str, Any]]:
    """Return the routes that somebody has set."""
    return [each for each in api.ok("GET", "/routes")["items"] if not each["built_in"]]


def test_a_route_is_set_shown_inherited_and_removed(any_house: House) -> None:
    house, branch = any_house, any_house.api(any_house.mine.organizations[0].secret_key)
    assert house.secret.call("GET", PATH).status_code == 404
    stored = house.secret.ok("PUT", PATH, rule())
    assert stored["name"] == "order-shipped" and stored["inherited"] is False
    assert stored["rule"].items() >= rule().items()
    house.clock.advance(seconds=5)
    assert house.secret.ok("PUT", PATH, rule()) == stored, "the same again changes nothing"
    assert branch.ok("GET", PATH) == stored | {"inherited": True}
    assert own_routes(house.stranger) == []
    assert branch.call("DELETE", PATH).status_code == 404, "it is not the organization's own"
    assert branch.ok("PUT", PATH, rule(enabled=False))["inherited"] is False
    assert [each["inherited"] for each in own_routes(branch)] == [False]
    assert house.secret.call("DELETE", PATH).status_code == 204
    assert branch.call("DELETE", PATH).status_code == 204
    assert branch.call("GET", PATH).status_code == 404
    with house.services.ledger.read() as conn:
        audited = conn.execute(select(AUDIT.c.event).where(AUDIT.c.event.like("route.%"))).scalars().all()
    assert sorted(audited) == ["route.removed"] * 2 + ["route.set"] * 2


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"match": ...}, "match", "required"),
        ({"match": {"source": "a*b"}}, "match.source", ""),
        ({"match": {"when": "detail."}}, "match.when", "at character 8"),
        ({"match": {"when": "nope(detail)"}}, "match.when", "no function nope"),
        ({"recipients": "a b"}, "recipients", "at character 3"),
        ({"recipients": {"emails": "["}}, "recipients.emails", "at character"),
        ({"content": ...}, "content", "required"),
        ({"content": {"title": "{{ a"}}, "content.title", "line 1"),
        ({"content": {"link": "x"}}, "content", "needs"),
        ({"template": {"name": "t"}}, "content", "beside"),
        ({"content": ..., "template": {"name": "t", "fields": {"a": "b ="}}}, "template.fields.a", "at character"),
        ({"collapse_key": "{{"}, "collapse_key", "line 1"),
        ({"channels": ["pigeon"]}, "channels.0", ""),
        ({"ttl": -1}, "ttl", ""),
        ({"enrichment": [{"name": "a", "enricher": "user"}] * 2}, "enrichment.1.name", "another"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(house: House, changes: dict[str, Any], field: str, said: str) -> None:
    refused = house.secret.call("PUT", PATH, rule(**changes))
    assert refused.status_code == 422, refused.text
    assert field in fields_of(refused) and refused.json is not None
    assert any(said in each["message"] for each in refused.json["error"]["details"] if each["field"] == field)


def test_a_tenant_has_a_bounded_number(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "MAX_ROUTES", 2)
    for name in "ab":
        house.secret.ok("PUT", f"/routes/{name}", rule())
    assert house.secret.call("PUT", "/routes/c", rule()).status_code == 409
    house.secret.ok("PUT", "/routes/a", rule(enabled=False))


EVENT = {
    "source": "shop",
    "type": "order.shipped",
    "detail": {"order": {"id": 7}, "total": 120, "customer_id": "ada"},
}


def test_a_dry_run_says_what_each_route_would_do(any_house: House) -> None:
    house = any_house
    house.secret.ok("PUT", "/templates/shipped", {"content": {"title": "{{ order.id }} for {{ user.name }}"}})
    house.secret.ok("PUT", "/routes/a", rule())
    house.secret.ok("PUT", "/routes/b", rule(match={"source": "till"}))
    lookup = [{"name": "user", "enricher": "user", "config": {}}]
    house.secret.ok("PUT", "/routes/c", rule(content=..., template={"name": "shipped"}, enrichment=lookup))
    tried = house.secret.ok("POST", "/routes/dry-run", {"event": EVENT})
    assert tried["state"] == "dead"
    a, b, c = (each for each in tried["routes"] if each["route"] in "abc")
    assert a == {
        "route": "a",
        "matches": True,
        "why": "source and type match, and when holds",
        "enrichment": [],
        "missing": [],
        "fault": None,
        "sends": 1,
        "shown": [
            {
                "type": "order.shipped",
                "users": ["ada"],
                "content": {"title": "Order 7", "body": "It is on its way."},
            }
        ],
    }
    assert (b["matches"], b["why"], b["sends"]) == (False, "source 'shop' is not 'till'", 0)
    assert (c["enrichment"], c["missing"], c["fault"]) == (["user"], ["user.name"], "missing: user.name")
    found = house.secret.ok("POST", "/routes/dry-run", {"event": EVENT, "enrichment": {"user": {"name": "Ada"}}})
    assert found["state"] == "routed"
    (third,) = (each for each in found["routes"] if each["route"] == "c")
    assert third["shown"][0]["content"] == {"title": "7 for Ada"}
    assert house.secret.ok("GET", "/events")["items"] == [] and house.secret.ok("GET", "/notifications")["items"] == []


def test_a_rule_is_tried_before_it_is_stored(house: House) -> None:
    new = rule(per_recipient=True, recipients="detail.followers", content={"title": "Hello {{ recipient }}"})
    event = EVENT | {"detail": {"total": 200, "followers": [f"u{n}" for n in range(30)]}}
    (tried,) = house.secret.ok("POST", "/routes/dry-run", {"event": event, "route": new})["routes"]
    assert (tried["matches"], tried["sends"], len(tried["shown"])) == (True, 30, 10)
    assert tried["shown"][1] == {"type": "order.shipped", "users": ["u1"], "content": {"title": "Hello u1"}}
    quiet = house.secret.ok("POST", "/routes/dry-run", {"event": EVENT | {"type": "x"}, "route": new})
    assert quiet["state"] == "unrouted"
    refused = house.secret.call("POST", "/routes/dry-run", {"event": event, "route": rule(recipients="a b")})
    assert refused.status_code == 422 and fields_of(refused) == {"route.recipients"}


def test_buttons_of_a_route_s_sends_are_made_of_the_event_and_checked(house: House) -> None:
    track = {"action": "track", "title": "Track", "link": "{{ detail.url }}"}
    new = rule(content={"title": "T", "icon_url": "https://example.com/{{ detail.order.id }}.png", "actions": [track]})
    house.secret.ok("PUT", PATH, new)
    assert house.secret.ok("GET", PATH)["rule"]["content"] == new["content"]

    def tried(url: str) -> dict[str, Any]:
        event = EVENT | {"detail": {"total": 200, "customer_id": "u", "order": {"id": 7}, "url": url}}
        (found,) = house.secret.ok("POST", "/routes/dry-run", {"event": event, "route": new})["routes"]
        return dict(found)

    link = "https://example.com/track"
    made = {"title": "T", "icon_url": "https://example.com/7.png", "actions": [{**track, "link": link}]}
    assert tried(link)["shown"][0]["content"] == made
    refused = tried("app://track")
    assert refused["sends"] in (0, None) and "content.actions.0.link" in str(refused), refused
