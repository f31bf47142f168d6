"""The drain: sends small sends as they are accepted, until its time is up, it was idle, or it is told to stop.

Belongs here: the run around a planner and one lane per channel. Does not belong here: what those do
(``drain_planner``, ``drain_lane``).
"""

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from notify_pipeline.channels.base import ChannelSender
from notify_pipeline.core import event_loop
from notify_pipeline.core.ledger import leases, set_back
from notify_pipeline.core.ledger.leases import Lease
from notify_pipeline.core.vocabulary import QUEUED_CHANNELS, Channel
from notify_pipeline.delivery import callbacks, event_router, inbox_announcer
from notify_pipeline.delivery.closed_lane import ClosedLane, Nobody
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.delivery.drain_lane import Lane
from notify_pipeline.delivery.drain_planner import Planner
from notify_pipeline.delivery.scheduling import Schedules
from notify_pipeline.delivery.watched_clock import WatchedClock

log = logging.getLogger(__name__)

LEASE = "drain"
# How often a waiting or running drain looks at its surroundings.
_LOOK_S = 0.1
# A predecessor that is alive gives up within its time; longer than this nobody waits for it.
_LEASE_WAIT_S = 60.0
# What failed begins again after this long; the rest goes on meanwhile.
_PAUSE_S = 1.0
# Ledger calls block; each lane needs a few at once, and topic scans sit in theirs for seconds.
_THREADS = 24


class DrainFailed(Exception):
    """Parts of the run failed and began again. What they had claimed is taken over by lease; the rest was done."""


@dataclass
class DrainTotals:
    """What a drain did.

    Attributes:
        stopped_reason: Why it ended: ``stopped``, ``time``, ``idle``, ``lease lost`` or ``held by …``.
        planned: Requests planned.
        outcomes: Attempts stored, by outcome.
        late: Outcomes that came after their lease was taken over.
        recovered: Deliveries taken over from dead processes.
        failures: How often a lane or the planner failed and began again.
        seconds: How long it ran.
    """

    stopped_reason: str
    planned: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    late: int = 0
    recovered: int = 0
    failures: int = 0
    seconds: float = 0.0


def run_drain(ctx: DeliveryContext, stop: threading.Event) -> DrainTotals:
    """Run one drain.

    One drain works at a time: this waits for another's lease first. That saves work; what keeps deliveries from being
    sent twice are the claims, which any number of drains may make.

    Args:
        ctx: The run's surroundings.
        stop: Ends it; what is under way is finished and stored.

    Returns:
        What it did, and why it ended.

    Raises:
        DrainFailed: A lane or the planner failed (it was restarted, and everything else went on).
    """
    began = time.monotonic()
    lease = _wait_for_lease(ctx, stop)
    if lease is None:
        other = leases.holder(ctx.ledger, LEASE, ctx.clock())
        return DrainTotals("stopped" if stop.is_set() else f"held by {other}", seconds=time.monotonic() - began)
    totals = event_loop.run(_Drain(ctx, lease, stop).run())
    totals.seconds = time.monotonic() - began
    if totals.failures:
        raise DrainFailed(f"parts failed {totals.failures} times, see the log; {totals}")
    return totals


def _wait_for_lease(ctx: DeliveryContext, stop: threading.Event) -> Lease | None:
    give_up = time.monotonic() + _LEASE_WAIT_S
    while not stop.is_set():
        lease = leases.acquire(ctx.ledger, LEASE, ctx.owner, ctx.settings.lease_seconds, ctx.clock())
        if lease is not None or time.monotonic() >= give_up:
            return lease
        stop.wait(_LOOK_S)
    return None


