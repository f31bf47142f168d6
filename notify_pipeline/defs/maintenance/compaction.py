"""Compaction: the many small segments of past hours become few.

Belongs here: job and schedule. Does not belong here: compacting (``core.compaction``).
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

from notify_pipeline.core.compaction import compact
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.schemas import LANDING_TABLES
from notify_pipeline.defs import lanes, metadata
from notify_pipeline.defs.maintenance import lake_tables
from notify_pipeline.defs.process import yield_to_delivery

# The lander is about a second behind; rows of an hour that come later than this make small files for the next run.
ENDED_FOR = timedelta(minutes=10)


@dg.op(description="Puts the segments of each ended hour together, table by table.")
def compact_tables(
    context: dg.OpExecutionContext, ledger: dg.ResourceParam[Ledger], lake: dg.ResourceParam[Lake]
) -> None:
    """Compact every landing table."""
    yield_to_delivery()
    for name in LANDING_TABLES:
        report = compact(ledger, lake, name, ENDED_FOR, datetime.now(UTC))
        context.log_event(dg.AssetObservation(lake_tables.key_of(name), metadata=metadata.of(report)))


@dg.job(
    executor_def=dg.in_process_executor,
    tags=lanes.tag(lanes.MAINTENANCE),
    description="Makes few large files of many small ones. Readers that listed the small ones can still open them.",
)
def compact_lake() -> None:
    """One op."""
    compact_tables()


hourly = dg.ScheduleDefinition(
    job=compact_lake,
    cron_schedule="20 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
