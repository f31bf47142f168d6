"""Dropping device tokens on a provider's word, and stopping when that word becomes implausible.

Belongs here: collecting dead tokens, the breaker, and the drop itself; of e-mail and SMS, whose addresses are no
device's, the address is suppressed instead. Does not belong here: which answers mean that a token is dead
(``channels``), the registrations (``core.ledger.devices``), suppressions (``core.ledger.suppressions``).

Normally a few percent of a send's tokens are dead. When a large share is, something else is wrong (a key of another
project, a wrong environment), and dropping would empty the audience. So dead tokens are only dropped while their share
of recent answers is plausible.
"""

import logging
from collections import deque
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from notify_pipeline.channels.base import OPTED_OUT
from notify_pipeline.core.ids import from_micros, to_micros
from notify_pipeline.core.ledger import audit, devices, suppressions
from notify_pipeline.core.ledger.devices import TokenDrop
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.group_commit import LedgerError
from notify_pipeline.core.ledger.suppressions import NewSuppression
from notify_pipeline.core.records import AttemptResult, Notification
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.vocabulary import Channel, SuppressionReason

log = logging.getLogger(__name__)

# The drain judges this many samples' worth of the latest answers; older ones say nothing about now.
_WINDOW_SAMPLES = 5


class DropGuard:
    """The breaker over one stream of answers: one provider's to one tenant.

    Args:
        settings: Holds the largest plausible share and the smallest sample.
        whole_send: True over one shard of a broadcast: dead tokens are held until there is a sample, and once the
            share was implausible nothing more is dropped. False over many small sends: each batch is judged with those
            before it, and dropping resumes when the share is plausible again.
    """

    def __init__(self, settings: Settings, *, whole_send: bool) -> None:
        self._share = settings.token_drop_share
        self._sample = settings.token_drop_sample
        self._whole_send = whole_send
        self._batches: deque[tuple[int, int]] = deque()
        self._held: list[TokenDrop] = []
        self.answers = 0
        self.dead = 0
        self.stopped = False

    def admit(self, answers: int, drops: Sequence[TokenDrop]) -> list[TokenDrop]:
        """Take note of some answers, and return the tokens that may be dropped now."""
        self._count(answers, len(drops))
        if self.answers < self._sample:
            if not self._whole_send:
                return list(drops)
            self._held += drops
            return []
        implausible = self.dead > self._share * self.answers
        self.stopped = implausible or (self._whole_send and self.stopped)
        held, self._held = self._held, []
        return [] if self.stopped else [*held, *drops]

    def rest(self) -> list[TokenDrop]:
        """Return what is still held at the end of a send too small for a sample."""
        held, self._held = self._held, []
        return [] if self.stopped else held

    def _count(self, answers: int, dead: int) -> None:
        self.answers += answers
        self.dead += dead
        if self._whole_send:
            return
        self._batches.append((answers, dead))
        while self.answers - self._batches[0][0] >= _WINDOW_SAMPLES * self._sample:
            old_answers, old_dead = self._batches.popleft()
            self.answers -= old_answers
            self.dead -= old_dead


def drop_of(notification_id: str, address: str, result: AttemptResult) -> TokenDrop:
    """Return the drop that a result of a notification's attempt asks for.

    It is void for a device that registered after the moment since which the provider says that it is gone, or where
    it says no such moment, after the call began.
    """
    since = result.unregistered_at or from_micros(result.sent_at)
    return TokenDrop(address, result.provider_code or "", since, notification_id)


def is_answer(result: AttemptResult) -> bool:
    """Tell whether the provider spoke."""
    return result.answered_at is not None


def drop(ledger: Ledger, tenant: str, channel: Channel, drops: Sequence[TokenDrop], now: datetime) -> int:
    """Drop tokens, or suppress addresses where a channel has no tokens.

    Returns:
        How many tokens were still registered as the provider knew them, or addresses were not suppressed before; 0
        where the ledger did not take it.
    """
    if not drops:
        return 0
    try:
        return _drop(ledger, tenant, channel, drops, now)
    except (LedgerError, SQLAlchemyError):
        # The outcomes are not recorded yet, and must be: else whoever takes over sends to all of them again.
        log.exception("%d dead tokens of tenant %s stay until a send finds them again", len(drops), tenant)
        return 0


def _drop(ledger: Ledger, tenant: str, channel: Channel, drops: Sequence[TokenDrop], now: datetime) -> int:
    if channel not in suppressions.CHANNELS:
        return devices.drop(ledger, tenant, drops, now)
    new = [
        NewSuppression(tenant, channel, each.token, _reason(each.reason), each.reason or None, "delivery")
        for each in drops
    ]
    return suppressions.add_many(ledger, new, now)


def _reason(word: str) -> SuppressionReason:
    return SuppressionReason.STOP if word.partition(":")[0] == OPTED_OUT else SuppressionReason.HARD_BOUNCE


def report_stop(ledger: Ledger, guard: DropGuard, provider: str, about: Notification, now: datetime) -> None:
    """Raise the alarm that dropping has stopped: an error in the log and an audit row."""
    detail = {"provider": provider, "answers": guard.answers, "dead": guard.dead}
    log.error(
        "%s calls %d of %d tokens of tenant %s dead, far above normal: no tokens are dropped",
        provider,
        guard.dead,
        guard.answers,
        about.tenant,
    )
    entry = audit.Entry(
        event="token_drop_stopped",
        actor="delivery",
        at=to_micros(now),
        tenant=about.tenant,
        request_id=about.request_id,
        notification_id=about.notification_id,
        detail=detail,
    )
    try:
        ledger.write(_write_audit, entry)
    except (LedgerError, SQLAlchemyError):
        # As for ``drop``. The log has it.
        log.exception("the audit does not know that no tokens of tenant %s are dropped", about.tenant)


def _write_audit(conn: Connection, entries: Sequence[audit.Entry]) -> list[None]:
    audit.write(conn, entries, from_micros(entries[0].at))
    return [None] * len(entries)
