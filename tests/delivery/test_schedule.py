"""Small sends over both ledgers with a clock that the test moves: local time, quiet hours, caps, and what expires."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import audit, deliveries, policies, users
from notify_pipeline.core.ledger.engine import Ledger, utc_now
from notify_pipeline.core.records import Notification
from notify_pipeline.core.vocabulary import Outcome, Platform, PolicyKind, RequestState
from notify_pipeline.delivery import scheduling
from notify_pipeline.delivery.context import DeliveryContext
from tests.delivery.clocks import NOON, Clock, accept_at
from tests.delivery.fakes import TENANT, FakeSender, context, land, rows_of
from tests.delivery.test_drain import drain_to_end, drain_until, found, register
from tests.delivery.test_timing import send

NIGHT = {"from": "22:00", "until": "07:00", "timezone": None}
# Where it is 09:00 on the 22nd, by hour of UTC.
NINE = {
    "Pacific/Kiritimati": datetime(2026, 11, 21, 19, tzinfo=UTC),
    "Asia/Tokyo": datetime(2026, 11, 22, 0, tzinfo=UTC),
    "Europe/Berlin": datetime(2026, 11, 22, 8, tzinfo=UTC),
    "America/New_York": datetime(2026, 11, 22, 14, tzinfo=UTC),
    "Pacific/Honolulu": datetime(2026, 11, 22, 19, tzinfo=UTC),
}


@pytest.fixture
def ctx(
    ledger: Ledger,
    folder_lake: Lake,
    fcm: FakeSender,
    apns: FakeSender,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> DeliveryContext:
    monkeypatch.setattr(scheduling, "KEPT_S", 0.0)
    return context(ledger, folder_lake, fcm, apns, clock=clock)


def policy(ledger: Ledger, kind: PolicyKind, value: dict[str, Any], name: str = "") -> None:
    policies.put(ledger, TENANT, kind, value, "k", NOON, name=name)


def sent(sender: FakeSender) -> list[str]:
    return sorted(call[0] for call in sender.calls)


def sending(ctx: DeliveryContext, *request_ids: str) -> Callable[[], bool]:
    return lambda: all(found(ctx.ledger, each).state is RequestState.SENDING for each in request_ids)


def pending(ctx: DeliveryContext, request_id: str, number: int) -> bool:
    return found(ctx.ledger, request_id).counts.get("fcm", {}).get("pending") == number


def codes(ctx: DeliveryContext) -> Counter[tuple[str, str, str]]:
    land(ctx.ledger, ctx.lake)
    names = ("recipient", "outcome", "provider_code")
    return Counter(tuple(row[name] for name in names) for row in rows_of(ctx.lake, "attempts"))


def test_nine_o_clock_comes_to_each_zone_in_its_turn(ctx: DeliveryContext, fcm: FakeSender, clock: Clock) -> None:
    for zone in NINE:
        register(ctx.ledger, zone.replace("/", "-"), user_id=zone, timezone=zone)
    request_id = accept_at(ctx.ledger, clock(), users=sorted(NINE), send_at_local="2026-11-22T09:00:00")
    for number, (zone, moment) in enumerate(NINE.items(), 1):
        clock.set(moment - timedelta(seconds=1))
        if number > 1:
            drain_until(
                ctx, lambda: deliveries.depths(ctx.ledger) != {} or found(ctx.ledger, request_id).state.is_final
            )
            counts = found(ctx.ledger, request_id).counts["fcm"]
            assert (counts["pending"], counts["accepted"]) == (6 - number, number - 1)
        clock.set(moment)
        drain_until(ctx, partial(pending, ctx, request_id, 5 - number))
        assert len(fcm.calls) == number
        assert fcm.calls[-1][0] == zone.replace("/", "-")
    assert found(ctx.ledger, request_id).state is RequestState.DONE
    assert deliveries.depths(ctx.ledger) == {}


def test_a_device_without_a_zone_goes_by_its_user_s(ctx: DeliveryContext, fcm: FakeSender, clock: Clock) -> None:
    users.put(ctx.ledger, TENANT, "u", users.Profile(timezone="Asia/Tokyo"), "k", NOON)
    register(ctx.ledger, "phone", user_id="u")
    request_id = accept_at(ctx.ledger, clock(), users=["u"], send_at_local="2026-11-22T09:00:00")
    clock.set(NINE["Asia/Tokyo"] - timedelta(seconds=1))
    drain_until(ctx, sending(ctx, request_id))
    assert fcm.calls == []
    clock.set(NINE["Asia/Tokyo"])
    drain_to_end(ctx, request_id)


def test_a_local_send_carries_each_recipient_s_own_expiry(ctx: DeliveryContext, fcm: FakeSender, clock: Clock) -> None:
    seen: list[datetime] = []
    prepare = fcm.prepare

    def watched(notification: Notification, platform: Platform) -> Any:
        seen.append(notification.expires_at)
        return prepare(notification, platform)

    fcm.prepare = watched  # type: ignore[method-assign]
    for zone in ("Asia/Tokyo", "Europe/Berlin"):
        register(ctx.ledger, zone[:4], user_id="u", timezone=zone)
    request_id = accept_at(ctx.ledger, clock(), ttl=7200, users=["u"], send_at_local="2026-11-22T09:00:00")
    clock.set(NINE["Asia/Tokyo"] + timedelta(hours=1))
    drain_until(ctx, lambda: len(fcm.calls) == 1)
    # The other one's two hours pass while nobody is there to send it.
    clock.set(NINE["Europe/Berlin"] + timedelta(hours=2))
    drain_to_end(ctx, request_id)
    assert seen == [NINE["Asia/Tokyo"] + timedelta(hours=2)]
    assert codes(ctx) == {("Asia", "accepted", "fake_accepted"): 1, ("Euro", "expired", "ttl"): 1}
    assert found(ctx.ledger, request_id).counts["fcm"] == {"audience": 2, "pending": 0, "accepted": 1, "expired": 1}


@pytest.mark.parametrize("own", [False, True])
def test_quiet_hours_are_waited_for_skipped_or_ignored_as_the_send_says(
    ctx: DeliveryContext, fcm: FakeSender, clock: Clock, own: bool
) -> None:
    if own:
        users.put_quiet_hours(ctx.ledger, TENANT, "u", NIGHT, "k", NOON)
    else:
        policy(ctx.ledger, PolicyKind.QUIET_HOURS, NIGHT)
    register(ctx.ledger, "tokyo", user_id="u", timezone="Asia/Tokyo")
    clock.set(NOON + timedelta(hours=3))  # midnight in Tokyo
    ignores = accept_at(ctx.ledger, clock(), users=["u"], quiet_hours="ignore", priority="low")
    drain_to_end(ctx, ignores)
    assert len(fcm.calls) == 1
    skips = accept_at(ctx.ledger, clock(), users=["u"], quiet_hours="skip")
    ends = accept_at(ctx.ledger, clock(), users=["u"], ttl=3600, priority="high")
    drain_to_end(ctx, skips, ends)
    skipped = {"audience": 1, "pending": 0, "skipped": 1}
    assert [found(ctx.ledger, each).counts["fcm"] for each in (skips, ends)] == [skipped, skipped]
    assert [found(ctx.ledger, each).state for each in (skips, ends)] == [RequestState.DONE] * 2
    assert codes(ctx)["tokyo", "skipped", "quiet_hours"] == 2
    (entry,) = (entry for entry in audit.page(ctx.ledger, skips) if entry.to_state == "done")
    assert entry.detail == {"skipped": {"quiet_hours": 1}}
    waits = accept_at(ctx.ledger, clock(), users=["u"])
    drain_until(ctx, sending(ctx, waits))
    clock.set(NOON + timedelta(hours=10) - timedelta(seconds=1))
    drain_until(ctx, lambda: True)
    assert len(fcm.calls) == 1
    clock.advance(seconds=1)
    drain_to_end(ctx, waits)
    assert len(fcm.calls) == 2


def test_a_drain_that_was_down_does_not_wake_anybody(ctx: DeliveryContext, fcm: FakeSender, clock: Clock) -> None:
    policy(ctx.ledger, PolicyKind.QUIET_HOURS, NIGHT)
    for zone in ("Asia/Tokyo", "Europe/Berlin"):
        register(ctx.ledger, zone[:4], user_id="u", timezone=zone)
    fcm.held_for_s = 3600.0
    waits, skips = (accept_at(ctx.ledger, clock(), users=["u"], quiet_hours=wish) for wish in ("wait", "skip"))
    drain_until(ctx, sending(ctx, waits, skips))
    fcm.held_for_s = 0.0
    clock.advance(hours=3)
    drain_to_end(ctx, skips)
    assert sent(fcm) == ["Euro", "Euro"]
    assert found(ctx.ledger, skips).counts["fcm"] == {"audience": 2, "pending": 0, "accepted": 1, "skipped": 1}
    clock.advance(hours=7)
    drain_to_end(ctx, waits)
    assert sent(fcm) == ["Asia", "Euro", "Euro"]
    assert codes(ctx)["Asia", "accepted", "fake_accepted"] == 1
    land(ctx.ledger, ctx.lake)
    assert {row["attempt_no"] for row in rows_of(ctx.lake, "attempts")} == {1}


def test_a_retry_does_not_wake_anybody(ctx: DeliveryContext, fcm: FakeSender, clock: Clock) -> None:
    policy(ctx.ledger, PolicyKind.QUIET_HOURS, NIGHT)
    register(ctx.ledger, "tokyo", user_id="u", timezone="Asia/Tokyo")

    def answer(recipient: object, number: int) -> Outcome:
        clock.advance(hours=3)
        return Outcome.TRANSIENT if number == 1 else Outcome.ACCEPTED

    fcm.answer = answer
    request_id = accept_at(ctx.ledger, clock(), users=["u"])
    drain_until(ctx, lambda: len(fcm.calls) == 1 and deliveries.depths(ctx.ledger) == {"fcm": {"waiting": 1}})
    clock.advance(hours=1)
    drain_until(ctx, lambda: not deliveries.is_due(ctx.ledger, "fcm", clock()))
    assert len(fcm.calls) == 1
    clock.set(NOON + timedelta(hours=10))
    drain_to_end(ctx, request_id)
    assert len(fcm.calls) == 2


def test_a_user_with_three_devices_uses_a_cap_once(ctx: DeliveryContext, fcm: FakeSender, apns: FakeSender) -> None:
    policy(ctx.ledger, PolicyKind.FREQUENCY_CAP, {"count": 1, "period_s": 3600})
    register(ctx.ledger, "a", user_id="u")
    register(ctx.ledger, "b", user_id="u")
    register(ctx.ledger, "c", Platform.IOS, user_id="u")
    register(ctx.ledger, "alone")
    dry = accept_at(ctx.ledger, NOON, users=["u"], dry_run=True)
    first = accept_at(ctx.ledger, NOON, users=["u"])
    drain_to_end(ctx, dry, first)
    assert (len(fcm.calls), len(apns.calls)) == (4, 2)
    second = accept_at(ctx.ledger, NOON + timedelta(minutes=59), users=["u"], devices=["alone", "nobody"])
    none = accept_at(ctx.ledger, NOON + timedelta(minutes=59), users=["u"])
    ctx.clock.advance(minutes=59)  # type: ignore[attr-defined]
    drain_to_end(ctx, second, none)
    assert found(ctx.ledger, second).counts == {
        "apns": {"audience": 1, "pending": 0, "skipped": 1},
        "fcm": {"audience": 3, "pending": 0, "skipped": 2, "accepted": 1},
        "none": {"audience": 1, "pending": 0, "skipped": 1},
    }
    assert found(ctx.ledger, none).state is RequestState.DONE and found(ctx.ledger, none).mode is None
    assert sum(number for (_, _, code), number in codes(ctx).items() if code == "frequency_cap") == 6
    (entry,) = (entry for entry in audit.page(ctx.ledger, none) if entry.to_state == "done")
    assert entry.detail == {"skipped": {"frequency_cap": 3}}
    third = accept_at(ctx.ledger, NOON + timedelta(hours=1), users=["u"])
    ctx.clock.advance(minutes=1)  # type: ignore[attr-defined]
    drain_to_end(ctx, third)
    assert (len(fcm.calls), len(apns.calls)) == (7, 3)


def test_of_many_sends_planned_at_once_only_as_many_as_the_cap_allows_go_out(
    ctx: DeliveryContext, fcm: FakeSender
) -> None:
    policy(ctx.ledger, PolicyKind.FREQUENCY_CAP, {"count": 2, "period_s": 60}, name="ads")
    register(ctx.ledger, "a", user_id="u")
    capped = [accept_at(ctx.ledger, NOON, users=["u"], category="ads") for _ in range(10)]
    free = accept_at(ctx.ledger, NOON, users=["u"], category="news")
    drain_to_end(ctx, *capped, free)
    assert len(fcm.calls) == 3


@pytest.mark.parametrize("body", [{}, {"send_at": (NOON + timedelta(hours=1)).isoformat()}])
def test_what_expired_while_nobody_planned_it_ends(ctx: DeliveryContext, clock: Clock, body: dict[str, Any]) -> None:
    register(ctx.ledger, "a", user_id="u")
    request_id = accept_at(ctx.ledger, NOON, ttl=60, users=["u"], **body)
    clock.advance(hours=2)
    drain_to_end(ctx, request_id)
    assert found(ctx.ledger, request_id).state is RequestState.EXPIRED
    assert [entry.to_state for entry in audit.page(ctx.ledger, request_id)] == ["accepted", "expired"]


@pytest.mark.parametrize("between", ["planning and sending", "retries"])
def test_what_expires_on_its_way_ends_with_counts_that_add_up(
    ctx: DeliveryContext, fcm: FakeSender, clock: Clock, between: str
) -> None:
    register(ctx.ledger, "a", user_id="u")
    register(ctx.ledger, "b", user_id="u")
    if between == "retries":
        fcm.answer = lambda recipient, number: Outcome.TRANSIENT if recipient.address == "a" else Outcome.ACCEPTED
        ctx = replace(ctx, settings=ctx.settings.model_copy(update={"retry_base_s": 30.0}), draw=lambda: 0.5)
    else:
        fcm.held_for_s = 1.0
    request_id = accept_at(ctx.ledger, NOON, ttl=3600, users=["u"])
    left = {"fcm": {"waiting": 1 if between == "retries" else 2}}
    drain_until(ctx, lambda: sending(ctx, request_id)() and deliveries.depths(ctx.ledger) == left)
    fcm.held_for_s = 0.0
    clock.advance(hours=1)
    drain_to_end(ctx, request_id)
    row = found(ctx.ledger, request_id)
    if between == "retries":
        assert (row.state, row.counts["fcm"]) == (
            RequestState.DONE, {"audience": 2, "pending": 0, "accepted": 1, "expired": 1},
        )  # fmt: skip
    else:
        assert (row.state, row.counts["fcm"]) == (RequestState.EXPIRED, {"audience": 2, "pending": 0, "expired": 2})
    assert deliveries.depths(ctx.ledger) == {}


def test_a_tenant_is_asked_about_once_in_a_while_and_for_each_send_accepted_since(sqlite_ledger: Ledger) -> None:
    now = [0.0]
    schedules = scheduling.Schedules(sqlite_ledger, lambda: now[0])
    before = replace(send(), accepted_at=utc_now())
    assert schedules.find(before, []) is None
    policy(sqlite_ledger, PolicyKind.QUIET_HOURS, NIGHT)
    assert schedules.find(before, []) is None
    assert schedules.find(replace(send(), accepted_at=utc_now()), []) is not None
    policies.remove(sqlite_ledger, TENANT, PolicyKind.QUIET_HOURS, "k", NOON)
    assert schedules.find(before, []) is not None
    now[0] = scheduling.KEPT_S
    assert schedules.find(before, []) is None


def test_a_policy_that_cannot_be_read_stops_nothing(ctx: DeliveryContext, fcm: FakeSender) -> None:
    policy(ctx.ledger, PolicyKind.QUIET_HOURS, {"from": "late"})
    register(ctx.ledger, "a", user_id="u")
    drain_to_end(ctx, accept_at(ctx.ledger, NOON, users=["u"]))
    assert len(fcm.calls) == 1
