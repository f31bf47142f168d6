"""A provider that asks for a pause: it costs no attempts beyond those under way, and leaves nothing intended."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from notify_pipeline.channels.base import Message, Report
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import chunks, deliveries, devices
from notify_pipeline.core.ledger.devices import Registration
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.records import Notification, Recipient
from notify_pipeline.core.vocabulary import Channel, Outcome, Platform
from notify_pipeline.delivery import broadcast
from notify_pipeline.delivery.context import DeliveryContext
from tests.delivery.fakes import TENANT, FakeSender, accept, context, rows_of
from tests.delivery.lakes import Landing, row
from tests.delivery.test_broadcast import routed
from tests.delivery.test_drain import drain_to_end
from tests.waiting import wait_for

PAUSE_AT = 25
CHUNK, IN_FLIGHT = 10, 3


class PausingSender:
    """Asks for a pause once, until the test says that it is over, and throttles whoever calls before."""

    name, provider = Channel.FCM, "fake"

    def __init__(self) -> None:
        self._inner = FakeSender(self.name, self._answer, delay_s=0.002)
        self.paused = False
        self.over = threading.Event()
        self.calls = self._inner.calls

    @property
    def held_for_s(self) -> float:
        return 1.0 if self.paused and not self.over.is_set() else 0.0

    def _answer(self, recipient: Recipient, number: int) -> Outcome:
        if len(self.calls) >= PAUSE_AT:
            self.paused = True
        return Outcome.THROTTLED if self.held_for_s else Outcome.ACCEPTED

    @contextmanager
    def until_the_end(self) -> Iterator[None]:
        """End the pause with the block, whatever happens in it."""
        try:
            yield
        finally:
            self.over.set()

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

    def watch() -> None:
        with pausing.until_the_end():
            wait_for(lambda: pausing.paused)
            time.sleep(0.3)  # whoever asked just before
            wait_for(lambda: not chunks.left(ctx.ledger, request_id, ref.shard), what="the end of those under way")
            for _ in range(5):
                found = chunks.totals(ctx.ledger, request_id, ref.shard).chunks
                intended.append((found, len(chunks.left(ctx.ledger, request_id, ref.shard))))
                time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    totals = broadcast.send_shard(ctx, request_id, ref.shard)
    watcher.join()
    assert totals.outcomes == {"accepted": 120}
    assert len(intended) == 5 and len(set(intended)) == 1 and intended[0][1] == 0
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
    seen: list[int] = []

    def watch() -> None:
        with pausing.until_the_end():
            seen.append(wait_for(lambda: len(apns.calls) >= 60 and len(apns.calls), what="the other provider's"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    totals = broadcast.send_shards(ctx, request_id, both)
    watcher.join()
    assert {each.channel: each.outcomes for each in totals} == {"fcm": {"accepted": 60}, "apns": {"accepted": 60}}
    assert seen == [60], "it waited for the pause of another"


def test_a_stop_during_a_pause_leaves_nothing_intended(ctx: DeliveryContext, pausing: PausingSender) -> None:
    request_id = routed(ctx, topics=["t"])
    (ref,) = broadcast.snapshot(ctx, request_id)
    stop = threading.Event()

    watcher = threading.Thread(target=lambda: wait_for(lambda: pausing.paused) and stop.set())
    watcher.start()
    totals = broadcast.send_shard(ctx, request_id, ref.shard, stop)
    watcher.join()
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
    ctx, opened_at = context(sqlite_ledger, folder_lake, pausing), list[float]()
    pausing.paused = True

    def watch() -> None:
        with pausing.until_the_end():
            wait_for(lambda: deliveries.depths(sqlite_ledger) == {"fcm": {"waiting": 30}})
            time.sleep(0.3)  # it looks every 0.2 s
            opened_at.append(time.time())

    watcher = threading.Thread(target=watch)
    watcher.start()
    totals = drain_to_end(ctx, accept(sqlite_ledger, users=["u"]))
    watcher.join()
    assert totals.outcomes == {"accepted": 30}
    assert min(at for _, _, at in pausing.calls) >= opened_at[0]
    assert len(pausing.calls) == 30
