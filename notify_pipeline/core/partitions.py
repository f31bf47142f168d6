"""Where a moment's rows lie in the lake: hive partitions by date and hour, UTC.

Belongs here: the arithmetic between moments and partition paths. Does not belong here: files (``lake``).
"""

from datetime import UTC, datetime, timedelta

from notify_pipeline.core.ids import from_micros

HOUR = timedelta(hours=1)
HOUR_US = 3_600_000_000


def hour_start(moment: datetime) -> datetime:
    """Return the beginning of the UTC hour that an aware moment lies in."""
    if moment.tzinfo is None:
        raise ValueError("a naive datetime has no place on the time line; pass an aware one")
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def partition(moment: datetime) -> str:
    """Return ``date=YYYY-MM-DD/hour=HH`` of an aware moment."""
    return hour_start(moment).strftime("date=%Y-%m-%d/hour=%H")


def partition_of(path: str) -> datetime:
    """Return the hour that a path's ``date=…/hour=…`` folders name.

    Raises:
        ValueError: It has no such folders.
    """
    parts = dict(part.split("=", 1) for part in path.split("/") if "=" in part)
    try:
        return datetime.strptime(f"{parts['date']} {parts['hour']}", "%Y-%m-%d %H").replace(tzinfo=UTC)
    except KeyError:
        raise ValueError(f"no date= and hour= in {path!r}") from None


def hours_between(first: datetime, last: datetime) -> list[datetime]:
    """Return the beginning of every hour that touches the closed interval, in order; empty when last < first."""
    start = hour_start(first)
    count = (last - start) // HOUR + 1 if last >= first else 0
    return [start + HOUR * n for n in range(count)]


def segment_path(lake_table: str, at_us: int, segment_id: str) -> str:
    """Return where a landing segment's file lies below the lake root; ``at_us`` in microseconds since the epoch."""
    return f"{lake_table}/{partition(from_micros(at_us))}/seg-{segment_id}.parquet"
