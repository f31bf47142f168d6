"""Sends shards of a broadcast: from where their chunks say that they stand, to everybody's final outcome.

Belongs here: taking shards over, the loop that keeps a shard's chunks in flight, and its end. Does not belong here: one
chunk (``chunk_sender``), which recipients come next (``shard_state``), the ledger's transactions (``core.ledger``).

One process sends a shard of each channel at once. So every process speaks to every provider, and a provider that is
slow, or pauses, delays nobody else's recipients.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from notify_pipeline.channels.base import ChannelSender
from notify_pipeline.core import event_loop
from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import chunks, later, routing, shards
from notify_pipeline.core.ledger.leases import LeaseLost
from notify_pipeline.core.ledger.shards import HeldBy, ShardRow
from notify_pipeline.core.vocabulary import Channel
from notify_pipeline.delivery import notifications
from notify_pipeline.delivery.chunk_sender import LOOK_S, ChunkSender, Shard
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.delivery.shard_state import Chunk, ShardState
from notify_pipeline.delivery.watched_clock import WatchedClock
from notify_pipeline.delivery.yielding import Yielding

log = logging.getLogger(__name__)

# A shard of which all that is left is due later than this is given back: its process would wait for nothing.
_PATIENCE_US = 300_000_000


@dataclass
class ShardTotals:
    """What became of a shard, over all executions.

    Attributes:
        shard: Its number.
        channel: Its channel.
        recipients: How many it has.
        outcomes: Recipients finished, by final outcome.
        chunks: Chunks sent, retries included.
        ambiguous_chunks: Chunks that a dead process left without outcomes.
        done: True when every recipient is finished.
        stopped_reason: ``done``, ``done before`` (by another execution), ``stopped``, ``not due``
            or ``later`` (all that are left wait long).
        seconds: How long this execution ran, with the shards that it sent beside this one.
    """

    shard: int
    channel: str
    recipients: int
    outcomes: dict[str, int] = field(default_factory=dict)
    chunks: int = 0
    ambiguous_chunks: int = 0
    done: bool = False
    stopped_reason: str = ""
    seconds: float = 0.0


def send_shard(ctx: DeliveryContext, request_id: str, shard: int, stop: threading.Event | None = None) -> ShardTotals:
    """Send what is left of one shard; see ``send_shards``."""
    return send_shards(ctx, request_id, [shard], stop)[0]


def send_shards(
    ctx: DeliveryContext, request_id: str, numbers: Sequence[int], stop: threading.Event | None = None
) -> list[ShardTotals]:
    """Send what is left of some shards, side by side.

    Args:
        ctx: The run's surroundings.
        request_id: The broadcast.
        numbers: The shards' numbers.
        stop: Ends it early; chunks under way are finished and recorded.

    Returns:
        What became of each; ``done`` is False only if it was told to stop, or is not due.

    Raises:
        HeldBy: Another process is sending one of them; none was begun.
        LeaseLost: Another process took one over meanwhile. The others were sent to their end all the same.
        KeyError: There is no such shard.
    """
    began = time.monotonic()
    stop = stop or threading.Event()
    rows: list[ShardRow] = []
    try:
        for number in numbers:
            rows.append(_take(ctx, request_id, number, stop))
        reasons = event_loop.run(_send_all(ctx, rows, stop))
    finally:
        for row in rows:
            shards.release_shard(ctx.ledger, request_id, row.shard, ctx.owner)
    seconds = time.monotonic() - began
    return [_totals(ctx, row, reason, seconds) for row, reason in zip(rows, reasons, strict=True)]


def _totals(ctx: DeliveryContext, row: ShardRow, reason: str, seconds: float) -> ShardTotals:
    found = chunks.totals(ctx.ledger, row.request_id, row.shard)
    outcomes = {outcome.value: number for outcome, number in found.outcomes.items()}
    return ShardTotals(
        row.shard,
        row.channel,
        row.recipients,
        outcomes,
        found.chunks,
        found.ambiguous,
        done=reason in ("done", "done before"),
        stopped_reason=reason,
        seconds=seconds,
    )


def _take(ctx: DeliveryContext, request_id: str, shard: int, stop: threading.Event) -> ShardRow:
    """Take the shard's lease; wait for one to run out that a dead process holds."""
    patience = time.monotonic() + ctx.settings.lease_seconds
    while True:
        found = {row.shard: row for row in shards.shards(ctx.ledger, request_id)}
        if shard not in found:
            raise KeyError(f"no shard {shard} of request {request_id}")
        if found[shard].done_at is not None:
            return found[shard]
        try:
            return shards.hold_shard(ctx.ledger, request_id, shard, ctx.owner, ctx.clock(), ctx.settings.lease_seconds)
        except HeldBy:
            # A holder that lives renews long before this is over, so it still holds then.
            if time.monotonic() >= patience or stop.wait(LOOK_S):
                raise


async def _send_all(ctx: DeliveryContext, rows: Sequence[ShardRow], stop: threading.Event) -> list[str]:
    """Return for each shard why it ended, as ``ShardTotals.stopped_reason`` says it."""
    if all(row.done_at is not None for row in rows):
        return ["done before"] * len(rows)
    # One thread handles all tables: Arrow's allocator keeps a heap for each that does, which was 80 MB more with six.
    with ThreadPoolExecutor(1, "tables") as tables:
        async with ctx.open_channels() as senders:
            sends = (_send(ctx, row, senders.get(Channel(row.channel)), tables, stop) for row in rows)
            ends = await asyncio.gather(*sends, return_exceptions=True)
    for row, end in zip(rows, ends, strict=True):
        if isinstance(end, BaseException):
            log.error("shard %d of request %s: %r", row.shard, row.request_id, end)
    reasons = []
    for end in ends:
        if isinstance(end, BaseException):
            raise end
        reasons.append(end)
    return reasons


