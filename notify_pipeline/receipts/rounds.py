"""Going round all days of logs, some at a time: what of them was not read, or changed since it was.

Belongs here: which days are next, and what of them is to be read. Does not belong here: what is noticed at once
(``logs``), how far logs are read (``looking``), Dagster.

A file's results are named after its path and content. So whether it was read is a comparison of two listings, of logs
and of the lake, whatever anybody remembers: a late file on S3, one that was overwritten in place, one that was left
lying. Files that were taken back stay so.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from notify_pipeline.core.lake import Lake
from notify_pipeline.receipts.logs import Logs
from notify_pipeline.receipts.looking import AHEAD, GRACE
from notify_pipeline.receipts.results import keys_of_days, result_key, unread

# One step this often: a listing or two, of some hundred milliseconds on S3, and a price per thousand of them.
STEP: Final = timedelta(seconds=5)
# As many steps as a round takes at most: ten minutes.
STEPS: Final = 120


@dataclass(frozen=True, slots=True)
class Found:
    """Hours with files that wait to be read, in order, and the day that was looked at last; None when there is none."""

    hours: list[datetime]
    last: date | None


def step(lake: Lake, logs: Logs, now: datetime, after: date | None, first: datetime) -> Found:
    """Take one step of a round, from the latest day back to the first, and then from the latest again.

    Args:
        lake: Has the results.
        logs: The raw logs.
        now: The present.
        after: The day that the last step ended with.
        first: Older hours are left alone: nothing of them counts, or their results have gone.

    Returns:
        What was found. Files that came within the last minute are left to whoever is reading them.
    """
    days = next_days([day for day in logs.days() if day >= first.date()], after)
    files = {hour: there for hour, there in logs.files_of(days).items() if first <= hour <= now + AHEAD}
    done = keys_of_days(lake, days) if files else set()
    as_of = now - GRACE
    waiting = {
        hour: [file for file in there if file.modified <= as_of and result_key(file) not in done]
        for hour, there in files.items()
    }
    hours = sorted(hour for hour, there in waiting.items() if there and unread(lake, hour, there))
    return Found(hours, days[-1] if days else None)


def next_days(days: Iterable[date], after: date | None) -> Sequence[date]:
    """Return the days of the next step: so many that a round of them all takes ``STEPS`` at most."""
    backwards = sorted(set(days), reverse=True)
    many = -(-len(backwards) // STEPS)
    left = [day for day in backwards if after is None or day < after] or backwards
    return left[:many]
