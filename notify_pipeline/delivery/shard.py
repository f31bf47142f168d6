"""Sends one shard of a broadcast: from where its chunks say that it stands, to everybody's final outcome.

Belongs here: taking a shard over, the loop that keeps chunks in flight, and its end. Does not belong here: one chunk
(``chunk_sender``), which recipients come next (``shard_state``), the ledger's transactions (``core.ledger``).
"""

import asyncio
import logging
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import broadcasts, routing, shards
from notify_pipeline.core.ledger.chunk_rows import ChunkRow
from notify_pipeline.core.ledger.group_commit import LedgerError
from notify_pipeline.core.ledger.leases import LeaseLost
from notify_pipeline.core.ledger.shards import HeldBy, ShardRow
from notify_pipeline.core.vocabulary import Channel
from notify_pipeline.delivery import notifications
from notify_pipeline.delivery.chunk_sender import ChunkSender, Shard
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.delivery.shard_state import Chunk, ShardState

log = logging.getLogger(__name__)

# When only retries are left they come one by one; those due within this long go together.
_TOGETHER_US = 50_000
# The loop looks up at least this often: for the stop event, and clocks that jump.
_LOOK_S = 0.2


@dataclass
class ShardTotals:
    """What became of a shard, over all executions.

    Attributes:
        shard: Its number.
        recipients: How many it has.
        outcomes: Recipients finished, by final outcome.
        chunks: Chunks sent, retries included.
        ambiguous_chunks: Chunks that a dead process left without outcomes.
        done: True when every recipient is finished.
        stopped_reason: ``done``, ``done before`` (by another execution) or ``stopped``.
        seconds: How long this execution ran.
    """

    shard: int
    recipients: int
    outcomes: dict[str, int] = field(default_factory=dict)
    chunks: int = 0
    ambiguous_chunks: int = 0
    done: bool = False
    stopped_reason: str = ""
    seconds: float = 0.0


def send_shard(ctx: DeliveryContext, request_id: str, shard: int, stop: threading.Event | None = None) -> ShardTotals:
    """Send what is left of a shard.

    Args:
        ctx: The run's surroundings.
        request_id: The broadcast.
        shard: The shard's number.
        stop: Ends it early; chunks under way are finished and recorded.

    Returns:
        What became of it; ``done`` is False only if it was told to stop.

    Raises:
        HeldBy: Another process is sending it.
        LeaseLost: Another process took it over meanwhile.
        KeyError: There is no such shard.
    """
    began = time.monotonic()
    row = _take(ctx, request_id, shard, stop)
    if row.done_at is not None:
        reason = "done before"
    else:
        try:
            reason = asyncio.run(_send(ctx, row, stop or threading.Event()))
        finally:
            shards.release_shard(ctx.ledger, request_id, shard, ctx.owner)
    totals = _totals(row, broadcasts.chunks(ctx.ledger, request_id, shard))
    totals.stopped_reason, totals.seconds = reason, time.monotonic() - began
    totals.done = reason != "stopped"
    return totals


def _totals(row: ShardRow, chunks: list[ChunkRow]) -> ShardTotals:
    counts: Counter[str] = Counter()
    for chunk in chunks:
        counts.update({outcome.value: number for outcome, number in chunk.counts.items()})
    ambiguous = sum(chunk.state == "ambiguous" for chunk in chunks)
    return ShardTotals(row.shard, row.recipients, dict(counts), len(chunks), ambiguous)


def _take(ctx: DeliveryContext, request_id: str, shard: int, stop: threading.Event | None) -> ShardRow:
    """Take the shard's lease; wait for one to run out that a dead process holds."""
    waiting = stop or threading.Event()
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
            if time.monotonic() >= patience or waiting.wait(_LOOK_S):
                raise


async def _send(ctx: DeliveryContext, row: ShardRow, stop: threading.Event) -> str:
    notification = notifications.parse(routing.load(ctx.ledger, [row.request_id])[0])
    async with ctx.open_channels() as senders:
        sender = senders.get(Channel(row.channel))
        shard = await asyncio.to_thread(Shard.load, ctx, row, notification)
        return await _ShardRun(ctx, ChunkSender(ctx, shard, sender), shard, stop).run()


class _ShardRun:
    def __init__(self, ctx: DeliveryContext, chunks: ChunkSender, shard: Shard, stop: threading.Event) -> None:
        self._ctx = ctx
        self._chunks = chunks
        self._row = shard.row
        self._stop = stop
        self._state = ShardState(shard.row.recipients)
        self._in_flight: set[asyncio.Task[None]] = set()

    async def run(self) -> str:
        """Return ``done`` or ``stopped``."""
        keeper = asyncio.create_task(self._keep())
        work = asyncio.create_task(self._work())
        try:
            await asyncio.wait((keeper, work), return_when=asyncio.FIRST_COMPLETED)
            if keeper.done():  # it only ends by an error: the lease is lost, or nobody knows
                keeper.result()
            return await work
        finally:
            for task in (keeper, work, *self._in_flight):
                task.cancel()
            await asyncio.gather(keeper, work, *self._in_flight, return_exceptions=True)

    async def _work(self) -> str:
        self._state.restore(await asyncio.to_thread(self._chunks.settle_left))
        try:
            while not self._state.is_finished and not self._stop.is_set():
                chunk = self._next() if len(self._in_flight) < self._ctx.settings.chunks_in_flight else None
                if chunk is not None:
                    self._in_flight.add(asyncio.create_task(self._run_chunk(chunk)))
                else:
                    await self._something_ends()
        finally:
            # Whatever ends the loop, chunks under way are finished and recorded, unless this task is cancelled.
            while self._in_flight:
                await self._something_ends()
        if not self._state.is_finished:
            return "stopped"
        await asyncio.to_thread(
            shards.end_shard,
            self._ctx.ledger,
            self._row.request_id,
            self._row.shard,
            self._ctx.owner,
            self._ctx.clock(),
        )
        await self._chunks.drop_rest()
        return "done"

    def _next(self) -> Chunk | None:
        now = to_micros(self._ctx.clock())
        if not self._state.has_fresh:
            now -= _TOGETHER_US
        return self._state.take(now, self._ctx.settings.chunk_size)

    async def _something_ends(self) -> None:
        """Wait until a chunk ends or a retry may be due."""
        if not self._in_flight:
            due_at = self._state.next_due
            wait_s = _LOOK_S if due_at is None else (due_at + _TOGETHER_US - to_micros(self._ctx.clock())) / 1e6
            return await asyncio.sleep(min(max(wait_s, 0.001), _LOOK_S))
        done, self._in_flight = await asyncio.wait(
            self._in_flight, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED
        )
        for task in done:
            task.result()

    async def _run_chunk(self, chunk: Chunk) -> None:
        self._state.settled(chunk, await self._chunks.send(chunk))

    async def _keep(self) -> None:
        """Extend the lease until cancelled.

        Raises:
            LeaseLost: Somebody took the shard over.
        """
        while True:
            await asyncio.sleep(self._ctx.settings.lease_seconds / 3)
            began = time.monotonic()
            try:
                await asyncio.to_thread(
                    shards.hold_shard,
                    self._ctx.ledger,
                    self._row.request_id,
                    self._row.shard,
                    self._ctx.owner,
                    self._ctx.clock(),
                    self._ctx.settings.lease_seconds,
                )
            except HeldBy as held:
                raise LeaseLost(str(held)) from held
            except LedgerError:
                # No chunk begins once the lease may have run out.
                log.exception("the lease on shard %d was not extended", self._row.shard)
            else:
                self._chunks.renewed_at = began
