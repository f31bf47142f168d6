"""Events over HTTP once they are stored: shown, listed, replayed."""

from typing import Any

from sqlalchemy import func, select, update

from notify_pipeline.core.ledger.event_tables import EVENTS
from notify_pipeline.core.ledger.outbox_tables import OUTBOX
from notify_pipeline.core.ledger.tables import AUDIT
from tests.ingest_api.conftest import House, change, fields_of
from tests.ingest_api.test_events import event


def posted(house: House, number: int, state: str = "unrouted", **changes: Any) -> list[str]:
    """Post events and put them where they would come to."""
    ids = []
    for _ in range(number):
        ids.append(house.secret.ok("POST", "/events", event(id=..., **changes))["event_id"])
        house.clock.advance(seconds=1)
    moved = {"state": state, "reason": f"is {state}"}
    change(house.services.ledger, update(EVENTS).where(EVENTS.c.event_id.in_(ids)).values(moved))
    return ids


def listed(house: House, query: str, limit: int = 50) -> list[str]:
    """Return all events of a list, page by page."""
    found: list[str] = []
    cursor = ""
    while True:
        page = house.secret.ok("GET", f"/events?limit={limit}&{query}{cursor}")
        found += [each["event_id"] for each in page["items"]]
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"


def test_an_event_is_shown_by_either_id(any_house: House) -> None:
    house, branch = any_house, any_house.api(any_house.mine.organizations[0].secret_key)
    event_id = house.secret.ok("POST", "/events", event())["event_id"]
    shown = house.secret.ok("GET", f"/events/{event_id}")
    assert shown == {
        "tenant": house.mine.tenant,
        "event_id": event_id,
        "source": "shop",
        "type": "order.paid",
        "id": "o-1",
        "state": "accepted",
        "reason": None,
        "detail": {"total": 5},
        "recipients": {"users": ["u-1"]},
        "enrichment": None,
        "routes": [],
        "notification_ids": [],
        "attempt_no": 0,
        "replays": 0,
        "accepted_at": "2026-11-21T06:33:59.123456Z",
        "updated_at": "2026-11-21T06:33:59.123456Z",
    }
    assert house.secret.ok("GET", "/events/o-1?source=shop") == shown
    assert house.secret.call("GET", "/events/o-1?source=till").status_code == 404
    assert house.secret.call("GET", "/events/o-1").status_code == 404
    for other in (branch, house.stranger):
        assert other.call("GET", f"/events/{event_id}").status_code == 404
    theirs = branch.ok("POST", "/events", event())["event_id"]
    assert house.secret.ok("GET", f"/events/{theirs}")["event_id"] == theirs


def test_lists(any_house: House) -> None:
    house, branch = any_house, any_house.api(any_house.mine.organizations[0].secret_key)
    unrouted = posted(house, 3)
    until = house.clock().isoformat().replace("+00:00", "Z")
    dead = posted(house, 3, "dead", source="till")
    routed = posted(house, 2, "routed", type="other")
    theirs = branch.ok("POST", "/events", event())["event_id"]
    newest = [*unrouted, *dead, *routed][::-1]
    assert listed(house, "", 3) == newest
    assert listed(house, "state=unrouted", 2) == unrouted[::-1]
    assert listed(house, "state=dead&source=till", 1) == dead[::-1]
    assert listed(house, "state=routed") == listed(house, "type=other") == routed[::-1]
    assert listed(house, f"until={until}") == unrouted[::-1]
    assert listed(house, f"from={until}", 2) == [*dead, *routed][::-1]
    assert listed(house, "include_organizations=true", 2) == [theirs, *newest]
    assert branch.ok("GET", "/events")["items"][0]["event_id"] == theirs
    assert house.stranger.ok("GET", "/events")["items"] == []
    assert fields_of(house.secret.call("GET", "/events?state=lost")) == {"state"}
    assert fields_of(house.secret.call("GET", "/events?cursor=abcd")) == {"cursor"}


def test_replays(any_house: House) -> None:
    house = any_house
    unrouted, dead, routed = posted(house, 2), posted(house, 2, "dead", source="till"), posted(house, 1, "routed")
    asked = {"ids": [unrouted[0], dead[0], routed[0]]}
    first = house.secret.call("POST", "/events/replay", asked, headers={"Idempotency-Key": "k"})
    assert first.status_code == 202
    assert first.json == {"replayed": 2, "refused": [{"event_id": routed[0], "state": "routed"}], "left": 0}
    again = house.secret.call("POST", "/events/replay", asked, headers={"Idempotency-Key": "k"})
    assert again.json == first.json and again.headers["Idempotent-Replayed"] == "true"
    other = house.secret.call("POST", "/events/replay", {"ids": unrouted}, headers={"Idempotency-Key": "k"})
    assert other.status_code == 409 and fields_of(other) == {"Idempotency-Key"}
    shown = house.secret.ok("GET", f"/events/{dead[0]}")
    assert (shown["state"], shown["reason"], shown["replays"]) == ("accepted", None, 1)
    without_key = house.secret.ok("POST", "/events/replay", asked)
    assert without_key["replayed"] == 0 and {each["state"] for each in without_key["refused"]} == {"accepted", "routed"}
    by_filter = {"filter": {"source": "shop", "state": "unrouted"}}
    assert house.secret.ok("POST", "/events/replay", by_filter) == {"replayed": 1, "refused": [], "left": 0}
    assert house.secret.ok("POST", "/events/replay", {"filter": {}}) == {"replayed": 1, "refused": [], "left": 0}
    posted(house, 3)
    assert house.secret.ok("POST", "/events/replay", {"filter": {}, "limit": 2})["left"] == 1
    with house.services.ledger.read() as conn:
        audited = conn.execute(select(AUDIT.c.actor).where(AUDIT.c.event == "event.replayed")).scalars().all()
        rows = conn.execute(select(func.sum(OUTBOX.c.row_count)).where(OUTBOX.c.lake_table == "events")).scalar()
    assert len(audited) == 6 and rows == 8 + 6


def test_replays_of_what_is_not_there_or_not_said(house: House) -> None:
    mine, theirs = posted(house, 1), house.stranger.ok("POST", "/events", event())["event_id"]
    unknown = house.secret.call("POST", "/events/replay", {"ids": [*mine, theirs]}, headers={"Idempotency-Key": "k"})
    assert unknown.status_code == 404 and fields_of(unknown) == {"ids.1"}
    assert house.secret.ok("POST", "/events/replay", {"ids": mine}, headers={"Idempotency-Key": "k"})["replayed"] == 1
    for body, field in (
        ({}, "ids"),
        ({"ids": mine, "filter": {}}, "filter"),
        ({"ids": mine, "limit": 1}, "limit"),
        ({"filter": {"state": "routed"}}, "filter.state"),
        ({"filter": {"from": "2026-11-21T07:00:00Z", "until": "2026-11-21T06:00:00Z"}}, "filter.until"),
    ):
        refused = house.secret.call("POST", "/events/replay", body)
        assert refused.status_code == 422 and field in fields_of(refused)
