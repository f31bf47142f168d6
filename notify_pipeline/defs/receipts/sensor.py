"""Asks for the hours whose log files changed.

Belongs here: the sensor. Does not belong here: noticing changes (``receipts.logs``), what it remembers (``hours``).
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg

from notify_pipeline.core.settings import Settings
from notify_pipeline.defs.receipts.asset import JOB, key_of
from notify_pipeline.defs.receipts.hours import Batch, Memory, batches
from notify_pipeline.receipts.logs import Logs, discover

_RANGE_START = "dagster/asset_partition_range_start"
_RANGE_END = "dagster/asset_partition_range_end"
_RUN_KEY = "dagster/run_key"
# A host whose clock is ahead names its file after the next hour.
_AHEAD = timedelta(hours=1)


@dg.sensor(
    job_name=JOB,
    minimum_interval_seconds=1,  # the sensor loop is 5 s; more here would be added to it
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Asks for hours whose log files changed, and asks again until a run of each has succeeded.",
)
def process_changed_hours(
    context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings], logs: dg.ResourceParam[Logs]
) -> dg.SensorResult:
    """Request runs; the cursor holds what was asked for until it is done."""
    now = datetime.now(UTC)
    memory = Memory.parse(context.cursor)
    if memory.pending:
        followed = list(_follow(context.instance, memory.pending, now))
        pending = tuple(batch for batch, _ in followed)
        requests = [_request(batch) for batch, due in followed if due]
        if pending:
            return dg.SensorResult(requests, cursor=Memory(memory.logs, pending).text())
    found = discover(logs, memory.logs, now)
    hours = [hour for hour in found.hours if settings.receipts_from <= hour <= now + _AHEAD]
    if len(hours) < len(found.hours):
        context.log.warning(
            f"{len(found.hours) - len(hours)} hours with logs are far in the future, or before receipts_from"
        )
    pending = tuple(batches(hours, found.cursor))
    return dg.SensorResult(
        [_request(batch) for batch in pending],
        skip_reason=None if pending else dg.SkipReason("no log file came or changed"),
        cursor=Memory(found.cursor, pending).text(),
    )


def _follow(instance: dg.DagsterInstance, pending: tuple[Batch, ...], now: datetime) -> Iterator[tuple[Batch, bool]]:
    """What is not done yet, each with whether to request a run of it now."""
    for batch in pending:
        records = instance.get_run_records(dg.RunsFilter(job_name=JOB, tags={_RUN_KEY: batch.run_key}), limit=1)
        if not records:  # the daemon stopped after keeping the cursor: the run key makes asking again harmless
            yield batch, True
        elif not records[0].dagster_run.is_finished:
            yield batch, False
        elif not records[0].dagster_run.is_success:
            due = now >= batch.retry_at(records[0].update_timestamp)
            yield (batch.next() if due else batch), due


def _request(batch: Batch) -> dg.RunRequest:
    first, last = (key_of(datetime.fromisoformat(moment)) for moment in (batch.first, batch.last))
    if first == last:
        return dg.RunRequest(run_key=batch.run_key, partition_key=first)
    return dg.RunRequest(run_key=batch.run_key, tags={_RANGE_START: first, _RANGE_END: last})
