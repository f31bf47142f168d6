"""Whether logs come, where some should: a rule that knows quiet nights.

Belongs here: the rule, and what it looks at. Does not belong here: Dagster's check (``defs.receipts``).

Silence alone is no fault. But where an hour's sends had been accepted for many devices, some of these report soon, and
the CDN delivers what they report within its time. No beacon since that hour began is a CDN that no longer writes, a
bucket that it may not write to, or devices that call another address.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from notify_pipeline.core.lake import Lake, partition
from notify_pipeline.core.partitions import HOUR, hour_start, hours_between
from notify_pipeline.core.schemas import ATTEMPTS
from notify_pipeline.core.vocabulary import Outcome, Platform
from notify_pipeline.receipts.counts import hour_counts

# Whose devices send beacons.
_PLATFORMS: Final = [one.value for one in (Platform.ANDROID, Platform.IOS, Platform.WEB, Platform.WEBPUSH)]
# Sends of longer ago have had their alarm.
_LOOK_BACK: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Freshness:
    """What was found.

    Attributes:
        is_fresh: False when beacons should have come, and none did.
        expected_since: The hour of the last sends that beacons should have come of by now; None when there is none.
        sends: How many devices a provider accepted them for.
        latest: The last beacon since then.
    """

    is_fresh: bool
    expected_since: datetime | None
    sends: int
    latest: datetime | None


def freshness(lake: Lake, now: datetime, delay: timedelta, enough: int) -> Freshness:
    """Tell whether logs come.

    Args:
        lake: Has attempts and receipts.
        now: The present.
        delay: How late the CDNs may deliver.
        enough: Of so many accepted sends in an hour at least one device reports.
    """
    for hour in reversed(hours_between(now - delay - _LOOK_BACK, now - delay - HOUR)):
        sends = sum(_accepted(lake, hour))
        if sends >= enough:
            latest = _latest(lake, hour, now)
            return Freshness(latest is not None, hour, sends, latest)
    return Freshness(True, None, 0, None)


def _accepted(lake: Lake, hour: datetime) -> Iterator[int]:
    for file in lake.list(partition(ATTEMPTS, hour)):
        try:
            rows = lake.read(file.path, columns=["outcome", "platform"])
        except FileNotFoundError:  # compacted: its rows are in another that may not have been listed
            continue
        accepted = pc.equal(rows["outcome"], Outcome.ACCEPTED.value)
        yield pc.sum(pc.and_(accepted, pc.is_in(rows["platform"], value_set=pa.array(_PLATFORMS)))).as_py() or 0


def _latest(lake: Lake, since: datetime, now: datetime) -> datetime | None:
    found = (hour_counts(lake, hour).latest for hour in hours_between(since, hour_start(now) + HOUR))
    return max((latest for latest in found if latest is not None and latest >= since), default=None)
