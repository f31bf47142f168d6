"""What applies to one send's recipients: its tenant's quiet hours and frequency caps, what users said for themselves.

Belongs here: finding that out, at the cost of nothing for those who use none of it. Does not belong here: the rules
(``timing``, ``core.ledger.caps``), plans (``planning``), shards (``snapshot``).
"""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import caps, policies, users
from notify_pipeline.core.ledger.caps import Uses
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.policies import Policy
from notify_pipeline.core.ledger.users import UserRow
from notify_pipeline.core.records import Notification, Recipient
from notify_pipeline.core.vocabulary import PolicyKind, QuietHours
from notify_pipeline.delivery import consenting
from notify_pipeline.delivery.consenting import TenantConsents
from notify_pipeline.delivery.timing import AT_ONCE, QUIET_HOURS, Person, Slot, Timing, Window

log = logging.getLogger(__name__)

# A tenant's policies are read once in so long, not once per send. A send that was accepted after they were read has
# them read again: what was set before a send applies to it.
KEPT_S = 1.0
# Tenants remembered; each is some hundred bytes.
_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class TenantRules:
    """A tenant's part of it.

    Attributes:
        quiet: The tenant's quiet hours.
        own: Whether any user has quiet hours of their own.
        capped: The names of its frequency caps.
        consents: Who of its recipients may be sent what; None: everybody.
    """

    quiet: Window | None = None
    own: bool = False
    capped: frozenset[str] = frozenset()
    consents: TenantConsents | None = None


_NO_RULES = TenantRules()


@dataclass(frozen=True, slots=True)
class Schedule:
    """What applies to one send.

    Attributes:
        timing: When its recipients are due.
        timed: Whether that may be anything but at once.
        quiet: Whether quiet hours may apply.
        capped: Whether a frequency cap may apply.
        told: What is stored of users, by id, as far as it matters.
    """

    timing: Timing
    timed: bool
    quiet: bool
    capped: bool
    told: Mapping[str, Person] = field(default_factory=dict)

    def person(self, recipient: Recipient) -> Person:
        """Return what is known of one recipient."""
        told = self.told.get(recipient.user_id) if recipient.user_id is not None else None
        return Person(recipient.timezone) if told is None else told._replace(timezone=recipient.timezone)

    def slot(self, recipient: Recipient, now: datetime) -> Slot:
        """Return when one recipient is sent to."""
        return self.timing.slot(self.person(recipient), now) if self.timed else AT_ONCE

    def late(self, recipient: Recipient, now: datetime) -> Slot:
        """Return what becomes of a recipient who is about to be sent to; ``AT_ONCE``: just that.

        What was planned may come to be sent later than that, into quiet hours.
        """
        send = self.timing.notification
        # What has expired is sent on its way, to be recorded as expired.
        if not self.quiet or send.expires_at <= now or (until := self._quiet_until(recipient, now)) is None:
            return AT_ONCE
        if send.quiet_hours is QuietHours.SKIP or until >= send.expires_at:
            return Slot(skip=QUIET_HOURS)
        return Slot(to_micros(until))

    def _quiet_until(self, recipient: Recipient, now: datetime) -> datetime | None:
        return self.timing.quiet_until(self.person(recipient), now)

    def uses(self, recipients: Iterable[Recipient]) -> Uses:
        """Return what the send would use of its recipients' frequency caps."""
        return self.uses_of(frozenset(caps.recipient(each.user_id, each.address) for each in recipients))

    def uses_of(self, who: frozenset[str]) -> Uses:
        """Like ``uses``, of recipients as ``caps.recipient`` names them."""
        send = self.timing.notification
        return Uses(send.tenant, send.request_id, send.category, to_micros(nominal(send)), who)


def nominal(send: Notification) -> datetime:
    """Return when a send was to go out: what does not depend on when it is planned. Local time is read as UTC."""
    if send.send_at_local is not None:
        return send.send_at_local.replace(tzinfo=send.accepted_at.tzinfo)
    return send.accepted_at if send.send_at is None else max(send.send_at, send.accepted_at)


class _Kept(NamedTuple):
    until: float  # monotonic
    read_at: datetime
    rules: TenantRules


