"""A clock that is set an hour forward or back at any moment: nothing is sent twice, nothing waits for that hour."""

import random
import threading
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import (
    broadcasts,
    chunks,
    deliveries,
    event_claims,
    event_moves,
    events,
    leases,
    routing,
    set_back,
    shards,
)
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.event_claims import EventsWanted
from notify_pipeline.core.ledger.event_moves import Settled
from notify_pipeline.core.ledger.events import NewEvent
from notify_pipeline.core.ledger.shards import HeldBy
from notify_pipeline.core.ledger.tables import LEASES
from notify_pipeline.core.ledger.tenant_tables import CALLBACK_MESSAGES
from notify_pipeline.core.records import Recipient
from notify_pipeline.core.vocabulary import Channel, Outcome, RequestState
from notify_pipeline.delivery import broadcast, drain, notifications, planning
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.delivery.known import find_known
from notify_pipeline.delivery.scheduling import Schedules
from tests.delivery.clocks import NOON, Clock, accept_at
from tests.delivery.fakes import FakeSender, context
from tests.delivery.lakes import Landing, row
from tests.delivery.test_broadcast import SIZES
from tests.delivery.test_broadcast_schedule import routed
from tests.delivery.test_drain import drain_to_end, drain_until, found, register
from tests.waiting import wait_for

HOUR = timedelta(hours=1)


class Jumping:
    """The real clock, but for an offset that a test changes."""

    def __init__(self) -> None:
        self.offset = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.offset


def flaky(recipient: Recipient, number: int) -> Outcome:
    return Outcome.TRANSIENT if recipient.address.endswith("7") and number == 1 else Outcome.ACCEPTED


@pytest.mark.parametrize("seed", range(4))
def test_a_drain_whose_clock_jumps_sends_everything_once(ledger: Ledger, folder_lake: Lake, seed: int) -> None:
    dice, clock = random.Random(seed), Jumping()
    fcm = FakeSender(Channel.FCM, flaky, delay_s=0.002)
    ctx = context(ledger, folder_lake, fcm, clock=clock, lease_seconds=1.5, drain_batch=32)
    ids: list[str] = []
    for number in range(60):
        register(ledger, f"d{number}", user_id=f"u{number}")
    over = threading.Event()

    def jump() -> None:
        for number in range(60):
            ids.append(accept_at(ledger, clock(), users=[f"u{number}"]))
            if dice.random() < 0.08:
                clock.offset += dice.choice([-HOUR, HOUR])
            time.sleep(0.01)
        over.set()

    jumper = threading.Thread(target=jump)
    jumper.start()
    while not over.is_set():
        drain.run_drain(ctx, _stop_after(dice.uniform(0.05, 1.0), over))
    jumper.join()
    drain_to_end(ctx, *ids)
    assert {found(ledger, each).state for each in ids} == {RequestState.DONE}
    calls = Counter(call[0] for call in fcm.calls)
    assert calls == {f"d{number}": 2 if number % 10 == 7 else 1 for number in range(60)}


def _stop_after(seconds: float, over: threading.Event) -> threading.Event:
    stop = threading.Event()

    def wait() -> None:
        over.wait(seconds)
        stop.set()

    threading.Thread(target=wait, daemon=True).start()
    return stop


@pytest.fixture
def ctx(ledger: Ledger, folder_lake: Lake, fcm: FakeSender, clock: Clock) -> DeliveryContext:
    return context(ledger, folder_lake, fcm, clock=clock, lease_seconds=2.5, **SIZES)


def test_work_of_the_dead_does_not_wait_for_the_clock_to_come_back(
    ctx: DeliveryContext, fcm: FakeSender, clock: Clock
) -> None:
    ledger = ctx.ledger
    register(ledger, "a", user_id="u")
    planned, claimed, queued, fresh = (accept_at(ledger, NOON, users=["u"]) for _ in range(4))
    rules = planning.Rules(frozenset(Channel), 100, ctx.delivery_secret, "dead")
    rows = {each.request_id: each for each in routing.claim(ledger, "dead/1", NOON, 6.0, 3)}
    for request_id in (claimed, queued):
        notification = notifications.parse(rows[request_id])
        known = find_known(ledger, [notification])[request_id]
        assert routing.store(ledger, "dead/1", [planning.plan(notification, known, rules, NOON)], NOON) == [True]
        if request_id == claimed:
            assert len(deliveries.claim(ledger, "fcm", "dead/1", NOON, 6.0, 10)) == 1
    assert leases.acquire(ledger, drain.LEASE, "dead/1", 6.0, NOON)
    clock.advance(hours=-1)
    stop = threading.Event()
    ticking = threading.Thread(target=_tick, args=(clock, stop))
    ticking.start()
    drain_to_end(ctx, planned, claimed, queued, fresh)
    stop.set()
    ticking.join()
    assert clock() < NOON - timedelta(minutes=30)
    assert len(fcm.calls) == 4


