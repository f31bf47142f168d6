"""A chunk's calls: who of its recipients is called, and what becomes of all of them.

Belongs here: everything between an intended chunk and its results. Does not belong here: reading, intending, writing
and settling it (``chunk_sender``).
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from datetime import datetime

from notify_pipeline.channels.base import TTL, ChannelSender, ContentRejected, Message, Report
from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger.shards import ShardRow
from notify_pipeline.core.records import AttemptResult, Notification
from notify_pipeline.core.vocabulary import Outcome, Platform
from notify_pipeline.delivery import attempts
from notify_pipeline.delivery.attempts import Results
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.delivery.late import Late
from notify_pipeline.delivery.notifications import Messages
from notify_pipeline.delivery.recipients import Recipients, pick

log = logging.getLogger(__name__)


class ChunkCalls:
    """Calls the recipients of one shard's chunks.

    Args:
        ctx: The run's surroundings.
        row: The shard.
        notification: Its send, with the shard's expiry.
        sender: Its channel; None when that is not configured.
    """

    def __init__(
        self, ctx: DeliveryContext, row: ShardRow, notification: Notification, sender: ChannelSender | None
    ) -> None:
        self._ctx = ctx
        self._skip = row.skip
        self._notification = notification
        self._sender = sender
        self._messages = None if sender is None else Messages(sender)
        self._late = Late(ctx.ledger, notification, row.channel)

    async def call(self, recipients: Recipients) -> tuple[Results, Sequence[str] | None]:
        """Call one chunk's recipients.

        Returns:
            The results in the chunk's order, and on whose word each was called or not, if anybody was asked.
        """
        now = self._ctx.clock()
        if (uncalled := self._uncalled(now)) is not None:
            return attempts.by_column([uncalled] * len(recipients.addresses)), None
        try:
            looked = await asyncio.to_thread(self._late.look, recipients, to_micros(now))
        except Exception:
            log.exception("who of request %s wants it by now cannot be read", self._notification.request_id)
            unread = _without_call(Outcome.TRANSIENT, attempts.NOT_LOOKED, to_micros(now))
            return attempts.by_column([unread] * len(recipients.addresses)), None
        results: list[AttemptResult | None] = [None] * len(recipients.addresses)
        if looked.results is not None:
            results = looked.results
        await self._call_all(recipients, results, filtered=looked.results is not None)
        lost = AttemptResult(Outcome.AMBIGUOUS, attempts.SENDER_FAILED, to_micros(now), None)
        return attempts.by_column([lost if result is None else result for result in results]), looked.words

    def _uncalled(self, now: datetime) -> AttemptResult | None:
        """Return what becomes of all recipients alike, where nobody is called."""
        if self._skip is not None:
            return _without_call(Outcome.SKIPPED, self._skip, to_micros(now))
        if self._sender is None:
            return _without_call(Outcome.SKIPPED, attempts.NOT_CONFIGURED, to_micros(now))
        if now >= self._notification.expires_at:
            return _without_call(Outcome.EXPIRED, TTL, to_micros(now))
        return None

    async def _call_all(self, recipients: Recipients, results: list[AttemptResult | None], *, filtered: bool) -> None:
        """Call those who have no result yet; ``filtered`` when anybody may have one."""
        assert self._sender is not None  # noqa: S101 - the caller has looked
        platforms: Iterable[tuple[Platform, Sequence[int]]] = recipients.by_platform()
        if filtered:
            platforms = [(name, [at for at in where if results[at] is None]) for name, where in platforms]
        await asyncio.gather(
            *(self._call_platform(name, where, recipients, results) for name, where in platforms if where)
        )
        if unknown := sum(result is None for result in results):
            log.error("%s reported nothing for %d recipients", self._sender.name, unknown)

    async def _call_platform(
        self, platform: Platform, where: Sequence[int], all_: Recipients, results: list[AttemptResult | None]
    ) -> None:
        assert self._sender is not None  # noqa: S101 - the caller has looked
        message = self._prepare(platform)
        if isinstance(message, AttemptResult):
            for position in where:
                results[position] = message
            return

        def report(index: int, result: AttemptResult) -> None:
            results[where[index]] = result

        # Nearly always the chunk has one platform, and positions need no translation.
        told: Report = results.__setitem__ if len(where) == len(results) else report
        recipients, ids = pick(all_.as_sent(platform), where), pick(all_.delivery_ids, where)
        try:
            await self._sender.send(message, recipients, ids, told)
        except Exception:
            # Whoever it reported nothing for is ambiguous; the caller sees to that.
            log.exception("%s failed on request %s", self._sender.name, self._notification.request_id)

    def _prepare(self, platform: Platform) -> Message | AttemptResult:
        """Return the message, or what becomes of everybody where there can be none."""
        assert self._sender is not None and self._messages is not None  # noqa: S101 - the caller has looked
        now = to_micros(self._ctx.clock())
        try:
            return self._messages.get(self._notification, platform)
        except ContentRejected as rejected:
            log.error("%s cannot send request %s: %s", self._sender.name, self._notification.request_id, rejected)
            return _without_call(Outcome.PERMANENT, rejected.code, now)
        except Exception:
            log.exception("%s cannot prepare request %s", self._sender.name, self._notification.request_id)
            return _without_call(Outcome.TRANSIENT, attempts.NOT_PREPARED, now)


def _without_call(outcome: Outcome, code: str, now: int) -> AttemptResult:
    return AttemptResult(outcome, code, now, now)
