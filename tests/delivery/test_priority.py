"""High priority overtakes: what is queued, what is in flight, what waits for its audience, and broadcasts."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from notify_pipeline.channels.base import Message, Report
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import routing, shards
from notify_pipeline.core.ledger.engine import Ledger, utc_now
from notify_pipeline.core.ledger.plans import Plan
from notify_pipeline.core.records import Audience, Recipient
from notify_pipeline.core.vocabulary import Channel, Priority
from notify_pipeline.delivery import broadcast, drain_planner, yielding
from notify_pipeline.delivery.audience import AudienceReader
from notify_pipeline.delivery.context import DeliveryContext
from tests.delivery.fakes import FakeSender, accept, context, land, rows_of
from tests.delivery.lakes import Landing, row
from tests.delivery.test_broadcast import routed
from tests.delivery.test_drain import drain_until, found, register
from tests.waiting import PATIENCE_S, wait_for


class _Stuck(FakeSender):
    """Answers nobody of lower priority before a high one was called."""

    def __init__(self) -> None:
        super().__init__(Channel.FCM)
        self.waiting = 0
        self.called = asyncio.Event()

    async def send(
        self, message: Message, recipients: Sequence[Recipient], delivery_ids: Sequence[str], report: Report
    ) -> None:
        if message.notification.priority is Priority.HIGH:
            self.called.set()
        self.waiting += len(recipients)
        await self.called.wait()
        await super().send(message, recipients, delivery_ids, report)


@pytest.mark.parametrize("lower", ["low", "normal"])
def test_a_lane_full_of_slow_deliveries_has_room_for_high_priority(
    ledger: Ledger, folder_lake: Lake, lower: str
) -> None:
    fcm = _Stuck()
    for number in range(64):
        register(ledger, f"d{number}", user_id=f"u{number}")
    ids = [accept(ledger, users=[f"u{number}"], priority=lower) for number in range(63)]

    def finished() -> bool:
        if fcm.waiting >= 10 and len(ids) == 63:  # the lane is as full as it gets
            ids.append(accept(ledger, users=["u63"], priority="high"))
        return len(ids) == 64 and all(found(ledger, each).state.is_final for each in ids)

    totals = drain_until(context(ledger, folder_lake, fcm, drain_batch=16), finished)
    assert totals.outcomes == {"accepted": 64}


def test_the_attempt_of_a_high_one_comes_before_those_of_low_ones_that_wait(ledger: Ledger, folder_lake: Lake) -> None:
    """One process, a backlog being sent, and a high one that comes in the middle of it."""
    fcm = FakeSender(Channel.FCM, delay_s=0.005)
    for number in range(2):
        register(ledger, f"d{number}", user_id=f"u{number}")
    low = [accept(ledger, users=["u0"], priority="low") for _ in range(120)]
    high: list[str] = []

    def finished() -> bool:
        if len(fcm.calls) >= 10 and not high:
            high.append(accept(ledger, users=["u1"], priority="high"))
        return bool(high) and all(found(ledger, each).state.is_final for each in (*low, *high))

    drain_until(context(ledger, folder_lake, fcm, drain_batch=16), finished)
    land(ledger, folder_lake)
    rows = sorted(rows_of(folder_lake, "attempts"), key=lambda row: row["sent_at"])
    recipients = [row["recipient"] for row in rows]
    assert len(recipients) == 121
    assert recipients.index("d1") < 100, "those in flight and planned may go before it, the rest not"


def test_few_sends_are_planned_in_one_transaction(sqlite_ledger: Ledger) -> None:
    """However few recipients they have: each costs something, and higher priority waits for all of it."""
    for number in range(150):
        accept(sqlite_ledger, users=[f"u{number}"])
    rows = routing.claim(sqlite_ledger, "planner", utc_now(), 5, 150)
    pieces = drain_planner._pieces(rows)
    assert [row.request_id for piece in pieces for row in piece] == [row.request_id for row in rows]
    assert 30 < max(map(len, pieces)) < 100


def test_scans_that_take_long_hold_up_no_high_priority(
    ledger: Ledger, folder_lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a send that names a user nor one that needs a scan of its own."""
    looked_up, real = threading.Event(), AudienceReader.find

    def find(self: AudienceReader, tenant: str, audience: Audience) -> Any:
        if audience.topics == ("slow",):
            assert looked_up.wait(PATIENCE_S), "high priority never came"
        else:
            looked_up.set()
        return real(self, tenant, audience)

    monkeypatch.setattr(AudienceReader, "find", find)
    register(ledger, "phone", user_id="u1", topics=["slow", "quick"])
    land(ledger, folder_lake)
    fcm = FakeSender(Channel.FCM)
    low = [accept(ledger, topics=["slow"], priority="low") for _ in range(6)]
    high = [accept(ledger, users=["u1"], priority="high")]

    def finished() -> bool:
        if len(high) == 1 and found(ledger, high[0]).state.is_final:
            assert not looked_up.is_set()
            high.append(accept(ledger, topics=["quick"], priority="high"))
        return all(found(ledger, each).state.is_final for each in (*low, *high))

    drain_until(context(ledger, folder_lake, fcm), finished)
    assert len(fcm.calls) == 8


