"""Takes over what dead drains had claimed on a channel: nobody knows whether it was sent.

Belongs here: that look, and the loop around it. Does not belong here: what follows from an ambiguous attempt
(``drain_lane`` decides, by ``retry``).
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import deliveries
from notify_pipeline.core.ledger.deliveries import Claimed, Ended, Settlement
from notify_pipeline.core.records import AttemptResult, Notification
from notify_pipeline.core.vocabulary import Channel, Outcome
from notify_pipeline.delivery import attempts, notifications
from notify_pipeline.delivery.context import DeliveryContext, run_of
from notify_pipeline.delivery.recording import settle_apart

log = logging.getLogger(__name__)

_BATCH = 500
# What is left is taken over at the next look.
_BATCHES = 20

# From a claim, its notification, how it ended, now and the run that attempted it, to what is stored.
Decide = Callable[[Claimed, Notification, AttemptResult, int, str], Ended]


class Recovery:
    """One lane's.

    Args:
        ctx: The run's surroundings.
        channel: The lane's channel.
        owner: The lane's own claims, which are alive.
        decide: What follows from an attempt.
        on_taken: Told how many were taken over, in the event loop.
    """

    def __init__(
        self, ctx: DeliveryContext, channel: Channel, owner: str, decide: Decide, on_taken: Callable[[int], None]
    ) -> None:
        self._ctx = ctx
        self._channel = channel
        self._owner = owner
        self._decide = decide
        self._on_taken = on_taken

    async def run(self) -> None:
        """Look now and every quarter of a lease, until cancelled."""
        while True:
            try:
                taken = await asyncio.to_thread(self._take_over)
            except Exception:  # the lane goes on
                log.exception("%s: cannot look for deliveries of dead processes", self._channel)
                taken = 0
            if taken:
                log.warning("%s: took over %d deliveries of a dead process", self._channel, taken)
                self._on_taken(taken)
            await asyncio.sleep(self._ctx.settings.lease_seconds / 4)

    def _take_over(self) -> int:
        ctx, taken = self._ctx, 0
        for _ in range(_BATCHES):
            found = deliveries.abandoned(ctx.ledger, self._channel.value, ctx.clock(), _BATCH)
            others = [each for each in found if each.owner != self._owner]
            about = notifications.load_readable(ctx.ledger, {each.request_id for each in others})
            now = to_micros(ctx.clock())
            readable = [each for each in others if each.request_id in about]
            ended = [self._abandoned(each, about[each.request_id], now) for each in readable]
            settlement = settle_apart(self._settle, ended)
            taken += len(ended) - len(settlement.late)
            if len(found) < _BATCH:
                break
        return taken

    def _settle(self, ended: Sequence[Ended]) -> Settlement:
        return deliveries.settle_abandoned(self._ctx.ledger, self._channel.value, ended, self._ctx.clock())

    def _abandoned(self, claimed: Claimed, notification: Notification, now: int) -> Ended:
        result = AttemptResult(Outcome.AMBIGUOUS, attempts.ABANDONED, claimed.intended_at, None)
        about = notifications.until(notification, claimed.expires_at)
        return self._decide(claimed, about, result, now, run_of(claimed.owner))
