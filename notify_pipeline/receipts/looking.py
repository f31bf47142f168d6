"""Looking through the recent hours of logs: whether anything waits to be read, and how far all is read if nothing does.

Belongs here: which hours a look covers, and moving the mark. Does not belong here: reading files (``hours``), the mark
itself (``core.log_watermark``), schedules.

A look that begins at a moment and finds every file read that was there shows: all beacons delivered by then are read.
So the mark goes to that moment less the time that CDNs take to deliver. A look covers the last hours, and those
since the mark, were it further back: no hour is jumped over, however long nobody looked.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from notify_pipeline.core import log_watermark
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.partitions import HOUR, hour_start, hours_between
from notify_pipeline.receipts.logs import Logs
from notify_pipeline.receipts.results import unread

log = logging.getLogger(__name__)

# Files may come for these hours without anything being wrong.
LOOK_BACK: Final = timedelta(hours=3)
# A host whose clock is ahead names its file after the next hour.
AHEAD: Final = HOUR
# The sensor reads a file within seconds of its arrival; only one that it has left lying is worth another run. So a look
# is one of that much earlier.
GRACE: Final = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Look:
    """What a look found.

    Attributes:
        hours: The hours that it covered, in order.
        waiting: Those of them with files that should have been read by now.
        mark: How far the logs are known to have been looked through; None when that is not known yet.
    """

    hours: list[datetime]
    waiting: list[datetime]
    mark: datetime | None


def look(lake: Lake, logs: Logs, now: datetime, delay: timedelta, first: datetime, at_most: int | None = None) -> Look:
    """Look through the recent hours, and move the mark if nothing waits.

    Args:
        lake: Has the results and the mark.
        logs: The raw logs.
        now: The present, before anything is listed.
        delay: How late the CDNs deliver.
        first: The first hour of logs that counts.
        at_most: More hours than this are not looked at: all of them count as waiting.

    Returns:
        What was found.
    """
    as_of = now - GRACE
    mark = _mark(lake, now)
    hours = _covered(logs, mark, now, first)
    if at_most is not None and len(hours) > at_most:
        return Look(hours, hours, mark)
    waiting = [
        hour for hour in hours if unread(lake, hour, (file for file in logs.files(hour) if file.modified <= as_of))
    ]
    if not waiting:
        mark = log_watermark.advance(lake, as_of - delay)
    return Look(hours, waiting, mark)


def _mark(lake: Lake, now: datetime) -> datetime | None:
    """Return the mark; one that lies ahead is taken back: what it says of the hours before it is not true."""
    mark = log_watermark.read(lake)
    if mark is None or mark <= now:
        return mark
    log.warning("logs cannot have been read until %s: a clock was ahead, and they are looked through anew", mark)
    log_watermark.take_back(lake, now)
    return log_watermark.read(lake)


def _covered(logs: Logs, mark: datetime | None, now: datetime, first: datetime) -> list[datetime]:
    recent = hours_between(hour_start(now - LOOK_BACK), now + AHEAD)
    # A beacon's file may be named after the hour before: the one that it was begun in.
    since = first if mark is None else max(first, mark - HOUR)
    older = [hour for hour in logs.hours() if since <= hour < recent[0]] if since < recent[0] else []
    return [hour for hour in (*older, *recent) if hour >= hour_start(first)]
