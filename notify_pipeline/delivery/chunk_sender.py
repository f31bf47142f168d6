"""One chunk of a shard: intended, sent, written, settled; and the chunks that a dead process left behind.

Belongs here: that sequence and the shard's recipients in memory. Does not belong here: which chunk comes when
(``shard``), retry decisions (``shard_state``, ``retry``).

The attempts file of a chunk is written once by whoever comes first: the one that sent it, or its successor that calls
it ambiguous. The other one reads what is there. So file and ledger can only tell one story.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from notify_pipeline.channels.base import TTL, ChannelSender, ContentRejected, Message
from notify_pipeline.core.ids import DeliveryIds, from_micros, to_micros
from notify_pipeline.core.lake import partition
from notify_pipeline.core.ledger import broadcasts
from notify_pipeline.core.ledger.chunk_rows import ChunkRow, NewChunk
from notify_pipeline.core.ledger.devices import TokenDrop
from notify_pipeline.core.ledger.leases import LeaseLost
from notify_pipeline.core.ledger.shards import ShardRow
from notify_pipeline.core.records import AttemptResult, Notification, Recipient
from notify_pipeline.core.schemas import ATTEMPTS
from notify_pipeline.core.vocabulary import Outcome, Platform
from notify_pipeline.delivery import attempts, notifications, tokens
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.delivery.notifications import Messages
from notify_pipeline.delivery.retry import RetryPolicy
from notify_pipeline.delivery.shard_state import Chunk, Settled, settle
from notify_pipeline.delivery.tokens import DropGuard

log = logging.getLogger(__name__)

_PLATFORMS = {platform.value: platform for platform in Platform}


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard in memory: its row, its notification, and its recipients by columns."""

    row: ShardRow
    notification: Notification
    addresses: Sequence[str]
    platforms: Sequence[str]
    profiles: Sequence[tuple[str | None, ...]]
    ids: DeliveryIds

    @classmethod
    def load(cls, ctx: DeliveryContext, row: ShardRow, notification: Notification) -> "Shard":
        """Read a shard's file."""
        columns = ctx.lake.read(row.path).to_pydict()
        profiles = zip(*(columns[name] for name in ("user_id", "locale", "timezone", "app_version")), strict=True)
        ids = DeliveryIds(ctx.delivery_secret, notification.tenant, notification.notification_id, row.channel)
        return cls(row, notification, columns["recipient"], columns["platform"], list(profiles), ids)

    def columns(self, chunk: Chunk | ChunkRow) -> dict[str, list[str]]:
        """Return ``recipient``, ``platform`` and ``delivery_id`` of a chunk's recipients."""
        addresses = [self.addresses[ordinal] for ordinal in chunk.ordinals]
        return {
            "recipient": addresses,
            "platform": [self.platforms[ordinal] for ordinal in chunk.ordinals],
            "delivery_id": [self.ids.of(address) for address in addresses],
        }


