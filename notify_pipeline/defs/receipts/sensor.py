"""Asks for the hours whose log files changed.

Belongs here: the sensor. Does not belong here: noticing changes (``receipts.logs``), what it remembers (``hours``).
"""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg

from notify_pipeline.core.settings import Settings
from notify_pipeline.defs.receipts.asset import JOB
from notify_pipeline.defs.receipts.hours import Batch, Memory, batches
from notify_pipeline.defs.receipts.requests import run_request
from notify_pipeline.defs.watching import patience
from notify_pipeline.receipts.logs import Logs, discover
from notify_pipeline.receipts.looking import AHEAD

_RUN_KEY = "dagster/run_key"
# How often a waiting tick looks; a look that costs more than some milliseconds waits longer by itself.
_LOOK_S = 0.5


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
    memory = Memory.parse(context.cursor)

    def look() -> list[dg.RunRequest] | None:
        nonlocal memory
        memory, requests = _step(context, settings, logs, memory)
        return requests or None

    requests = patience.wait_for(look, _LOOK_S)
    skip_reason = None if requests or memory.pending else dg.SkipReason("no log file came or changed")
    return dg.SensorResult(requests or [], skip_reason=skip_reason, cursor=memory.text())


def _step(
    context: dg.SensorEvaluationContext, settings: Settings, logs: Logs, memory: Memory
) -> tuple[Memory, list[dg.RunRequest]]:
    """Follow what was asked for, and look for changes once all of it is done; return what to ask for now."""
    now = datetime.now(UTC)
    if memory.pending:
        followed = list(_follow(context.instance, memory.pending, now))
        pending = tuple(batch for batch, _ in followed)
        if pending:
            return Memory(memory.logs, pending), [run_request(batch) for batch, due in followed if due]
    found = discover(logs, memory.logs, now)
    hours = [hour for hour in found.hours if settings.receipts_from <= hour <= now + AHEAD]
    if len(hours) < len(found.hours):
        context.log.warning(
            f"{len(found.hours) - len(hours)} hours with logs are far in the future, or before receipts_from"
        )
    pending = tuple(batches(hours, found.cursor))
    return Memory(found.cursor, pending), [run_request(batch) for batch in pending]


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
