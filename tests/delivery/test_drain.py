"""The drain over both ledgers, with channels that answer as the test says."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import audit, deliveries, devices, policies, requests, routing
from notify_pipeline.core.ledger.devices import Registration
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.requests import RequestRow
from notify_pipeline.core.vocabulary import Channel, Outcome, Platform, PolicyKind, RequestState
from notify_pipeline.delivery import notifications, planning
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.delivery.drain import DrainTotals, run_drain
from notify_pipeline.delivery.known import find_known
from tests.delivery.fakes import TENANT, FakeSender, accept, context, land, result, rows_of


def register(ledger: Ledger, token: str, platform: Platform = Platform.ANDROID, **more: Any) -> None:
    devices.register(ledger, TENANT, Registration(token, platform, **more), datetime.now(UTC))


def found(ledger: Ledger, request_id: str) -> RequestRow:
    row = requests.get(ledger, TENANT, request_id)
    assert row is not None
    return row


def drain_until(ctx: DeliveryContext, reached: Callable[[], bool], timeout_s: float = 60.0) -> DrainTotals:
    """Run a drain until something is true; it is a failure if that takes too long."""
    stop = threading.Event()
    seen: list[bool] = []

    def watch() -> None:
        give_up = time.monotonic() + timeout_s
        while not (ok := reached()) and time.monotonic() < give_up and not stop.is_set():
            time.sleep(0.02)
        seen.append(ok)
        stop.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        return run_drain(ctx, stop)
    finally:
        stop.set()
        watcher.join()
        assert seen == [True], "what the test waits for did not happen"


def drain_to_end(ctx: DeliveryContext, *request_ids: str) -> DrainTotals:
    return drain_until(ctx, lambda: all(found(ctx.ledger, each).state.is_final for each in request_ids))


@pytest.fixture
def ctx(ledger: Ledger, folder_lake: Lake, fcm: FakeSender, apns: FakeSender) -> DeliveryContext:
    return context(ledger, folder_lake, fcm, apns)


def test_a_send_to_a_user_reaches_each_of_their_devices_once(
    ctx: DeliveryContext, fcm: FakeSender, apns: FakeSender
) -> None:
    register(ctx.ledger, "phone", user_id="u1", locale="en-GB")
    register(ctx.ledger, "tablet", Platform.IOS, user_id="u1")
    register(ctx.ledger, "other", user_id="u2")
    request_id = accept(ctx.ledger, users=["u1", "nobody"], devices=["phone"])
    totals = drain_to_end(ctx, request_id)
    assert [call[0] for call in fcm.calls] == ["phone"]
    assert [call[0] for call in apns.calls] == ["tablet"]
    assert (totals.planned, totals.outcomes, totals.stopped_reason) == (1, {"accepted": 2}, "stopped")
    row = found(ctx.ledger, request_id)
    assert row.state is RequestState.DONE
    done = {"audience": 1, "pending": 0, "accepted": 1}
    assert row.counts == {"fcm": done, "apns": done}
    assert [entry.to_state for entry in audit.page(ctx.ledger, request_id)] == ["accepted", "routed", "sending", "done"]
    history = {entry.to_state: entry.detail for entry in audit.page(ctx.ledger, request_id)}
    assert history["routed"] == {"mode": "drain", "channels": {"fcm": 1, "apns": 1}}
    assert history["sending"] == {"queued": 2}
    once = {"attempts": 1, "retries": 0}
    assert history["done"] == {"counts": row.counts, "attempts": {"fcm": once, "apns": once}}
    assert deliveries.depths(ctx.ledger) == {}


def test_the_lake_knows_every_attempt_and_the_audience(ctx: DeliveryContext, fcm: FakeSender) -> None:
    register(ctx.ledger, "phone", user_id="u1")
    request_id = accept(ctx.ledger, "n1", devices=["phone", "stranger"])
    drain_to_end(ctx, request_id)
    land(ctx.ledger, ctx.lake)
    attempts = {row["recipient"]: row for row in rows_of(ctx.lake, "attempts")}
    sent, skipped = attempts["phone"], attempts["stranger"]
    assert (sent["outcome"], sent["attempt_no"], sent["channel"], sent["provider"]) == ("accepted", 1, "fcm", "fake")
    assert (sent["delivery_id"], sent["run_id"], sent["shard"]) == (fcm.calls[0][1], ctx.run_id, None)
    assert (skipped["outcome"], skipped["provider_code"], skipped["channel"]) == ("skipped", "unregistered", None)
    assert (sent["user_id"], skipped["user_id"]) == ("u1", None)
    audiences = {(row["channel"], row["platform"]): row["recipients"] for row in rows_of(ctx.lake, "audiences")}
    assert audiences == {("fcm", "android"): 1, (None, None): 1}
    assert found(ctx.ledger, request_id).counts["none"] == {"audience": 1, "pending": 0, "skipped": 1}


def test_failures_are_retried_with_the_same_delivery_id_until_they_end(ctx: DeliveryContext, fcm: FakeSender) -> None:
    answers = [Outcome.TRANSIENT, Outcome.THROTTLED, Outcome.AMBIGUOUS, Outcome.ACCEPTED]
    fcm.answer = lambda recipient, number: answers[number - 1]
    register(ctx.ledger, "phone", user_id="u1")
    drain_to_end(ctx, accept(ctx.ledger, users=["u1"]))
    assert len({delivery_id for _, delivery_id, _ in fcm.calls}) == 1
    land(ctx.ledger, ctx.lake)
    rows = sorted(rows_of(ctx.lake, "attempts"), key=lambda row: row["attempt_no"])
    assert [(row["attempt_no"], row["outcome"]) for row in rows] == list(enumerate(map(str, answers), 1))
    (last,) = (entry for entry in audit.page(ctx.ledger, rows[0]["request_id"]) if entry.to_state == "done")
    assert last.detail is not None and last.detail["attempts"] == {"fcm": {"attempts": 4, "retries": 3}}


def test_retry_after_is_a_minimum(ctx: DeliveryContext, fcm: FakeSender) -> None:
    told = result(Outcome.THROTTLED, "429", retry_after_s=0.4)
    fcm.answer = lambda recipient, number: told if number == 1 else Outcome.ACCEPTED
    register(ctx.ledger, "phone", user_id="u1")
    drain_to_end(ctx, accept(ctx.ledger, users=["u1"]))
    first, second = (call[2] for call in fcm.calls)
    assert second - first >= 0.4


@pytest.mark.parametrize(
    ("outcome", "body", "calls", "state", "reason"),
    [
        (Outcome.TRANSIENT, {}, 6, RequestState.FAILED, "attempts_exhausted"),
        (Outcome.TRANSIENT, {"retry": False}, 1, RequestState.FAILED, "retry_not_wanted"),
        (Outcome.AMBIGUOUS, {"on_ambiguous": "leave"}, 1, RequestState.DONE, "ambiguous_left"),
        (Outcome.PERMANENT, {}, 1, RequestState.FAILED, None),
        (Outcome.INVALID_RECIPIENT, {}, 1, RequestState.FAILED, None),
        (Outcome.DRY_RUN, {"dry_run": True}, 1, RequestState.DONE, None),
        (Outcome.EXPIRED, {}, 1, RequestState.EXPIRED, None),
    ],
)
def test_what_an_outcome_makes_of_the_request(
    ctx: DeliveryContext,
    fcm: FakeSender,
    outcome: Outcome,
    body: dict[str, Any],
    calls: int,
    state: RequestState,
    reason: str | None,
) -> None:
    fcm.answer = lambda recipient, number: outcome
    register(ctx.ledger, "phone", user_id="u1")
    request_id = accept(ctx.ledger, users=["u1"], **body)
    drain_to_end(ctx, request_id)
    assert len(fcm.calls) == calls
    assert found(ctx.ledger, request_id).state is state
    assert found(ctx.ledger, request_id).counts["fcm"] == {"audience": 1, "pending": 0, str(outcome): 1}
    gave_up = [
        e.detail["reasons"] for e in audit.page(ctx.ledger, request_id) if e.event == "deliveries.gave_up" and e.detail
    ]
    assert gave_up == ([] if reason is None else [{reason: 1}])


def test_content_that_a_channel_rejects_is_permanent_for_everybody(ctx: DeliveryContext, fcm: FakeSender) -> None:
    fcm.rejects = "too_large"
    register(ctx.ledger, "a", user_id="u1")
    register(ctx.ledger, "b", user_id="u1")
    request_id = accept(ctx.ledger, users=["u1"])
    drain_to_end(ctx, request_id)
    assert found(ctx.ledger, request_id).counts["fcm"]["permanent"] == 2
    land(ctx.ledger, ctx.lake)
    assert {row["provider_code"] for row in rows_of(ctx.lake, "attempts")} == {"too_large"}


def test_nobody_to_send_to(ctx: DeliveryContext) -> None:
    register(ctx.ledger, "phone", user_id="u1")
    nobody = accept(ctx.ledger, users=["nobody"])
    unfit = accept(ctx.ledger, users=["u1"], channels=["apns"])
    stranger = accept(ctx.ledger, devices=["stranger"])
    late = accept(ctx.ledger, users=["u1"], ttl_s=-1)
    broken = accept(ctx.ledger, users=["u1"], content={"unknown": 1})
    drain_to_end(ctx, nobody, unfit, stranger, late, broken)
    rows = {name: found(ctx.ledger, each) for name, each in locals().items() if isinstance(each, str)}
    assert (rows["nobody"].state, rows["nobody"].counts) == (RequestState.DONE, {})
    assert rows["unfit"].state is RequestState.UNROUTED and "no channel" in str(rows["unfit"].reason)
    assert rows["stranger"].state is RequestState.DONE
    assert rows["late"].state is RequestState.EXPIRED
    assert rows["broken"].state is RequestState.FAILED and "unreadable" in str(rows["broken"].reason)


def test_a_channel_without_a_sender_is_skipped_with_the_reason(
    ledger: Ledger, folder_lake: Lake, fcm: FakeSender
) -> None:
    ctx = context(ledger, folder_lake, fcm)
    register(ledger, "phone", user_id="u1")
    register(ledger, "tablet", Platform.IOS, user_id="u1")
    request_id = accept(ledger, users=["u1"])
    drain_to_end(ctx, request_id)
    assert found(ledger, request_id).counts == {
        "fcm": {"audience": 1, "pending": 0, "accepted": 1},
        "apns": {"audience": 1, "pending": 0, "skipped": 1},
    }


def test_a_topic_send_waits_for_registrations_that_came_before_it(ctx: DeliveryContext, fcm: FakeSender) -> None:
    for number in range(5):
        register(ctx.ledger, f"d{number}", topics=["t"])
    request_id = accept(ctx.ledger, topics=["t", "u"])
    lander = threading.Timer(0.4, land, (ctx.ledger, ctx.lake))
    lander.start()
    drain_to_end(ctx, request_id)
    lander.join()
    assert sorted(call[0] for call in fcm.calls) == [f"d{number}" for number in range(5)]


def test_a_topic_send_is_not_lost_when_nothing_lands(
    ledger: Ledger, folder_lake: Lake, fcm: FakeSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notify_pipeline.delivery.drain_planner._POSTPONE_S", 0.05)
    ctx = context(ledger, folder_lake, fcm, landing_wait_s=0.1)
    register(ledger, "d0", topics=["t"], user_id="u1")
    waits, other = accept(ledger, topics=["t"]), accept(ledger, users=["u1"])
    drain_until(
        ctx, lambda: "had not landed" in str(found(ledger, waits).reason) and found(ledger, other).state.is_final
    )
    assert found(ledger, waits).state is RequestState.ACCEPTED
    land(ledger, folder_lake)
    drain_to_end(ctx, waits)
    assert found(ledger, waits).reason is None
    assert len(fcm.calls) == 2


def test_a_large_send_becomes_a_broadcast(ledger: Ledger, folder_lake: Lake, fcm: FakeSender) -> None:
    ctx = context(ledger, folder_lake, fcm, inline_limit=3)
    for number in range(4):
        register(ledger, f"d{number}", topics=["t"], user_id="u1")
    land(ledger, folder_lake)
    large = [accept(ledger, topics=["t"]), accept(ledger, users=["u1"])]
    small = accept(ledger, devices=["d0", "d1", "d2"])
    drain_until(
        ctx,
        lambda: all(found(ledger, each).mode == "broadcast" for each in large) and found(ledger, small).state.is_final,
    )
    assert {found(ledger, each).state for each in large} == {RequestState.ROUTED}
    assert len(fcm.calls) == 3


def test_a_scheduled_send_waits_for_its_time(ctx: DeliveryContext, fcm: FakeSender) -> None:
    register(ctx.ledger, "phone", user_id="u1")
    due = datetime.now(UTC) + timedelta(seconds=0.6)
    drain_to_end(ctx, accept(ctx.ledger, users=["u1"], send_at=due.isoformat()))
    assert fcm.calls[0][2] >= due.timestamp()


def test_one_channel_that_hangs_does_not_delay_the_other(
    ctx: DeliveryContext, fcm: FakeSender, apns: FakeSender
) -> None:
    fcm.delay_s = 30.0
    register(ctx.ledger, "phone", user_id="u1")
    register(ctx.ledger, "tablet", Platform.IOS, user_id="u2")
    ctx = context(ctx.ledger, ctx.lake, fcm, apns, request_timeout_s=0.2)
    stuck = [accept(ctx.ledger, users=["u1"]) for _ in range(3)]
    quick = [accept(ctx.ledger, users=["u2"]) for _ in range(20)]
    totals = drain_to_end(ctx, *quick)
    assert {found(ctx.ledger, each).state for each in stuck} == {RequestState.SENDING}
    # Cut off by the stop: by the sender's contract they were not called, and they wait for the next drain.
    assert totals.outcomes == {"accepted": 20, "transient": 3}
    assert deliveries.depths(ctx.ledger) == {"fcm": {"waiting": 3}}


@pytest.mark.parametrize(
    ("value", "body", "calls"),
    [({"attempts": 2}, {}, 2), ({"attempts": 9}, {"retry": False}, 1), ({"attempts": "many"}, {}, 6)],
)
def test_a_tenants_retry_policy_holds_for_its_sends(
    ctx: DeliveryContext, fcm: FakeSender, value: dict[str, Any], body: dict[str, Any], calls: int
) -> None:
    policies.put(ctx.ledger, TENANT, PolicyKind.RETRY, value, "k", datetime.now(UTC), name="fcm")
    fcm.answer = lambda recipient, number: Outcome.TRANSIENT
    register(ctx.ledger, "phone", user_id="u1")
    drain_to_end(ctx, accept(ctx.ledger, users=["u1"], **body))
    assert len(fcm.calls) == calls


def test_high_priority_is_claimed_first(ctx: DeliveryContext, fcm: FakeSender) -> None:
    for name in ("low", "normal", "high"):
        register(ctx.ledger, f"d-{name}", user_id=name)
    ids = [accept(ctx.ledger, users=[name], priority=name) for name in ("low", "normal", "high")]
    drain_to_end(ctx, *ids)
    assert [call[0] for call in fcm.calls] == ["d-high", "d-normal", "d-low"]


def test_what_a_dead_drain_had_claimed_is_ambiguous_and_sent_again(ctx: DeliveryContext, fcm: FakeSender) -> None:
    request_ids = _claimed_by_the_dead(ctx, {"a": {}, "b": {"on_ambiguous": "leave"}})
    totals = drain_to_end(ctx, *request_ids)
    assert [call[0] for call in fcm.calls] == ["phone-a"]
    assert totals.recovered == 2
    land(ctx.ledger, ctx.lake)
    rows = sorted(
        ((row["recipient"], row["attempt_no"], row["outcome"], row["run_id"]) for row in rows_of(ctx.lake, "attempts")),
    )
    assert rows == [
        ("phone-a", 1, "ambiguous", "dead-run"),
        ("phone-a", 2, "accepted", ctx.run_id),
        ("phone-b", 1, "ambiguous", "dead-run"),
    ]


def test_what_is_taken_over_goes_by_the_tenants_policy(ctx: DeliveryContext, fcm: FakeSender) -> None:
    policies.put(ctx.ledger, TENANT, PolicyKind.RETRY, {"attempts": 1}, "k", datetime.now(UTC))
    (request_id,) = _claimed_by_the_dead(ctx, {"a": {}})
    drain_to_end(ctx, request_id)
    assert fcm.calls == []
    gave_up = [e.detail for e in audit.page(ctx.ledger, request_id) if e.event == "deliveries.gave_up"]
    assert gave_up == [{"channel": "fcm", "reasons": {"attempts_exhausted": 1}}]


def test_an_outcome_that_comes_after_the_takeover_changes_nothing(ctx: DeliveryContext, fcm: FakeSender) -> None:
    (request_id,) = _claimed_by_the_dead(ctx, {"a": {}})
    (claimed,) = deliveries.abandoned(ctx.ledger, "fcm", datetime.now(UTC), 10)
    drain_to_end(ctx, request_id)
    before = found(ctx.ledger, request_id)
    ended = deliveries.Ended(claimed, Outcome.PERMANENT, None, {"outcome": "permanent", "sent_at": 1})
    assert deliveries.settle(ctx.ledger, "fcm", [ended], datetime.now(UTC)).late == (claimed.delivery_id,)
    assert found(ctx.ledger, request_id) == before


def test_a_lease_that_was_renewed_is_not_taken_over(ctx: DeliveryContext) -> None:
    _claimed_by_the_dead(ctx, {"a": {}})
    (claimed,) = deliveries.abandoned(ctx.ledger, "fcm", datetime.now(UTC), 10)
    assert deliveries.renew(ctx.ledger, "fcm", claimed.owner, datetime.now(UTC), 60) == 1
    ended = deliveries.Ended(claimed, Outcome.AMBIGUOUS, None, {"outcome": "ambiguous", "sent_at": 1})
    assert deliveries.settle_abandoned(ctx.ledger, "fcm", [ended], datetime.now(UTC)).late == (claimed.delivery_id,)
    assert deliveries.settle(ctx.ledger, "fcm", [ended], datetime.now(UTC)).late == ()


def _claimed_by_the_dead(ctx: DeliveryContext, sends: dict[str, dict[str, Any]]) -> list[str]:
    """Plan sends, then claim their deliveries as a process that dies at once."""
    ids = []
    for name, body in sends.items():
        register(ctx.ledger, f"phone-{name}", user_id=name)
        ids.append(accept(ctx.ledger, users=[name], **body))
    now = datetime.now(UTC)
    found = [notifications.parse(row) for row in routing.claim(ctx.ledger, "dead-run/x", now, 1.0, 10)]
    known = find_known(ctx.ledger, found)
    rules = planning.Rules(frozenset(Channel), 100, ctx.delivery_secret, "dead-run")
    plans = [planning.plan(each, known[each.request_id], rules, now) for each in found]
    assert routing.store(ctx.ledger, "dead-run/x", plans, now) == [True] * len(sends)
    assert len(deliveries.claim(ctx.ledger, "fcm", "dead-run/x", datetime.now(UTC), 0.0, 10)) == len(sends)
    return ids