class ChunkSender:
    """Sends chunks of one shard. ``renewed_at`` (monotonic) is when its lease was last known to be ours."""

    def __init__(self, ctx: DeliveryContext, shard: Shard, sender: ChannelSender | None) -> None:
        self._ctx = ctx
        self._shard = shard
        self._sender = sender
        self._messages = None if sender is None else Messages(sender)
        self._policy = RetryPolicy.of(ctx.settings, ctx.draw)
        self._wishes = notifications.wishes(shard.notification)
        self._guard = DropGuard(ctx.settings, whole_send=True)
        self.renewed_at = time.monotonic()

    async def send(self, chunk: Chunk) -> Settled:
        """Intend, send, write and settle one chunk.

        Raises:
            LeaseLost: Somebody else has the shard; what this chunk did is theirs to record, or recorded already.
        """
        new = self._new(chunk)
        await asyncio.to_thread(broadcasts.intend, self._ctx.ledger, self._ctx.owner, new)
        if time.monotonic() - self.renewed_at > self._ctx.settings.lease_seconds:
            raise LeaseLost(f"shard {new.shard} of request {new.request_id}: woke up after the lease ran out")
        columns = self._shard.columns(chunk)
        results = await self._call(chunk, columns)
        settled = await asyncio.to_thread(self._record, new, chunk, columns, results)
        await self._drop_tokens(columns["recipient"], results)
        return settled

    def settle_left(self) -> list[tuple[Chunk, Sequence[tuple[int, int]]]]:
        """Settle what a dead process intended and did not settle; return all chunks with the retries of each.

        What nobody recorded is ambiguous as a whole: any of these recipients may have been called.
        """
        rows = self._stored()
        left = [row for row in rows if row.state == "intended"]
        for row in left:
            self._settle_one_left(row)
        if left:
            rows = self._stored()
        return [(Chunk(row.chunk, row.ordinals, row.attempts), row.retries) for row in rows]

    async def drop_rest(self) -> None:
        """Drop the tokens that a shard too small for a judgement has held back."""
        await self._drop(self._guard.rest())

    def _stored(self) -> list[ChunkRow]:
        return broadcasts.chunks(self._ctx.ledger, self._shard.row.request_id, self._shard.row.shard)

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

    async def _call(self, chunk: Chunk, columns: dict[str, list[str]]) -> list[AttemptResult]:
        """Return one result per recipient, in the chunk's order."""
        size, now = len(chunk.ordinals), self._ctx.clock()
        if self._sender is None:
            return [_without_call(Outcome.SKIPPED, attempts.NOT_CONFIGURED, to_micros(now))] * size
        if now >= self._shard.notification.expires_at:
            return [_without_call(Outcome.EXPIRED, TTL, to_micros(now))] * size
        results: list[AttemptResult | None] = [None] * size
        by_platform: dict[str, list[int]] = {}
        for position, platform in enumerate(columns["platform"]):
            by_platform.setdefault(platform, []).append(position)
        calls = [self._call_platform(p, chunk, where, columns, results) for p, where in by_platform.items()]
        await asyncio.gather(*calls)
        unknown = [position for position, result in enumerate(results) if result is None]
        if unknown:
            log.error("%s reported nothing for %d recipients", self._sender.name, len(unknown))
        lost = AttemptResult(Outcome.AMBIGUOUS, attempts.SENDER_FAILED, to_micros(now), None)
        return [lost if result is None else result for result in results]

    async def _call_platform(
        self,
        name: str,
        chunk: Chunk,
        where: Sequence[int],
        columns: dict[str, list[str]],
        results: list[AttemptResult | None],
    ) -> None:
        assert self._sender is not None  # noqa: S101 - the caller has looked
        platform = _PLATFORMS[name]
        message = self._prepare(platform)
        if isinstance(message, AttemptResult):
            for position in where:
                results[position] = message
            return
        addresses, ids, profiles = columns["recipient"], columns["delivery_id"], self._shard.profiles
        recipients = [Recipient(addresses[at], platform, *profiles[chunk.ordinals[at]]) for at in where]

        def report(index: int, result: AttemptResult) -> None:
            results[where[index]] = result

        try:
            await self._sender.send(message, recipients, [ids[at] for at in where], report)
        except Exception:
            # Whoever it reported nothing for is ambiguous; the caller sees to that.
            log.exception("%s failed on request %s", self._sender.name, self._shard.row.request_id)

    def _prepare(self, platform: Platform) -> Message | AttemptResult:
        """Return the message, or what becomes of everybody where there can be none."""
        assert self._sender is not None and self._messages is not None  # noqa: S101 - the caller has looked
        now = to_micros(self._ctx.clock())
        try:
            return self._messages.get(self._shard.notification, platform)
        except ContentRejected as rejected:
            log.error("%s cannot send request %s: %s", self._sender.name, self._shard.row.request_id, rejected)
            return _without_call(Outcome.PERMANENT, rejected.code, now)
        except Exception:
            log.exception("%s cannot prepare request %s", self._sender.name, self._shard.row.request_id)
            return _without_call(Outcome.TRANSIENT, attempts.NOT_PREPARED, now)

    def _record(
        self, new: NewChunk, chunk: Chunk, columns: dict[str, list[str]], results: Sequence[AttemptResult]
    ) -> Settled:
        provider = None if self._sender is None else self._sender.provider
        table = attempts.of_chunk(self._shard.notification, self._shard.row.channel, provider, new, columns, results)
        if not self._write(new.path, table):
            raise LeaseLost(f"chunk {new.chunk} of shard {new.shard} was recorded by another process")
        now = to_micros(self._ctx.clock())
        said = [(result.outcome, result.retry_after_s) for result in results]
        settled = settle(chunk, said, self._policy, self._wishes, now)
        if not self._store(new, settled, now, ambiguous=False):
            raise LeaseLost(f"chunk {new.chunk} of shard {new.shard} was settled by another process")
        return settled

    def _write(self, path: str, table: pa.Table) -> bool:
        """Write an attempts file once; an equal one that is there is ours, from a put whose answer was lost."""
        return self._ctx.lake.write_once(path, table) or self._ctx.lake.read(path).equals(table)

    def _store(self, new: NewChunk, settled: Settled, now: int, *, ambiguous: bool) -> bool:
        return broadcasts.settle(
            self._ctx.ledger,
            broadcasts.SettledChunk(
                request_id=new.request_id,
                shard=new.shard,
                chunk=new.chunk,
                channel=self._shard.row.channel,
                ambiguous=ambiguous,
                counts=settled.counts,
                retries=settled.retries,
                gave_up={reason.value: number for reason, number in settled.gave_up.items()},
                now=now,
            ),
        )

    def _settle_one_left(self, row: ChunkRow) -> None:
        chunk = Chunk(row.chunk, row.ordinals, row.attempts)
        unknown = AttemptResult(Outcome.AMBIGUOUS, attempts.ABANDONED, row.intended_at, None)
        results = [unknown] * len(chunk.ordinals)
        provider = None if self._sender is None else self._sender.provider
        columns = self._shard.columns(chunk)
        table = attempts.of_chunk(self._shard.notification, self._shard.row.channel, provider, row, columns, results)
        mine = self._write(row.path, table)
        outcomes = [Outcome.AMBIGUOUS] * len(results)
        if not mine:
            # Its sender wrote what happened and died before it said so in the ledger.
            outcomes = [Outcome(name) for name in self._ctx.lake.read(row.path, ["outcome"])["outcome"].to_pylist()]
        now = to_micros(self._ctx.clock())
        settled = settle(chunk, [(outcome, None) for outcome in outcomes], self._policy, self._wishes, now)
        since = from_micros(row.intended_at).isoformat()
        if self._store(row, settled, now, ambiguous=mine):
            what = "ambiguous" if mine else "recorded"
            log.warning("chunk %d of shard %d, intended %s, is %s", row.chunk, row.shard, since, what)

    async def _drop_tokens(self, addresses: Sequence[str], results: Sequence[AttemptResult]) -> None:
        answers = sum(tokens.is_answer(result) for result in results)
        dead = [tokens.drop_of(addresses[at], result) for at, result in enumerate(results) if result.drop_token]
        was = self._guard.stopped
        drops = self._guard.admit(answers, dead)
        if self._guard.stopped and not was and self._sender is not None:
            ledger, about, now = self._ctx.ledger, self._shard.notification, self._ctx.clock()
            await asyncio.to_thread(tokens.report_stop, ledger, self._guard, self._sender.provider, about, now)
        await self._drop(drops)

    async def _drop(self, drops: Sequence[TokenDrop]) -> None:
        if drops:
            tenant = self._shard.notification.tenant
            await asyncio.to_thread(tokens.drop, self._ctx.ledger, tenant, drops, self._ctx.clock())


def _without_call(outcome: Outcome, code: str, now: int) -> AttemptResult:
    return AttemptResult(outcome, code, now, now)
