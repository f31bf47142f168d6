"""What has changed since a broadcast's shard became due, looked for before each chunk is sent: who wants it, and when.

Belongs here: what becomes of a chunk's recipients then. Does not belong here: the rules (``timing``, ``consenting``),
the same for the drain's claims (``claims``).
"""

from collections.abc import Sequence
from typing import NamedTuple

from notify_pipeline.core.ids import from_micros
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.records import AttemptResult, Notification, Recipient
from notify_pipeline.core.vocabulary import Channel, Outcome, Platform
from notify_pipeline.delivery import consenting
from notify_pipeline.delivery.consenting import Ruling
from notify_pipeline.delivery.recipients import Recipients
from notify_pipeline.delivery.scheduling import Schedules
from notify_pipeline.delivery.shard_state import PUT_OFF


class Looked(NamedTuple):
    """What was found of a chunk's recipients, in their order.

    Attributes:
        results: What becomes of each; None: it is sent to. Where the whole is None, everybody is.
        words: On whose word each is sent to or not; None where nobody was asked.
    """

    results: list[AttemptResult | None] | None = None
    words: Sequence[str] | None = None


class Late:
    """Looks for one shard; what its tenant goes by is read once, who does not want it each time.

    Args:
        ledger: The ledger.
        notification: The send, with the shard's expiry.
        channel: The shard's.
    """

    def __init__(self, ledger: Ledger, notification: Notification, channel: str) -> None:
        self._ledger = ledger
        self._schedules = Schedules(ledger)
        self._notification = notification
        # Which of a channel's platforms it is does not matter to the rules.
        self._platform = next(platform for platform in Platform if platform.channel is Channel(channel))
        schedule = self._schedules.without_users(notification)
        self._may_be_quiet = schedule is not None and schedule.quiet

    def look(self, recipients: Recipients, now: int) -> Looked:
        """Look for one chunk: one small read where nobody said anything that matters to the tenant."""
        tenant = self._notification.tenant
        people: list[Recipient] = []
        ruling: Sequence[Ruling] | None = None
        with self._ledger.read() as conn:
            if of_tenants := consenting.read(conn, (tenant,)):
                people = recipients.as_sent(self._platform)
                # None also where what was said is of other channels only, as when a mailbox of the tenant's bounced.
                (ruling,) = consenting.rule(conn, [(self._notification, people)], of_tenants)
        if ruling is None and not self._may_be_quiet:
            return Looked()
        people = people or recipients.as_sent(self._platform)
        results: list[AttemptResult | None] = [None] * len(people)
        if self._may_be_quiet:
            results = self._quiet(people, now)
        if ruling is None:
            return Looked(results)
        for at, (skip, _) in enumerate(ruling):
            if skip is not None:
                results[at] = AttemptResult(Outcome.SKIPPED, skip, now, now)
        return Looked(results, [word for _, word in ruling])

    def _quiet(self, people: Sequence[Recipient], now: int) -> list[AttemptResult | None]:
        """Return what becomes of each for quiet hours. Reads what users said."""
        schedule = self._schedules.find(self._notification, people)
        if schedule is None:
            return [None] * len(people)
        results: list[AttemptResult | None] = []
        for person in people:
            slot = schedule.late(person, from_micros(now))
            if slot.skip is not None:
                results.append(AttemptResult(Outcome.SKIPPED, slot.skip, now, now))
            elif slot.due_at is not None:
                wait_s = (slot.due_at - now) / 1e6
                results.append(AttemptResult(Outcome.TRANSIENT, PUT_OFF, now, now, retry_after_s=wait_s))
            else:
                results.append(None)
        return results