def test_a_retry_does_not_wait_for_an_hour_that_is_gone(ctx: DeliveryContext, fcm: FakeSender, clock: Clock) -> None:
    """Planned before the clock was set forward, tried after it, and due when it is set back."""
    fcm.answer = lambda recipient, number: Outcome.TRANSIENT if number == 1 else Outcome.ACCEPTED
    register(ctx.ledger, "a", user_id="u")
    request_id = accept_at(ctx.ledger, NOON, users=["u"])
    planned(ctx, request_id, NOON)
    clock.advance(hours=1)
    drain_until(ctx, lambda: deliveries.depths(ctx.ledger) == {"fcm": {"waiting": 1}} and bool(fcm.calls))
    clock.advance(hours=-1)
    stop = threading.Event()
    ticking = threading.Thread(target=_tick, args=(clock, stop))
    ticking.start()
    drain_to_end(ctx, request_id)
    stop.set()
    ticking.join()
    assert clock() < NOON + timedelta(minutes=30)
    assert len(fcm.calls) == 2


def planned(ctx: DeliveryContext, request_id: str, now: datetime) -> None:
    """Claim and plan the one request that there is, as a planner does."""
    (row,) = routing.claim(ctx.ledger, "planner", now, 6.0, 1)
    notification = notifications.parse(row)
    known = find_known(ctx.ledger, [notification])[request_id]
    rules = planning.Rules(frozenset(Channel), 100, ctx.delivery_secret, "planner")
    schedule = Schedules(ctx.ledger).find(notification, known.recipients)
    plan = planning.plan(notification, known, rules, now, schedule)
    assert routing.store(ctx.ledger, "planner", [plan], now) == [True]


def test_what_was_read_before_the_clock_was_set_back_may_be_stored_after_it_was_mended(
    ledger: Ledger, folder_lake: Lake, fcm: FakeSender
) -> None:
    clock = Jumping()
    ctx = context(ledger, folder_lake, fcm, clock=clock, lease_seconds=0.6)
    register(ledger, "a", user_id="u")
    request_id = accept_at(ledger, clock(), users=["u"], send_at=(clock() + timedelta(minutes=30)).isoformat())
    clock.offset = HOUR
    slow = clock()
    with Running(ctx):
        wait_for(lambda: fcm.calls)
        clock.offset = timedelta(0)
        late = accept_at(ledger, clock(), users=["u"])
        wait_for(lambda: found(ledger, late).state is RequestState.DONE)
        # Somebody who had read the clock an hour ago stores it now.
        last = accept_at(ledger, slow, users=["u"])
        wait_for(lambda: found(ledger, last).state is RequestState.DONE, seconds=30)
    assert found(ledger, request_id).state is RequestState.DONE
    assert len(fcm.calls) == 3


class Running:
    """A drain in a thread, for as long as the block lasts."""

    def __init__(self, ctx: DeliveryContext) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=drain.run_drain, args=(ctx, self._stop))

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def _tick(clock: Clock, stop: threading.Event) -> None:
    """Let the clock run, as fast as it does."""
    while not stop.wait(0.01):
        clock.advance(seconds=0.01)


def test_a_dead_broadcast_s_leases_are_reined_in(ctx: DeliveryContext, fcm: FakeSender, clock: Clock) -> None:
    Landing(ctx.lake, ctx.ledger).land(*(row(f"a{n}", 1, ["t"]) for n in range(10)))
    request_id = routed(ctx, topics=["t"])
    shards.hold_request(ctx.ledger, request_id, "dead/1", clock(), 6.0)
    clock.advance(hours=-1)
    assert set_back.mend(ctx.ledger, clock(), 2.0) == 1
    clock.advance(seconds=2)
    broadcast.snapshot(ctx, request_id)
    shards.hold_shard(ctx.ledger, request_id, 0, "dead/1", clock(), 6.0)
    clock.advance(hours=-1)
    (due,) = broadcasts.due(ctx.ledger, clock())
    assert due.lease_alive
    with pytest.raises(HeldBy):
        shards.hold_shard(ctx.ledger, request_id, 0, "next/1", clock(), 6.0)
    assert set_back.mend(ctx.ledger, clock(), 2.0) == 1
    clock.advance(seconds=2)
    assert broadcast.send_shard(ctx, request_id, 0).done
    assert broadcast.finish(ctx, request_id) is RequestState.DONE
    assert set_back.mend(ctx.ledger, clock(), 2.0) == 0


