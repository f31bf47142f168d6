"""The lane of a channel that cannot be sent on: its credentials were there when deliveries were queued, and are gone.

Belongs here: waiting for the channel to come back, and ending what has expired meanwhile. Does not belong here: what
lanes do anyway (``drain_lane``); recipients of channels that are closed when a send is planned (``planning``).
"""

import asyncio
from collections.abc import Sequence

from notify_pipeline.channels.base import Message, Report
from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import later
from notify_pipeline.core.records import Notification, Recipient
from notify_pipeline.core.vocabulary import Channel, Outcome, Platform
from notify_pipeline.delivery import attempts
from notify_pipeline.delivery.claims import Together
from notify_pipeline.delivery.drain_lane import Lane

# A drain with the channel open takes a delivery up after this long at most, or at its expiry.
_WAIT_US = 60_000_000


class Nobody:
    """Stands in for the sender that there is none of."""

    provider = ""
    held_for_s = 0.0

    def __init__(self, channel: Channel) -> None:
        """Args: channel: the closed one."""
        self.name = channel

    def prepare(self, notification: Notification, platform: Platform) -> Message:
        """Refuse: nothing is sent here."""
        raise RuntimeError(f"{self.name} is closed")

    async def send(
        self, message: Message, recipients: Sequence[Recipient], delivery_ids: Sequence[str], report: Report
    ) -> None:
        """Refuse: nothing is sent here."""
        raise RuntimeError(f"{self.name} is closed")

    async def aclose(self) -> None:
        """Do nothing."""


class ClosedLane(Lane):
    """Gives back what is claimed, and ends what has expired. No attempt is made, so none is counted."""

    def _start(self, group: asyncio.TaskGroup, together: Sequence[Together]) -> None:
        now = self._ctx.clock()
        waiting: list[Together] = []
        for part in together:
            if part.skip is None and now < part.notification.expires_at:
                waiting.append(part)
                continue
            self.in_flight += len(part.claims)
            outcome = Outcome.EXPIRED if part.skip is None else Outcome.SKIPPED
            self._all(part.claims, part.notification, outcome, part.skip or attempts.NOT_CONFIGURED)
        if waiting:
            group.create_task(self._give_back(waiting))

    async def _give_back(self, together: Sequence[Together]) -> None:
        now = to_micros(self._ctx.clock())
        due = {
            each.delivery_id: min(now + _WAIT_US, to_micros(part.notification.expires_at))
            for part in together
            for each in part.claims
        }
        self.in_flight += len(due)
        try:
            await asyncio.to_thread(later.put_off, self._ctx.ledger, self._owner, due, now)
        finally:
            self.in_flight -= len(due)
