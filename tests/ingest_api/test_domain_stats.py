"""A domain's figures over HTTP."""

from datetime import timedelta
from typing import Any

import orjson
import pytest

from notify_pipeline.reports.build import build_candidate, publish
from tests.ingest_api.conftest import House, fields_of
from tests.reports.test_domains import DOMAIN, OTHER, accept
from tests.reports.worlds import START, World, seconds

DAY = 86_400
STATS, CONSUMED = f"/push-contacts/{DOMAIN}/stats", f"/push-contacts/{DOMAIN}/consumed"
ZERO = {
    "messages": 0,
    "sent": 0,
    "delivered": 0,
    "notDelivered": 0,
    "pending": 0,
    "received": 0,
    "acceptedByBeacon": 0,
    "clicked": 0,
    "actionClicks": {},
}
FIRST = ZERO | {
    "messages": 1,
    "sent": 3,
    "delivered": 2,
    "notDelivered": 1,
    "received": 2,
    "acceptedByBeacon": 1,
    "clicked": 1,
    "actionClicks": {"read": 1},
}
SECOND = ZERO | {"messages": 1, "sent": 1, "delivered": 1, "pending": 4}


@pytest.fixture
def domain(house: House) -> House:
    """Two messages of a domain, on Saturday 06:00 and two days later, and one of another domain."""
    for name in (DOMAIN, OTHER):
        house.secret.ok("PUT", f"/domains/{name}", {"isPushFeatureEnabled": True})
    mine, ledger = house.mine.tenant, house.services.ledger
    counts = {"fcm": {"audience": 3, "pending": 0, "accepted": 2, "ambiguous": 1}}
    accept(ledger, "m1", START, counts, tenant=mine)
    accept(ledger, "m2", seconds(2 * DAY), {"fcm": {"audience": 5, "pending": 4, "accepted": 1}}, tenant=mine)
    accept(ledger, "m3", START, counts, domain=OTHER, tenant=mine)
    return house


def report(house: House) -> None:
    """Publish what became of the first message, whose last delivery was accepted an hour later."""
    world, mine = World(), house.mine.tenant
    body = orjson.dumps({"content": {"actions": [{"action": "read"}]}}).decode()
    world.request("m1", mine, domain=DOMAIN, body=body)
    web: dict[str, Any] = {"platform": "web", "notification": "m1", "tenant": mine}
    first = world.attempt("a", "accepted", 1, **web)
    world.attempt("b", "accepted", 3_600, **web)
    for delivery in (first, world.attempt("c", "ambiguous", 1, **web)):
        world.beacon(delivery, notification="m1", at=5)
    world.beacon(first, "clicked", notification="m1", at=9, action="read")
    world.put(house.services.lake)
    settings, now = house.services.settings, house.clock() + timedelta(days=3)
    candidate = build_candidate(house.services.lake, settings.reports, settings, now)
    publish(candidate, settings, now)


def test_figures_of_a_range_by_period(domain: House) -> None:
    report(domain)
    found = domain.secret.ok("GET", f"{STATS}?from=2026-11-21T05:00:00Z&until=2026-11-24&groupBy=day")
    periods = [
        {"period": "2026-11-21", "from": "2026-11-21T05:00:00Z", "until": "2026-11-22T00:00:00Z", **FIRST},
        {"period": "2026-11-22", "from": "2026-11-22T00:00:00Z", "until": "2026-11-23T00:00:00Z", **ZERO},
        {"period": "2026-11-23", "from": "2026-11-23T00:00:00Z", "until": "2026-11-24T00:00:00Z", **SECOND},
    ]
    totals = FIRST | {"messages": 2, "sent": 4, "delivered": 3, "pending": 4}
    assert found == {
        "domain": DOMAIN,
        "from": "2026-11-21T05:00:00Z",
        "until": "2026-11-24T00:00:00Z",
        "groupBy": "day",
        "totals": totals,
        "periods": periods,
        "receivedThrough": "2026-11-21T06:00:09Z",
    }
    weeks = domain.secret.ok("GET", f"{STATS}?from=2026-11-01&until=2026-12-01&groupBy=week")
    assert [(week["period"], week["messages"]) for week in weeks["periods"]] == [
        ("2026-W44", 0),
        ("2026-W45", 0),
        ("2026-W46", 0),
        ("2026-W47", 1),
        ("2026-W48", 1),
        ("2026-W49", 0),
    ]
    for by in ("month", "year"):
        (whole,) = domain.secret.ok("GET", f"{STATS}?from=2026-11-01&until=2026-12-01&groupBy={by}")["periods"]
        assert {name: whole[name] for name in totals} == totals
    other = domain.secret.ok("GET", f"/push-contacts/{OTHER}/stats?from=2026-11-01&until=2026-12-01")
    assert (other["totals"]["messages"], other["totals"]["sent"], other["periods"]) == (1, 3, [])


