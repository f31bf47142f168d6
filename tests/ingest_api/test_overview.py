"""The overview over HTTP: what waits, whose it is, what holds it up; asked for often, gathered once."""

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pyarrow as pa
import pytest
from sqlalchemy import Connection, insert, update

from ingest_api.operations import overview
from ingest_api.operations.models import OverviewShown
from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import audit, leases, rates
from notify_pipeline.core.ledger import overview as overview_reads
from notify_pipeline.core.ledger.tables import DELIVERIES, REQUESTS, SHARDS
from notify_pipeline.core.schemas import QUARANTINE
from tests.ingest_api.conftest import ADMIN, Api, House, change, send
from tests.ingest_api.test_dead_letters import died
from tests.reports.desk import Desk
from tests.reports.worlds import World


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be remembered, however long it took."""
    monkeypatch.setattr(overview, "_LEAST_S", 0.0)
    monkeypatch.setattr(overview, "_SHARE", 1e12)
    monkeypatch.setattr(overview, "_QUARANTINE_S", 0.0)


def shown(api: Api, query: str = "") -> dict[str, Any]:
    found: dict[str, Any] = api.ok("GET", f"/operations{query}")
    OverviewShown.model_validate(found)
    return found


def queue_of(found: dict[str, Any]) -> list[tuple[Any, ...]]:
    names = ("queue", "state", "channel", "tenant", "priority", "count", "due", "oldest_due_at")
    return [tuple(each[name] for name in names) for each in found["queues"]]


def queued(house: House, request_id: str, tenant: str, number: int, **changes: Any) -> None:
    """Put a delivery into the drain's queue."""
    row = {
        "delivery_id": f"{request_id}-{number}",
        "request_id": request_id,
        "tenant": tenant,
        "channel": "fcm",
        "platform": "android",
        "address": "a",
        "recipient": "{}",
        "priority_rank": 1,
        "state": "waiting",
        "attempt_no": 0,
        "due_at": to_micros(house.clock()),
    }
    change(house.services.ledger, insert(DELIVERIES).values(row | changes))


def test_what_waits_is_counted_for_whom_it_belongs_to(any_house: House) -> None:
    house, at = any_house, "2026-11-21T06:33:59.123456Z"
    mine, other = house.mine.tenant, house.other.tenant
    (branch,) = house.mine.organizations
    first = house.secret.ok("POST", "/notifications", send(id="n-1"))["request_id"]
    house.secret.ok("POST", "/notifications", send(id="n-2"))
    house.secret.ok("POST", "/notifications", send(id="n-3", send_at="2026-11-22T07:00:00Z"))
    house.api(branch.secret_key).ok("POST", "/notifications", send(id="n-1"))
    house.stranger.ok("POST", "/notifications", send(id="n-1", priority="high"))
    house.stranger.ok("POST", "/events", {"source": "shop", "type": "order", "recipients": ["u"]})
    later = to_micros(house.clock() + timedelta(minutes=5))
    queued(house, first, mine, 1)
    queued(house, first, mine, 2, due_at=later, attempt_no=1)
    queued(house, first, mine, 3, state="sending", attempt_no=1)
    house.clock.advance(seconds=90)

    own = [("sends", "accepted", None, mine, "normal", 3, 2, at)]
    deliveries = [
        ("deliveries", "sending", "fcm", mine, "normal", 1, 1, at),
        ("deliveries", "waiting", "fcm", mine, "normal", 2, 1, at),
    ]
    assert queue_of(shown(house.secret)) == own + deliveries
    its = ("sends", "accepted", None, branch.tenant, "normal", 1, 1, at)
    spanning = queue_of(shown(house.secret, "?include_organizations=true"))
    assert sorted(spanning, key=str) == sorted([*own, *deliveries, its], key=str)
    assert queue_of(shown(house.api(branch.secret_key))) == [its]
    foreign = queue_of(shown(house.stranger))
    assert foreign[0] == ("sends", "accepted", None, other, "high", 1, 1, at)
    (event,) = foreign[1:]
    assert event[:-1] == ("events", None, None, other, None, 1, 1)
    assert datetime.now(UTC) - datetime.fromisoformat(event[-1]) < timedelta(minutes=5)
    everything = queue_of(shown(house.api(ADMIN)))
    assert sorted(everything, key=str) == sorted([*own, *deliveries, its, *foreign], key=str)
    assert house.publishable.call("GET", "/operations").status_code == 403


def test_what_holds_the_installation_up_is_for_its_admin(any_house: House) -> None:
    house, ledger, now = any_house, any_house.services.ledger, any_house.clock()
    died(house, house.secret, "n-1", ["a", "b"])
    leases.acquire(ledger, "lander", "host:1", 10, now)
    rates.hold(ledger, "fcm:project", to_micros(now), to_micros(now) + 30_000_000, 500.0)
    rates.hold(ledger, "apns:key", to_micros(now), to_micros(now) + 1_000, 500.0)
    house.clock.advance(seconds=5)
    found = shown(house.api(ADMIN))
    assert found["dead_letters"] == 2
    installation = found["installation"]
    assert [(each["name"], each["owner"], each["is_held"]) for each in installation["roles"]] == [
        ("lander", "host:1", True)
    ]
    assert [(each["name"], each["held_until"]) for each in installation["throttles"]] == [
        ("apns:key", None),
        ("fcm:project", "2026-11-21T06:34:29.123456Z"),
    ]
    assert installation["lake"]["entries"]["requests"] == 1
    assert installation["lake"]["oldest_at"] == "2026-11-21T06:33:59.123456Z"
    own = shown(house.secret)
    assert (own["dead_letters"], own["installation"]) == (2, None)
    assert shown(house.stranger)["dead_letters"] == 0
    house.clock.advance(seconds=60)
    (role,) = shown(house.api(ADMIN))["installation"]["roles"]
    assert role["is_held"] is False