class _Drain:
    def __init__(self, ctx: DeliveryContext, lease: Lease, stop: threading.Event) -> None:
        # Whatever the drain's parts store, they have read this clock.
        self._clock = WatchedClock(ctx.clock)
        self._ctx = replace(ctx, clock=self._clock)
        self._lease = lease
        self._stop = stop
        self._schedules = Schedules(ctx.ledger)
        self._lanes: dict[Channel, Lane] = {}
        self._past: list[Lane] = []
        self._failures = 0
        self._closing = asyncio.Event()
        self._lost = False

    async def run(self) -> DrainTotals:
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="drain") as threads:
            asyncio.get_running_loop().set_default_executor(threads)
            keeper = asyncio.create_task(self._keep())
            mender = asyncio.create_task(self._look_back())
            try:
                async with self._ctx.open_channels() as senders:
                    return await self._work(senders)
            finally:
                for helper in (keeper, mender):
                    helper.cancel()
                await asyncio.to_thread(leases.release, self._ctx.ledger, self._lease)

    async def _work(self, senders: Mapping[Channel, ChannelSender]) -> DrainTotals:
        planner = Planner(self._ctx, frozenset(senders), self._wake, self._schedules)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._run_planner(planner))
            group.create_task(callbacks.run(self._ctx, self._closing))
            group.create_task(inbox_announcer.run(self._ctx, self._closing))
            group.create_task(event_router.run(self._ctx, self._closing))
            for sender in senders.values():
                group.create_task(self._run_lane(Lane, sender))
            for channel in QUEUED_CHANNELS - senders.keys():
                group.create_task(self._run_lane(ClosedLane, Nobody(channel)))
            reason = await self._watch(planner)
            self._closing.set()
            self._wake()
        totals = DrainTotals(reason, planner.planned, failures=self._failures)
        outcomes: Counter[str] = Counter()
        for lane in (*self._lanes.values(), *self._past):
            outcomes += lane.outcomes
            totals.late += lane.late
            totals.recovered += lane.recovered
        totals.outcomes = dict(outcomes)
        return totals

    async def _watch(self, planner: Planner) -> str:
        """Return why the drain has to end, once it has to."""
        settings = self._ctx.settings
        began = busy_at = time.monotonic()
        seen = -1
        while True:
            now = time.monotonic()
            done = planner.planned + sum(lane.outcomes.total() for lane in self._lanes.values())
            if done != seen or planner.is_busy or any(lane.in_flight for lane in self._lanes.values()):
                seen, busy_at = done, now
            if self._stop.is_set():
                return "stopped"
            if self._lost:
                return "lease lost"
            if now - began >= settings.drain_seconds:
                return "time"
            # Not by the clock alone: where the machine stood still, work may wait that nobody has looked for.
            looked_at = min([planner.looked_at, *(lane.looked_at for lane in self._lanes.values())])
            if looked_at - busy_at >= settings.drain_idle_seconds:
                return "idle"
            await asyncio.sleep(_LOOK_S)

    async def _run_planner(self, planner: Planner) -> None:
        """Run the planner again when it fails: lanes have work that must end in order."""
        while True:
            try:
                return await planner.run(self._closing)
            except Exception:
                self._failures += 1
                log.exception("the planner failed; it begins again")
            if self._closing.is_set():
                return None
            await asyncio.sleep(_PAUSE_S)

    async def _run_lane(self, kind: type[Lane], sender: ChannelSender) -> None:
        while True:
            lane = kind(self._ctx, sender, self._schedules)
            previous = self._lanes.get(sender.name)
            if previous is not None:
                self._past.append(previous)
            self._lanes[sender.name] = lane
            try:
                await lane.run(self._closing)
                return
            except Exception:
                self._failures += 1
                log.exception("the lane of %s failed; it begins again", sender.name)
            if self._closing.is_set():
                return
            await asyncio.sleep(_PAUSE_S)

    def _wake(self, channels: Collection[str] | None = None) -> None:
        """Have lanes look for work at once: these channels', or all."""
        for channel, lane in self._lanes.items():
            if channels is None or channel.value in channels:
                lane.wake.set()

    async def _look_back(self) -> None:
        """Mend what a clock that was set back leaves behind, beside the work: it reads all that waits for a time."""
        every_s = self._ctx.settings.lease_seconds / 3
        while True:
            if back := self._clock.set_back_by(self._ctx.settings.lease_seconds):
                log.warning("the clock was set back by %.0f s", back)
            if self._clock.is_to_look(every_s):
                await asyncio.to_thread(self._mend)
            await asyncio.sleep(every_s)

    def _mend(self) -> None:
        """Mend what a clock that was set back has left; this one's, or that of a drain before."""
        try:
            mended = set_back.mend(self._ctx.ledger, self._ctx.clock(), self._ctx.settings.lease_seconds)
        except Exception:
            log.exception("what a clock that was set back may have left is not mended")
            return
        if mended:
            log.warning("%d leases and due times lay ahead of the clock", mended)
            self._wake()

    async def _keep(self) -> None:
        """Extend the drain's lease; another drain that took over ends this one."""
        while not self._lost:
            await asyncio.sleep(self._ctx.settings.lease_seconds / 3)
            lease_s, now = self._ctx.settings.lease_seconds, self._ctx.clock()
            try:
                renewed = await asyncio.to_thread(leases.renew, self._ctx.ledger, self._lease, lease_s, now)
            except Exception:
                # Whether it is lost is known when the ledger answers again.
                log.exception("the drain's lease was not extended")
                continue
            self._lost = renewed is None
