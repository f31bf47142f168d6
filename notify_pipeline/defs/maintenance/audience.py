"""The audience base: folding what was registered since into a new version.

Belongs here: job, schedule and sensor. Does not belong here: the base (``delivery.audience``).
"""

from datetime import UTC, datetime

import dagster as dg

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import segments
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.schemas import REGISTRATIONS
from notify_pipeline.defs import lanes, metadata
from notify_pipeline.defs.process import yield_to_delivery

JOB = "rebuild_audience_base"
# A send reads the base and every segment that is not in it; the lander makes about one a second at most. Some hundred
# small files cost as much as the base itself.
MANY_SEGMENTS = 300
_LOOK_S = 60


@dg.op(description="Folds every landed registration that the base lacks into a new version.")
def rebuild_base(
    context: dg.OpExecutionContext, ledger: dg.ResourceParam[Ledger], lake: dg.ResourceParam[Lake]
) -> None:
    """Rebuild it."""
    from notify_pipeline.delivery import audience  # loads polars

    yield_to_delivery()
    context.add_output_metadata(metadata.of(audience.rebuild_base(lake, ledger, datetime.now(UTC))))


@dg.job(
    name=JOB,
    executor_def=dg.in_process_executor,
    tags=lanes.tag(lanes.MAINTENANCE),
    description="Makes a new version of the audience base. Sends go on reading the one that they began with.",
)
def rebuild_audience_base() -> None:
    """One op."""
    rebuild_base()


hourly = dg.ScheduleDefinition(
    job=rebuild_audience_base,
    cron_schedule="5 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)


@dg.sensor(
    job=rebuild_audience_base,
    minimum_interval_seconds=_LOOK_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Asks for a new base when sends have to read many small files beside the current one.",
)
def rebuild_when_the_delta_is_large(
    context: dg.SensorEvaluationContext, ledger: dg.ResourceParam[Ledger], lake: dg.ResourceParam[Lake]
) -> dg.RunRequest | dg.SkipReason:
    """Request a rebuild."""
    from notify_pipeline.delivery import audience_base  # loads polars

    if lanes.open_runs(context.instance, JOB):
        return dg.SkipReason("a rebuild is running or queued")
    base = audience_base.load(lake)
    news = len(segments.landed(ledger, REGISTRATIONS.name).not_in(base.folded))
    if news < MANY_SEGMENTS:
        return dg.SkipReason(f"{news} segments are not in base {base.version}")
    return dg.RunRequest()
