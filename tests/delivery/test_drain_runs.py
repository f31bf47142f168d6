"""How drains begin, end, hand over and survive: leases, failures of parts, two at once, and the queue's index."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy.exc import OperationalError

from notify_pipeline.channels.base import Message, Report
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import deliveries, leases, routing
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.records import Notification, Recipient
from notify_pipeline.core.vocabulary import Channel, Outcome, Platform, RequestState
from notify_pipeline.delivery import drain, notifications
from notify_pipeline.delivery.audience import AudienceReader
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.delivery.drain import DrainFailed, run_drain
from tests.delivery.fakes import FakeSender, accept, context, land, rows_of
from tests.delivery.test_broadcast import routed
from tests.delivery.test_broadcast import run as send_all
from tests.delivery.test_drain import drain_to_end, drain_until, found, register


def test_a_drain_ends_when_its_time_is_up_or_it_was_idle(
    sqlite_ledger: Ledger, folder_lake: Lake, fcm: FakeSender
) -> None:
    short = context(sqlite_ledger, folder_lake, fcm, drain_seconds=0.3)
    assert run_drain(short, threading.Event()).stopped_reason == "time"
    idle = context(sqlite_ledger, folder_lake, fcm, drain_idle_seconds=0.3)
    assert run_drain(idle, threading.Event()).stopped_reason == "idle"
    assert leases.holder(sqlite_ledger, drain.LEASE, datetime.now(UTC)) is None


def test_a_drain_whose_looks_take_longer_than_it_may_be_idle_does_its_work_first(
    sqlite_ledger: Ledger, folder_lake: Lake, fcm: FakeSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx, looks, is_due = context(sqlite_ledger, folder_lake, fcm, drain_idle_seconds=0.2), [0], routing.is_due

    def slowly(*arguments: Any) -> bool:
        looks[0] += 1
        if looks[0] == 1:
            time.sleep(1)
        return is_due(*arguments)

    monkeypatch.setattr(routing, "is_due", slowly)
    register(sqlite_ledger, "phone", user_id="u1")
    accept(sqlite_ledger, users=["u1"])
    totals = run_drain(ctx, threading.Event())
    assert (totals.stopped_reason, totals.planned, len(fcm.calls)) == ("idle", 1, 1)


def test_a_drain_waits_for_its_predecessor(ledger: Ledger, folder_lake: Lake, fcm: FakeSender) -> None:
    first = context(ledger, folder_lake, fcm, drain_seconds=0.8)
    second = context(ledger, folder_lake, fcm, drain_seconds=0.3)
    reasons: list[str] = []

    def run(ctx: DeliveryContext) -> None:
        reasons.append(run_drain(ctx, threading.Event()).stopped_reason)

    runs = [threading.Thread(target=run, args=(ctx,)) for ctx in (first, second)]
    began = time.monotonic()
    runs[0].start()
    while leases.holder(ledger, drain.LEASE, datetime.now(UTC)) is None and time.monotonic() < began + 10:
        time.sleep(0.01)
    runs[1].start()
    for each in runs:
        each.join()
    assert reasons == ["time", "time"]


def test_a_drain_gives_up_waiting(
    sqlite_ledger: Ledger, folder_lake: Lake, fcm: FakeSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "_LEASE_WAIT_S", 0.2)
    assert leases.acquire(sqlite_ledger, drain.LEASE, "somebody", 60, datetime.now(UTC))
    ctx = context(sqlite_ledger, folder_lake, fcm)
    assert run_drain(ctx, threading.Event()).stopped_reason == "held by somebody"
    stopped = threading.Event()
    stopped.set()
    assert run_drain(ctx, stopped).stopped_reason == "stopped"


def test_a_drain_whose_lease_is_taken_ends(sqlite_ledger: Ledger, folder_lake: Lake, fcm: FakeSender) -> None:
    ctx = context(sqlite_ledger, folder_lake, fcm, lease_seconds=2.5)
    later = datetime.fromtimestamp(time.time() + 3600, UTC)
    thief = threading.Timer(0.4, lambda: leases.acquire(sqlite_ledger, drain.LEASE, "thief", 60, later))
    thief.start()
    assert run_drain(ctx, threading.Event()).stopped_reason == "lease lost"
    thief.join()
    assert leases.holder(sqlite_ledger, drain.LEASE, later) == "thief"


def test_two_drains_at_once_send_everything_once(
    ledger: Ledger, folder_lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    senders = [FakeSender(Channel.FCM, delay_s=0.001), FakeSender(Channel.FCM, delay_s=0.001)]
    for number in range(120):
        register(ledger, f"d{number}", user_id=f"u{number}")
    ids = [accept(ledger, users=[f"u{number}"]) for number in range(120)]
    # Without the lease that keeps them apart: the claims alone must do.
    monkeypatch.setattr(leases, "acquire", lambda ledger, name, owner, ttl_s, now: leases.Lease(name, owner, 1, 0))
    monkeypatch.setattr(leases, "renew", lambda ledger, lease, ttl_s, now: lease)
    contexts = [context(ledger, folder_lake, sender, drain_batch=16) for sender in senders]
    other = threading.Thread(target=drain_to_end, args=(contexts[1], *ids))
    other.start()
    drain_to_end(contexts[0], *ids)
    other.join()
    calls = Counter(call[0] for sender in senders for call in sender.calls)
    assert calls == {f"d{number}": 1 for number in range(120)}


class _Broken(FakeSender):
    """Fails, or says nothing, instead of sending."""

    silent = False

    async def send(
        self, message: Message, recipients: Sequence[Recipient], delivery_ids: Sequence[str], report: Report
    ) -> None:
        if len(self.calls) >= 1:
            return await super().send(message, recipients, delivery_ids, report)
        self.calls.append(("", "", 0.0))
        if not self.silent:
            raise RuntimeError("the channel is broken")


@pytest.mark.parametrize("silent", [False, True])
def test_a_sender_that_fails_leaves_ambiguous_attempts(ledger: Ledger, folder_lake: Lake, silent: bool) -> None:
    broken = _Broken(Channel.FCM)
    broken.silent = silent
    register(ledger, "phone", user_id="u1")
    request_id = accept(ledger, users=["u1"])
    drain_to_end(context(ledger, folder_lake, broken), request_id)
    land(ledger, folder_lake)
    rows = sorted(rows_of(folder_lake, "attempts"), key=lambda row: row["attempt_no"])
    assert [(row["outcome"], row["provider_code"]) for row in rows] == [
        ("ambiguous", "sender_failed"),
        ("accepted", "fake_accepted"),
    ]


@pytest.mark.parametrize("way", ["drain", "broadcast"])
def test_a_send_that_breaks_the_channel_s_code_stops_no_other(ledger: Ledger, folder_lake: Lake, way: str) -> None:
    class Fragile(FakeSender):
        def prepare(self, notification: Notification, platform: Platform) -> Message:
            if notification.content.title == "poison":
                raise RuntimeError("the channel is broken")
            return super().prepare(notification, platform)

    register(ledger, "phone", user_id="u1")
    ctx = context(ledger, folder_lake, fragile := Fragile(Channel.FCM), retry_attempts=2)
    if way == "drain":
        sick, well = (accept(ledger, users=["u1"], content={"title": title}) for title in ("poison", "fine"))
        assert drain_to_end(ctx, sick, well).failures == 0
        assert len(fragile.calls) == 1
    else:
        sick = routed(ctx, users=["u1"], content={"title": "poison"})
        assert send_all(ctx, sick) is RequestState.FAILED
    assert found(ledger, sick).counts["fcm"] == {"audience": 1, "pending": 0, "transient": 1}


def test_a_lane_that_fails_begins_again_and_the_drain_says_so(
    ledger: Ledger, folder_lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And stores first what became of those whom it had called."""
    fcm, apns = FakeSender(Channel.FCM, delay_s=0.5), FakeSender(Channel.APNS)
    real = deliveries.is_due
    failing = [True]

    def is_due(ledger: Ledger, channel: str, *more: object) -> object:
        if channel == "fcm" and fcm.calls and failing:
            failing.clear()
            raise RuntimeError("the ledger is broken")
        return real(ledger, channel, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(deliveries, "is_due", is_due)
    register(ledger, "phone", user_id="u1")
    register(ledger, "tablet", Platform.IOS, user_id="u2")
    first, second = accept(ledger, users=["u1"]), accept(ledger, users=["u2"])
    with pytest.raises(DrainFailed, match="parts failed 1 times"):
        drain_to_end(context(ledger, folder_lake, fcm, apns), first, second)
    assert (len(fcm.calls), len(apns.calls)) == (1, 1)
    land(ledger, folder_lake)
    assert {(row["channel"], row["outcome"]) for row in rows_of(folder_lake, "attempts")} == {
        ("apns", "accepted"), ("fcm", "accepted"),
    }  # fmt: skip


@pytest.mark.parametrize("way", ["drain", "broadcast"])
def test_a_database_that_is_started_anew_while_somebody_is_called_costs_no_second_call(
    postgres_url: str, folder_lake: Lake, way: str
) -> None:
    """All sessions end while a provider is asked: what it says is stored by the next ones."""
    ended = []

    def answer(recipient: Recipient, number: int) -> Outcome:
        if not ended:
            ended.append(end_sessions(postgres_url))
        return Outcome.ACCEPTED

    fcm = FakeSender(Channel.FCM, answer)
    with Ledger.open(postgres_url) as ledger:
        register(ledger, "phone", user_id="u1")
        ctx = context(ledger, folder_lake, fcm)
        if way == "drain":
            request_id = accept(ledger, users=["u1"])
            with suppress(DrainFailed):  # lanes that looked for work meanwhile
                drain_until(ctx, lambda: bool(ended) and is_final(ledger, request_id))
            land(ledger, folder_lake)
        else:
            request_id = routed(ctx, users=["u1"])
            assert send_all(ctx, request_id) is RequestState.DONE
        assert found(ledger, request_id).counts["fcm"] == {"audience": 1, "pending": 0, "accepted": 1}
    assert len(fcm.calls) == 1 and ended
    assert [row["outcome"] for row in rows_of(folder_lake, "attempts")] == ["accepted"]


def is_final(ledger: Ledger, request_id: str) -> bool:
    """Tell whether a send has ended; a session that was ended is no answer."""
    try:
        return found(ledger, request_id).state.is_final
    except OperationalError:
        return False


def end_sessions(postgres_url: str) -> int:
    """End all sessions of a database as a restart does; return how many there were."""
    engine = sqlalchemy.create_engine(sqlalchemy.make_url(postgres_url).set(drivername="postgresql+psycopg2"))
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with engine.begin() as conn:
        number = conn.exec_driver_sql(f"SELECT count(pg_terminate_backend(pid)) {others}").scalar_one()
    engine.dispose()
    return int(number)


def test_a_claim_may_be_of_more_sends_than_are_remembered(
    sqlite_ledger: Ledger, folder_lake: Lake, fcm: FakeSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retry of the one that was used longest ago comes with sends that take its place."""
    monkeypatch.setattr(notifications, "_KEPT", 2)
    register(sqlite_ledger, "phone", user_id="u1")
    fcm.answer = lambda recipient, number: Outcome.TRANSIENT if number == 1 else Outcome.ACCEPTED
    ids = [accept(sqlite_ledger, users=["u1"]) for _ in range(6)]
    totals = drain_to_end(context(sqlite_ledger, folder_lake, fcm), *ids)
    assert totals.outcomes == {"transient": 6, "accepted": 6}


def test_a_topic_that_cannot_be_read_does_not_stop_the_others(
    ledger: Ledger, folder_lake: Lake, fcm: FakeSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notify_pipeline.delivery.drain_planner._POSTPONE_S", 0.2)
    real = AudienceReader.topics
    broken = [True]

    def topics(self: AudienceReader, tenant: str, names: Sequence[str]) -> object:
        if broken:
            raise OSError("no such disk")
        return real(self, tenant, names)

    monkeypatch.setattr(AudienceReader, "topics", topics)
    register(ledger, "phone", user_id="u1", topics=["t"])
    land(ledger, folder_lake)
    sick, well = accept(ledger, topics=["t"]), accept(ledger, users=["u1"])
    ctx = context(ledger, folder_lake, fcm)
    drain_until(
        ctx, lambda: found(ledger, well).state.is_final and "cannot be found" in str(found(ledger, sick).reason)
    )
    assert found(ledger, sick).state is RequestState.ACCEPTED
    broken.clear()
    drain_to_end(replace(ctx, owner="another"), sick)
    assert len(fcm.calls) == 2


def test_a_stopped_drain_gives_waiting_topic_sends_back(ledger: Ledger, folder_lake: Lake, fcm: FakeSender) -> None:
    register(ledger, "phone", topics=["t"])
    accept(ledger, topics=["t"])
    ctx = context(ledger, folder_lake, fcm, lease_seconds=60)
    drain_until(ctx, lambda: not routing.is_due(ledger, datetime.now(UTC)))
    assert routing.is_due(ledger, datetime.now(UTC))


def test_every_recipient_of_a_send_is_retried_on_its_own(ledger: Ledger, folder_lake: Lake) -> None:
    def answer(recipient: Recipient, number: int) -> Outcome:
        return Outcome.TRANSIENT if number < 3 else Outcome.ACCEPTED

    fcm = FakeSender(Channel.FCM, answer)
    for number in range(50):
        register(ledger, f"d{number}", user_id="u")
    request_id = accept(ledger, users=["u"])
    totals = drain_to_end(context(ledger, folder_lake, fcm), request_id)
    assert totals.outcomes == {"transient": 100, "accepted": 50}
    assert found(ledger, request_id).counts["fcm"] == {"audience": 50, "pending": 0, "accepted": 50}
