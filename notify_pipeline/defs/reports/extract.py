"""Days of reports as files in the lake: an asset with a partition per day, and when each is written.

Belongs here: asset, job, schedules. Does not belong here: which days are due and writing them (``reports.extracts``).
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.settings import Settings
from notify_pipeline.defs import lanes, metadata, spans
from notify_pipeline.defs.process import yield_to_delivery
from notify_pipeline.reports import extracts
from notify_pipeline.reports.reading import opened

JOB = "extract_reports"
_FORMAT = "%Y-%m-%d"
# Days in one run: each is noted as it is written, so a run that dies leaves the rest to the next.
_LONGEST = 31


def make_extract(settings: Settings, deps: list[dg.AssetKey]) -> dg.AssetsDefinition:
    """The asset; its first day is that of the first logs."""

    @dg.asset(
        name="report_extracts",
        partitions_def=dg.DailyPartitionsDefinition(start_date=settings.receipts_from.astimezone(UTC), fmt=_FORMAT),
        deps=deps,
        group_name="reports",
        backfill_policy=dg.BackfillPolicy.single_run(),
        description="Yesterday's reports in the lake, as NDJSON and Parquet. Writing a day again gives the same bytes.",
    )
    def report_extracts(
        context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings], lake: dg.ResourceParam[Lake]
    ) -> None:
        yield_to_delivery()
        with opened(settings) as reader:
            for key in context.partition_keys:
                done = extracts.write(reader, lake, date.fromisoformat(key))
                context.add_asset_metadata(metadata.of(done), partition_key=key)

    return report_extracts


def make_job(asset: dg.AssetsDefinition) -> UnresolvedAssetJobDefinition:
    """The job that writes days; also what a backfill runs."""
    return dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.assets(asset),
        executor_def=dg.in_process_executor,
        tags=lanes.tag(lanes.MAINTENANCE),
        description="Writes days of reports into the lake. Sends nothing, and changes no report.",
    )


@dg.schedule(
    job_name=JOB,
    cron_schedule="20 1 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Writes yesterday, whether or not anything was sent.",
)
def extract_nightly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Request yesterday."""
    day = (context.scheduled_execution_time.astimezone(UTC) - timedelta(days=1)).strftime(_FORMAT)
    return dg.RunRequest(run_key=day, partition_key=day)


@dg.schedule(
    job_name=JOB,
    cron_schedule="40 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Writes days again that have settled, or that something changed after that; and any that was missed.",
)
def extract_what_changed(
    context: dg.ScheduleEvaluationContext, settings: dg.ResourceParam[Settings], lake: dg.ResourceParam[Lake]
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Request what is due."""
    if lanes.open_runs(context.instance, JOB):
        yield dg.SkipReason("a run is under way or queued")
        return
    today = context.scheduled_execution_time.astimezone(UTC).date()
    first = settings.receipts_from.astimezone(UTC).date()
    with opened(settings) as reader:
        days = [day for day in extracts.due(extracts.states(reader), extracts.written(lake), today) if day >= first]
    if not days:
        yield dg.SkipReason("no day has settled or changed")
    at = datetime.now(UTC).isoformat()
    for start, end in extracts.ranges(days, _LONGEST):
        first_key, last_key = start.strftime(_FORMAT), end.strftime(_FORMAT)
        yield spans.run_request(f"{first_key}/{last_key}:{at}", first_key, last_key)
