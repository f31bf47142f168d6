"""When dead tokens are dropped, and when they no longer are."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from notify_pipeline.channels.base import OPTED_OUT
from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import audit, broadcasts, deliveries, devices, requests, suppressions
from notify_pipeline.core.ledger.broadcasts import SettledChunk
from notify_pipeline.core.ledger.devices import Registration, TokenDrop
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.group_commit import LedgerBusy
from notify_pipeline.core.ledger.tables import DEVICES
from notify_pipeline.core.records import Recipient
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.vocabulary import Channel, Outcome, Platform, SuppressionReason
from notify_pipeline.delivery import broadcast
from notify_pipeline.delivery.tokens import DropGuard, drop_of
from tests.delivery.fakes import TENANT, FakeSender, accept, context, land, result
from tests.delivery.test_broadcast import routed, run
from tests.delivery.test_drain import drain_to_end, register

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SETTINGS = Settings(token_drop_share=0.25, token_drop_sample=100)


def dead(number: int) -> list[TokenDrop]:
    return [TokenDrop(f"d{n}", "gone", NOW) for n in range(number)]


def test_a_plausible_share_is_dropped_once_there_is_a_sample() -> None:
    guard = DropGuard(SETTINGS, whole_send=True)
    assert guard.admit(60, dead(3)) == []
    assert len(guard.admit(60, dead(3))) == 6
    assert len(guard.admit(10, dead(2))) == 2
    assert guard.rest() == []


def test_an_implausible_share_stops_a_whole_send_for_good() -> None:
    guard = DropGuard(SETTINGS, whole_send=True)
    assert guard.admit(99, dead(40)) == []
    assert guard.admit(1, []) == [] and guard.stopped
    assert guard.admit(10_000, dead(1)) == [] and guard.rest() == []


def test_a_send_too_small_for_a_judgement_drops_at_its_end() -> None:
    guard = DropGuard(SETTINGS, whole_send=True)
    guard.admit(5, dead(5))
    assert len(guard.rest()) == 5 and guard.rest() == []


def test_many_small_sends_are_judged_by_the_latest_answers() -> None:
    guard = DropGuard(SETTINGS, whole_send=False)
    assert [len(guard.admit(1, dead(1))) for _ in range(150)] == [1] * 99 + [0] * 51
    assert guard.stopped
    for _ in range(500):
        guard.admit(1, [])
    assert not guard.stopped and len(guard.admit(1, dead(1))) == 1


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), max_size=40), st.booleans())
def test_no_token_is_dropped_twice_or_while_implausible(batches: list[tuple[int, int]], whole: bool) -> None:
    guard = DropGuard(SETTINGS, whole_send=whole)
    dropped = 0
    for more, gone in batches:
        now = guard.admit(more + gone, dead(gone))
        dropped += len(now)
        if now and guard.answers >= 100:
            assert guard.dead <= 0.25 * guard.answers
    assert dropped + len(guard.rest()) <= sum(gone for _, gone in batches)


def test_a_drop_is_void_after_the_provider_s_time_or_else_the_call_s() -> None:
    answered = result(Outcome.INVALID_RECIPIENT, "UNREGISTERED")
    assert to_micros(drop_of("n", "d", answered).not_after) == answered.sent_at
    since = result(Outcome.INVALID_RECIPIENT, "Unregistered", unregistered_at=NOW)
    assert drop_of("n", "d", since) == TokenDrop("d", "Unregistered", NOW, "n")


def gone(recipient: Recipient, number: int) -> object:
    return result(Outcome.INVALID_RECIPIENT, "UNREGISTERED", drop_token=True)


def live(ledger: Ledger, *tokens: str) -> list[str]:
    return [device.token for device in devices.find_by_tokens(ledger, TENANT, tokens)]


@pytest.mark.parametrize("way", ["drain", "broadcast"])
def test_a_dead_token_goes_unless_it_was_registered_again(ledger: Ledger, folder_lake: Lake, way: str) -> None:
    def answer(recipient: Recipient, number: int) -> object:
        answered = gone(recipient, number)
        if recipient.address == "again":
            # The app comes back while the provider's old word is on its way.
            register(ledger, "again", topics=["t"], user_id="u")
        return answered if recipient.address != "alive" else Outcome.ACCEPTED

    fcm = FakeSender(Channel.FCM, answer)  # type: ignore[arg-type]
    ctx = context(ledger, folder_lake, fcm)
    names = ("dead", "again", "alive")
    for name in names:
        register(ledger, name, topics=["t"], user_id="u")
    if way == "drain":
        request_id = accept(ledger, users=["u"])
        drain_to_end(ctx, request_id)
    else:
        land(ledger, folder_lake)
        request_id = routed(ctx, topics=["t"])
        for ref in broadcast.snapshot(ctx, request_id):
            broadcast.send_shard(ctx, request_id, ref.shard)
    assert live(ledger, *names) == ["again", "alive"]
    with ledger.read() as conn:
        dropped = dict(conn.execute(select(DEVICES.c.token, DEVICES.c.dropped_by)).tuples().all())
    sent = requests.get(ledger, TENANT, request_id)
    assert sent is not None
    assert dropped == {"dead": sent.notification_id, "again": None, "alive": None}, "the evidence of what did it"


@pytest.mark.parametrize("way", ["drain", "broadcast"])
def test_outcomes_are_recorded_though_the_ledger_is_too_busy_to_drop(
    sqlite_ledger: Ledger, folder_lake: Lake, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: Any) -> int:
        raise LedgerBusy("busy")

    monkeypatch.setattr(devices, "drop", busy)
    fcm = FakeSender(Channel.FCM, gone)  # type: ignore[arg-type]
    ctx = context(sqlite_ledger, folder_lake, fcm)
    register(sqlite_ledger, "dead", topics=["t"], user_id="u")
    land(sqlite_ledger, folder_lake)
    if way == "drain":
        drain_to_end(ctx, accept(sqlite_ledger, users=["u"]))
    else:
        run(ctx, routed(ctx, topics=["t"]))
    assert [call[0] for call in fcm.calls] == live(sqlite_ledger, "dead") == ["dead"]


def test_a_provider_that_calls_everybody_dead_drops_nobody(ledger: Ledger, folder_lake: Lake) -> None:
    ctx = context(ledger, folder_lake, FakeSender(Channel.FCM, gone), token_drop_sample=10)  # type: ignore[arg-type]
    names = [f"d{n:02d}" for n in range(30)]
    for name in names:
        devices.register(
            ledger, TENANT, Registration(name, Platform.ANDROID, topics=["t"]), datetime.now(UTC) - timedelta(1)
        )
    land(ledger, folder_lake)
    request_id = routed(ctx, topics=["t"])
    for ref in broadcast.snapshot(ctx, request_id):
        broadcast.send_shard(ctx, request_id, ref.shard)
    assert live(ledger, *names) == names
    alarms = [entry for entry in audit.page(ledger, request_id) if entry.event == "token_drop_stopped"]
    assert [alarm.detail for alarm in alarms] == [{"provider": "fake", "answers": 30, "dead": 30}]


@pytest.mark.parametrize("way", ["drain", "broadcast"])
def test_a_dead_mailbox_is_suppressed_and_stays_subscribed(ledger: Ledger, folder_lake: Lake, way: str) -> None:
    names = ("dead@example.com", "alive@example.com")

    def answer(recipient: Recipient, number: int) -> object:
        return gone(recipient, number) if recipient.address == names[0] else Outcome.ACCEPTED

    ctx = context(ledger, folder_lake, FakeSender(Channel.EMAIL, answer))  # type: ignore[arg-type]
    for name in names:
        register(ledger, name, Platform.EMAIL, topics=["t"])
    land(ledger, folder_lake)
    body = {"topics": ["t"], "channels": ["email"]}
    if way == "drain":
        drain_to_end(ctx, accept(ledger, **body))
    else:
        request_id = routed(ctx, **body)
        for ref in broadcast.snapshot(ctx, request_id):
            broadcast.send_shard(ctx, request_id, ref.shard)
    assert sorted(live(ledger, *names)) == sorted(names)
    with ledger.read() as conn:
        found = suppressions.find(conn, TENANT, Channel.EMAIL, names)
    assert found == {names[0]: SuppressionReason.HARD_BOUNCE}


@pytest.mark.parametrize("way", ["drain", "broadcast"])
def test_who_replied_stop_is_suppressed_on_the_provider_s_word_and_texted_no_more(
    ledger: Ledger, folder_lake: Lake, way: str
) -> None:
    stopped, other = "+447700900123", "+447700900124"

    def answer(recipient: Recipient, number: int) -> object:
        result = gone(recipient, number)
        return result._replace(provider_code=f"{OPTED_OUT}:21610") if recipient.address == stopped else Outcome.ACCEPTED

    sender = FakeSender(Channel.SMS, answer)
    ctx = context(ledger, folder_lake, sender)  # type: ignore[arg-type]
    for _ in range(2):
        if way == "drain":
            drain_to_end(ctx, accept(ledger, phones=[stopped, other]))
        else:
            run(ctx, routed(ctx, phones=[stopped, other]))
    assert sorted(call[0] for call in sender.calls) == [stopped, other, other]
    with ledger.read() as conn:
        assert suppressions.find(conn, TENANT, Channel.SMS, [stopped, other]) == {stopped: SuppressionReason.STOP}


@pytest.mark.parametrize("moment", ["recorded", "held"])
def test_a_shard_s_dead_tokens_go_whenever_its_process_dies(
    ledger: Ledger, folder_lake: Lake, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever goes on does not ask again for whom there is an outcome."""
    found: list[str] = []

    def answer(recipient: Recipient, number: int) -> object:
        if len(found) == 2:
            return Outcome.ACCEPTED
        found.append(recipient.address)
        return gone(recipient, number)

    fcm = FakeSender(Channel.FCM, answer)  # type: ignore[arg-type]
    sample = 15 if moment == "held" else 5  # the first chunk has ten
    ctx = context(
        ledger, folder_lake, fcm, chunk_size=50, chunks_in_flight=1, token_drop_sample=sample, lease_seconds=2.5
    )
    names = [f"d{n:02d}" for n in range(30)]
    for name in names:
        register(ledger, name, topics=["t"])
    land(ledger, folder_lake)
    request_id = routed(ctx, topics=["t"])
    (ref,) = broadcast.snapshot(ctx, request_id)

    def dies(ledger: Ledger, settled: SettledChunk) -> bool:
        if moment == "held":
            settle(ledger, settled)
        raise RuntimeError("killed")

    settle = broadcasts.settle
    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="killed"):
        patched.setattr(broadcasts, "settle", dies)
        broadcast.send_shard(ctx, request_id, ref.shard)
    assert len(fcm.calls) == 10
    assert broadcast.send_shard(ctx, request_id, ref.shard).done
    assert live(ledger, *names) == sorted({*names} - {*found})
    assert max(Counter(call[0] for call in fcm.calls).values()) == 1


def test_a_drain_s_dead_token_goes_before_its_outcome_is_recorded(
    ledger: Ledger, folder_lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = context(ledger, folder_lake, FakeSender(Channel.FCM, gone))  # type: ignore[arg-type]
    register(ledger, "dead", user_id="u")
    settle, alive = deliveries.settle, list[list[str]]()

    def looks(*args: Any) -> Any:
        alive.append(live(ledger, "dead"))
        return settle(*args)

    monkeypatch.setattr(deliveries, "settle", looks)
    drain_to_end(ctx, accept(ledger, users=["u"]))
    assert alive == [[]]