def test_an_event_that_was_to_be_tried_again_does_not_wait_for_the_hour(ledger: Ledger, clock: Clock) -> None:
    event_id = events.accept(ledger, NewEvent("t", "shop", "order.paid", {}, clock())).event_id
    wanted = EventsWanted("dead/1", 10)
    (claimed,) = event_claims.claim(ledger, wanted, clock(), 6.0)
    soon = to_micros(clock() + timedelta(seconds=90))
    event_moves.settle(ledger, "dead/1", [Settled(claimed, claimed.state, reason="down", due_at=soon)], clock())
    assert set_back.mend(ledger, clock(), 2.0) == 0
    clock.advance(hours=-1)
    assert event_claims.claim(ledger, wanted, clock(), 6.0) == []
    assert set_back.mend(ledger, clock(), 2.0) == 1
    (again,) = event_claims.claim(ledger, wanted, clock(), 6.0)
    assert again.event_id == event_id


@pytest.mark.parametrize("jump", [-HOUR, HOUR])
def test_a_broadcast_whose_clock_jumps_sends_everything_once(
    ctx: DeliveryContext, fcm: FakeSender, clock: Clock, jump: timedelta
) -> None:
    Landing(ctx.lake, ctx.ledger).land(*(row(f"a{n:03d}", 1, ["t"]) for n in range(95)))

    def answer(recipient: Recipient, number: int) -> Outcome:
        if len(fcm.calls) in (20, 60):
            clock.set(clock() + jump)
        return Outcome.ACCEPTED

    fcm.answer = answer
    request_id = routed(ctx, topics=["t"])
    for ref in broadcast.snapshot(ctx, request_id):
        assert broadcast.send_shard(ctx, request_id, ref.shard).done
    assert broadcast.finish(ctx, request_id) is RequestState.DONE
    assert Counter(call[0] for call in fcm.calls) == {f"a{n:03d}": 1 for n in range(95)}


def test_what_has_a_time_of_its_own_keeps_it(ctx: DeliveryContext, fcm: FakeSender, clock: Clock) -> None:
    body: dict[str, Any] = {"send_at": (NOON + HOUR).isoformat()}
    request_id = accept_at(ctx.ledger, NOON, users=["u"], **body)
    clock.advance(hours=-1)
    assert set_back.mend(ctx.ledger, clock(), 2.0) == 0
    assert to_micros(found(ctx.ledger, request_id).due_at) == to_micros(NOON + HOUR)


def test_whose_own_clock_says_when_is_not_sent_an_hour_early(
    ctx: DeliveryContext, fcm: FakeSender, clock: Clock
) -> None:
    register(ctx.ledger, "a", user_id="u", timezone="UTC")
    local = (NOON + timedelta(seconds=30)).replace(tzinfo=None).isoformat()
    request_id = accept_at(ctx.ledger, NOON, users=["u"], send_at_local=local)
    planned(ctx, request_id, NOON)
    clock.advance(hours=-1)
    set_back.mend(ctx.ledger, clock(), 2.0)
    assert deliveries.claim(ctx.ledger, "fcm", "lane", clock() + timedelta(minutes=30), 6.0, 10) == []
    assert len(deliveries.claim(ctx.ledger, "fcm", "lane", NOON + timedelta(seconds=30), 6.0, 10)) == 1


