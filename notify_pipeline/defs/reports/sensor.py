"""Has the reports built when the lake changed, and once in a while whatever happened.

Belongs here: sensor and schedules. Does not belong here: the rule (``watch``), noticing a change (``reports.build``).
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import broadcasts, outbox
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.settings import Settings
from notify_pipeline.defs.reports.assets import JOB, VERIFY_JOB
from notify_pipeline.defs.reports.follow import JOB as FOLLOW_JOB
from notify_pipeline.defs.reports.watch import Build, may_build
from notify_pipeline.defs.watching import patience
from notify_pipeline.reports import build

# Enough to see how many of the last ones failed in a row, as far as that makes a difference.
_LATEST = 8
# How often a waiting tick looks; a look costs some milliseconds, and one that costs more waits longer by itself.
_LOOK_S = 0.5


def make_sensor(jobs: list[UnresolvedAssetJobDefinition | dg.JobDefinition]) -> dg.SensorDefinition:
    """The sensor, which asks for runs of these jobs."""

    @dg.sensor(
        jobs=jobs,
        minimum_interval_seconds=1,  # the sensor loop is 5 s; more here would be added to it
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Builds the reports when files that they are made of came or went, and has broadcasts followed.",
    )
    def build_when_the_lake_changed(
        context: dg.SensorEvaluationContext,
        settings: dg.ResourceParam[Settings],
        ledger: dg.ResourceParam[Ledger],
        lake: dg.ResourceParam[Lake],
    ) -> dg.SensorResult:
        return _tick(context, settings, ledger, lake)

    return build_when_the_lake_changed


def _tick(context: dg.SensorEvaluationContext, settings: Settings, ledger: Ledger, lake: Lake) -> dg.SensorResult:
    """Request a build, or that a broadcast is followed."""
    # Since when each broadcast is under way whose end no build has seen yet.
    known = {name: float(since) for name, since in map(_split, (context.cursor or "").split())}
    builds = _builds(context.instance)
    job = JOB

    def look() -> bool | None:
        nonlocal builds, job
        if any(run.ended_at is None for run in builds):
            builds = _builds(context.instance)  # once it ended nobody but us begins another, but for the schedule
        now = datetime.now(UTC)
        under_way = {due.request_id for due in broadcasts.due(ledger, now)}
        known.update({name: now.timestamp() for name in under_way - known.keys()})
        since = min((datetime.fromtimestamp(known[name], UTC) for name in under_way), default=None)
        ended = known.keys() > under_way and outbox.is_empty(ledger)
        job = JOB if since is None else FOLLOW_JOB
        if not may_build(builds, now, sending_since=since, ended=ended):
            return None
        is_stale = build.is_stale(lake, settings.reports, settings)
        for name in known.keys() - under_way if ended else ():
            del known[name]
        return is_stale or None

    due = patience.wait_for(look, _LOOK_S)
    # An empty cursor is not stored: the one before would stay.
    cursor = " ".join(f"{name}@{since:.1f}" for name, since in sorted(known.items())) or " "
    if due is None:
        return dg.SensorResult(skip_reason=dg.SkipReason("nothing changed, or the last build is recent"), cursor=cursor)
    return dg.SensorResult(run_requests=[dg.RunRequest(job_name=job)], cursor=cursor)


def _split(item: str) -> tuple[str, str]:
    name, _, since = item.rpartition("@")
    return name, since


def _builds(instance: dg.DagsterInstance) -> list[Build]:
    """The latest runs that build, newest first."""
    found = [_build(record) for record in instance.get_run_records(dg.RunsFilter(job_name=JOB), limit=_LATEST)]
    for record in instance.get_run_records(dg.RunsFilter(job_name=FOLLOW_JOB), limit=1):
        # How long it followed says nothing about how long a build takes.
        found.append(replace(_build(record), took=timedelta()))
    latest = datetime.max.replace(tzinfo=UTC)
    return sorted(found, key=lambda each: each.ended_at or latest, reverse=True)


def _build(record: dg.RunRecord) -> Build:
    return Build(
        record.update_timestamp if record.dagster_run.is_finished else None,
        record.dagster_run.status is dg.DagsterRunStatus.FAILURE,
        _took(record),
    )


def _took(record: dg.RunRecord) -> timedelta:
    if record.start_time is None or record.end_time is None:
        return timedelta()
    return timedelta(seconds=record.end_time - record.start_time)


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
