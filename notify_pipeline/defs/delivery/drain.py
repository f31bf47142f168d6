"""The drain: one run that sends small sends as they are accepted, and the sensor that keeps one alive.

Belongs here: job and sensor. Does not belong here: claiming and sending (``delivery.drain``), when a run is due
(``drain_watch``).
"""

from datetime import UTC, datetime

import dagster as dg

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import leases
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.settings import Settings
from notify_pipeline.defs import lanes, metadata
from notify_pipeline.defs.delivery.drain_watch import LEASE, DrainRun, decide
from notify_pipeline.defs.delivery.work import delivery_context, errors_translated
from notify_pipeline.defs.interrupts import is_cancelled, run_stoppable
from notify_pipeline.defs.process import name_process

JOB = "drain"
# More failures in a row than this make no difference to the pause.
_LATEST = 10


@dg.op(description="Claims due work by lease, sends it, records it, until its time is up.")
def send_what_is_due(
    context: dg.OpExecutionContext,
    settings: dg.ResourceParam[Settings],
    ledger: dg.ResourceParam[Ledger],
    lake: dg.ResourceParam[Lake],
) -> None:
    """Run the drain."""
    from notify_pipeline.delivery.drain import run_drain

    name_process("notify-drain")
    work = delivery_context(settings, ledger, lake, context.run_id)
    with errors_translated(settings.lease_seconds):
        totals = run_stoppable(lambda stop: run_drain(work, stop), lambda: not is_cancelled(context))
    context.log.info(f"drain ended: {totals.stopped_reason}")
    context.add_output_metadata(metadata.of(totals))


@dg.job(
    name=JOB,
    executor_def=dg.in_process_executor,
    tags=lanes.tag(lanes.DRAIN),
    description="Sends every send that is small enough for the ledger's queue. A sensor keeps one run alive.",
)
def drain_job() -> None:
    """One op."""
    send_what_is_due()


@dg.sensor(
    job=drain_job,
    minimum_interval_seconds=1,  # the sensor loop is 5 s; more here would be added to it
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Keeps one drain run alive, and has its successor warm when its time is up.",
)
def keep_drain_alive(
    context: dg.SensorEvaluationContext,
    settings: dg.ResourceParam[Settings],
    ledger: dg.ResourceParam[Ledger],
) -> dg.SensorResult:
    """Launch a drain run when one is due."""
    now = datetime.now(UTC)
    runs = [
        DrainRun(None if record.start_time is None else datetime.fromtimestamp(record.start_time, UTC))
        for record in lanes.open_runs(context.instance, JOB)
    ]
    held = leases.holder(ledger, LEASE, now) is not None
    failures = lanes.failures_in_a_row(context.instance, JOB, _LATEST)
    decision = decide(runs, held, settings.drain_seconds, now, failures)
    if not decision.launch:
        return dg.SensorResult(skip_reason=dg.SkipReason(decision.reason))
    number = int(context.cursor or 0) + 1
    context.log.info(decision.reason)
    return dg.SensorResult(run_requests=[dg.RunRequest(run_key=f"drain:{number}")], cursor=str(number))
