"""One chunk of a shard: read, intended, sent, written, settled; and the chunks that a dead process left behind.

Belongs here: that sequence. Does not belong here: which chunk comes when (``shard``), its recipients (``recipients``),
calling them (``chunk_calls``), retry decisions (``shard_state``, ``retry``).

The attempts file of a chunk is written once by whoever comes first (``chunk_record``): the one that sent it, or its
successor that calls it ambiguous. The other one reads what is there. So file and ledger can only tell one story.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from notify_pipeline.channels.base import BAD_ADDRESS, ChannelSender
from notify_pipeline.core.ids import DeliveryIds, from_micros, to_micros
from notify_pipeline.core.lake import partition
from notify_pipeline.core.ledger import broadcasts, chunks
from notify_pipeline.core.ledger.chunk_rows import ChunkRow, NewChunk
from notify_pipeline.core.ledger.dead_letters import DeadLetter
from notify_pipeline.core.ledger.devices import TokenDrop
from notify_pipeline.core.ledger.leases import LeaseLost
from notify_pipeline.core.ledger.shards import ShardRow
from notify_pipeline.core.records import AttemptResult, Notification
from notify_pipeline.core.schemas import ATTEMPTS
from notify_pipeline.core.vocabulary import Channel, Outcome
from notify_pipeline.delivery import attempts, dead_letters, notifications, retry_policies, tokens
from notify_pipeline.delivery.attempts import Results
from notify_pipeline.delivery.chunk_calls import ChunkCalls
from notify_pipeline.delivery.chunk_record import ChunkRecord, Written
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.delivery.patience import patiently
from notify_pipeline.delivery.recipients import Recipients
from notify_pipeline.delivery.recording import is_passing
from notify_pipeline.delivery.retry import RetryPolicy
from notify_pipeline.delivery.shard_file import ShardFile, open_shard
from notify_pipeline.delivery.shard_state import Chunk, ChunkPace, Settled, ShardState, final, settle
from notify_pipeline.delivery.tokens import DropGuard

log = logging.getLogger(__name__)

# Whoever waits for something that nobody announces looks this often: a pause that ends, the stop event, a clock's jump.
LOOK_S = 0.2
# Clocks of two hosts differ by less; a chunk intended further ahead than that was intended before a clock was set back.
_MARGIN_US = 60_000_000


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard at work: its row, its notification, its recipients in the lake, how its failures are retried."""

    row: ShardRow
    notification: Notification
    file: ShardFile
    ids: DeliveryIds
    policy: RetryPolicy

    @classmethod
    @contextmanager
    def open(cls, ctx: DeliveryContext, row: ShardRow, notification: Notification) -> Iterator["Shard"]:
        """Yield a shard with its file open."""
        ids = DeliveryIds(ctx.delivery_secret, notification.tenant, notification.notification_id, row.channel)
        default = RetryPolicy.of(ctx.settings, ctx.draw)
        policy = retry_policies.find(ctx.ledger, notification.tenant, row.channel, default)
        with open_shard(ctx.lake, row.path) as file:
            yield cls(row, notification, file, ids, policy)

    def recipients(self, chunk: Chunk | ChunkRow) -> Recipients:
        """Read a chunk's recipients."""
        return Recipients.of(self.file.take(chunk.ordinals), self.ids)


