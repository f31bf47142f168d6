"""Receipts as an asset, a partition per hour of logs, and the raw logs that it is made of.

Belongs here: the assets and their job. Does not belong here: parsing (``receipts``), when an hour is due (``sensor``).
"""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.settings import Settings
from notify_pipeline.defs import lanes, metadata
from notify_pipeline.defs.process import yield_to_delivery, yield_to_higher_priority
from notify_pipeline.defs.receipts.following import KEY_FORMAT, QUARANTINE_KEY, quarantined, told
from notify_pipeline.receipts.logs import Logs
from notify_pipeline.receipts.looking import look

JOB = "process_receipts"
FRESHNESS = "logs_come"
FRESHNESS_JOB = "check_logs_come"
if TYPE_CHECKING:
    from notify_pipeline.receipts.hours import HourReport

# The hour under way, whose logs arrive while it lasts, and the next.
_OPEN_HOURS = 2
# As many hours as the schedule looks through, and a log that arrives is hardly ever of more.
_SHORT = timedelta(hours=3)
# Set by Dagster on what a schedule started. Such a run moves the mark itself: were the sensor off, the next look would
# find new files waiting each time.
_SCHEDULED = "dagster/schedule_name"
# A store that is away for a moment must not cost the run; one that is away for longer is the sensor's to try again.
_RETRY = dg.RetryPolicy(max_retries=3, delay=1, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)

RAW_LOGS = dg.AssetSpec(
    "cdn_logs",
    group_name="receipts",
    description="Raw log files as the CDN writes them, below <source>/date=YYYY-MM-DD/hour=HH/.",
)


def hourly(settings: Settings) -> dg.HourlyPartitionsDefinition:
    """The hours: from the first one of the settings to the next one, since hosts' clocks differ."""
    first = settings.receipts_from.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return dg.HourlyPartitionsDefinition(start_date=first, timezone="UTC", fmt=KEY_FORMAT, end_offset=_OPEN_HOURS)


def key_of(hour: datetime) -> str:
    """The partition key of an hour."""
    return hour.astimezone(UTC).strftime(KEY_FORMAT)


def make_receipts(settings: Settings) -> dg.AssetsDefinition:
    """The asset; which hours there are is a setting."""

    @dg.asset(
        partitions_def=hourly(settings),
        deps=[RAW_LOGS],
        group_name="receipts",
        backfill_policy=dg.BackfillPolicy.single_run(),
        retry_policy=_RETRY,
        description="Typed events in the lake, one Parquet file per log file. Running an hour again changes nothing.",
    )
    def receipts(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake], logs: dg.ResourceParam[Logs]) -> None:
        from notify_pipeline.receipts.hours import process_hour  # loads polars

        began = datetime.now(UTC)
        window = context.partition_time_window
        # What devices report is waited for; a longer range is somebody's backfill.
        (yield_to_delivery if window.end - window.start > _SHORT else yield_to_higher_priority)()
        hour = window.start
        while hour < window.end:
            report = process_hour(lake, logs, hour)
            _tell(context, report)
            hour += timedelta(hours=1)
        if _SCHEDULED in context.run.tags:
            look(lake, logs, began, timedelta(minutes=settings.log_delay_minutes), settings.receipts_from)

    return receipts


def _tell(context: dg.AssetExecutionContext, report: "HourReport") -> None:
    """Show what the hour holds by now, and what this run did."""
    context.add_asset_metadata(told(report), partition_key=key_of(report.hour))
    for materialization in quarantined(report):
        context.log_event(materialization)


def quarantine(settings: Settings) -> dg.AssetSpec:
    """What could not be read, which comes of the same runs."""
    return dg.AssetSpec(
        QUARANTINE_KEY,
        deps=[RAW_LOGS],
        partitions_def=hourly(settings),
        group_name="receipts",
        description="Lines, and rests of damaged files, that are no log lines, by reason. `notify receipts quarantine`"
        " shows them.",
    )


def make_freshness_check(asset: dg.AssetsDefinition) -> dg.AssetChecksDefinition:
    """The check that raises an alarm where beacons should have come."""

    @dg.asset_check(
        asset=asset,
        name=FRESHNESS,
        description="Of sends to many devices some beacon came, in the time that CDNs take. Passes when nobody sent.",
    )
    def logs_come(settings: dg.ResourceParam[Settings], lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
        from notify_pipeline.receipts.freshness import freshness

        delay = timedelta(minutes=settings.log_delay_minutes)
        found = freshness(lake, datetime.now(UTC), delay, settings.log_alarm_sends)
        return dg.AssetCheckResult(
            passed=found.is_fresh, severity=dg.AssetCheckSeverity.WARN, metadata=metadata.of(found)
        )

    return logs_come


def make_freshness_job(asset: dg.AssetsDefinition) -> UnresolvedAssetJobDefinition:
    """The job that runs the check alone."""
    return dg.define_asset_job(
        FRESHNESS_JOB,
        selection=dg.AssetSelection.checks_for_assets(asset),
        executor_def=dg.in_process_executor,
        tags=lanes.tag(lanes.RECEIPTS),
        description="Looks whether logs come, where some should. Sends nothing.",
    )


def make_job(asset: dg.AssetsDefinition) -> UnresolvedAssetJobDefinition:
    """The job that processes hours; also what a backfill runs."""
    return dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.assets(asset).without_checks(),
        executor_def=dg.in_process_executor,
        tags=lanes.tag(lanes.RECEIPTS),
        description="Brings the lake in line with the log files of one or many hours. Sends nothing.",
    )
