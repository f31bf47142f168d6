"""The event router: every matching route makes its sends, once, and whatever cannot be routed says why."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import (
    audit,
    devices,
    event_lists,
    event_replays,
    events,
    policies,
    requests,
    routes,
    templates,
    tenants,
)
from notify_pipeline.core.ledger.devices import Registration
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.event_lists import EventFilter
from notify_pipeline.core.ledger.event_replays import EventReplay
from notify_pipeline.core.ledger.event_rows import EventRow, get
from notify_pipeline.core.ledger.event_tables import EVENTS
from notify_pipeline.core.ledger.events import NewEvent
from notify_pipeline.core.ledger.tables import AUDIT, REQUESTS
from notify_pipeline.core.vocabulary import Channel, EventState, Outcome, Platform, PolicyKind
from notify_pipeline.delivery import event_router
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.delivery.drain import run_drain
from notify_pipeline.delivery.enrichment.base import Again, Enriched, Failed, Findings, Found, Need, Stage
from tests.delivery.fakes import TENANT, FakeSender, context, land, rows_of
from tests.waiting import wait_for

NOW = datetime.now(UTC)
SAY = {"title": "Order {{ detail.order }}"}


def rule(**changes: Any) -> dict[str, Any]:
    return {"match": {"source": "shop", "type": "order.*"}, "content": SAY, **changes}


def put(ledger: Ledger, name: str, tenant: str = TENANT, **changes: Any) -> None:
    routes.put(ledger, tenant, name, rule(**changes), "k", NOW)


def post(ledger: Ledger, tenant: str = TENANT, **changes: Any) -> str:
    event = {
        "source": "shop",
        "type": "order.paid",
        "detail": {"order": 7, "who": "ada"},
        "recipients": {"users": ["ada"]},
        "accepted_at": datetime.now(UTC),
    }
    return events.accept(ledger, NewEvent(tenant=tenant, **{**event, **changes})).event_id


def found(ledger: Ledger, event_id: str, tenant: str = TENANT) -> EventRow:
    row = get(ledger, (tenant,), event_id)
    assert row is not None
    return row


def waiting(ledger: Ledger) -> bool:
    with ledger.read() as conn:
        return (
            conn.execute(select(EVENTS.c.event_id).where(EVENTS.c.state.in_(("accepted", "enriched")))).first()
            is not None
        )


def run_until(ctx: DeliveryContext, done: Callable[[], bool]) -> None:
    async def live() -> None:
        closing = asyncio.Event()
        router = asyncio.create_task(event_router.run(ctx, closing))
        await asyncio.to_thread(wait_for, done)
        closing.set()
        await router

    asyncio.run(live())


def route(ledger: Ledger, tmp_path: Any) -> None:
    run_until(context(ledger, Lake(str(tmp_path / "lake"))), lambda: not waiting(ledger))


def sends(ledger: Ledger) -> dict[str, Mapping[str, Any]]:
    with ledger.read() as conn:
        ids = conn.execute(select(REQUESTS.c.tenant, REQUESTS.c.notification_id)).all()
    rows = [requests.get_by_notification(ledger, *each) for each in ids]
    return {row.notification_id: row.body for row in rows if row is not None}


def test_all_matching_routes_fire_in_one_move(ledger: Ledger, tmp_path: Any) -> None:
    templates.put(ledger, TENANT, "paid", {"title": "{{ order }} of {{ who }}"}, {}, "k", NOW)
    put(
        ledger,
        "inline",
        category="orders",
        channels=["email"],
        priority="high",
        ttl=60,
        collapse_key="o-{{ detail.order }}",
    )
    put(ledger, "stored", content=None, template={"name": "paid"}, type="shop/paid")
    put(ledger, "mapped", content=None, template={"name": "paid", "fields": {"order": "detail.order", "who": "source"}})
    put(ledger, "off", enabled=False)
    put(ledger, "other", match={"source": "till", "type": "*"})
    put(ledger, "never", match={"source": "*", "type": "*", "when": "detail.order > `7`"})
    event_id = post(ledger)
    route(ledger, tmp_path)
    row = found(ledger, event_id)
    ids = [f"{event_id}:{name}" for name in ("inline", "mapped", "stored")]
    assert (row.state, row.routes, row.reason) == (EventState.ROUTED, ("inline", "mapped", "stored"), None)
    assert list(row.notification_ids) == ids
    assert sends(ledger) == {
        ids[0]: {
            "type": "order.paid",
            "users": ["ada"],
            "content": {"title": "Order 7"},
            "category": "orders",
            "channels": ["email"],
            "priority": "high",
            "ttl": 60,
            "collapse_key": "o-7",
        },
        ids[1]: {
            "type": "order.paid",
            "users": ["ada"],
            "content": {"title": "7 of shop"},
            "template": {"name": "paid", "version": 1},
        },
        ids[2]: {
            "type": "shop/paid",
            "users": ["ada"],
            "content": {"title": "7 of ada"},
            "template": {"name": "paid", "version": 1},
        },
    }
    made = requests.get_by_notification(ledger, TENANT, ids[0])
    assert made is not None and made.accepted_at == row.accepted_at
    assert (made.expires_at - made.accepted_at).total_seconds() == 60
    (entry,) = audit.page(ledger, made.request_id)
    assert (entry.actor, entry.detail) == ("route:inline", {"event_id": event_id})
    with ledger.read() as conn:
        (detail,) = conn.execute(select(AUDIT.c.detail).where(AUDIT.c.event == "event.routed")).scalars()
    assert all(each in detail for each in ids)
    lake = Lake(str(tmp_path / "lake"))
    land(ledger, lake)
    landed = sorted(rows_of(lake, "events"), key=lambda each: each["at"])
    assert [(each["state"], each["notification_ids"]) for each in landed] == [("accepted", []), ("routed", ids)]


@pytest.mark.parametrize(
    ("changes", "audience"),
    [
        ({}, {"users": ["ada"]}),
        ({"recipients": "detail.who"}, {"users": ["ada"]}),
        ({"recipients": "[detail.order, detail.who, detail.who]"}, {"users": ["7", "ada"]}),
        ({"recipients": "{topics: ['a/b']}"}, {"topics": ["a/b"]}),
        ({"recipients": {"users": "detail.nobody", "emails": "['a@example.com']"}}, {"emails": ["a@example.com"]}),
        ({"recipients": {"phones": "'+44 7700 900123'"}}, {"phones": ["+447700900123"]}),
    ],
)
def test_recipients(ledger: Ledger, tmp_path: Any, changes: dict[str, Any], audience: dict[str, Any]) -> None:
    put(ledger, "r", **changes)
    post(ledger)
    route(ledger, tmp_path)
    (body,) = sends(ledger).values()
    assert body.items() >= audience.items()


def test_nobody_to_tell_is_no_fault(ledger: Ledger, tmp_path: Any) -> None:
    put(ledger, "r", recipients="detail.followers")
    event_id = post(ledger, detail={"followers": [], "order": 1})
    route(ledger, tmp_path)
    assert found(ledger, event_id).state is EventState.ROUTED and not sends(ledger)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"recipients": "detail.nobody"}, "r: missing: recipients"),
        ({"recipients": "source.a[0]"}, "r: missing: recipients"),
        ({"recipients": "length(detail.nobody)"}, "r: recipients: In function length()"),
        ({"recipients": "{users: ['a'], topics: ['b']}"}, "users and topics: a send has one audience"),
        ({"recipients": "{pets: ['a']}"}, "'pets', which is no kind of audience"),
        ({"recipients": {"emails": "['x']"}}, "emails.0 is none of the form"),
        ({"content": {"title": "{{ detail.a }} {{ detail.b.c }}"}}, "r: missing: detail.a, detail.b"),
        ({"content": {"title": "{{ detail.who * 2 }}"}}, "r: "),
        ({"content": {"title": "x", "link": "a b"}}, "content.link must be"),
        ({"content": None, "template": {"name": "none"}}, "there is no template 'none'"),
        ({"collapse_key": "{{ detail.who }} ä"}, "collapse_key must be"),
        ({"per_recipient": True, "recipients": "{topics: ['a']}"}, "per_recipient needs users, not topics"),
    ],
)
def test_what_cannot_be_made_is_dead_with_its_reason_and_nothing_is_sent(
    ledger: Ledger, tmp_path: Any, changes: dict[str, Any], said: str
) -> None:
    put(ledger, "good")
    put(ledger, "r", **changes)
    event_id = post(ledger)
    route(ledger, tmp_path)
    row = found(ledger, event_id)
    assert row.state is EventState.DEAD and row.reason is not None and said in row.reason
    assert row.routes == ("good", "r")
    assert not sends(ledger), "all of an event's sends, or none"


def test_unmatched_events_are_kept(ledger: Ledger, tmp_path: Any) -> None:
    put(ledger, "r", match={"source": "shop", "type": "*", "when": "length(detail.x) > `0`"})
    event_id = post(ledger)
    route(ledger, tmp_path)
    row = found(ledger, event_id)
    assert row.state is EventState.UNROUTED
    assert row.reason is not None and row.reason.startswith("no route matches; r: when cannot be evaluated")


def test_a_send_for_each_recipient(ledger: Ledger, tmp_path: Any) -> None:
    put(ledger, "r", per_recipient=True, content={"title": "{{ recipient }}"}, recipients="['ada', 'bob']")
    event_id = post(ledger)
    route(ledger, tmp_path)
    made = sends(ledger)
    assert sorted((body["users"], body["content"]["title"]) for body in made.values()) == [
        (["ada"], "ada"),
        (["bob"], "bob"),
    ]
    assert set(found(ledger, event_id).notification_ids) == set(made)
    assert all(len(each) <= 128 for each in made)


def test_a_quota_stops_whole_events(ledger: Ledger, tmp_path: Any) -> None:
    tenant = tenants.create_product(ledger, "p", (), NOW).tenant
    policies.put(ledger, tenant, PolicyKind.LIMITS, {"daily_requests": 3}, "admin", datetime(2026, 1, 1, tzinfo=UTC))
    put(ledger, "a", tenant)
    put(ledger, "b", tenant)
    ids = [post(ledger, tenant), post(ledger, tenant)]
    route(ledger, tmp_path)
    states = [found(ledger, each, tenant).state for each in ids]
    assert sorted(states) == [EventState.DEAD, EventState.ROUTED]
    dead = found(ledger, ids[states.index(EventState.DEAD)], tenant)
    assert dead.reason is not None and dead.reason.startswith("quota_exceeded")
    assert len(sends(ledger)) == 2


def test_tenants_take_turns(ledger: Ledger, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_router, "_BATCH", 8)
    put(ledger, "r")
    put(ledger, "r", tenant="small")
    for _ in range(40):
        post(ledger)
    post(ledger, tenant="small")
    route(ledger, tmp_path)
    with ledger.read() as conn:
        mine, theirs = (
            conn.execute(select(EVENTS.c.updated_at).where(EVENTS.c.tenant == tenant).order_by(EVENTS.c.updated_at))
            .scalars()
            .all()
            for tenant in ("small", TENANT)
        )
    assert mine[0] <= theirs[8], "in the first claim, with a part of the flood"


class Asked:
    """A stage that answers as a test says, and remembers what it was asked."""

    def __init__(self, *answers: Enriched) -> None:
        self.answers = list(answers)
        self.needs: list[Need] = []

    async def enrich(self, need: Need) -> Enriched:
        self.needs.append(need)
        if not self.answers:
            await asyncio.Event().wait()
        return self.answers.pop(0)


def staged(monkeypatch: pytest.MonkeyPatch, stage: Stage) -> None:
    @asynccontextmanager
    async def opened(ctx: DeliveryContext) -> AsyncIterator[Stage]:
        yield stage

    monkeypatch.setattr(event_router, "open_stage", opened)


LOOKS_UP = [{"name": "user", "enricher": "users", "config": {"a": 1}}]


def test_an_event_is_enriched_once_and_then_routed(
    ledger: Ledger, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = Findings({"name": "somebody"}, {"ada": {"name": "Ada"}})
    stage = Asked(Again(0.01, "not yet"), Found({"r": {"user": people}}))
    staged(monkeypatch, stage)
    put(ledger, "r", enrichment=LOOKS_UP, per_recipient=True, recipients="['ada', 'bob']",
        content={"title": "{{ enrichment.user.name }} {{ detail.order }}"})  # fmt: skip
    event_id = post(ledger)
    route(ledger, tmp_path)
    row = found(ledger, event_id)
    assert row.state is EventState.ROUTED and row.attempt_no == 2
    assert sorted(body["content"]["title"] for body in sends(ledger).values()) == ["Ada 7", "somebody 7"]
    first, second = stage.needs
    assert (first.attempt_no, second.attempt_no) == (1, 2)
    assert first.event == row.view and first.routes["r"].users == ("ada", "bob")
    assert first.routes["r"].specs[0].config == {"a": 1}
    land(ledger, Lake(str(tmp_path / "lake")))
    landed = sorted(rows_of(Lake(str(tmp_path / "lake")), "events"), key=lambda each: each["at"])
    assert [each["state"] for each in landed] == ["accepted", "enriched", "routed"]


def test_what_enrichment_finds_is_a_templates_field(
    ledger: Ledger, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged(monkeypatch, Asked(Found({"r": {"user": Findings({"name": "Ada"})}})))
    templates.put(ledger, TENANT, "t", {"title": "{{ user.name }} {{ order }}"}, {}, "k", NOW)
    put(ledger, "r", enrichment=LOOKS_UP, content=None, template={"name": "t"}, recipients="[enrichment.user.name]")
    post(ledger)
    route(ledger, tmp_path)
    (body,) = sends(ledger).values()
    assert (body["users"], body["content"]["title"]) == (["Ada"], "Ada 7")


def test_enrichment_that_is_not_needed_is_not_asked(
    ledger: Ledger, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Asked(Found({"r": {}}))
    staged(monkeypatch, stage)
    put(ledger, "r", enrichment=LOOKS_UP, enrich="missing")
    whole, lacking = post(ledger), post(ledger, detail={})
    route(ledger, tmp_path)
    assert [need.event_id for need in stage.needs] == [lacking]
    assert found(ledger, whole).state is EventState.ROUTED
    dead = found(ledger, lacking)
    assert (dead.state, dead.reason) == (EventState.DEAD, "r: missing: detail.order")


def test_failed_enrichment_is_dead_and_slow_enrichment_delays_nobody(
    ledger: Ledger, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_router, "_MOST_HELD", 3)
    stage = Asked(Failed("no such user"))
    staged(monkeypatch, stage)
    put(ledger, "r", enrichment=LOOKS_UP)
    put(ledger, "r", tenant="quick")
    ids = [post(ledger) for _ in range(10)]
    quick = [post(ledger, tenant="quick") for _ in range(10)]
    ctx = context(ledger, Lake(str(tmp_path / "lake")), lease_seconds=0.3)

    def routed() -> bool:
        return all(found(ledger, each, "quick").state is EventState.ROUTED for each in quick) and len(stage.needs) > 1

    run_until(ctx, routed)
    states = [found(ledger, each).state for each in ids]
    assert states.count(EventState.DEAD) >= 1 and set(states) == {EventState.DEAD, EventState.ACCEPTED}
    with ledger.read() as conn:
        assert set(conn.execute(select(EVENTS.c.lease_owner)).scalars()) == {None}, "given back at the end"


def drained(ctx: DeliveryContext, done: Callable[[], bool]) -> None:
    stop = threading.Event()
    drain = threading.Thread(target=run_drain, args=(ctx, stop))
    drain.start()
    try:
        wait_for(done)
    finally:
        stop.set()
        drain.join()


def test_a_drain_routes_and_delivers(ledger: Ledger, tmp_path: Any, fcm: FakeSender) -> None:
    devices.register(ledger, TENANT, Registration("d-ada", Platform.ANDROID, user_id="ada"), datetime.now(UTC))
    put(ledger, "r")
    event_id = post(ledger)
    drained(context(ledger, Lake(str(tmp_path / "lake")), fcm), lambda: bool(fcm.calls))
    assert [call[0] for call in fcm.calls] == ["d-ada"]
    assert found(ledger, event_id).state is EventState.ROUTED


def test_events_wait_out_an_outage_and_a_restart(ledger: Ledger, tmp_path: Any) -> None:
    lake = Lake(str(tmp_path / "lake"))
    devices.register(ledger, TENANT, Registration("d-ada", Platform.ANDROID, user_id="ada"), datetime.now(UTC))
    put(ledger, "r")
    down, up = FakeSender(Channel.FCM, lambda *_: Outcome.TRANSIENT), FakeSender(Channel.FCM)
    ids = [post(ledger) for _ in range(5)]
    patient = {"retry_attempts": 1_000, "retry_cap_s": 0.1}
    drained(context(ledger, lake, down, **patient), lambda: len(down.calls) > 10)
    late = post(ledger)
    drained(context(ledger, lake, up, **patient), lambda: len(up.calls) == 6)
    assert {found(ledger, each).state for each in (*ids, late)} == {EventState.ROUTED}
    assert len({delivery_id for _, delivery_id, _ in up.calls}) == 6


def test_an_event_that_was_replayed_counts_from_then(ledger: Ledger, tmp_path: Any) -> None:
    old = datetime.now(UTC) - timedelta(days=3)
    event_id = post(ledger, accepted_at=old)
    route(ledger, tmp_path)
    put(ledger, "r")
    now = datetime.now(UTC)
    asked = EventReplay(TENANT, "k", now, (event_id,), EventFilter(), 1)
    assert event_replays.replay(ledger, asked).answer["replayed"] == 1
    route(ledger, tmp_path)
    made = requests.get_by_notification(ledger, TENANT, f"{event_id}:r")
    assert made is not None and made.accepted_at == now
    assert event_replays.replay(ledger, asked).answer["refused"] == [{"event_id": event_id, "state": "routed"}]
    assert event_lists.depths(ledger) == {}


def test_two_routers_share_the_work(ledger: Ledger, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_router, "_BATCH", 7)
    monkeypatch.setattr(event_router, "_MOST_SENDS", 5)
    put(ledger, "r")
    put(ledger, "s", per_recipient=True, recipients="['ada', 'bob']")
    ids = [post(ledger) for _ in range(60)]
    ctx = context(ledger, Lake(str(tmp_path / "lake")))

    async def live() -> None:
        closing = asyncio.Event()
        routers = [asyncio.create_task(event_router.run(ctx, closing)) for _ in range(2)]
        await asyncio.to_thread(wait_for, lambda: not waiting(ledger))
        closing.set()
        await asyncio.gather(*routers)

    asyncio.run(live())
    assert {found(ledger, each).state for each in ids} == {EventState.ROUTED}
    with ledger.read() as conn:
        audited = conn.execute(select(AUDIT.c.event).where(AUDIT.c.event == "event.routed")).all()
    assert len(audited) == 60 and len(sends(ledger)) == 180
