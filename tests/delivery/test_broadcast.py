"""Broadcasts over both ledgers: snapshot, shards, resuming, retries, and two processes that claim one shard."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import (
    audit,
    broadcasts,
    chunks,
    devices,
    policies,
    requests,
    routing,
    shards,
    suppressions,
)
from notify_pipeline.core.ledger.devices import Registration
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.leases import LeaseLost
from notify_pipeline.core.ledger.requests import RequestRow
from notify_pipeline.core.ledger.shards import HeldBy
from notify_pipeline.core.ledger.suppressions import NewSuppression
from notify_pipeline.core.records import Recipient
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.vocabulary import Channel, Outcome, Platform, PolicyKind, RequestState, SuppressionReason
from notify_pipeline.delivery import attempts, broadcast, chunk_sender, notifications, planning, snapshot
from notify_pipeline.delivery.chunk_sender import ChunkSender, Shard
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.delivery.shard_state import Chunk
from tests.delivery.fakes import TENANT, FakeSender, accept, context, land, result, rows_of
from tests.delivery.lakes import T0, Landing, row

# Two parts: 55 + 15 and 40 recipients.
SIZES = {"inline_limit": 3, "shard_min": 40, "chunk_size": 10}
FIRST = 55  # FCM's recipients in the first part


def found(ledger: Ledger, request_id: str) -> RequestRow:
    got = requests.get(ledger, TENANT, request_id)
    assert got is not None
    return got


def routed(ctx: DeliveryContext, **body: Any) -> str:
    """Accept a send and route it as a broadcast, as the drain does."""
    request_id = accept(ctx.ledger, **body)
    (claimed,) = routing.claim(ctx.ledger, "planner", datetime.now(UTC), 5, 10)
    rules = planning.Rules(frozenset(Channel), 0, ctx.delivery_secret, "plan")
    plan = planning.broadcast(notifications.parse(claimed), (), rules, datetime.now(UTC))
    assert routing.store(ctx.ledger, "planner", [plan], datetime.now(UTC)) == [True]
    return request_id


def run(ctx: DeliveryContext, request_id: str) -> RequestState:
    for ref in broadcast.snapshot(ctx, request_id):
        assert broadcast.send_shard(ctx, request_id, ref.shard).done
    return broadcast.finish(ctx, request_id)


def attempts_of(ctx: DeliveryContext, *names: str) -> list[tuple[Any, ...]]:
    return sorted((tuple(each[name] for name in names) for each in rows_of(ctx.lake, "attempts")), key=str)


@pytest.fixture
def ctx(ledger: Ledger, folder_lake: Lake, fcm: FakeSender, apns: FakeSender) -> DeliveryContext:
    landing = Landing(folder_lake, ledger)
    phones = [row(f"a{n:03d}", 1, ["t"], user_id=f"u{n}") for n in range(95)]
    landing.land(*phones, *(row(f"i{n:03d}", 1, ["t"], platform="ios") for n in range(15)))
    return context(ledger, folder_lake, fcm, apns, **SIZES)


def test_everybody_gets_it_once_and_every_table_agrees(ctx: DeliveryContext, fcm: FakeSender, apns: FakeSender) -> None:
    request_id = routed(ctx, topics=["t"])
    refs = broadcast.snapshot(ctx, request_id)
    assert [(ref.part, ref.channel, ref.recipients) for ref in refs] == [
        (0, "apns", 15),
        (0, "fcm", 55),
        (1, "fcm", 40),
    ]
    assert broadcast.snapshot(ctx, request_id) == refs
    assert run(ctx, request_id) is RequestState.DONE
    assert Counter(call[0] for call in fcm.calls) == {f"a{n:03d}": 1 for n in range(95)}
    assert Counter(call[0] for call in apns.calls) == {f"i{n:03d}": 1 for n in range(15)}
    request = found(ctx.ledger, request_id)
    assert request.counts == {
        "fcm": {"audience": 95, "pending": 0, "accepted": 95},
        "apns": {"audience": 15, "pending": 0, "accepted": 15},
    }
    states = [entry.to_state for entry in audit.page(ctx.ledger, request_id)]
    assert states == ["accepted", "routed", "sending", "done"]
    assert attempts_of(ctx, "recipient", "outcome", "attempt_no") == sorted(
        (call[0], "accepted", 1) for call in (*fcm.calls, *apns.calls)
    )
    users = {(f"a{n:03d}", f"u{n}") for n in range(95)} | {(f"i{n:03d}", None) for n in range(15)}
    assert set(attempts_of(ctx, "recipient", "user_id")) == users
    assert {each[0] for each in attempts_of(ctx, "delivery_id")} == {call[1] for call in (*fcm.calls, *apns.calls)}
    land(ctx.ledger, ctx.lake)
    audiences = {(each["channel"], each["platform"]): each["recipients"] for each in rows_of(ctx.lake, "audiences")}
    assert audiences == {("fcm", "android"): 95, ("apns", "ios"): 15}
    assert run(ctx, request_id) is RequestState.DONE
    assert len(fcm.calls) == 95


def test_a_mailbox_that_bounced_is_nothing_to_a_push_broadcast(ctx: DeliveryContext, fcm: FakeSender) -> None:
    bounced = NewSuppression(TENANT, Channel.EMAIL, "ada@example.com", SuppressionReason.HARD_BOUNCE, "550", "t")
    suppressions.add(ctx.ledger, bounced, datetime.now(UTC))
    request_id = routed(ctx, topics=["t"], channels=["fcm"])
    assert run(ctx, request_id) is RequestState.DONE
    assert len(fcm.calls) == 95
    assert attempts_of(ctx, "outcome", "consent") == [("accepted", None)] * 95


def test_the_channel_filter_holds(ctx: DeliveryContext, fcm: FakeSender, apns: FakeSender) -> None:
    assert run(ctx, routed(ctx, topics=["t"], channels=["apns"])) is RequestState.DONE
    assert (len(fcm.calls), len(apns.calls)) == (0, 15)


def test_a_send_to_many_users_can_be_a_broadcast(ctx: DeliveryContext, fcm: FakeSender) -> None:
    for number in range(4):
        registration = Registration(f"d{number}", Platform.ANDROID, user_id="u")
        devices.register(ctx.ledger, TENANT, registration, datetime.now(UTC))
    assert run(ctx, routed(ctx, users=["u"])) is RequestState.DONE
    assert sorted(call[0] for call in fcm.calls) == ["d0", "d1", "d2", "d3"]


def test_nobody_left_at_the_snapshot_is_done_at_once(ctx: DeliveryContext) -> None:
    request_id = routed(ctx, topics=["nobody"])
    assert broadcast.snapshot(ctx, request_id) == []
    assert found(ctx.ledger, request_id).state is RequestState.DONE
    assert broadcast.finish(ctx, request_id) is RequestState.DONE


def test_registrations_that_do_not_land_stop_the_snapshot(ctx: DeliveryContext) -> None:
    request_id = routed(ctx, topics=["t"])
    devices.register(ctx.ledger, TENANT, Registration("late", Platform.IOS, topics=["t"]), datetime.now(UTC))
    impatient = context(ctx.ledger, ctx.lake, landing_wait_s=0.1)
    with pytest.raises(broadcast.NotLanded, match="1 registrations"):
        broadcast.snapshot(impatient, request_id)
    land(ctx.ledger, ctx.lake)
    assert sum(ref.recipients for ref in broadcast.snapshot(impatient, request_id)) == 111


def test_failures_are_retried_while_others_are_done(ctx: DeliveryContext, fcm: FakeSender) -> None:
    def answer(recipient: Recipient, number: int) -> Outcome:
        flaky = {"a001": Outcome.TRANSIENT, "a002": Outcome.THROTTLED, "a003": Outcome.AMBIGUOUS}
        always = {"a004": Outcome.PERMANENT, "a005": Outcome.TRANSIENT}
        return always.get(recipient.address) or (
            flaky.get(recipient.address, Outcome.ACCEPTED) if number < 3 else Outcome.ACCEPTED
        )

    fcm.answer = answer
    request_id = routed(ctx, topics=["t"], channels=["fcm"])
    assert run(ctx, request_id) is RequestState.DONE
    calls = Counter(call[0] for call in fcm.calls)
    assert {name: calls[name] for name in ("a000", "a001", "a002", "a003", "a004", "a005")} == {
        "a000": 1, "a001": 3, "a002": 3, "a003": 3, "a004": 1, "a005": 6,
    }  # fmt: skip
    counts = {"audience": 95, "pending": 0, "accepted": 93, "permanent": 1, "transient": 1}
    assert found(ctx.ledger, request_id).counts["fcm"] == counts
    assert Counter(each[0] for each in attempts_of(ctx, "recipient")) == calls
    gave_up = [entry.detail for entry in audit.page(ctx.ledger, request_id) if entry.event == "deliveries.gave_up"]
    assert gave_up == [{"channel": "fcm", "reasons": {"attempts_exhausted": 1}}]


def test_a_tenants_retry_policy_holds_for_its_broadcasts(
    ctx: DeliveryContext, fcm: FakeSender, apns: FakeSender
) -> None:
    for name, lives in (("fcm", 2), ("", 1)):
        policies.put(ctx.ledger, TENANT, PolicyKind.RETRY, {"attempts": lives}, "k", T0, name=name)
    fcm.answer = apns.answer = lambda recipient, number: Outcome.TRANSIENT
    assert run(ctx, routed(ctx, topics=["t"])) is RequestState.FAILED
    assert (len(fcm.calls), len(apns.calls)) == (2 * 95, 15)


def test_what_expires_on_the_way_is_not_called(ctx: DeliveryContext, fcm: FakeSender) -> None:
    request_id = routed(ctx, topics=["t"], channels=["fcm"])
    refs = broadcast.snapshot(ctx, request_id)
    late = replace(ctx, clock=lambda: found(ctx.ledger, request_id).expires_at, owner="late")
    for ref in refs:
        broadcast.send_shard(late, request_id, ref.shard)
    assert broadcast.finish(ctx, request_id) is RequestState.EXPIRED
    assert fcm.calls == []
    assert {each[0] for each in attempts_of(ctx, "provider_code")} == {"ttl"}


def test_a_broadcast_that_expired_before_its_snapshot_reaches_nobody(ctx: DeliveryContext, fcm: FakeSender) -> None:
    request_id = routed(ctx, topics=["t"])
    late = replace(ctx, clock=lambda: found(ctx.ledger, request_id).expires_at, owner="late")
    assert broadcast.snapshot(late, request_id) == []
    assert found(ctx.ledger, request_id).state is RequestState.EXPIRED
    assert broadcast.finish(ctx, request_id) is RequestState.EXPIRED
    assert fcm.calls == [] and ctx.lake.list("snapshots") == []


def test_a_channel_without_credentials_is_skipped(ctx: DeliveryContext, apns: FakeSender) -> None:
    only = context(ctx.ledger, ctx.lake, apns, **SIZES)
    request_id = routed(ctx, topics=["t"])
    assert run(only, request_id) is RequestState.DONE
    assert found(ctx.ledger, request_id).counts["fcm"] == {"audience": 95, "pending": 0, "skipped": 95}


def test_a_shard_is_held_by_one_and_waited_for_when_its_holder_died(ctx: DeliveryContext, fcm: FakeSender) -> None:
    ctx = replace(ctx, settings=ctx.settings.model_copy(update={"lease_seconds": 2.5}))
    request_id = routed(ctx, topics=["t"], channels=["fcm"])
    broadcast.snapshot(ctx, request_id)
    shards.hold_shard(ctx.ledger, request_id, 0, "other", datetime.now(UTC), 60)
    with pytest.raises(HeldBy, match="is held by other"):
        broadcast.send_shard(ctx, request_id, 0)
    shards.hold_shard(ctx.ledger, request_id, 0, "other", datetime.now(UTC), 0.3)
    assert broadcast.send_shard(ctx, request_id, 0).done
    with pytest.raises(KeyError):
        broadcast.send_shard(ctx, request_id, 77)


def test_a_stop_finishes_what_is_under_way_and_the_next_goes_on(ctx: DeliveryContext, fcm: FakeSender) -> None:
    request_id = routed(ctx, topics=["t"], channels=["fcm"])
    broadcast.snapshot(ctx, request_id)
    stop = threading.Event()

    def answer(recipient: Recipient, number: int) -> Outcome:
        if len(fcm.calls) == 5:
            stop.set()
        return Outcome.ACCEPTED

    fcm.answer = answer
    few = context(ctx.ledger, ctx.lake, fcm, **SIZES, chunks_in_flight=1)
    totals = broadcast.send_shard(few, request_id, 0, stop)
    assert (totals.done, totals.stopped_reason) == (False, "stopped")
    assert 5 <= totals.outcomes["accepted"] < 40
    assert broadcast.send_shard(few, request_id, 0).done
    assert max(Counter(call[0] for call in fcm.calls).values()) == 1


def test_finishing_needs_every_shard(ctx: DeliveryContext) -> None:
    request_id = routed(ctx, topics=["t"])
    with pytest.raises(ValueError, match="is routed"):
        broadcast.finish(ctx, request_id)
    broadcast.snapshot(ctx, request_id)
    broadcast.send_shard(ctx, request_id, 0)
    with pytest.raises(ValueError, match=r"shards \[1, 2\] are not done"):
        broadcast.finish(ctx, request_id)


def test_due_broadcasts_say_how_far_they_are(ctx: DeliveryContext) -> None:
    assert broadcast.due(ctx.ledger, datetime.now(UTC)) == []
    low, high = routed(ctx, topics=["t"], priority="low"), routed(ctx, topics=["t"], priority="high")
    broadcast.snapshot(ctx, low)
    broadcast.send_shard(ctx, low, 1)
    shards.hold_shard(ctx.ledger, low, 2, "somebody", datetime.now(UTC), 60)
    due = broadcast.due(ctx.ledger, datetime.now(UTC))
    assert [(d.request_id, str(d.state), d.shards, d.shards_done, d.lease_alive) for d in due] == [
        (high, "routed", 0, 0, False),
        (low, "sending", 3, 1, True),
    ]
    assert run(ctx, high) is RequestState.DONE
    assert [d.request_id for d in broadcast.due(ctx.ledger, datetime.now(UTC))] == [low]


def test_files_of_a_dead_snapshot_are_not_mixed_in_and_go_at_the_end(ctx: DeliveryContext, fcm: FakeSender) -> None:
    request_id = routed(ctx, topics=["t"])
    folder = f"snapshots/request={request_id}"
    refs = broadcast.snapshot(ctx, request_id)
    path = shards.shards(ctx.ledger, request_id)[0].path
    ctx.lake.write(f"{folder}/dead-shard-00000.parquet", ctx.lake.read(path))
    assert run(ctx, request_id) is RequestState.DONE
    assert len(ctx.lake.list(folder)) == len(refs)
    assert len(fcm.calls) == 95


@contextmanager
def intended(ctx: DeliveryContext, request_id: str, ordinals: Sequence[int]) -> Iterator[tuple[ChunkSender, Chunk]]:
    """Take shard 0, make one chunk's intent durable, and yield what a process would go on with."""
    held = shards.hold_shard(ctx.ledger, request_id, 0, ctx.owner, datetime.now(UTC), 0.05)
    notification = notifications.parse(routing.load(ctx.ledger, [request_id])[0])
    with Shard.open(ctx, held, notification) as shard, ThreadPoolExecutor(1) as tables:
        sender = ChunkSender(ctx, shard, FakeSender(Channel.FCM), tables, threading.Event())
        chunk = Chunk(0, ordinals, [1] * len(ordinals))
        broadcasts.intend(ctx.ledger, ctx.owner, sender._new(chunk))
        yield sender, chunk