def test_versions_logs_and_how_channels_did(house: House) -> None:
    assert shown(house.secret)["version"] is shown(house.secret)["logs"] is None
    services, mine, other = house.services, house.mine.tenant, house.other.tenant
    world = World()
    for tenant in (mine, other):
        world.request("n1", tenant)
        world.audience(4, tenant=tenant)
        world.attempt("a", "accepted", tenant=tenant)
    world.attempt("b", "throttled", tenant=mine, code="TooManyRequests")
    world.attempt("b", "accepted", number=2, at=9, tenant=mine)
    world.attempt("c", "permanent", tenant=mine, code="BadTopic")
    world.attempt("d", "ambiguous", tenant=mine, code="timeout")
    world.put(services.lake)
    Desk(services.lake, services.settings.reports).publish()
    rows = [{name: None for name in QUARANTINE.schema.names}] * 3
    path = f"{QUARANTINE.name}/date={house.clock():%Y-%m-%d}/hour=06/bad.parquet"
    services.lake.write(path, pa.Table.from_pylist(rows, schema=QUARANTINE.schema))
    found = shown(house.secret)
    assert found["version"]["version"] == 1
    nobodys = ("quarantined", "foreign_hits", "foreign_deliveries")
    assert [found["logs"][name] for name in nobodys] == [None] * 3, "what is nobody's is not told to tenants"
    everything = shown(house.api(ADMIN))["logs"]
    assert [everything[name] for name in nobodys] == [3, 0, 0]
    assert everything["received_through"] == found["logs"]["received_through"]
    (apns,) = found["channels"]
    assert (apns["channel"], apns["provider"], apns["since"]) == ("apns", "apns", "2026-11-21T05:00:00Z")
    counted = {name: apns[name] for name in ("attempts", "accepted", "throttled", "failed", "invalid", "ambiguous")}
    assert counted == {"attempts": 5, "accepted": 2, "throttled": 1, "failed": 2, "invalid": 0, "ambiguous": 1}
    assert {each["provider_code"]: each["attempts"] for each in apns["codes"]} == {
        "BadTopic": 1,
        "TooManyRequests": 1,
        "timeout": 1,
    }
    assert apns["mean_s"] == pytest.approx(0.25)
    assert apns["p50_s"] == apns["p99_s"] == pytest.approx(0.25, rel=0.1)
    (theirs,) = shown(house.stranger)["channels"]
    assert (theirs["attempts"], theirs["codes"]) == (1, [])
    (all_,) = shown(house.api(ADMIN))["channels"]
    assert all_["attempts"] == 6
    house.clock.advance(hours=2)
    assert shown(house.secret)["channels"] == []


def test_many_who_ask_are_told_the_same(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "_LEAST_S", 3_600.0)
    before = shown(house.secret)
    house.secret.ok("POST", "/notifications", send(id="n-1"))
    assert shown(house.secret) == before
    assert len(shown(house.api(ADMIN))["queues"]) == 1
    assert shown(house.stranger)["queues"] == []


def test_broadcasts_and_erasures_under_way(any_house: House) -> None:
    house, ledger = any_house, any_house.services.ledger
    request_id = house.secret.ok("POST", "/notifications", send(id="n-1", priority="high"))["request_id"]
    counts = {"fcm": {"audience": 100, "pending": 60, "accepted": 37, "invalid_recipient": 3}}
    sending = {"state": "sending", "mode": "broadcast", "counts": orjson.dumps(counts).decode()}
    change(ledger, update(REQUESTS).where(REQUESTS.c.request_id == request_id).values(sending))
    shards = [
        {"request_id": request_id, "shard": number, "channel": "fcm", "path": f"s{number}", "recipients": 50}
        for number in range(2)
    ]
    change(ledger, insert(SHARDS).values([shards[0] | {"done_at": 1}, shards[1] | {"done_at": None}]))
    house.secret.ok("DELETE", "/users/gone")
    found = shown(house.secret)
    (broadcast,) = found["broadcasts"]
    assert broadcast == {
        "tenant": house.mine.tenant,
        "request_id": request_id,
        "notification_id": "n-1",
        "priority": "high",
        "state": "sending",
        "accepted_at": "2026-11-21T06:33:59.123456Z",
        "shards": 2,
        "shards_done": 1,
        "is_held": False,
        "audience": 100,
        "finished": 40,
        "accepted": 37,
        "waiting_again": 0,
        "drops_stopped": False,
    }
    assert [(each["kind"], each["tenant"]) for each in found["erasures"]] == [("user", house.mine.tenant)]
    assert found["tenants"] == {house.mine.tenant: "mine"}
    entry = audit.Entry(overview_reads.DROP_STOPPED, "delivery", 0, house.mine.tenant, request_id, "n-1")
    ledger.write(_audited, entry)
    everything = shown(house.api(ADMIN))
    assert [each["drops_stopped"] for each in everything["broadcasts"]] == [True]
    assert len(everything["erasures"]) == 1
    strange = shown(house.stranger)
    assert strange["broadcasts"] == strange["erasures"] == []


def _audited(conn: Connection, entries: Any) -> list[None]:
    audit.write(conn, list(entries), datetime.now(UTC))
    return [None for _ in entries]
