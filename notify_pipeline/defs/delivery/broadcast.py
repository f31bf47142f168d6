"""Broadcasts: one run per large send, a mapped step per part of it, and the sensor that starts and restarts them.

Belongs here: job and sensor. Does not belong here: snapshot, shards and sending (``delivery.broadcast``), when a run is
due (``broadcast_watch``).
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter

import dagster as dg

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import broadcasts
from notify_pipeline.core.ledger.broadcasts import DueBroadcast
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.vocabulary import Priority
from notify_pipeline.defs import lanes, metadata, warm
from notify_pipeline.defs.delivery.broadcast_watch import BroadcastRun, Running, Waiting, next_in_turn, next_number
from notify_pipeline.defs.delivery.work import REQUEST_TAG, TENANT_TAG, delivery_context, errors_translated
from notify_pipeline.defs.interrupts import run_stoppable
from notify_pipeline.defs.process import name_process, spare_imports, yield_to_higher_priority
from notify_pipeline.defs.watching import patience

JOB = "broadcast"
# Dagster's queue starts higher numbers first.
_PRIORITY_TAG = "dagster/priority"
_QUEUE_PRIORITY = {Priority.HIGH: "10", Priority.NORMAL: "0", Priority.LOW: "-10"}
# Runs that tell whose turn it is: more tenants than take turns within hours.
_LATEST = 100
# How often a waiting tick asks the ledger; one question costs a millisecond.
_LOOK_S = 0.2
# A step whose process was killed is started again too; after these the run fails, and the sensor starts another.
_RETRY = dg.RetryPolicy(max_retries=5, delay=1, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)


@dg.op(
    out=dg.DynamicOut(list[int]), retry_policy=_RETRY, description="Fixes who gets it: the audience, cut into shards."
)
def snapshot_audience(
    context: dg.OpExecutionContext,
    settings: dg.ResourceParam[Settings],
    ledger: dg.ResourceParam[Ledger],
    lake: dg.ResourceParam[Lake],
) -> Iterator[dg.DynamicOutput[list[int]]]:
    """Yield the numbers of each part's shards."""
    from notify_pipeline.delivery.broadcast import snapshot

    name_process("notify-shard")
    work = delivery_context(settings, ledger, lake, context.run_id)
    with errors_translated(settings.lease_seconds):
        shards = snapshot(work, _request_id(context))
    context.log.info(f"{sum(shard.recipients for shard in shards)} recipients in {len(shards)} shards")
    # The others are done, or due later: another run is launched then.
    now = [shard for shard in shards if shard.is_open(work.clock())]
    for part, together in groupby(sorted(now, key=attrgetter("part")), key=attrgetter("part")):
        yield dg.DynamicOutput([shard.shard for shard in together], mapping_key=f"{part:05d}")


@dg.op(retry_policy=_RETRY, description="Sends a shard of each channel, but for recipients whose outcome is recorded.")
def send_shard(
    context: dg.OpExecutionContext,
    settings: dg.ResourceParam[Settings],
    ledger: dg.ResourceParam[Ledger],
    lake: dg.ResourceParam[Lake],
    shards: list[int],
) -> list[int]:
    """Send them; give their numbers on."""
    from notify_pipeline.delivery import broadcast

    name_process("notify-shard")
    work = delivery_context(settings, ledger, lake, context.run_id)
    request_id = _request_id(context)
    spare_imports()
    if context.run.tags.get(_PRIORITY_TAG) == _QUEUE_PRIORITY[Priority.LOW]:
        yield_to_higher_priority()
    with errors_translated(settings.lease_seconds):
        totals = run_stoppable(lambda stop: broadcast.send_shards(work, request_id, shards, stop))
    context.add_output_metadata(
        {f"{t.channel}_{name}": value for t in totals for name, value in metadata.of(t).items()}
    )
    return shards


@dg.op(retry_policy=_RETRY, description="Moves the request to its end, once all shards are done.")
def finish_broadcast(
    context: dg.OpExecutionContext,
    settings: dg.ResourceParam[Settings],
    ledger: dg.ResourceParam[Ledger],
    lake: dg.ResourceParam[Lake],
    parts: list[list[int]],
) -> None:
    """Finish it."""
    from notify_pipeline.delivery.broadcast import finish

    name_process("notify-shard")
    work = delivery_context(settings, ledger, lake, context.run_id)
    with errors_translated(settings.lease_seconds):
        state = finish(work, _request_id(context))
    context.add_output_metadata({"state": str(state), "shards": sum(map(len, parts))})


