"""What a lane sends next: claimed, with its notifications; less who does not want it, or is in quiet hours by now.

Belongs here: everything between the queue and one call of a channel that needs the ledger. Does not belong here:
calling (``drain_lane``), claiming's order (``core.ledger.deliveries``).
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import deliveries, later
from notify_pipeline.core.ledger.deliveries import Claimed
from notify_pipeline.core.ledger.fair import Wanted
from notify_pipeline.core.records import Notification, Recipient
from notify_pipeline.core.vocabulary import Channel
from notify_pipeline.delivery import consenting, notifications
from notify_pipeline.delivery.consenting import Ruling
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.delivery.notifications import Notifications
from notify_pipeline.delivery.planning import recipient_of
from notify_pipeline.delivery.recording import is_passing
from notify_pipeline.delivery.scheduling import Schedules

log = logging.getLogger(__name__)

# Whatever keeps a request from being prepared is mended by people, or passes within minutes.
_WAIT_US = 60_000_000


@dataclass(frozen=True, slots=True)
class Together:
    """Deliveries that one call sends: of one notification, platform and expiry. ``skip``: why they are not sent."""

    notification: Notification
    claims: Sequence[Claimed]
    skip: str | None = None

    @property
    def recipients(self) -> list[Recipient]:
        """Whom they are for, in their order."""
        return [recipient_of(each.address, each.platform, each.recipient) for each in self.claims]


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
        try:
            return self._together(claimed)
        except Exception as error:
            if is_passing(error):
                raise
            log.exception("%s: some of %d claims cannot be prepared", self._channel, len(claimed))
        return self._apart(claimed)

    def _apart(self, claimed: Sequence[Claimed]) -> list[Together]:
        """Prepare request by request; what cannot be prepared waits: nobody was called, and no attempt is counted."""
        by_request: dict[str, list[Claimed]] = {}
        for each in claimed:
            by_request.setdefault(each.request_id, []).append(each)
        found: list[Together] = []
        for request_id, mine in by_request.items():
            try:
                found += self._together(mine)
            except Exception:
                log.exception("%s: request %s cannot be prepared; it waits", self._channel, request_id)
                now = to_micros(self._ctx.clock())
                due = {each.delivery_id: now + _WAIT_US for each in mine}
                later.put_off(self._ctx.ledger, self._owner, due, now)
        return found

    def _together(self, claimed: Sequence[Claimed]) -> list[Together]:
        about = self._notifications.find(self._ctx.ledger, (each.request_id for each in claimed))
        together: dict[tuple[str, str, int | None], list[Claimed]] = {}
        for each in claimed:
            together.setdefault((each.request_id, each.platform, each.expires_at), []).append(each)
        parts = [
            Together(notifications.until(about[claims[0].request_id], claims[0].expires_at), claims)
            for claims in together.values()
        ]
        return [part for ruled in self._ruled(parts) for part in self._awake(ruled)] if parts else []

    def _ruled(self, parts: Sequence[Together]) -> Iterable[Together]:
        """Return what is wanted, with on whose word, and what is to be skipped: as of now, whatever was planned."""
        with self._ctx.ledger.read() as conn:
            of_tenants = consenting.read(conn, {part.notification.tenant for part in parts})
            if not of_tenants:
                return parts
            rulings = consenting.rule(conn, [(part.notification, part.recipients) for part in parts], of_tenants)
        return [one for part, ruling in zip(parts, rulings, strict=True) for one in _split(part, ruling)]

    def _awake(self, part: Together) -> Iterator[Together]:
        """Yield what is to be sent now, and what is to be skipped; put off the rest."""
        notification, claims = part.notification, part.claims
        schedule = self._schedules.without_users(notification)
        if part.skip is not None or schedule is None or not schedule.quiet:
            yield part
            return
        recipients = part.recipients
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


def _split(part: Together, ruling: Sequence[Ruling] | None) -> Iterator[Together]:
    if ruling is None:
        yield part
        return
    by_skip: dict[str | None, list[Claimed]] = {}
    for each, (skip, word) in zip(part.claims, ruling, strict=True):
        by_skip.setdefault(skip, []).append(replace(each, consent=word))
    yield from (Together(part.notification, claims, skip) for skip, claims in by_skip.items())
