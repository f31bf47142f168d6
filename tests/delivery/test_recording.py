"""Answers that cannot be recorded: nobody is called again for it, and everything else is as exact as ever."""

import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from sqlalchemy import select, update

from notify_pipeline.channels.base import NOT_PROCESSED
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import broadcasts, chunks, deliveries, routing
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.group_commit import LedgerBusy
from notify_pipeline.core.ledger.leases import LeaseLost
from notify_pipeline.core.ledger.tables import DEAD_LETTERS, DELIVERIES, REQUESTS
from notify_pipeline.core.records import AttemptResult, Recipient
from notify_pipeline.core.vocabulary import Channel, Outcome, RequestState
from notify_pipeline.delivery import broadcast, dead_letters, notifications, planning, recording
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.delivery.known import find_known
from notify_pipeline.delivery.late import Late, Looked
from tests.delivery.fakes import FakeSender, accept, context, land, result, rows_of
from tests.delivery.lakes import Landing, row
from tests.delivery.test_broadcast import SIZES, routed, run
from tests.delivery.test_drain import drain_to_end, found, register

# Half of a surrogate pair: no file, no JSON and no database takes it.
UNFIT = "\ud800"


def unfit_for(*addresses: str) -> Callable[[Recipient, int], AttemptResult]:
    def answer(recipient: Recipient, number: int) -> AttemptResult:
        return result(Outcome.ACCEPTED, provider_message_id=UNFIT if recipient.address in addresses else "m")

    return answer


def dead(ledger: Ledger) -> list[tuple[str, str, str | None, str]]:
    names = ("address", "outcome", "provider_code", "reason")
    with ledger.read() as conn:
        rows = conn.execute(select(*(DEAD_LETTERS.c[name] for name in names)).order_by(DEAD_LETTERS.c.address))
        return [tuple(row) for row in rows]


def ends(ctx: DeliveryContext) -> Counter[tuple[str, str | None]]:
    """Return how attempts ended; but for those where nobody was called, because this machine stood still too long."""
    rows = rows_of(ctx.lake, "attempts")
    called = [row for row in rows if not (row["provider_code"] or "").startswith(NOT_PROCESSED)]
    return Counter((row["outcome"], row["provider_code"]) for row in called)


@pytest.fixture
def ctx(ledger: Ledger, folder_lake: Lake, fcm: FakeSender) -> DeliveryContext:
    return context(ledger, folder_lake, fcm, lease_seconds=0.6)


@pytest.fixture
def wide(ledger: Ledger, folder_lake: Lake, fcm: FakeSender) -> DeliveryContext:
    Landing(folder_lake, ledger).land(*(row(f"a{n:03d}", 1, ["t"]) for n in range(50)))
    return context(ledger, folder_lake, fcm, lease_seconds=1.0, **SIZES)


def test_of_a_drain_only_the_one_that_cannot_be_recorded_ends_unknown(ctx: DeliveryContext, fcm: FakeSender) -> None:
    fcm.answer = unfit_for("d3")
    for number in range(12):
        register(ctx.ledger, f"d{number}", user_id=f"u{number}")
    ids = [accept(ctx.ledger, users=[f"u{number}", f"u{number + 6}"]) for number in range(6)]
    assert drain_to_end(ctx, *ids).failures == 0
    land(ctx.ledger, ctx.lake)
    assert Counter(call[0] for call in fcm.calls) == {f"d{number}": 1 for number in range(12)}
    assert dead(ctx.ledger) == [("d3", "ambiguous", "record_failed", "record_failed")]
    assert ends(ctx) == {("accepted", None): 11, ("ambiguous", "record_failed"): 1}
    assert found(ctx.ledger, ids[3]).counts == {"fcm": {"audience": 2, "pending": 0, "accepted": 1, "ambiguous": 1}}


def test_a_word_that_a_database_does_not_take_is_stored_without_what_is_wrong_with_it(
    ctx: DeliveryContext, fcm: FakeSender
) -> None:
    fcm.answer = lambda recipient, number: result(Outcome.PERMANENT, "bad\x00word")
    register(ctx.ledger, "d", user_id="u")
    drain_to_end(ctx, accept(ctx.ledger, users=["u"]))
    assert dead(ctx.ledger) == [("d", "permanent", "badword", "permanent")]