async def _send(
    ctx: DeliveryContext, row: ShardRow, sender: ChannelSender | None, tables: Executor, stop: threading.Event
) -> str:
    if row.done_at is not None:
        return "done before"
    if row.due_at is not None and row.due_at > to_micros(ctx.clock()):
        return "not due"
    notification = notifications.until(
        notifications.parse(routing.load(ctx.ledger, [row.request_id])[0]), row.expires_at
    )
    clock = WatchedClock(ctx.clock)
    ctx = replace(ctx, clock=clock)
    with ExitStack() as stack:
        shard = await asyncio.to_thread(stack.enter_context, Shard.open(ctx, row, notification))
        chunk_sender = ChunkSender(ctx, shard, sender, tables, stop)
        yielding = Yielding(ctx, notification.priority.rank)
        return await _ShardRun(ctx, clock, chunk_sender, shard, stop, yielding).run()


class _ShardRun:
    def __init__(
        self,
        ctx: DeliveryContext,
        clock: WatchedClock,
        chunk_sender: ChunkSender,
        shard: Shard,
        stop: threading.Event,
        yielding: Yielding,
    ) -> None:
        self._ctx = ctx
        self._clock = clock
        self._yielding = yielding
        self._chunks = chunk_sender
        self._row = shard.row
        self._stop = stop
        self._state = ShardState(shard.row.recipients)
        self._in_flight: set[asyncio.Task[None]] = set()

    async def run(self) -> str:
        """Return ``done``, ``later`` or ``stopped``."""
        keeper = asyncio.create_task(self._keep())
        looker = asyncio.create_task(self._yielding.run())
        work = asyncio.create_task(self._work())
        try:
            await asyncio.wait((keeper, work), return_when=asyncio.FIRST_COMPLETED)
            if keeper.done():  # it only ends by an error: the lease is lost, or nobody knows
                keeper.result()
            return await work
        finally:
            for task in (keeper, looker, work, *self._in_flight):
                task.cancel()
            await asyncio.gather(keeper, looker, work, *self._in_flight, return_exceptions=True)

    async def _work(self) -> str:
        await self._chunks.settle_left()
        await asyncio.to_thread(self._chunks.restore, self._state)
        await self._chunks.recall()
        await self._yielding.look()
        try:
            while not self._state.is_finished and not self._stop.is_set():
                if (chunk := self._next()) is not None:
                    self._in_flight.add(asyncio.create_task(self._run_chunk(chunk)))
                elif (due_at := self._later()) is not None:
                    return await self._put_off(due_at)
                else:
                    await self._something_ends()
        finally:
            # Whatever ends the loop, chunks under way are finished and recorded, unless this task is cancelled.
            while self._in_flight:
                await self._something_ends()
        if not self._state.is_finished:
            return "stopped"
        await self._chunks.drop_rest()
        ctx, row = self._ctx, self._row
        await asyncio.to_thread(shards.end_shard, ctx.ledger, row.request_id, row.shard, ctx.owner, ctx.clock())
        return "done"

    def _now(self) -> int:
        """Return the time; where the clock was set back, retries are due as much sooner."""
        if back_s := self._clock.set_back_by(self._ctx.settings.lease_seconds):
            self._state.set_back(round(back_s * 1e6))
        return to_micros(self._clock())

    def _later(self) -> int | None:
        """Return when the rest is due, where that is too long to wait for."""
        now, due_at = self._now(), self._state.next_due
        if self._in_flight or self._state.has_fresh or due_at is None:
            return None
        return due_at if due_at > now + _PATIENCE_US else None

    async def _put_off(self, due_at: int) -> str:
        ctx, row, now = self._ctx, self._row, to_micros(self._clock())
        await asyncio.to_thread(later.put_off_shard, ctx.ledger, row.request_id, row.shard, ctx.owner, due_at, now)
        # Whoever goes on begins a sample of its own.
        await self._chunks.drop_rest()
        return "later"

    def _next(self) -> Chunk | None:
        if len(self._in_flight) >= self._ctx.settings.chunks_in_flight or self._chunks.is_held:
            return None
        if not self._yielding.may_begin(bool(self._in_flight)):
            return None
        return self._state.take(self._now(), self._chunks.pace.size)

    async def _something_ends(self) -> None:
        """Wait until a chunk ends or a retry may be due."""
        if not self._in_flight:
            now, due_at = self._now(), self._state.next_due
            wait_s = LOOK_S if due_at is None else (due_at - now) / 1e6
            rests = self._chunks.is_held or self._yielding.now
            return await asyncio.sleep(LOOK_S if rests else min(max(wait_s, 0.001), LOOK_S))
        done, self._in_flight = await asyncio.wait(self._in_flight, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def _run_chunk(self, chunk: Chunk) -> None:
        settled = await self._chunks.send(chunk)
        if settled is not None:
            self._state.settled(chunk, settled)

    async def _keep(self) -> None:
        """Extend the lease until cancelled.

        Raises:
            LeaseLost: Somebody took the shard over.
        """
        ctx, row, lease_s = self._ctx, self._row, self._ctx.settings.lease_seconds
        while True:
            await asyncio.sleep(lease_s / 3)
            began = time.monotonic()
            hold = (ctx.ledger, row.request_id, row.shard, ctx.owner, ctx.clock(), lease_s)
            try:
                await asyncio.to_thread(shards.hold_shard, *hold)
            except HeldBy as held:
                raise LeaseLost(str(held)) from held
            except Exception:
                # No chunk begins once the lease may have run out.
                log.exception("the lease on shard %d was not extended", self._row.shard)
            else:
                self._chunks.renewed_at = began
