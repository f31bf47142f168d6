"""Wall clocks: when a place's clock shows a time.

Belongs here: turning a naive wall clock into a moment, and time zones by name. Does not belong here: what is sent when
(``delivery.timing``).

Two decisions where clocks are changed, both Python's own for ``fold=0``
(https://docs.python.org/3/library/datetime.html#datetime.datetime.fold): a time that a clock shows twice means the
first of the two; a time that it leaps over means as long after the leap as it lies within it (02:30 is 03:30 where
02:00 becomes 03:00).
"""

from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo


def moment_of(wall: datetime, zone: tzinfo) -> datetime:
    """Return when, in UTC, a clock of the zone shows the naive ``wall``."""
    return wall.replace(tzinfo=zone).astimezone(UTC)


@lru_cache(maxsize=1024)  # there are some 600 names
def zone_named(name: str) -> ZoneInfo | None:
    """Return the zone of an IANA name, or None where this machine's database does not know it."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        return None
