"""Quiet hours that have begun since a broadcast's shard became due: looked for before each chunk is sent.

Belongs here: what becomes of a chunk's recipients then. Does not belong here: the rule (``timing``), the same for the
drain's claims (``claims``).
"""

from notify_pipeline.core.ids import from_micros
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.records import AttemptResult, Notification
from notify_pipeline.core.vocabulary import Outcome, Platform
from notify_pipeline.delivery.recipients import Recipients
from notify_pipeline.delivery.scheduling import Schedules
from notify_pipeline.delivery.shard_state import PUT_OFF


class Late:
    """Looks for one shard; what its tenant goes by is read once.

    Args:
        ledger: The ledger.
        notification: The send, with the shard's expiry.
    """

    def __init__(self, ledger: Ledger, notification: Notification) -> None:
        self._schedules = Schedules(ledger)
        self._notification = notification
        schedule = self._schedules.without_users(notification)
        self.may_be = schedule is not None and schedule.quiet

    def results(self, recipients: Recipients, now: int) -> list[AttemptResult | None]:
        """Return what becomes of each of a chunk's recipients; None: it is sent to. Reads what users said."""
        # Whose platform it is does not matter to the rule.
        people = recipients.as_sent(Platform.ANDROID)
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
