"""A provider that asks for a pause: it costs no attempts beyond those under way, and leaves nothing intended."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from notify_pipeline.channels.base import Message, Report
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import chunks, devices
from notify_pipeline.core.ledger.devices import Registration
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.records import Notification, Recipient
from notify_pipeline.core.vocabulary import Channel, Outcome, Platform
from notify_pipeline.delivery import broadcast
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.delivery.drain import run_drain
from tests.delivery.fakes import TENANT, FakeSender, accept, context, rows_of
from tests.delivery.lakes import Landing, row
from tests.delivery.test_broadcast import routed

PAUSE_S, PAUSE_AT = 2.0, 25
CHUNK, IN_FLIGHT = 10, 3


class PausingSender:
    """Asks for a pause once, and throttles whoever calls before it is over."""

    name, provider = Channel.FCM, "fake"

    def __init__(self) -> None:
        self._inner = FakeSender(self.name, self._answer, delay_s=0.002)
        self.until: float | None = None
        self.calls = self._inner.calls

    @property
    def held_for_s(self) -> float:
        return 0.0 if self.until is None else max(0.0, self.until - time.monotonic())

    def _answer(self, recipient: Recipient, number: int) -> Outcome:
        if self.until is None and len(self.calls) >= PAUSE_AT:
            self.until = time.monotonic() + PAUSE_S
        return Outcome.THROTTLED if self.held_for_s else Outcome.ACCEPTED

    def prepare(self, notification: Notification, platform: Platform) -> Message:
        return self._inner.prepare(notification, platform)

    async def send(
        self, message: Message, recipients: Sequence[Recipient], delivery_ids: Sequence[str], report: Report
    ) -> None:
        await self._inner.send(message, recipients, delivery_ids, report)

    async def aclose(self) -> None:
        return None


@pytest.fixture
def pausing() -> PausingSender:
    return PausingSender()


@pytest.fixture
def ctx(sqlite_ledger: Ledger, folder_lake: Lake, pausing: PausingSender) -> DeliveryContext:
    Landing(folder_lake, sqlite_ledger).land(*(row(f"a{n:03d}", 1, ["t"]) for n in range(120)))
    return context(sqlite_ledger, folder_lake, pausing, chunk_size=CHUNK, chunks_in_flight=IN_FLIGHT)


def test_a_shard_intends_nothing_while_its_provider_pauses(ctx: DeliveryContext, pausing: PausingSender) -> None:
    request_id = routed(ctx, topics=["t"])
    (ref,) = broadcast.snapshot(ctx, request_id)
    intended: list[tuple[int, int]] = []  # how many chunks there were, and how many of them had no outcomes
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            # Those under way when the pause began have ended by then.
            if 0.3 < pausing.held_for_s < PAUSE_S / 2:
                found = chunks.totals(ctx.ledger, request_id, ref.shard).chunks
                intended.append((found, len(chunks.left(ctx.ledger, request_id, ref.shard))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    totals = broadcast.send_shard(ctx, request_id, ref.shard)
    over.set()
    watcher.join()
    assert totals.outcomes == {"accepted": 120}
    assert len(intended) > 3 and len(set(intended)) == 1 and intended[0][1] == 0
    attempts = Counter(each["outcome"] for each in rows_of(ctx.lake, "attempts"))
    assert attempts["accepted"] == 120
    assert 0 < attempts["throttled"] <= CHUNK * IN_FLIGHT


def test_one_providers_pause_delays_no_other(sqlite_ledger: Ledger, folder_lake: Lake, pausing: PausingSender) -> None:
    phones = [row(f"a{n:03d}", 1, ["t"]) for n in range(60)]
    Landing(folder_lake, sqlite_ledger).land(*phones, *(row(f"i{n:03d}", 1, ["t"], platform="ios") for n in range(60)))
    apns = FakeSender(Channel.APNS, delay_s=0.002)
    ctx = context(sqlite_ledger, folder_lake, pausing, apns, chunk_size=CHUNK, chunks_in_flight=IN_FLIGHT)
    request_id = routed(ctx, topics=["t"])
    both = [ref.shard for ref in broadcast.snapshot(ctx, request_id)]
    totals = broadcast.send_shards(ctx, request_id, both)
    assert {each.channel: each.outcomes for each in totals} == {"fcm": {"accepted": 60}, "apns": {"accepted": 60}}
    paused_at = pausing.calls[PAUSE_AT - 1][2]
    resumed_at = min(at for _, _, at in pausing.calls if at > paused_at + PAUSE_S - 0.1)
    assert max(at for _, _, at in apns.calls) < resumed_at


def test_a_stop_during_a_pause_leaves_nothing_intended(ctx: DeliveryContext, pausing: PausingSender) -> None:
    request_id = routed(ctx, topics=["t"])
    (ref,) = broadcast.snapshot(ctx, request_id)
    stop = threading.Event()
    timer = threading.Timer(1.0, stop.set)
    timer.start()
    totals = broadcast.send_shard(ctx, request_id, ref.shard, stop)
    timer.join()
    assert pausing.held_for_s > 0, "it did not wait for the pause to end"
    assert totals.stopped_reason == "stopped" and chunks.left(ctx.ledger, request_id, ref.shard) == []
    assert totals.ambiguous_chunks == 0 and totals.outcomes["accepted"] < 120


def test_the_drain_claims_nothing_while_a_provider_pauses(
    sqlite_ledger: Ledger, folder_lake: Lake, pausing: PausingSender
) -> None:
    for number in range(30):
        devices.register(
            sqlite_ledger, TENANT, Registration(f"d{number}", Platform.ANDROID, user_id="u"), datetime.now(UTC)
        )
    pausing.until = time.monotonic() + PAUSE_S / 2
    opens_at = time.time() + PAUSE_S / 2
    ctx = context(sqlite_ledger, folder_lake, pausing, drain_idle_seconds=PAUSE_S)
    accept(sqlite_ledger, users=["u"])
    totals = run_drain(ctx, threading.Event())
    assert totals.outcomes == {"accepted": 30}
    assert min(at for _, _, at in pausing.calls) >= opens_at - 0.05
    assert len(pausing.calls) == 30
