"""Broadcasts over both ledgers with a clock that the test moves: waves by local time, quiet hours, caps, expiry."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notify_pipeline.core.ids import from_micros
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import audit, caps, devices, policies, routing, shards, users
from notify_pipeline.core.ledger.caps import Uses
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.records import Recipient
from notify_pipeline.core.vocabulary import Channel, Outcome, Platform, PolicyKind, QuietHours, RequestState
from notify_pipeline.delivery import assigning, broadcast, notifications, planning
from notify_pipeline.delivery.assigning import Assigner
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.delivery.scheduling import Schedules
from tests.delivery.clocks import NOON, Clock, accept_at
from tests.delivery.fakes import TENANT, FakeSender, context, land, result, rows_of
from tests.delivery.lakes import Landing, row
from tests.delivery.test_broadcast import SIZES, found
from tests.delivery.test_drain import register
from tests.delivery.test_schedule import NIGHT, NINE, policy
from tests.delivery.test_timing import send
from tests.examples import examples

ZONES = sorted(NINE)


@pytest.fixture
def ctx(ledger: Ledger, folder_lake: Lake, fcm: FakeSender, apns: FakeSender, clock: Clock) -> DeliveryContext:
    """A hundred and ten devices, each zone's in both channels, the last one's without a user."""
    phones = [row(f"a{n:03d}", 1, ["t"], user_id=f"u{n % 55}", timezone=ZONES[n % 5]) for n in range(95)]
    tablets = [row(f"i{n:03d}", 1, ["t"], platform="ios", timezone=ZONES[n % 5]) for n in range(15)]
    Landing(folder_lake, ledger).land(*phones, *tablets)
    return context(ledger, folder_lake, fcm, apns, **SIZES, clock=clock)


def routed(ctx: DeliveryContext, **body: Any) -> str:
    """Accept a send and route it as a broadcast, as the drain does when it is due."""
    request_id = accept_at(ctx.ledger, ctx.clock(), **body)
    due = max(found(ctx.ledger, request_id).due_at, ctx.clock())
    (claimed,) = routing.claim(ctx.ledger, "planner", due, 5, 10)
    rules = planning.Rules(frozenset(Channel), 0, ctx.delivery_secret, "plan")
    plan = planning.broadcast(notifications.parse(claimed), (), rules, due)
    assert routing.store(ctx.ledger, "planner", [plan], due) == [True]
    return request_id


def run(ctx: DeliveryContext, request_id: str) -> RequestState:
    """Do what one run does: snapshot, send what is due, finish."""
    assert request_id in {due.request_id for due in broadcast.due(ctx.ledger, ctx.clock())}
    for ref in broadcast.snapshot(ctx, request_id):
        if ref.is_open(ctx.clock()):
            assert broadcast.send_shard(ctx, request_id, ref.shard).done
    return broadcast.finish(ctx, request_id)


def codes(ctx: DeliveryContext) -> Counter[tuple[str, str]]:
    return Counter((row["outcome"], row["provider_code"]) for row in rows_of(ctx.lake, "attempts"))


def test_nine_o_clock_comes_in_waves_and_nobody_runs_in_between(
    ctx: DeliveryContext, fcm: FakeSender, apns: FakeSender, clock: Clock
) -> None:
    request_id = routed(ctx, topics=["t"], send_at_local="2026-11-22T09:00:00")
    assert run(ctx, request_id) is RequestState.SENDING
    assert (fcm.calls, apns.calls) == ([], [])
    assert {row.due_at and from_micros(row.due_at) for row in shards.shards(ctx.ledger, request_id)} == set(
        NINE.values()
    )
    assert len(shards.shards(ctx.ledger, request_id)) == 10
    for number, (zone, moment) in enumerate(NINE.items(), 1):
        clock.set(moment - timedelta(seconds=1))
        assert broadcast.due(ctx.ledger, clock()) == []
        clock.set(moment)
        assert run(ctx, request_id) is (RequestState.DONE if number == 5 else RequestState.SENDING)
        assert (len(fcm.calls), len(apns.calls)) == (19 * number, 3 * number)
        wave = {call[0] for call in fcm.calls[-19:]}
        assert wave == {f"a{n:03d}" for n in range(95) if ZONES[n % 5] == zone}
        assert found(ctx.ledger, request_id).counts["fcm"]["pending"] == 95 - 19 * number
    assert [entry.to_state for entry in audit.page(ctx.ledger, request_id)] == ["accepted", "routed", "sending", "done"]
    assert broadcast.due(ctx.ledger, clock()) == []


def test_a_shard_that_is_not_due_is_not_sent_even_if_asked_for(ctx: DeliveryContext, fcm: FakeSender) -> None:
    request_id = routed(ctx, topics=["t"], send_at_local="2026-11-22T09:00:00")
    for ref in broadcast.snapshot(ctx, request_id):
        totals = broadcast.send_shard(ctx, request_id, ref.shard)
        assert (totals.done, totals.stopped_reason) == (False, "not due")
    assert fcm.calls == []


def test_waves_that_passed_while_the_system_was_down_expire_each_by_itself(
    ctx: DeliveryContext, fcm: FakeSender, clock: Clock
) -> None:
    request_id = routed(ctx, topics=["t"], send_at_local="2026-11-22T09:00:00", ttl=3600, channels=["fcm"])
    broadcast.snapshot(ctx, request_id)
    clock.set(NINE["Europe/Berlin"] + timedelta(minutes=59))
    assert run(ctx, request_id) is RequestState.SENDING
    clock.set(NINE["Pacific/Honolulu"] + timedelta(hours=1))
    assert run(ctx, request_id) is RequestState.DONE
    counts = {"audience": 95, "pending": 0, "accepted": 19, "expired": 76}
    assert found(ctx.ledger, request_id).counts == {"fcm": counts}
    assert codes(ctx) == {("accepted", "fake_accepted"): 19, ("expired", "ttl"): 76}


def test_a_broadcast_whose_every_wave_passed_is_expired(ctx: DeliveryContext, fcm: FakeSender, clock: Clock) -> None:
    request_id = routed(ctx, topics=["t"], send_at_local="2026-11-22T09:00:00", ttl=60)
    broadcast.snapshot(ctx, request_id)
    clock.advance(days=3)
    assert run(ctx, request_id) is RequestState.EXPIRED
    assert fcm.calls == []


@pytest.mark.parametrize("wish", QuietHours)
def test_quiet_hours_of_tenant_and_users(ctx: DeliveryContext, fcm: FakeSender, clock: Clock, wish: QuietHours) -> None:
    policy(ctx.ledger, PolicyKind.QUIET_HOURS, NIGHT)
    users.put_quiet_hours(ctx.ledger, TENANT, "u1", {"from": "12:00", "until": "15:07", "timezone": "UTC"}, "k", NOON)
    users.put_quiet_hours(ctx.ledger, TENANT, "u2", {"from": "00:00", "until": "00:01", "timezone": "UTC"}, "k", NOON)
    # 22:30 in Tokyo, 03:30 on Kiritimati and in Honolulu; a user's own come first.
    clock.set(datetime(2026, 11, 21, 13, 30, tzinfo=UTC))
    night = ("Asia/Tokyo", "Pacific/Kiritimati", "Pacific/Honolulu")
    own = {n for n in range(95) if n % 55 == 1}
    asleep = {n for n in range(95) if ZONES[n % 5] in night and n % 55 not in (1, 2)}
    request_id = routed(ctx, topics=["t"], channels=["fcm"], quiet_hours=wish.value)
    state = run(ctx, request_id)
    quiet = set() if wish is QuietHours.IGNORE else asleep | own
    assert {call[0] for call in fcm.calls} == {f"a{n:03d}" for n in range(95) if n not in quiet}
    counts = found(ctx.ledger, request_id).counts["fcm"]
    if wish is QuietHours.WAIT:
        assert (state, counts["pending"]) == (RequestState.SENDING, len(quiet))
        clock.set(datetime(2026, 11, 21, 15, 15, tzinfo=UTC))  # the quarter of an hour after 15:07
        assert run(ctx, request_id) is RequestState.SENDING
        assert len(fcm.calls) == 95 - len(asleep)
        clock.set(datetime(2026, 11, 21, 17, tzinfo=UTC))
        assert run(ctx, request_id) is RequestState.SENDING
        clock.set(datetime(2026, 11, 21, 22, tzinfo=UTC))
        assert run(ctx, request_id) is RequestState.DONE
        assert Counter(call[0] for call in fcm.calls) == {f"a{n:03d}": 1 for n in range(95)}
    else:
        assert (state, counts.get("skipped", 0)) == (RequestState.DONE, len(quiet))
        assert codes(ctx)["skipped", "quiet_hours"] == len(quiet)


def test_caps_count_each_user_once_and_a_second_snapshot_takes_none_again(
    ctx: DeliveryContext, fcm: FakeSender, apns: FakeSender, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy(ctx.ledger, PolicyKind.FREQUENCY_CAP, {"count": 1, "period_s": 3600})
    first = routed(ctx, topics=["t"])
    with monkeypatch.context() as patch:
        patch.setattr("notify_pipeline.core.ledger.broadcasts.start", _die)
        with pytest.raises(RuntimeError, match="died"):
            broadcast.snapshot(ctx, first)
    dry = routed(ctx, topics=["t"], dry_run=True)
    assert (run(ctx, dry), run(ctx, first)) == (RequestState.DONE, RequestState.DONE)
    assert (len(fcm.calls), len(apns.calls)) == (190, 30)
    second = routed(ctx, topics=["t"])
    assert run(ctx, second) is RequestState.DONE
    assert found(ctx.ledger, second).counts == {
        "fcm": {"audience": 95, "pending": 0, "skipped": 95},
        "apns": {"audience": 15, "pending": 0, "skipped": 15},
    }
    assert codes(ctx)["skipped", "frequency_cap"] == 110
    assert {row["delivery_id"] is not None for row in rows_of(ctx.lake, "attempts")} == {True}
    clock.advance(hours=1)
    assert run(ctx, routed(ctx, topics=["t"])) is RequestState.DONE
    assert (len(fcm.calls), len(apns.calls)) == (285, 45)


def test_channels_that_a_send_does_not_want_use_no_cap(ctx: DeliveryContext, fcm: FakeSender, apns: FakeSender) -> None:
    policy(ctx.ledger, PolicyKind.FREQUENCY_CAP, {"count": 1, "period_s": 3600})
    run(ctx, routed(ctx, topics=["t"], channels=["fcm"]))
    run(ctx, routed(ctx, topics=["t"]))
    assert (len(fcm.calls), len(apns.calls)) == (95, 15)


def test_a_tenant_without_any_of_it_gets_the_shards_that_it_always_got(ctx: DeliveryContext) -> None:
    policies.put(ctx.ledger, "t2", PolicyKind.QUIET_HOURS, NIGHT, "k", NOON)
    request_id = routed(ctx, topics=["t"])
    refs = broadcast.snapshot(ctx, request_id)
    assert [(ref.part, ref.channel, ref.recipients, ref.due_at) for ref in refs] == [
        (0, "apns", 15, None), (0, "fcm", 55, None), (1, "fcm", 40, None),
    ]  # fmt: skip


def _die(*_: object) -> None:
    raise RuntimeError("died")


WINDOW = st.fixed_dictionaries(
    {
        "from": st.times().map(lambda moment: moment.strftime("%H:%M")),
        "until": st.times().map(lambda moment: moment.strftime("%H:%M")),
        "timezone": st.none() | st.sampled_from(ZONES),
    }
)


@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.none() | st.sampled_from(["u1", "u2", "u3", "u4"]), st.none() | st.sampled_from(ZONES)),
        max_size=30,
    ),
    st.dictionaries(
        st.sampled_from(["u1", "u2", "u3"]), st.tuples(st.none() | st.sampled_from(ZONES), st.none() | WINDOW)
    ),
    st.none() | WINDOW,
    st.booleans(),
    st.sampled_from(QuietHours),
    st.integers(0, 200_000),
)
def test_frames_are_split_as_the_rule_says_of_each_recipient(
    sqlite_ledger: Ledger,
    people: Sequence[tuple[str | None, str | None]],
    told: dict[str, tuple[str | None, dict[str, Any] | None]],
    quiet: dict[str, Any] | None,
    local: bool,
    wish: QuietHours,
    ttl_s: int,
) -> None:
    tenant = f"t{hash((tuple(people), ttl_s, local)) % 10**9}"
    for user_id, (zone, own) in told.items():
        users.put(sqlite_ledger, tenant, user_id, users.Profile(timezone=zone), "k", NOON)
        if own is not None:
            users.put_quiet_hours(sqlite_ledger, tenant, user_id, own, "k", NOON)
    if quiet is not None:
        policies.put(sqlite_ledger, tenant, PolicyKind.QUIET_HOURS, quiet, "k", NOON)
    wall = datetime(2026, 11, 21, 14) if local else None  # noqa: DTZ001 - a wall clock
    notification = send(NOON, ttl_s, send_at_local=wall, quiet_hours=wish)
    notification = notification.__class__(**{**_fields(notification), "tenant": tenant})
    recipients = [Recipient(f"d{n}", Platform.ANDROID, user, None, zone) for n, (user, zone) in enumerate(people)]
    schedule = Schedules(sqlite_ledger).find(notification, recipients)
    if schedule is None:
        assert not local and (wish is QuietHours.IGNORE or (quiet is None and not any(own for _, own in told.values())))
        return
    bare = Schedules(sqlite_ledger).without_users(notification)
    assert bare is not None
    rows = [(r.address, r.platform.value, r.user_id, r.locale, r.timezone, r.app_version) for r in recipients]
    frame = pl.DataFrame(rows, dict.fromkeys(_COLUMNS, pl.String()), orient="row")
    split = {token: slot for slot, part in Assigner(sqlite_ledger, bare, NOON).split(frame) for token in part["token"]}
    assert set(split) == {recipient.address for recipient in recipients}
    for recipient in recipients:
        expected, got = schedule.slot(recipient, NOON), split[recipient.address]
        assert (got.skip, got.expires_at, got.due_at is None) == (
            expected.skip, expected.expires_at, expected.due_at is None,
        )  # fmt: skip
        if got.due_at is not None and expected.due_at is not None:
            assert 0 <= got.due_at - expected.due_at < 900_000_000


_COLUMNS = ("token", "platform", "user_id", "locale", "timezone", "app_version")


def _fields(notification: Any) -> dict[str, Any]:
    return {name: getattr(notification, name) for name in notification.__dataclass_fields__}


def test_uses_are_the_same_by_rows_and_by_frames(sqlite_ledger: Ledger) -> None:
    policies.put(sqlite_ledger, "t1", PolicyKind.FREQUENCY_CAP, {"count": 1, "period_s": 60}, "k", NOON)
    schedule = Schedules(sqlite_ledger).without_users(send())
    assert schedule is not None
    people = [Recipient("a", Platform.ANDROID, "u"), Recipient("b", Platform.IOS, "u"), Recipient("c", Platform.WEB)]
    uses: Uses = schedule.uses(people)
    assert uses.recipients == {"user:u", "device:c"}
    rows = [(r.address, r.platform.value, r.user_id, None, None, None) for r in people]
    frame = pl.DataFrame(rows, dict.fromkeys(_COLUMNS, pl.String()), orient="row")
    other = Schedules(sqlite_ledger).without_users(send())
    assert other is not None
    assert [part.height for _, part in Assigner(sqlite_ledger, other, NOON).split(frame)] == [3]


@pytest.mark.parametrize("wish", ["wait", "skip"])
def test_a_broadcast_that_runs_into_quiet_hours_wakes_nobody(
    ctx: DeliveryContext, fcm: FakeSender, clock: Clock, wish: str
) -> None:
    policy(ctx.ledger, PolicyKind.QUIET_HOURS, NIGHT)
    request_id = routed(ctx, topics=["t"], channels=["fcm"], quiet_hours=wish, retry=False)
    broadcast.snapshot(ctx, request_id)
    clock.set(datetime(2026, 11, 21, 22, tzinfo=UTC))  # 23:00 in Berlin; 07:00 in Tokyo
    states = [
        broadcast.send_shard(ctx, request_id, ref.shard).stopped_reason for ref in broadcast.snapshot(ctx, request_id)
    ]
    asleep = {f"a{n:03d}" for n in range(95) if ZONES[n % 5] == "Europe/Berlin"}
    early = {f"a{n:03d}" for n in range(95) if ZONES[n % 5] == "Asia/Tokyo"}
    assert asleep.isdisjoint(call[0] for call in fcm.calls)
    assert early <= {call[0] for call in fcm.calls}
    if wish == "wait":
        assert "later" in states
        assert broadcast.finish(ctx, request_id) is RequestState.SENDING
        clock.set(datetime(2026, 11, 22, 6, tzinfo=UTC))
        assert run(ctx, request_id) in (RequestState.SENDING, RequestState.DONE)
        assert asleep <= {call[0] for call in fcm.calls}
    else:
        assert found(ctx.ledger, request_id).counts["fcm"]["skipped"] >= len(asleep)
    assert max(Counter(call[0] for call in fcm.calls).values()) == 1


def test_tokens_that_died_are_dropped_before_a_shard_waits_for_the_morning(
    ctx: DeliveryContext, fcm: FakeSender, clock: Clock
) -> None:
    policy(ctx.ledger, PolicyKind.QUIET_HOURS, NIGHT)
    dead = next(f"a{n:03d}" for n in range(95) if ZONES[n % 5] == "Asia/Tokyo")
    register(ctx.ledger, dead, timezone="Asia/Tokyo", topics=("t",))
    land(ctx.ledger, ctx.lake)
    fcm.answer = lambda recipient, number: (
        result(Outcome.INVALID_RECIPIENT, "gone", drop_token=True) if recipient.address == dead else Outcome.ACCEPTED
    )
    request_id = routed(ctx, topics=["t"], channels=["fcm"])
    refs = broadcast.snapshot(ctx, request_id)
    clock.set(datetime(2026, 11, 21, 22, tzinfo=UTC))  # 23:00 in Berlin; 07:00 in Tokyo
    assert "later" in {broadcast.send_shard(ctx, request_id, ref.shard).stopped_reason for ref in refs}
    assert dead in {call[0] for call in fcm.calls}
    assert devices.find_by_tokens(ctx.ledger, TENANT, [dead]) == []


def test_frames_name_whom_caps_count_as_the_ledger_does() -> None:
    people = [("tOk:En_A", None), ("tOk:En_A", "ada"), ("Ada@Example.com", None), ("ada@example.com", None)]
    frame = pl.DataFrame(people, {"token": pl.String(), "user_id": pl.String()}, orient="row")
    named = frame.select(assigning._who()).to_series().to_list()
    assert named == [caps.recipient(user_id, address) for address, user_id in people]
    assert named == ["device:tOk:En_A", "user:ada", "device:ada@example.com", "device:ada@example.com"]
