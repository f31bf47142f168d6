"""What a lane sends next: claimed, with its notifications, and put off where quiet hours have begun meanwhile.

Belongs here: everything between the queue and one call of a channel that needs the ledger. Does not belong here:
calling (``drain_lane``), claiming's order (``core.ledger.deliveries``).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from notify_pipeline.core.ledger import deliveries, later
from notify_pipeline.core.ledger.deliveries import Claimed
from notify_pipeline.core.ledger.fair import Wanted
from notify_pipeline.core.records import Notification
from notify_pipeline.core.vocabulary import Channel
from notify_pipeline.delivery import notifications
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.delivery.notifications import Notifications
from notify_pipeline.delivery.planning import recipient_of
from notify_pipeline.delivery.scheduling import Schedules


@dataclass(frozen=True, slots=True)
class Together:
    """Deliveries that one call sends: of one notification, platform and expiry. ``skip``: why they are not sent."""

    notification: Notification
    claims: Sequence[Claimed]
    skip: str | None = None


class Claims:
    """Claims for one lane. One thread at a time uses it. ``turns``: where the tenants' turns stopped, by priority.

    Args:
        ctx: The run's surroundings.
        channel: The lane's.
        owner: Who claims.
        schedules: Finds what applies to whom.
    """

    def __init__(self, ctx: DeliveryContext, channel: Channel, owner: str, schedules: Schedules) -> None:
        self._ctx = ctx
        self._channel = channel.value
        self._owner = owner
        self._schedules = schedules
        self._notifications = Notifications()
        self.turns: dict[int, str] = {}

    def take(self, wanted: Wanted, woken: bool) -> list[Together]:
        """Claim what is wanted; unless ``woken``, look first whether anything is due."""
        ctx, now = self._ctx, self._ctx.clock()
        if not woken and not deliveries.is_due(ctx.ledger, self._channel, now, wanted):
            return []
        lease_s = ctx.settings.lease_seconds
        claimed = deliveries.claim(ctx.ledger, self._channel, self._owner, now, lease_s, wanted)
        self.turns.update((each.priority_rank, each.tenant) for each in claimed)
        missing = self._notifications.missing(each.request_id for each in claimed)
        for notification in notifications.load(ctx.ledger, missing) if missing else ():
            self._notifications.put(notification)
        together: dict[tuple[str, str, int | None], list[Claimed]] = {}
        for each in claimed:
            together.setdefault((each.request_id, each.platform, each.expires_at), []).append(each)
        return [part for claims in together.values() for part in self._awake(claims)]

    def _awake(self, claims: Sequence[Claimed]) -> Iterator[Together]:
        """Yield what is to be sent now, and what is to be skipped; put off the rest."""
        notification = notifications.until(self._notifications[claims[0].request_id], claims[0].expires_at)
        schedule = self._schedules.without_users(notification)
        if schedule is None or not schedule.quiet:
            yield Together(notification, claims)
            return
        recipients = [recipient_of(each.address, each.platform, each.recipient) for each in claims]
        schedule = self._schedules.find(notification, recipients) or schedule
        now = self._ctx.clock()
        put_off: dict[str, int] = {}
        skipped: dict[str, list[Claimed]] = {}
        sent: list[Claimed] = []
        for each, recipient in zip(claims, recipients, strict=True):
            slot = schedule.late(recipient, now)
            if slot.skip is not None:
                skipped.setdefault(slot.skip, []).append(each)
            elif slot.due_at is not None:
                put_off[each.delivery_id] = slot.due_at
            else:
                sent.append(each)
        later.put_off(self._ctx.ledger, self._owner, put_off)
        yield from (Together(notification, some, reason) for reason, some in skipped.items())
        if sent:
            yield Together(notification, sent)
