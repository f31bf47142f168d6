"""Erasures: the lake's part, and the verification.

Belongs here: job and sensor. Does not belong here: what an erasure does (``core.erasing``).
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import dagster as dg

from notify_pipeline.core.erasing import Erasing
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.settings import Settings
from notify_pipeline.defs import lanes
from notify_pipeline.defs.process import yield_to_delivery

JOB = "erase_from_lake"
_LOOK_S = 30


@dg.op(description="Rewrites the lake's files that name somebody who is to be erased, and verifies that none is left.")
def rewrite_lake(
    context: dg.OpExecutionContext,
    settings: dg.ResourceParam[Settings],
    lake: dg.ResourceParam[Lake],
    ledger: dg.ResourceParam[Ledger],
) -> None:
    """Take every erasure as far as it can go now."""
    from notify_pipeline.delivery import audience  # loads polars

    yield_to_delivery()
    done = _erasing(settings, lake, ledger, lambda: audience.rebuild_base(lake, ledger, _now())).run()
    # Neither the log nor Dagster's storage names anybody.
    context.add_output_metadata({each.erasure_id: each.waits_for or each.state.value for each in done})


@dg.job(
    name=JOB,
    executor_def=dg.in_process_executor,
    tags=lanes.tag(lanes.MAINTENANCE),
    description="Takes erased people out of the lake. Reports are recomputed to the same figures.",
)
def erase_from_lake() -> None:
    """One op."""
    rewrite_lake()


@dg.sensor(
    job=erase_from_lake,
    minimum_interval_seconds=_LOOK_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Asks for a run while an erasure can go on.",
)
def erase_when_somebody_is_to_be(
    context: dg.SensorEvaluationContext,
    settings: dg.ResourceParam[Settings],
    ledger: dg.ResourceParam[Ledger],
    lake: dg.ResourceParam[Lake],
) -> dg.RunRequest | dg.SkipReason:
    """Request a run."""
    if lanes.open_runs(context.instance, JOB):
        return dg.SkipReason("a run is running or queued")
    if not _erasing(settings, lake, ledger, lambda: None).due():
        return dg.SkipReason("nobody is to be erased now")
    return dg.RunRequest()


def _erasing(settings: Settings, lake: Lake, ledger: Ledger, fold: Callable[[], object]) -> Erasing:
    return Erasing(ledger, lake, fold, timedelta(seconds=settings.erasure_settle_s), _now)


def _now() -> datetime:
    return datetime.now(UTC)
