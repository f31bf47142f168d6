"""Cancelling and editing while planners, snapshots and drains are at work: whoever is told the truth."""

import random
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import audit, broadcasts, changing, devices, requests
from notify_pipeline.core.ledger.accepting import NewRequest
from notify_pipeline.core.ledger.changing import AlreadyStarted
from notify_pipeline.core.ledger.devices import Registration
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.tables import REQUESTS
from notify_pipeline.core.vocabulary import Channel, Platform, RequestState
from notify_pipeline.delivery import broadcast, snapshot
from notify_pipeline.delivery.audience import AudienceReader
from notify_pipeline.delivery.context import DeliveryContext
from tests.delivery.fakes import TENANT, FakeSender, accept, context, land
from tests.delivery.lakes import Landing, row
from tests.delivery.test_broadcast import found, routed
from tests.delivery.test_drain import drain_to_end, register
from tests.waiting import PATIENCE_S, wait_for

SENDS = [pytest.param(60, id="short"), pytest.param(600, id="long", marks=[pytest.mark.long, pytest.mark.timeout(900)])]


def cancel(ledger: Ledger, notification_id: str) -> RequestState:
    """Cancel; return where the request stands, as its caller is told."""
    try:
        assert changing.cancel(ledger, TENANT, notification_id, "key", datetime.now(UTC)) is not None
    except AlreadyStarted as error:
        return error.state
    return RequestState.CANCELLED


@pytest.mark.parametrize("sends", SENDS)
def test_a_cancellation_that_races_with_a_drain_is_won_or_lost(
    ledger: Ledger, ledger_url: str, tmp_path: Path, sends: int
) -> None:
    lake, log, stop = Lake(str(tmp_path / "lake")), tmp_path / "calls.log", threading.Event()
    for number in range(sends):
        platform = random.choice([Platform.ANDROID, Platform.IOS])
        topics = [f"t{number}"] if number % 3 == 0 else []
        devices.register(ledger, TENANT, Registration(f"d{number}", platform, f"u{number}", topics), datetime.now(UTC))
    land(ledger, lake)
    told: dict[int, RequestState] = {}

    def sender(numbers: range) -> None:
        for number in numbers:
            audience: dict[str, Any] = {"topics": [f"t{number}"]} if number % 3 == 0 else {"users": [f"u{number}"]}
            accept(ledger, f"n{number}", **audience)
            stop.wait(random.choice([0, random.uniform(0, 0.02), random.uniform(0, 0.2)]))
            told[number] = cancel(ledger, f"n{number}")

    command = [sys.executable, "-m", "tests.delivery.worker", "drain", str(tmp_path), ledger_url]
    with subprocess.Popen(command) as worker:
        # The first send shows that the drain is there.
        warm = accept(ledger, "warm", devices=["nobody"])
        wait_for(lambda: found(ledger, warm).state.is_final, what="the drain")
        senders = [threading.Thread(target=sender, args=(range(first, sends, 4),)) for first in range(4)]
        for each in senders:
            each.start()
        for each in senders:
            each.join()
        assert worker.wait(PATIENCE_S) == 0
    called = set(log.read_text().split()) if log.exists() else set()
    assert len(told) == sends
    for number, state in told.items():
        request = requests.get_by_notification(ledger, TENANT, f"n{number}")
        assert request is not None
        assert (
            (state is RequestState.CANCELLED)
            == (request.state is RequestState.CANCELLED)
            == (f"d{number}" not in called)
        )
        moves = [entry.to_state for entry in audit.page(ledger, request.request_id) if entry.to_state]
        if state is RequestState.CANCELLED:
            assert moves == ["accepted", "cancelled"]
        else:
            assert moves[:3] == ["accepted", "routed", "sending"] and moves[3:] in (["done"], ["failed"])
    won = sum(state is RequestState.CANCELLED for state in told.values())
    assert 0 < won < sends, "not a race"


def test_a_cancellation_during_the_snapshot_wins_and_leaves_no_files(
    ledger: Ledger, folder_lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    Landing(folder_lake, ledger).land(*(row(f"a{n:03d}", 1, ["t"]) for n in range(50)))
    fcm = FakeSender(Channel.FCM)
    ctx = context(ledger, folder_lake, fcm, inline_limit=3, shard_min=40)
    request_id = routed(ctx, notification_id="n1", topics=["t"])
    real = broadcasts.start

    def too_late(ledger: Ledger, made: broadcasts.Snapshot) -> bool:
        assert len(ctx.lake.list("snapshots")) == len(made.shards) > 0
        assert cancel(ledger, "n1") is RequestState.CANCELLED
        return real(ledger, made)

    monkeypatch.setattr(snapshot.broadcasts, "start", too_late)
    assert broadcast.snapshot(ctx, request_id) == []
    assert ctx.lake.list("snapshots") == []
    assert broadcast.finish(ctx, request_id) is RequestState.CANCELLED
    assert (found(ledger, request_id).state, fcm.calls) == (RequestState.CANCELLED, [])


def test_a_cancellation_after_the_snapshot_loses(ledger: Ledger, folder_lake: Lake) -> None:
    Landing(folder_lake, ledger).land(*(row(f"a{n:03d}", 1, ["t"]) for n in range(5)))
    ctx = context(ledger, folder_lake, FakeSender(Channel.FCM), inline_limit=3)
    request_id = routed(ctx, notification_id="n1", topics=["t"])
    broadcast.snapshot(ctx, request_id)
    assert cancel(ledger, "n1") is RequestState.SENDING
    for ref in broadcast.snapshot(ctx, request_id):
        assert broadcast.send_shard(ctx, request_id, ref.shard).done
    assert broadcast.finish(ctx, request_id) is RequestState.DONE


def test_an_edit_while_its_audience_is_sought_is_what_is_sent(
    ledger: Ledger, folder_lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(ledger, "phone", user_id="u1", topics=["old"])
    register(ledger, "tablet", user_id="u2", topics=["new"])
    land(ledger, folder_lake)
    fcm = FakeSender(Channel.FCM)
    ctx: DeliveryContext = context(ledger, folder_lake, fcm)
    request_id = accept(ledger, "n1", topics=["old"])
    real, edited = AudienceReader.find, []

    def find(self: AudienceReader, *asked: Any) -> object:
        if not edited:
            edited.append(True)
            read = found(ledger, request_id)
            body = {**read.body, "topics": ["new"]}
            new = NewRequest(TENANT, "n1", body, read.accepted_at, read.expires_at + timedelta(hours=1))
            changing.edit(ledger, read, new, datetime.now(UTC))
            # The very same drain has it again before the old plan is stored.
            wait_for(lambda: _is_taken_up(ledger, request_id), what="the next claim")
        return real(self, *asked)

    monkeypatch.setattr(AudienceReader, "find", find)
    drain_to_end(ctx, request_id)
    assert [call[0] for call in fcm.calls] == ["tablet"]
    events = [entry.event for entry in audit.page(ledger, request_id)]
    assert events == ["request.accepted", "request.edited", "request.routed", "request.sending", "request.done"]


def _is_taken_up(ledger: Ledger, request_id: str) -> bool:
    """Tell whether a planner has it, or had it and is done with it."""
    with ledger.read() as conn:
        query = select(REQUESTS.c.lease_owner, REQUESTS.c.state).where(REQUESTS.c.request_id == request_id)
        owner, state = conn.execute(query).one()
    return owner is not None or state != RequestState.ACCEPTED
