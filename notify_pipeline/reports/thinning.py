"""Which report versions are kept. Pure.

Belongs here: that rule. Does not belong here: deleting (``versions``).
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

# Of the last two days, what every hour's reports said last stays known.
HOURLY: Final = timedelta(hours=48)
# A reader may be on the version before the current one.
MIN_KEPT: Final = 2


def kept(published: Sequence[tuple[int, datetime]], last: int, days: int) -> set[int]:
    """Return the numbers of the versions to keep.

    Args:
        published: Number and moment of every version, in their order; the last one is the current one.
        last: So many of the last are kept, at least two.
        days: The last one of each UTC day is kept for so many days.

    Returns:
        Those, and the last one of each hour for ``HOURLY``.
    """
    if not published:
        return set()
    now = published[-1][1]
    found = {number for number, _ in published[-max(last, MIN_KEPT) :]}
    for form, age in (("%Y-%m-%d %H", HOURLY), ("%Y-%m-%d", timedelta(days=days))):
        found.update({f"{at.astimezone(UTC):{form}}": number for number, at in published if at > now - age}.values())
    return found