def make_broadcast_job(settings: Settings) -> dg.JobDefinition:
    """The job; how many parts are sent side by side is a setting."""
    executor = dg.multiprocess_executor.configured(
        {
            "max_concurrent": settings.broadcast_processes,
            # Forked from the code server's fork server; elsewhere a run starts one of its own.
            "start_method": {"forkserver": {"preload_modules": list(warm.PRELOAD)}},
        }
    )

    @dg.job(
        name=JOB,
        executor_def=executor,
        tags=lanes.tag(lanes.BROADCAST),
        description="One large send. Started by a sensor with the request's id in the tag notify/request_id.",
    )
    def broadcast() -> None:
        finish_broadcast(snapshot_audience().map(send_shard).collect())

    return broadcast


@dg.sensor(
    job_name=JOB,
    minimum_interval_seconds=1,  # the sensor loop is 5 s; more here would be added to it
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts a run for each large send, and another when that died.",
)
def launch_broadcasts(
    context: dg.SensorEvaluationContext, ledger: dg.ResourceParam[Ledger]
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Request the runs that are due."""
    asked: set[str] = set()

    def look() -> list[dg.RunRequest] | None:
        # Dagster's storage is asked once a tick about a broadcast; the ledger tells of new ones.
        now = datetime.now(UTC)
        free = [each for each in broadcasts.due(ledger, now) if not each.lease_alive and each.request_id not in asked]
        return (_launch(context.instance, free, asked, now) or None) if free else None

    found = patience.wait_for(look, _LOOK_S)
    if found is None:
        yield dg.SkipReason("no broadcast waits for a run")
    else:
        yield from found


def _launch(
    instance: dg.DagsterInstance, free: Sequence[DueBroadcast], asked: set[str], now: datetime
) -> list[dg.RunRequest]:
    """Ask for runs as long as a lane has room, tenants in turn; add to ``asked`` whom Dagster was asked about."""
    limits = lanes.limits(instance)
    open_ = [record.dagster_run.tags for record in lanes.open_runs(instance, JOB)]
    running = [Running(tags.get(TENANT_TAG, ""), tags.get(lanes.TAG, lanes.BROADCAST)) for tags in open_]
    latest = instance.get_run_records(dg.RunsFilter(job_name=JOB), limit=_LATEST)
    tenants = [record.dagster_run.tags.get(TENANT_TAG, "") for record in latest]
    named = {tags.get(REQUEST_TAG) for tags in open_}
    waiting = {each.request_id: each for each in free if each.request_id not in named}
    requests = []
    while (turn := next_in_turn([_waiting(each) for each in waiting.values()], running, tenants, limits)) is not None:
        due = waiting.pop(turn.request_id)
        asked.add(turn.request_id)
        if (number := next_number(_runs_of(instance, due.request_id), now)) is not None:
            requests.append(_request(due, turn.lane, number))
            running.append(Running(turn.tenant, turn.lane))
            tenants.insert(0, turn.tenant)
    return requests


def _waiting(due: DueBroadcast) -> Waiting:
    lane = lanes.BROADCAST_HIGH if due.priority is Priority.HIGH else lanes.BROADCAST
    return Waiting(due.request_id, due.tenant, due.priority.rank, lane)


def _request(due: DueBroadcast, lane: str, number: int) -> dg.RunRequest:
    tags = {REQUEST_TAG: due.request_id, TENANT_TAG: due.tenant, _PRIORITY_TAG: _QUEUE_PRIORITY[due.priority]}
    return dg.RunRequest(run_key=f"{due.request_id}:{number}", tags={**tags, **lanes.tag(lane)})


def _runs_of(instance: dg.DagsterInstance, request_id: str) -> list[BroadcastRun]:
    records = instance.get_run_records(dg.RunsFilter(job_name=JOB, tags={REQUEST_TAG: request_id}))
    return [_run(record) for record in records]


def _run(record: dg.RunRecord) -> BroadcastRun:
    status = record.dagster_run
    return BroadcastRun(record.update_timestamp if status.is_finished else None, failed=not status.is_success)


def _request_id(context: dg.OpExecutionContext) -> str:
    request_id = context.run.tags.get(REQUEST_TAG)
    if not request_id:
        raise dg.Failure(f"this run has no tag {REQUEST_TAG}: it does not say what to send", allow_retries=False)
    return str(request_id)
