"""What a follower of broadcasts reads, so that the sensor leaves it alone meanwhile.

Belongs here: which hours these are, and what Dagster is told of them. Does not belong here: the follower
(``defs.reports.follow``), reading (``receipts``).
"""

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import leases
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.partitions import hour_start, hours_between
from notify_pipeline.defs import metadata
from notify_pipeline.receipts.logs import Logs
from notify_pipeline.receipts.looking import AHEAD, LOOK_BACK
from notify_pipeline.receipts.results import unread

if TYPE_CHECKING:
    from notify_pipeline.receipts.hours import HourReport

# The role of following, which a process that lives keeps.
LEASE = "follower"
KEY_FORMAT = "%Y-%m-%d-%H:%M"
QUARANTINE_KEY = "quarantine"
_ROWS = "dagster/partition_row_count"


def hours_followed(ledger: Ledger, now: datetime) -> set[datetime]:
    """Return the hours that a follower reads now; empty when none is there."""
    return set(_hours(now)) if leases.holder(ledger, LEASE, now) is not None else set()


def waiting_hours(lake: Lake, logs: Logs, now: datetime, first: datetime) -> list[datetime]:
    """Return the hours that have files which are not read, of those that a follower reads."""
    return [hour for hour in _hours(now) if hour >= first and unread(lake, hour, logs.files(hour))]


def told(report: "HourReport") -> dict[str, Any]:
    """What Dagster shows of an hour: what it holds by now, and what was done."""
    now = {"parsed_now": report.parsed, "removed_now": report.removed, _ROWS: report.total.events}
    return {**metadata.of(report.total), **now}


def quarantined(report: "HourReport") -> Iterator[dg.AssetMaterialization]:
    """Yield what became of the hour's quarantine, if anything did."""
    total = report.total
    if report.parsed or report.removed:
        said = {"quarantined": total.quarantined, **{f"reason {name}": n for name, n in total.reasons.items()}}
        yield dg.AssetMaterialization(QUARANTINE_KEY, partition=report.hour.strftime(KEY_FORMAT), metadata=said)


def news(report: "HourReport") -> Iterator[dg.AssetMaterialization]:
    """Yield what a run that is not one of the asset tells of an hour."""
    yield dg.AssetMaterialization("receipts", partition=report.hour.strftime(KEY_FORMAT), metadata=told(report))
    yield from quarantined(report)


def _hours(now: datetime) -> list[datetime]:
    return hours_between(hour_start(now - LOOK_BACK), now + AHEAD)