class ChunkSender:
    """Sends chunks of one shard. ``renewed_at`` (monotonic) is when its lease was last known to be ours.

    Args:
        ctx: The run's surroundings.
        shard: The shard.
        sender: Its channel; None when that is not configured.
        tables: Where recipients are read and attempts are written.
        stop: Ends waiting for a provider's pause to end.
    """

    def __init__(
        self, ctx: DeliveryContext, shard: Shard, sender: ChannelSender | None, tables: Executor, stop: threading.Event
    ) -> None:
        self._ctx = ctx
        self._shard = shard
        self._sender = sender
        self._wishes = notifications.wishes(shard.notification)
        self._calls = ChunkCalls(ctx, shard.row, shard.notification, sender)
        self._guard = DropGuard(ctx.settings, whole_send=True)
        provider = None if sender is None else sender.provider
        self._record = ChunkRecord(ctx.lake, shard.notification, shard.row.channel, provider)
        self._tables = tables
        self._stop = stop
        # One fewer than are in flight: while a chunk is recorded or read, others are being sent, out of step with it.
        self._calling = asyncio.Semaphore(max(1, ctx.settings.chunks_in_flight - 1))
        self.pace = ChunkPace(ctx.settings.chunk_size)
        self.renewed_at = time.monotonic()

    @property
    def is_held(self) -> bool:
        """True while the provider has asked for a pause."""
        return self._sender is not None and self._sender.held_for_s > 0

    async def send(self, chunk: Chunk) -> Settled | None:
        """Read, intend, send, write and settle one chunk.

        Returns:
            How it ended; None when it was told to stop before it was intended.

        Raises:
            LeaseLost: Somebody else has the shard; what this chunk did is theirs to record, or recorded already.
        """
        loop = asyncio.get_running_loop()
        recipients = await loop.run_in_executor(self._tables, self._shard.recipients, chunk)
        async with self._calling:
            while self.is_held and not self._stop.is_set():
                await asyncio.sleep(LOOK_S)
            if self._stop.is_set():
                return None
            new = self._new(chunk)
            await asyncio.to_thread(broadcasts.intend, self._ctx.ledger, self._ctx.owner, new)
            results, words = await self._call(recipients)
        # Before any record: whoever goes on after us calls nobody again whose outcome there is, and would not hear it.
        try:
            await self._drop_tokens(recipients.addresses, results)
        except Exception:
            log.exception("dead tokens stay until a send finds them again")
        lease_s, name = self._ctx.settings.lease_seconds, f"chunk {new.chunk} of shard {new.shard}"

        async def write() -> Written:
            return await loop.run_in_executor(self._tables, self._record.write, new, recipients, results, words)

        async def settle() -> Settled:
            return await asyncio.to_thread(self._settle, new, chunk, recipients, written)

        written = await patiently(write, lease_s, name, self._stop.is_set)
        if not written.is_mine:
            raise LeaseLost(f"{name} was recorded by another process")
        return await patiently(settle, lease_s, name, self._stop.is_set)

    async def settle_left(self) -> None:
        """Settle what a dead process intended and did not settle.

        What nobody recorded is ambiguous as a whole: any of these recipients may have been called.
        """
        row, lease_s = self._shard.row, self._ctx.settings.lease_seconds
        for each in await asyncio.to_thread(chunks.left, self._ctx.ledger, row.request_id, row.shard):
            store = partial(asyncio.to_thread, self._settle_one_left, each)
            await patiently(store, lease_s, f"chunk {each.chunk} of shard {each.shard}", self._stop.is_set)

    def restore(self, state: ShardState) -> None:
        """Bring a new state to where the shard stands, once nothing is left unsettled."""
        rows = chunks.newest_first(self._ctx.ledger, self._shard.row.request_id, self._shard.row.shard)
        now = to_micros(self._ctx.clock())
        state.restore((Chunk(row.chunk, row.ordinals, row.attempts), _retries(row, now)) for row in rows)

    async def recall(self) -> None:
        """Hear again what a shard's first answers said, whose tokens a dead process may have held back.

        A record says of no token since when it is gone, and APNs' word depends on that: theirs are found by the next
        send.
        """
        if self._shard.notification.dry_run or self._shard.row.channel == Channel.APNS:
            return
        row, left = self._shard.row, self._ctx.settings.chunks_in_flight
        for path in await asyncio.to_thread(chunks.paths, self._ctx.ledger, row.request_id, row.shard):
            answers, dead = await asyncio.to_thread(self._recorded, path)
            await self._drop(self._guard.admit(answers, dead))
            # Chunks that were sent side by side may have been heard in another order.
            left -= self._guard.answers >= self._ctx.settings.token_drop_sample
            if not left:
                break

    async def drop_rest(self) -> None:
        """Drop the tokens that a shard too small for a judgement has held back."""
        await self._drop(self._guard.rest())

    async def _call(self, recipients: Recipients) -> tuple[Results, Sequence[str] | None]:
        """Call a chunk's recipients; nobody, where the lease may have run out since the chunk was intended.

        Somebody else may have the shard then. That nobody was called is known: unless a successor was quicker to record
        the chunk as ambiguous, it is recorded as what it is, and tried again.
        """
        began = time.monotonic()
        if began - self.renewed_at > self._ctx.settings.lease_seconds:
            now = to_micros(self._ctx.clock())
            lapsed = AttemptResult(Outcome.TRANSIENT, attempts.LAPSED, now, now)
            return attempts.by_column([lapsed] * len(recipients.addresses)), None
        results, words = await self._calls.call(recipients)
        self.pace.took(len(recipients.addresses), time.monotonic() - began)
        return results, words

    def _new(self, chunk: Chunk) -> NewChunk:
        row, now = self._shard.row, self._ctx.clock()
        return NewChunk(
            request_id=row.request_id,
            shard=row.shard,
            chunk=chunk.number,
            ordinals=chunk.ordinals,
            attempts=chunk.attempts,
            intended_at=to_micros(now),
            run_id=self._ctx.run_id,
            path=f"{partition(ATTEMPTS, now)}/bc-{row.request_id}-{row.shard:05d}-{chunk.number:06d}.parquet",
        )

    def _settle(self, new: NewChunk, chunk: Chunk, recipients: Recipients, written: Written) -> Settled:
        settled = self._store(new, chunk, recipients, written, ambiguous=False)
        if settled is None:
            raise LeaseLost(f"chunk {new.chunk} of shard {new.shard} was settled by another process")
        return settled

    def _store(
        self, new: NewChunk, chunk: Chunk, recipients: Recipients, written: Written, *, ambiguous: bool
    ) -> Settled | None:
        """Settle a chunk as its file says; None where it was settled before."""
        now, outcomes, codes = to_micros(self._ctx.clock()), written.outcomes, written.codes
        try:
            settled = settle(chunk, outcomes, written.waits, self._shard.policy, self._wishes, now, codes)
            dead = dead_letters.of_chunk(chunk, recipients, outcomes, codes, settled)
            return settled if self._put(new, written, settled, dead, now, ambiguous) else None
        except Exception as error:
            if is_passing(error):
                raise
            log.exception("what follows chunk %d of shard %d cannot be recorded; it ends", new.chunk, new.shard)
        settled = final(outcomes)
        return settled if self._put(new, written, settled, (), now, ambiguous) else None

    def _put(
        self, new: NewChunk, written: Written, settled: Settled, dead: Sequence[DeadLetter], now: int, ambiguous: bool
    ) -> bool:
        which = (new.request_id, new.shard, new.chunk, self._shard.row.channel)
        gave_up = {reason.value: number for reason, number in settled.gave_up.items()}
        moved_to = written.path if written.path != new.path else None
        of_chunk = broadcasts.SettledChunk(
            *which, ambiguous, settled.counts, settled.retries, gave_up, now, dead, moved_to
        )
        return broadcasts.settle(self._ctx.ledger, of_chunk)

    def _settle_one_left(self, row: ChunkRow) -> None:
        unknown = AttemptResult(Outcome.AMBIGUOUS, attempts.ABANDONED, row.intended_at, None)
        results = attempts.by_column([unknown] * len(row.ordinals))
        recipients = self._shard.recipients(row)
        # Not mine: its sender wrote what happened and died before it said so in the ledger.
        written = self._record.found(row) or self._record.write(row, recipients, results)
        chunk, mine = Chunk(row.chunk, row.ordinals, row.attempts), written.is_mine
        since = from_micros(row.intended_at).isoformat()
        if self._store(row, chunk, recipients, written, ambiguous=mine) is not None:
            what = "ambiguous" if mine else "recorded"
            log.warning("chunk %d of shard %d, intended %s, is %s", row.chunk, row.shard, since, what)

    def _recorded(self, path: str) -> tuple[int, list[TokenDrop]]:
        """Return how many answers a chunk got, by its file, and which tokens they called dead."""
        written = self._ctx.lake.read(path, ["recipient", "outcome", "provider_code", "sent_at", "answered_at"])
        about = self._shard.notification.notification_id
        dead = [
            TokenDrop(each["recipient"], each["provider_code"] or "", each["sent_at"], about)
            for each in written.to_pylist()
            if each["outcome"] == Outcome.INVALID_RECIPIENT and each["provider_code"] != BAD_ADDRESS
        ]
        return len(written) - written["answered_at"].null_count, dead

    async def _drop_tokens(self, addresses: Sequence[str], results: Results) -> None:
        answers = len(addresses) - results.answered_at.count(None)
        about = self._shard.notification
        dead = [
            tokens.drop_of(about.notification_id, addresses[at], results.row(at))
            for at, is_dead in enumerate(results.drop_token)
            if is_dead
        ]
        was = self._guard.stopped
        drops = self._guard.admit(answers, dead)
        if self._guard.stopped and not was and self._sender is not None:
            ledger, now = self._ctx.ledger, self._ctx.clock()
            await asyncio.to_thread(tokens.report_stop, ledger, self._guard, self._sender.provider, about, now)
        await self._drop(drops)

    async def _drop(self, drops: Sequence[TokenDrop]) -> None:
        if drops:
            tenant, channel = self._shard.notification.tenant, Channel(self._shard.row.channel)
            await asyncio.to_thread(tokens.drop, self._ctx.ledger, tenant, channel, drops, self._ctx.clock())


def _retries(row: ChunkRow, now: int) -> Sequence[tuple[int, int]]:
    """Return a chunk's retries; where the clock was set back since they were decided, as much sooner."""
    ahead = row.intended_at - now
    return row.retries if ahead < _MARGIN_US else [(ordinal, due_at - ahead) for ordinal, due_at in row.retries]
