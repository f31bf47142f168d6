"""Asks for the hours whose log files changed.

Belongs here: the sensor. Does not belong here: noticing changes (``receipts.logs``, ``receipts.rounds``), what it
remembers (``hours``).
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.settings import Settings
from notify_pipeline.defs.receipts.asset import JOB
from notify_pipeline.defs.receipts.following import hours_followed
from notify_pipeline.defs.receipts.hours import Batch, Memory, batches
from notify_pipeline.defs.receipts.requests import run_request
from notify_pipeline.defs.watching import patience
from notify_pipeline.receipts import rounds
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
    context: dg.SensorEvaluationContext,
    settings: dg.ResourceParam[Settings],
    ledger: dg.ResourceParam[Ledger],
    lake: dg.ResourceParam[Lake],
    logs: dg.ResourceParam[Logs],
) -> dg.SensorResult:
    """Request runs; the cursor holds what was asked for until it is done."""
    memory = Memory.parse(context.cursor)

    def look() -> list[dg.RunRequest] | None:
        nonlocal memory
        memory, requests = _step(context, settings, ledger, lake, logs, memory)
        return requests or None

    requests = patience.wait_for(look, _LOOK_S)
    skip_reason = None if requests or memory.pending else dg.SkipReason("no log file came or changed")
    return dg.SensorResult(requests or [], skip_reason=skip_reason, cursor=memory.text())


def _step(
    context: dg.SensorEvaluationContext, settings: Settings, ledger: Ledger, lake: Lake, logs: Logs, memory: Memory
) -> tuple[Memory, list[dg.RunRequest]]:
    """Follow what was asked for; look for changes once all of it is done, or failed; return what to ask for now.

    What failed is read anew when it is tried again, whatever changes until then.
    """
    now = datetime.now(UTC)
    followed = list(_follow(context.instance, memory.pending, now))
    memory = replace(memory, pending=tuple(batch for batch, _ in followed))
    if any(due is not None for _, due in followed):
        return memory, [run_request(batch) for batch, due in followed if due]
    found = discover(logs, memory.logs, now)
    memory, older = _go_round(replace(memory, logs=found.cursor), settings, lake, logs, now)
    # Asked after looking: a follower looks once more when it has gone. One that dies leaves its hours to the schedule.
    left_alone = {hour for batch in memory.pending for hour in batch.hours()} | hours_followed(
        ledger, datetime.now(UTC)
    )
    changed = sorted({*found.hours, *older} - left_alone)
    hours = [hour for hour in changed if settings.receipts_from <= hour <= now + AHEAD]
    if len(hours) < len(changed):
        context.log.warning(
            f"{len(changed) - len(hours)} hours with logs are far in the future, or before receipts_from"
        )
    # What a round finds may have been asked for before, and have become another file since.
    new = tuple(batches(hours, f"{found.cursor}{memory.stepped_at if older else ''}"))
    return replace(memory, pending=memory.pending + new), [run_request(batch) for batch in new]


def _go_round(
    memory: Memory, settings: Settings, lake: Lake, logs: Logs, now: datetime
) -> tuple[Memory, list[datetime]]:
    """Take a step of a round when it is time for one; return the hours that are to be read."""
    if memory.stepped_at is not None and now < datetime.fromisoformat(memory.stepped_at) + rounds.STEP:
        return memory, []
    kept = settings.lake_receipts_days
    first = settings.receipts_from.astimezone(UTC)
    if kept is not None:  # of older days the lake has nothing any more, whatever was read
        first = max(first, now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=kept))
    after = None if memory.day is None else date.fromisoformat(memory.day)
    found = rounds.step(lake, logs, now, after, first)
    day = None if found.last is None else found.last.isoformat()
    return replace(memory, day=day, stepped_at=now.isoformat()), found.hours


def _follow(
    instance: dg.DagsterInstance, pending: tuple[Batch, ...], now: datetime
) -> Iterator[tuple[Batch, bool | None]]:
    """What is not done yet, each with whether to request a run of it now; None when it failed, and is to wait."""
    for batch in pending:
        records = instance.get_run_records(dg.RunsFilter(job_name=JOB, tags={_RUN_KEY: batch.run_key}), limit=1)
        if not records:  # the daemon stopped after keeping the cursor: the run key makes asking again harmless
            yield batch, True
        elif not records[0].dagster_run.is_finished:
            yield batch, False
        elif not records[0].dagster_run.is_success:
            due = now >= batch.retry_at(records[0].update_timestamp)
            yield (batch.next(), True) if due else (batch, None)