def test_what_is_claimed_and_not_planned_yet_is_overtaken(
    ledger: Ledger, folder_lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain_planner, "_PIECE", 2)
    register(ledger, "phone", user_id="u1")
    low = [accept(ledger, users=["u1", "u2"], priority="low") for _ in range(5)]
    high: list[str] = []
    order: list[str] = []
    real = routing.store

    def store(ledger: Ledger, owner: str, plans: Sequence[Plan], *more: Any) -> list[bool]:
        if not high:
            high.append(accept(ledger, users=["u1"], priority="high"))
        order.extend(plan.request_id for plan in plans)
        return real(ledger, owner, plans, *more)

    monkeypatch.setattr(routing, "store", store)
    drain_until(
        context(ledger, folder_lake, FakeSender(Channel.FCM)),
        lambda: bool(high) and all(found(ledger, each).state.is_final for each in (*low, *high)),
    )
    assert order == [low[0], high[0], *low[1:]]


def _two_broadcasts(ledger: Ledger, lake: Lake, fcm: FakeSender) -> tuple[DeliveryContext, str, str]:
    """A low one and a high one, fixed and not begun; their requests."""
    Landing(lake, ledger).land(*(row(f"d{number:03d}", 1, ["t"]) for number in range(60)))
    ctx = context(ledger, lake, fcm, inline_limit=3, shard_min=100, chunk_size=10)
    low, high = (routed(ctx, topics=["t"], priority=priority) for priority in ("low", "high"))
    for request_id in (low, high):
        assert [ref.shard for ref in broadcast.snapshot(ctx, request_id)] == [0]
    return ctx, low, high


def test_a_broadcast_makes_way_until_the_one_above_it_is_done(ledger: Ledger, folder_lake: Lake) -> None:
    fcm = _Ranked()
    ctx, low, high = _two_broadcasts(ledger, folder_lake, fcm)
    # Held as by the process that will send it, so that the low one finds it under way.
    other = replace(ctx, owner="another")
    shards.hold_shard(ledger, high, 0, other.owner, ctx.clock(), 10)
    sending = threading.Thread(target=broadcast.send_shard, args=(ctx, low, 0))
    sending.start()
    wait_for(lambda: any(row.lease_owner for row in shards.shards(ledger, low)))
    assert broadcast.send_shard(other, high, 0).done
    sending.join()
    assert fcm.ranks == [0] * 60 + [2] * 60


def test_a_process_that_died_is_made_way_for_until_its_lease_runs_out(ledger: Ledger, folder_lake: Lake) -> None:
    fcm = _Ranked()
    ctx, low, high = _two_broadcasts(ledger, folder_lake, fcm)
    shards.hold_shard(ledger, high, 0, "dead", ctx.clock(), 0.8)
    assert shards.outranked(ledger, 2, ctx.clock())
    assert not shards.outranked(ledger, 0, ctx.clock())
    assert broadcast.send_shard(ctx, low, 0).done
    assert not shards.outranked(ledger, 2, ctx.clock())
    assert fcm.ranks == [2] * 60


def test_whoever_makes_way_for_long_sends_a_chunk_now_and_then(
    ledger: Ledger, folder_lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yielding, "_PATIENCE_S", 0.01)
    fcm = _Ranked()
    ctx, low, high = _two_broadcasts(ledger, folder_lake, fcm)
    shards.hold_shard(ledger, high, 0, "hangs", ctx.clock(), 3600)
    assert broadcast.send_shard(ctx, low, 0).done


class _Ranked(FakeSender):
    """Keeps the ranks of those called, in order."""

    def __init__(self) -> None:
        super().__init__(Channel.FCM)
        self.ranks: list[int] = []

    async def send(
        self, message: Message, recipients: Sequence[Recipient], delivery_ids: Sequence[str], report: Report
    ) -> None:
        self.ranks += [message.notification.priority.rank] * len(recipients)
        await super().send(message, recipients, delivery_ids, report)