def test_a_broadcast_s_retry_does_not_wait_for_an_hour_that_is_gone(
    ledger: Ledger, folder_lake: Lake, fcm: FakeSender
) -> None:
    """Neither in the process that decided it, nor in one that goes on after it."""
    clock = Jumping()
    clock.offset = HOUR
    ctx = context(ledger, folder_lake, fcm, clock=clock, lease_seconds=2.5, **{**SIZES, "retry_base_s": 1.0})
    ctx = replace(ctx, draw=lambda: 0.9)
    Landing(ctx.lake, ctx.ledger).land(*(row(f"a{n}", 1, ["t"]) for n in range(8)))
    stop = threading.Event()

    def answer(recipient: Recipient, number: int) -> Outcome:
        if number == 1:
            return Outcome.TRANSIENT
        if number == 2:
            stop.set()
            return Outcome.TRANSIENT
        return Outcome.ACCEPTED

    fcm.answer = answer
    request_id = routed(ctx, topics=["t"])
    broadcast.snapshot(ctx, request_id)

    def settled() -> bool:
        return len(fcm.calls) == 8 and not chunks.left(ledger, request_id, 0)

    def set_back_once() -> None:
        wait_for(settled)
        clock.offset = timedelta(0)

    setter = threading.Thread(target=set_back_once)
    setter.start()
    assert broadcast.send_shard(ctx, request_id, 0, stop).stopped_reason == "stopped"
    setter.join()
    clock.offset = -HOUR
    assert broadcast.send_shard(ctx, request_id, 0).done
    assert Counter(call[0] for call in fcm.calls) == {f"a{n}": 3 for n in range(8)}


@pytest.mark.parametrize("attempt_no", [1, 5])
def test_a_callback_s_message_waits_as_long_as_it_was_to_wait(ledger: Ledger, clock: Clock, attempt_no: int) -> None:
    waits = 300 * 10 ** (attempt_no // 2)
    message = {
        **dict(message_id="m", callback_id="c", tenant="t", event="test", payload="{}", created_at=to_micros(NOON)),
        **dict(state="waiting", attempt_no=attempt_no, counted_from=to_micros(NOON)),
        "due_at": to_micros(NOON + timedelta(seconds=waits)),
    }
    ledger.write(
        lambda conn, items: [conn.execute(insert(CALLBACK_MESSAGES), each) and None for each in items], message
    )
    assert set_back.mend(ledger, NOON, 2.0) == 0
    clock.advance(hours=-1)
    assert set_back.mend(ledger, clock(), 2.0) == 1
    with ledger.read() as conn:
        assert conn.execute(select(CALLBACK_MESSAGES.c.due_at)).scalar() == to_micros(clock()) + waits * 1_000_000


def test_a_retry_does_not_wait_for_an_hour_that_came_and_went(
    ledger: Ledger, folder_lake: Lake, fcm: FakeSender
) -> None:
    """Within one drain, whose clock ends where it began."""
    fcm.answer = lambda recipient, number: Outcome.TRANSIENT if number == 1 else Outcome.ACCEPTED
    clock, stop = Jumping(), threading.Event()
    ctx = context(ledger, folder_lake, fcm, clock=clock, lease_seconds=0.3, retry_base_s=4.0)
    running = threading.Thread(target=drain.run_drain, args=(replace(ctx, draw=lambda: 0.5), stop))
    register(ledger, "a", user_id="u")
    running.start()
    try:
        wait_for(lambda: _held_until(ledger) > 0)
        clock.offset = HOUR
        request_id = accept_at(ledger, clock(), users=["u"])
        wait_for(lambda: fcm.calls and _held_until(ledger) > to_micros(clock()))
        clock.offset = timedelta(0)
        wait_for(lambda: found(ledger, request_id).state is RequestState.DONE, seconds=10)
    finally:
        stop.set()
        running.join()


def _held_until(ledger: Ledger) -> int:
    with ledger.read() as conn:
        return conn.execute(select(LEASES.c.until).where(LEASES.c.name == drain.LEASE)).scalar() or 0


def test_the_holder_who_lives_keeps_a_role_and_the_dead_one_loses_it(ledger: Ledger) -> None:
    now = NOON - HOUR
    for alive in (True, False):
        lease = leases.acquire(ledger, f"role-{alive}", "first", 6.0, NOON)
        assert lease is not None
        assert leases.holder(ledger, lease.name, now) is None
        assert leases.acquire(ledger, lease.name, "second", 6.0, now) is None
        assert leases.holder(ledger, lease.name, now) == "first"
        later = now + timedelta(seconds=5)
        if alive:
            assert leases.renew(ledger, lease, 6.0, later) is not None
        taken = leases.acquire(ledger, lease.name, "second", 6.0, now + timedelta(seconds=6))
        assert (taken is None) == alive