def test_figures_before_any_report_are_the_ledgers(domain: House) -> None:
    found = domain.secret.ok("GET", f"{STATS}?from=2026-11-21&until=2026-11-22")
    sent = {name: FIRST[name] for name in ("messages", "sent", "delivered", "notDelivered")}
    assert (found["totals"], found["receivedThrough"], found["groupBy"]) == (ZERO | sent, None, None)
    nothing = domain.secret.ok("GET", f"{CONSUMED}?from=2026-11-21&until=2026-11-22")
    assert (nothing["consumed"], nothing["asOf"]) == (0, None)


def test_consumed_counts_by_the_providers_word(domain: House) -> None:
    report(domain)

    def consumed(since: str, until: str, name: str = DOMAIN) -> int:
        answered = domain.secret.ok("GET", f"/push-contacts/{name}/consumed?from={since}&until={until}")
        assert answered["asOf"] == "2026-11-24T06:33:59.123456Z"
        return int(answered["consumed"])

    assert consumed("2026-11-21", "2026-11-22") == 2
    assert consumed("2026-11-21T06:00:01Z", "2026-11-21T06:00:02Z") == 1
    assert consumed("2026-11-21T06:00:02Z", "2026-11-21T07:00:00Z") == 0
    assert consumed("2026-11-21T07:00:00Z", "2026-11-21T07:00:01Z") == 1
    assert consumed("2026-11-21", "2026-11-22", OTHER) == 0


@pytest.mark.parametrize(
    ("path", "field"),
    [
        (f"{STATS}?from=2026-11-21", "until"),
        (f"{STATS}?until=2026-11-21", "from"),
        (f"{STATS}?from=2026-11-22&until=2026-11-21", "until"),
        (f"{STATS}?from=2026-11-21&until=2026-11-22&groupBy=hour", "groupBy"),
        (f"{STATS}?from=2020-01-01&until=2022-09-28&groupBy=day", "groupBy"),
        (f"{STATS}?from=2020-01-01&until=2022-09-28&group_by=day", "group_by"),
        (f"{CONSUMED}?from=2026-11-21T06:00:00.5Z&until=2026-11-22", "from"),
        (f"{CONSUMED}?from=2026-11-21&until=2026-11-22T00:00:00.000001Z", "until"),
        (f"{CONSUMED}?from=2026-11-22&until=2026-11-21", "until"),
    ],
)
def test_what_is_wrong_with_a_range_is_named(domain: House, path: str, field: str) -> None:
    answered = domain.secret.call("GET", path)
    assert (answered.status_code, fields_of(answered)) == (422, {field})


def test_a_thousand_periods_are_given(domain: House) -> None:
    found = domain.secret.ok("GET", f"{STATS}?from=2020-01-01&until=2022-09-27&groupBy=day")
    assert len(found["periods"]) == 1_000


@pytest.mark.parametrize("path", [STATS, CONSUMED])
def test_anothers_domain_is_unknown(domain: House, path: str) -> None:
    query = "?from=2026-11-21&until=2026-11-22"
    assert domain.stranger.call("GET", path + query).status_code == 404
    assert domain.secret.call("GET", path.replace(DOMAIN, "nobody.example") + query).status_code == 404
    assert domain.publishable.call("GET", path + query).status_code == 403
