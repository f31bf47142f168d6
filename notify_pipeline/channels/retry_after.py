"""The Retry-After header.

Belongs here: reading it. Does not belong here: deciding what to do about it (``delivery``).
"""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# A provider that is asked nicely has never needed more; a hostile or broken value must not park a delivery for a year.
MAX_RETRY_AFTER_S = 3600.0


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Return how many seconds to wait, or None where the header says nothing intelligible.

    Both forms of RFC 9110 section 10.2.3 are read: delay-seconds and HTTP-date. Dates in the past give 0.0, and no
    result is larger than ``MAX_RETRY_AFTER_S``.

    Args:
        value: The header's value, anything at all.
        now: What a date is measured from.
    """
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        # More digits than the limit has would only be clamped, and int() refuses thousands of them.
        seconds = float(text) if len(text) <= 9 else MAX_RETRY_AFTER_S
        return min(seconds, MAX_RETRY_AFTER_S)
    if not text or len(text) > 64:
        return None
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - now).total_seconds()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)
