"""Has the reports built when the lake changed, and once in a while whatever happened.

Belongs here: sensor and schedules. Does not belong here: the rule (``watch``), noticing a change (``reports.build``).
"""

from datetime import UTC, datetime

import dagster as dg

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.settings import Settings
from notify_pipeline.defs.reports.assets import JOB, VERIFY_JOB
from notify_pipeline.defs.reports.watch import Build, may_build
from notify_pipeline.reports import build

# Enough to see how many of the last ones failed in a row, as far as that makes a difference.
_LATEST = 8


@dg.sensor(
    job_name=JOB,
    minimum_interval_seconds=1,  # the sensor loop is 5 s; more here would be added to it
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Builds the reports when files that they are made of came or went.",
)
def build_when_the_lake_changed(
    context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings], lake: dg.ResourceParam[Lake]
) -> dg.RunRequest | dg.SkipReason:
    """Request a build."""
    now = datetime.now(UTC)
    records = context.instance.get_run_records(dg.RunsFilter(job_name=JOB), limit=_LATEST)
    runs = [
        Build(
            record.update_timestamp if record.dagster_run.is_finished else None,
            record.dagster_run.status is dg.DagsterRunStatus.FAILURE,
        )
        for record in records
    ]
    if not may_build(runs, now):
        return dg.SkipReason("a build is under way, or was a moment ago")
    if not build.is_stale(lake, settings.reports, settings):
        return dg.SkipReason("nothing changed")
    return dg.RunRequest()


hourly = dg.ScheduleDefinition(
    job_name=JOB,
    name="build_reports_hourly",
    cron_schedule="50 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Should the sensor have been off.",
)
daily = dg.ScheduleDefinition(
    job_name=VERIFY_JOB,
    name="verify_reports_daily",
    cron_schedule="45 3 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