def intend(ctx: DeliveryContext, request_id: str, ordinals: Sequence[int]) -> None:
    """Intend a chunk and die."""
    with intended(ctx, request_id, ordinals):
        pass


def test_a_chunk_without_outcomes_is_ambiguous_and_sent_again(ctx: DeliveryContext, fcm: FakeSender) -> None:
    request_id = routed(ctx, topics=["t"], channels=["fcm"])
    broadcast.snapshot(ctx, request_id)
    dead = replace(ctx, run_id="dead", owner="dead/1")
    intend(dead, request_id, range(7))
    totals = broadcast.send_shard(ctx, request_id, 0)
    assert (totals.ambiguous_chunks, totals.outcomes) == (1, {"accepted": FIRST})
    mine = [each for each in attempts_of(ctx, "recipient", "attempt_no", "outcome", "run_id")]
    unknown = [each for each in mine if each[2] == "ambiguous"]
    assert len(unknown) == 7 and {each[1] for each in unknown} == {1} and {each[3] for each in unknown} == {"dead"}
    again = {each[0] for each in mine if each[1] == 2}
    assert again == {each[0] for each in unknown}
    assert max(Counter(call[0] for call in fcm.calls).values()) == 1


def test_ambiguous_recipients_can_be_left(ctx: DeliveryContext, fcm: FakeSender) -> None:
    request_id = routed(ctx, topics=["t"], channels=["fcm"], on_ambiguous="leave")
    broadcast.snapshot(ctx, request_id)
    intend(replace(ctx, run_id="dead", owner="dead/1"), request_id, range(7))
    assert broadcast.send_shard(ctx, request_id, 0).outcomes == {"accepted": FIRST - 7, "ambiguous": 7}
    assert len(fcm.calls) == FIRST - 7