class Schedules:
    """Finds what applies, remembering tenants for a while; may be shared by threads.

    Args:
        ledger: The ledger.
        monotonic: Seconds that never go back.
    """

    def __init__(self, ledger: Ledger, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._monotonic = monotonic
        self._kept: dict[str, _Kept] = {}

    def look(self, sends: Iterable[Notification]) -> None:
        """Read at once what the tenants of several sends go by, where what is known of them is too old."""
        now = self._monotonic()
        if stale := {send.tenant for send in sends if self._known(send, now) is None}:
            self._read(stale, now)

    def find(self, send: Notification, recipients: Sequence[Recipient]) -> Schedule | None:
        """Return what applies to a send to these recipients; None when nothing does."""
        found = self.without_users(send)
        if found is None or not found.timed:
            return found
        ids = [recipient.user_id for recipient in recipients if recipient.user_id is not None]
        told = {name: person_of(row) for name, row in users.find(self._ledger, send.tenant, ids).items()}
        return replace(found, told=told)

    def consents(self, sends: Iterable[Notification]) -> dict[str, TenantConsents]:
        """Return what tenants go by when they leave recipients out, of sends that were looked at; most have nothing."""
        one_of = {send.tenant: send for send in sends}
        found = {tenant: self._rules(send).consents for tenant, send in one_of.items()}
        return {tenant: each for tenant, each in found.items() if each is not None}

    def without_users(self, send: Notification) -> Schedule | None:
        """Return what applies to a send, but for what its users said; None when nothing does."""
        rules = self._rules(send)
        quiet = send.quiet_hours is not QuietHours.IGNORE and (rules.quiet is not None or rules.own)
        # A replay's original was counted, and did not reach these recipients.
        counts = not send.dry_run and send.replay_of is None
        capped = counts and (caps.ALL in rules.capped or send.category in rules.capped)
        timed = quiet or send.send_at_local is not None
        return Schedule(Timing(send, rules.quiet), timed, quiet, capped) if timed or capped else None

    def _rules(self, send: Notification) -> TenantRules:
        now = self._monotonic()
        # Not looked up after reading: another thread may have had them forgotten by then.
        return (self._known(send, now) or self._read((send.tenant,), now)[send.tenant]).rules

    def _known(self, send: Notification, now: float) -> _Kept | None:
        kept = self._kept.get(send.tenant)
        return kept if kept is not None and kept.until > now and kept.read_at > send.accepted_at else None

    def _read(self, tenants: Collection[str], now: float) -> dict[str, _Kept]:
        read_at = self._ledger.clock()
        rules = read_rules(self._ledger, tenants)
        found = {tenant: _Kept(now + KEPT_S, read_at, each) for tenant, each in rules.items()}
        if len(self._kept) + len(found) > _KEPT:
            self._kept.clear()
        self._kept.update(found)
        return found


def read_rules(ledger: Ledger, tenants: Collection[str]) -> dict[str, TenantRules]:
    """Read each tenant's rules; what cannot be understood is passed over, and said so."""
    with ledger.read() as conn:
        own = users.with_quiet_hours(conn, tenants)
        stored = policies.of_tenants(conn, tenants, (PolicyKind.QUIET_HOURS, PolicyKind.FREQUENCY_CAP))
        asked = consenting.read(conn, tenants)
    return {tenant: _rules_of(stored.get(tenant, ()), tenant in own, asked.get(tenant)) for tenant in tenants}


def _rules_of(stored: Sequence[Policy], own: bool, consents: TenantConsents | None) -> TenantRules:
    if not stored and not own and consents is None:
        return _NO_RULES
    capped = frozenset(policy.name for policy in stored if policy.kind is PolicyKind.FREQUENCY_CAP)
    quiet = [policy for policy in stored if policy.kind is PolicyKind.QUIET_HOURS]
    # The last is the tenant's own, where it has one.
    window = window_of(quiet[-1].value, f"tenant {quiet[-1].tenant}") if quiet else None
    return TenantRules(window, own, capped, consents)


def person_of(row: UserRow) -> Person:
    """Return what a user said."""
    own = None if row.quiet_hours is None else window_of(row.quiet_hours, "a user")
    return Person(None, row.timezone, own)


def window_of(value: Mapping[str, object], whose: str) -> Window | None:
    """Return stored quiet hours; None, and a word in the log, where they cannot be read."""
    try:
        return Window.of(value)
    except (KeyError, TypeError, ValueError):
        log.exception("the quiet hours of %s are passed over: they cannot be read", whose)
        return None