def test_what_cannot_be_decided_is_not_sent_again(ctx: DeliveryContext, fcm: FakeSender) -> None:
    fcm.answer = lambda recipient, number: result(Outcome.THROTTLED, "slow", retry_after_s="soon")
    register(ctx.ledger, "d", user_id="u")
    drain_to_end(ctx, accept(ctx.ledger, users=["u"]))
    assert len(fcm.calls) == 1
    assert dead(ctx.ledger) == [("d", "ambiguous", "record_failed", "record_failed")]


def test_a_ledger_that_is_away_for_several_leases_loses_no_answer(
    ctx: DeliveryContext, fcm: FakeSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_at = time.monotonic() + 2.0

    def away(real: Callable[..., Any], *args: Any) -> Any:
        if time.monotonic() < back_at:
            raise LedgerBusy("away")
        return real(*args)

    monkeypatch.setattr(deliveries, "settle", partial(away, deliveries.settle))
    monkeypatch.setattr(deliveries, "renew", partial(away, deliveries.renew))
    register(ctx.ledger, "d", user_id="u")
    assert drain_to_end(ctx, accept(ctx.ledger, users=["u"])).failures == 0
    land(ctx.ledger, ctx.lake)
    assert len(fcm.calls) == 1
    assert ends(ctx) == {("accepted", "fake_accepted"): 1}


def queue(ctx: DeliveryContext, request_id: str) -> None:
    now = datetime.now(UTC)
    (row,) = routing.claim(ctx.ledger, "planner", now, 6.0, 1)
    notification = notifications.parse(row)
    rules = planning.Rules(frozenset(Channel), 100, ctx.delivery_secret, "planner")
    plan = planning.plan(notification, find_known(ctx.ledger, [notification])[request_id], rules, now)
    assert routing.store(ctx.ledger, "planner", [plan], now) == [True]


def spoil(ledger: Ledger, request_id: str) -> None:
    bad = update(REQUESTS).where(REQUESTS.c.request_id == request_id).values(body='{"content": 5}')
    ledger.write(lambda conn, items: [conn.execute(bad) and None for _ in items], None)


@pytest.mark.parametrize("claimed", [False, True])
def test_a_request_that_cannot_be_read_keeps_none_of_the_others(
    ctx: DeliveryContext, fcm: FakeSender, claimed: bool
) -> None:
    """Neither when it is claimed nor when it is taken over from a dead process; and it is not lost."""
    ids = []
    for number in range(4):
        register(ctx.ledger, f"d{number}", user_id=f"u{number}")
        ids.append(accept(ctx.ledger, users=[f"u{number}"]))
        queue(ctx, ids[-1])
    if claimed:
        assert len(deliveries.claim(ctx.ledger, "fcm", "dead/1", datetime.now(UTC), 0.01, 10)) == 4
    spoil(ctx.ledger, ids[1])
    totals = drain_to_end(ctx, ids[0], *ids[2:])
    assert totals.failures == 0
    assert Counter(call[0] for call in fcm.calls) == {"d0": 1, "d2": 1, "d3": 1}
    with ctx.ledger.read() as conn:
        left = conn.execute(select(DELIVERIES.c.address, DELIVERIES.c.state, DELIVERIES.c.attempt_no)).all()
    assert [tuple(each) for each in left] == [("d1", "sending", 1) if claimed else ("d1", "waiting", 0)]


def test_of_a_broadcast_only_those_that_cannot_be_recorded_end_unknown(wide: DeliveryContext, fcm: FakeSender) -> None:
    fcm.answer = unfit_for("a003", "a044")
    request_id = routed(wide, topics=["t"])
    assert run(wide, request_id) is RequestState.DONE
    assert Counter(call[0] for call in fcm.calls) == {f"a{number:03d}": 1 for number in range(50)}
    assert dead(wide.ledger) == [(name, "ambiguous", "record_failed", "record_failed") for name in ("a003", "a044")]
    assert ends(wide) == {("accepted", None): 48, ("ambiguous", "record_failed"): 2}
    assert found(wide.ledger, request_id).counts["fcm"] == {
        "audience": 50,
        "pending": 0,
        "accepted": 48,
        "ambiguous": 2,
    }


def test_a_word_of_consent_that_cannot_be_recorded_is_one_recipient_s(
    wide: DeliveryContext, fcm: FakeSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(self: Late, recipients: Any, now: int) -> Looked:
        return Looked(None, [object() if name == "a007" else "default" for name in recipients.addresses])  # type: ignore[misc]

    monkeypatch.setattr(Late, "look", look)
    assert run(wide, routed(wide, topics=["t"])) is RequestState.DONE
    assert len(fcm.calls) == 50
    assert [each[0] for each in dead(wide.ledger)] == ["a007"]


def test_what_follows_a_chunk_and_cannot_be_recorded_ends_it(
    wide: DeliveryContext, fcm: FakeSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcm.answer = lambda recipient, number: Outcome.PERMANENT if recipient.address == "a007" else Outcome.ACCEPTED

    real = dead_letters.of_chunk

    def broken(*args: Any) -> Any:
        if args[-1].dead:
            raise ValueError("a bug")
        return real(*args)

    monkeypatch.setattr(dead_letters, "of_chunk", broken)
    request_id = routed(wide, topics=["t"])
    assert run(wide, request_id) is RequestState.DONE
    assert len(fcm.calls) == 50
    assert found(wide.ledger, request_id).counts["fcm"]["permanent"] == 1


@pytest.mark.parametrize("dies", [False, True])
def test_a_file_that_the_lake_refuses_is_written_under_another_name(
    wide: DeliveryContext, fcm: FakeSender, monkeypatch: pytest.MonkeyPatch, dies: bool
) -> None:
    """Also by a process that dies then: its successor finds it."""
    real, settle = Lake.write_once, broadcasts.settle
    died: list[str] = []

    def refusing(self: Lake, path: str, *args: Any, **more: Any) -> bool:
        if path.endswith("-00000-000001.parquet"):
            raise PermissionError(path)
        return real(self, path, *args, **more)

    def dying(ledger: Ledger, settled: broadcasts.SettledChunk) -> bool:
        if dies and settled.path is not None and not died:
            died.append(settled.path)
            raise LeaseLost("the process has died")
        return settle(ledger, settled)

    monkeypatch.setattr(Lake, "write_once", refusing)
    monkeypatch.setattr(broadcasts, "settle", dying)
    request_id = routed(wide, topics=["t"])
    broadcast.snapshot(wide, request_id)
    if dies:
        with pytest.raises(LeaseLost):
            broadcast.send_shard(wide, request_id, 0)
    assert run(wide, request_id) is RequestState.DONE
    assert Counter(call[0] for call in fcm.calls) == {f"a{number:03d}": 1 for number in range(50)}
    assert ends(wide) == {("accepted", "fake_accepted"): 50}
    paths = [path for shard in (0, 1) for path in chunks.paths(wide.ledger, request_id, shard)]
    assert sum(path.endswith("-again.parquet") for path in paths) == 1
    assert {file.path for file in wide.lake.list("attempts")} == set(paths)


def test_a_lake_that_is_away_for_several_leases_loses_no_answer(
    wide: DeliveryContext, fcm: FakeSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, refused = Lake.write_once, Counter[str]()

    def away(self: Lake, path: str, *args: Any, **more: Any) -> bool:
        if path.startswith("attempts/") and refused.total() < 14:
            refused[path] += 1
            raise OSError("away")
        return real(self, path, *args, **more)

    monkeypatch.setattr(Lake, "write_once", away)
    assert run(wide, routed(wide, topics=["t"])) is RequestState.DONE
    assert len(fcm.calls) == 50
    assert ends(wide) == {("accepted", "fake_accepted"): 50}


def test_which_errors_pass() -> None:
    class Client(Exception):
        """One of an object store's client."""

    Client.__module__ = "botocore.exceptions"
    passing = (LedgerBusy("x"), OSError("x"), TimeoutError("x"), MemoryError(), Client("x"))
    assert all(recording.is_passing(error) for error in passing)
    assert not any(recording.is_passing(error) for error in (ValueError("x"), TypeError("x"), KeyError("x")))
