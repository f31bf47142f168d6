"""Looks through the last hours of logs every few minutes, and the last days every night, whatever the sensor does.

Belongs here: the schedules. Does not belong here: what a look covers (``receipts.looking``), the sensor (``sensor``).

A look that finds everything read starts no run: it costs some listings, and moves the mark that lets reports settle.
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.partitions import hour_start
from notify_pipeline.core.settings import Settings
from notify_pipeline.defs import lanes, spans
from notify_pipeline.defs.receipts.asset import FRESHNESS_JOB, JOB, key_of
from notify_pipeline.defs.receipts.hours import batches
from notify_pipeline.defs.receipts.requests import run_request
from notify_pipeline.receipts.logs import Logs
from notify_pipeline.receipts.looking import AHEAD, look

RECENT = "process_recent_receipts"
NIGHTLY = "process_receipts_nightly"
# A tick must answer within a minute; more hours than these, after days without a daemon, are a run's to look at.
_AT_MOST = 48
NIGHTLY_DAYS = 3


@dg.schedule(
    job_name=JOB,
    name=RECENT,
    cron_schedule="*/5 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Looks through the last 3 hours for files that were not read, and notes how far the logs are read.",
)
def recent(
    context: dg.ScheduleEvaluationContext,
    settings: dg.ResourceParam[Settings],
    lake: dg.ResourceParam[Lake],
    logs: dg.ResourceParam[Logs],
) -> dg.SkipReason | list[dg.RunRequest]:
    """Request runs of the hours that were left lying."""
    if lanes.open_runs(context.instance, JOB, {"dagster/schedule_name": RECENT}):
        return dg.SkipReason("the runs that were asked for last are still to end")
    now = datetime.now(UTC)
    delay = timedelta(minutes=settings.log_delay_minutes)
    found = look(lake, logs, now, delay, settings.receipts_from, at_most=_AT_MOST)
    if found.waiting:
        # There are partitions up to the hour after the one that the tick was due in.
        known = [hour for hour in found.waiting if hour <= hour_start(context.scheduled_execution_time) + AHEAD]
        return [run_request(batch) for batch in batches(known, now.isoformat())]
    return dg.SkipReason(f"{len(found.hours)} hours of logs are read; looked through until {found.mark:%Y-%m-%d %H:%M}")


@dg.schedule(
    job_name=JOB,
    name=NIGHTLY,
    cron_schedule="20 2 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description=f"Goes through the hours of the last {NIGHTLY_DAYS} days; what has been read is not read again.",
)
def nightly(context: dg.ScheduleEvaluationContext, settings: dg.ResourceParam[Settings]) -> dg.RunRequest:
    """Request one run of all of them."""
    now = context.scheduled_execution_time
    first = max(hour_start(settings.receipts_from), hour_start(now - timedelta(days=NIGHTLY_DAYS)))
    return dg.RunRequest(tags=spans.tags(key_of(first), key_of(max(first, hour_start(now)))))


hourly_check = dg.ScheduleDefinition(
    job_name=FRESHNESS_JOB,
    cron_schedule="10 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
