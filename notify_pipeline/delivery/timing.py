"""When one recipient gets a send: local time and quiet hours as rules, without I/O.

Belongs here: the moment of one recipient, or why there is none. Does not belong here: wall clocks
(``core.wall_clock``), finding out what applies to whom (``scheduling``), how often somebody may be addressed
(``core.ledger.caps``).

A recipient's time zone is its device's; else its user's; else the tenant's quiet hours'; else UTC.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Any, NamedTuple

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.records import Notification
from notify_pipeline.core.vocabulary import QuietHours
from notify_pipeline.core.wall_clock import moment_of, zone_named

# Why somebody is skipped; the provider_code of the attempt.
QUIET_HOURS = "quiet_hours"
# An end of quiet hours may be within them again where clocks are changed; never twice.
_LOOKS = 3


@dataclass(frozen=True, slots=True)
class Window:
    """Quiet hours: local time from ``start`` to before ``end``, over midnight where ``end`` is not the later one.

    Equal times are no quiet hours at all. ``timezone`` is an IANA name or None.
    """

    start: time
    end: time
    timezone: str | None = None

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> "Window":
        """Return the window that is stored as ``{"from", "until", "timezone"}``.

        Raises:
            KeyError, TypeError, ValueError: It is none.
        """
        return cls(time.fromisoformat(value["from"]), time.fromisoformat(value["until"]), value.get("timezone"))

    def holds(self, local: time) -> bool:
        """Tell whether a clock that shows ``local`` is in the window."""
        if self.start <= self.end:
            return self.start <= local < self.end
        return local >= self.start or local < self.end

    def ends(self, at: datetime, zone: tzinfo) -> datetime | None:
        """Return when the window that ``at`` lies in ends, in UTC; None when ``at`` lies in none."""
        end: datetime | None = None
        for _ in range(_LOOKS):
            local = at.astimezone(zone)
            if not self.holds(local.time()):
                break
            day = local.date() if local.time() < self.end else local.date() + timedelta(days=1)
            wall = datetime.combine(day, self.end)
            end = moment_of(wall, zone)
            # In the second of two equal hours it is the second end that lies ahead.
            at = end = end if end > at else moment_of(wall.replace(fold=1), zone)
        return end


class Person(NamedTuple):
    """What is known of when one recipient may be addressed.

    Attributes:
        timezone: The device's.
        user_timezone: The user's.
        own: The user's own quiet hours; they come before the tenant's.
    """

    timezone: str | None = None
    user_timezone: str | None = None
    own: Window | None = None


class Slot(NamedTuple):
    """When one recipient is sent to. Times in microseconds since the epoch.

    Attributes:
        due_at: Not before; None means at once.
        expires_at: Not from then on; None means with the request.
        skip: Why not at all.
    """

    due_at: int | None = None
    expires_at: int | None = None
    skip: str | None = None


AT_ONCE = Slot()


@dataclass(frozen=True, slots=True)
class Timing:
    """When the recipients of one send are due.

    Attributes:
        notification: The send.
        quiet: Its tenant's quiet hours.
    """

    notification: Notification
    quiet: Window | None = None

    def zone(self, person: Person) -> tzinfo:
        """Return the recipient's time zone."""
        names = (person.timezone, person.user_timezone, None if self.quiet is None else self.quiet.timezone)
        return next((zone for name in names if name and (zone := zone_named(name))), UTC)

    def quiet_until(self, person: Person, at: datetime) -> datetime | None:
        """Return when the quiet hours end that ``at`` lies in for this recipient; None when it lies in none."""
        window = person.own or self.quiet
        if window is None or self.notification.quiet_hours is QuietHours.IGNORE:
            return None
        # A user who names a zone means that one, wherever the device is. A tenant means everybody's own.
        named = zone_named(person.own.timezone) if person.own is not None and person.own.timezone else None
        return window.ends(at, named or self.zone(person))

    def slot(self, person: Person, now: datetime) -> Slot:
        """Return when this recipient is sent to. What has expired is due at once, to be recorded as expired."""
        send = self.notification
        due, expires, slot = now, send.expires_at, AT_ONCE
        if send.send_at_local is not None:
            planned = moment_of(send.send_at_local, self.zone(person))
            due, expires = max(now, planned), planned + timedelta(seconds=send.ttl_s)
            slot = Slot(to_micros(due) if due > now else None, to_micros(expires))
        if expires <= due or (until := self.quiet_until(person, due)) is None:
            return slot
        if send.quiet_hours is QuietHours.SKIP or until >= expires:
            return Slot(skip=QUIET_HOURS)
        return slot._replace(due_at=to_micros(until))