def test_a_chunk_whose_outcomes_were_written_is_not_sent_again(ctx: DeliveryContext, fcm: FakeSender) -> None:
    request_id = routed(ctx, topics=["t"], channels=["fcm"])
    broadcast.snapshot(ctx, request_id)
    answers = [Outcome.ACCEPTED, Outcome.PERMANENT, Outcome.TRANSIENT, Outcome.ACCEPTED]
    results = attempts.by_column([result(outcome) for outcome in answers])
    with intended(replace(ctx, run_id="dead", owner="dead/1"), request_id, range(4)) as (dying, chunk):
        (stored,) = chunks.left(ctx.ledger, request_id, 0)
        assert dying._record.write(stored, dying._shard.recipients(chunk), results).is_mine
        again = dying._record.write(stored, dying._shard.recipients(chunk), results)
        assert again.is_mine, "the same again is its own"
    assert broadcast.send_shard(ctx, request_id, 0).outcomes == {"accepted": FIRST - 1, "permanent": 1}
    assert len(fcm.calls) == FIRST - 4 + 1


def test_a_process_that_wakes_up_after_its_lease_calls_nobody_and_says_so(
    ctx: DeliveryContext, fcm: FakeSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was not called is not ambiguous, so even a send that leaves those reaches everybody."""
    slept: list[float] = []
    woken: list[float] = []
    real = broadcasts.intend

    def intend(*args: Any) -> None:
        real(*args)
        if not woken:
            slept.append(1_000.0)

    def monotonic() -> float:
        woken.extend(slept)
        return time.monotonic() + (slept.pop() if slept else 0.0)

    monkeypatch.setattr(broadcasts, "intend", intend)
    monkeypatch.setattr(chunk_sender, "time", SimpleNamespace(monotonic=monotonic))
    devices.register(ctx.ledger, TENANT, Registration("phone", Platform.ANDROID, user_id="u1"), datetime.now(UTC))
    request_id = routed(ctx, users=["u1"], on_ambiguous="leave")
    assert run(ctx, request_id) is RequestState.DONE
    assert len(fcm.calls) == 1 and woken == [1_000.0]
    found = sorted((row["attempt_no"], row["outcome"], row["provider_code"]) for row in rows_of(ctx.lake, "attempts"))
    assert found == [(1, "transient", "not_processed:lease_lapsed"), (2, "accepted", "fake_accepted")]


def test_a_sleeper_cannot_change_what_its_successor_settled(ctx: DeliveryContext) -> None:
    request_id = routed(ctx, topics=["t"], channels=["fcm"])
    broadcast.snapshot(ctx, request_id)
    with intended(replace(ctx, run_id="dead", owner="dead/1"), request_id, range(4)) as (sleeper, chunk):
        before = sleeper._new(chunk)
        assert broadcast.send_shard(ctx, request_id, 0).ambiguous_chunks == 1
        stored = list(chunks.newest_first(ctx.ledger, request_id, 0))
        rows = attempts_of(ctx, "recipient", "attempt_no", "outcome")
        late = replace(before, path=stored[-1].path, intended_at=stored[-1].intended_at)
        results = attempts.by_column([result(Outcome.ACCEPTED)] * 4)
        written = sleeper._record.write(late, sleeper._shard.recipients(chunk), results)
        assert not written.is_mine
        with pytest.raises(LeaseLost):
            sleeper._settle(late, chunk, sleeper._shard.recipients(chunk), written)
    with pytest.raises(LeaseLost):
        broadcasts.intend(ctx.ledger, "dead/1", replace(before, chunk=99))
    with pytest.raises(LeaseLost):
        shards.end_shard(ctx.ledger, request_id, 0, "dead/1", datetime.now(UTC))
    assert list(chunks.newest_first(ctx.ledger, request_id, 0)) == stored
    assert attempts_of(ctx, "recipient", "attempt_no", "outcome") == rows


def test_a_process_that_loses_its_shard_stops(ctx: DeliveryContext, fcm: FakeSender) -> None:
    request_id = routed(ctx, topics=["t"], channels=["fcm"])
    broadcast.snapshot(ctx, request_id)

    def steal(recipient: Recipient, number: int) -> Outcome:
        if len(fcm.calls) == 3:
            later = datetime.fromtimestamp(datetime.now(UTC).timestamp() + 60, UTC)
            shards.hold_shard(ctx.ledger, request_id, 0, "thief", later, 60)
        return Outcome.ACCEPTED

    fcm.answer = steal
    one = context(ctx.ledger, ctx.lake, fcm, **SIZES, chunks_in_flight=1)
    with pytest.raises(LeaseLost):
        broadcast.send_shard(one, request_id, 0)
    assert len(fcm.calls) == 2 + 4  # the chunk that it stole in, and the one before


def test_a_shard_that_is_lost_does_not_stop_the_one_beside_it(
    ctx: DeliveryContext, fcm: FakeSender, apns: FakeSender
) -> None:
    request_id = routed(ctx, topics=["t"])
    refs = {ref.shard: ref for ref in broadcast.snapshot(ctx, request_id)}

    def steal(recipient: Recipient, number: int) -> Outcome:
        if len(fcm.calls) == 3:
            later = datetime.fromtimestamp(datetime.now(UTC).timestamp() + 60, UTC)
            shards.hold_shard(ctx.ledger, request_id, 1, "thief", later, 60)
        return Outcome.ACCEPTED

    fcm.answer = steal
    assert (refs[0].channel, refs[1].channel) == ("apns", "fcm")
    with pytest.raises(LeaseLost):
        broadcast.send_shards(ctx, request_id, [0, 1])
    done = {row.shard: row.done_at is not None for row in shards.shards(ctx.ledger, request_id)}
    assert done == {0: True, 1: False, 2: False}
    assert len(apns.calls) == 15


@given(at_least=st.integers(0, 10**8), processes=st.integers(1, 16))
def test_parts_are_as_many_as_processes_within_their_bounds(at_least: int, processes: int) -> None:
    settings = Settings(broadcast_processes=processes)
    parts = snapshot.part_count(settings, at_least)
    assert parts >= 1 and at_least / parts <= settings.shard_max
    assert parts == 1 or at_least / parts >= settings.shard_min
    if settings.shard_min * processes <= at_least <= settings.shard_max * processes:
        assert parts == processes


def test_a_snapshot_over_s3_and_a_rebuilt_base(lake: Lake, sqlite_ledger: Ledger) -> None:
    from notify_pipeline.delivery.audience import rebuild_base

    fcm = FakeSender(Channel.FCM)
    landing = Landing(lake, sqlite_ledger)
    landing.land(*(row(f"a{n:03d}", 1, ["t"]) for n in range(30)))
    rebuild_base(lake, sqlite_ledger, T0)
    landing.land(row("a000", 2, [], op="delete"), row("b000", 1, ["t"]))
    ctx = context(sqlite_ledger, lake, fcm, **SIZES)
    assert run(ctx, routed(ctx, topics=["t"])) is RequestState.DONE
    assert sorted(call[0] for call in fcm.calls) == [*(f"a{n:03d}" for n in range(1, 30)), "b000"]
    files = [lake.uri(file.path) for file in lake.list("attempts")]
    table = pl.scan_parquet(files, storage_options=lake.polars_options() or None, hive_partitioning=True).collect()
    assert table["outcome"].value_counts().rows() == [("accepted", 30)]
