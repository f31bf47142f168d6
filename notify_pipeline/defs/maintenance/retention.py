"""Retention: what is older than its setting says goes, once a day.

Belongs here: job and schedule. Does not belong here: what goes and how (``reports.retention``,
``delivery.audience_history``).
"""

from datetime import UTC, datetime

import dagster as dg

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.schemas import LANDING_TABLES, REGISTRATIONS
from notify_pipeline.core.settings import Settings
from notify_pipeline.defs import lanes, metadata
from notify_pipeline.defs.maintenance import lake_tables
from notify_pipeline.defs.process import yield_to_delivery
from notify_pipeline.reports import retention
from notify_pipeline.reports.reading import opened


@dg.op(description="Freezes the reports of what goes, then deletes files that are older than their table's setting.")
def let_go(
    context: dg.OpExecutionContext,
    settings: dg.ResourceParam[Settings],
    ledger: dg.ResourceParam[Ledger],
    lake: dg.ResourceParam[Lake],
) -> None:
    """Let go of it."""
    yield_to_delivery()
    now = datetime.now(UTC)
    with opened(settings) as reader:
        planned = retention.plan(settings, ledger, lake, reader, now)
    summary: dict[str, dict[str, int | str]] = {}
    for gone in retention.carry_out(planned, settings, ledger, lake, now):
        said: dict[str, int | str] = {"files": len(gone.files), "bytes": gone.bytes}
        if gone.before is not None:
            said["before"] = gone.before.isoformat()
        summary[gone.table] = said
        if gone.table in LANDING_TABLES:
            context.log_event(dg.AssetObservation(lake_tables.key_of(gone.table), metadata=dict(said)))
    for each in planned.going:
        if each.held_by is not None:
            summary.setdefault(each.table, {})["held_by"] = each.held_by
        if each.table == REGISTRATIONS.name and each.files:
            from notify_pipeline.delivery import audience_history  # loads polars

            thinned = audience_history.thin(lake, ledger, [file.path for file in each.files], now)
            context.log_event(dg.AssetObservation(lake_tables.key_of(each.table), metadata=metadata.of(thinned)))
            summary.setdefault(each.table, {})["rows"] = thinned.rows
    context.add_output_metadata(
        {"went": dg.MetadataValue.json(summary), "frozen_before": str(planned.freeze_before or "unchanged")}
    )


@dg.job(
    name="retention",
    executor_def=dg.in_process_executor,
    tags=lanes.tag(lanes.MAINTENANCE),
    description="Deletes what is older than the settings say. Reports of what goes stay as they are.",
)
def let_go_of_the_old() -> None:
    """One op."""
    let_go()


daily = dg.ScheduleDefinition(
    job=let_go_of_the_old,
    cron_schedule="10 4 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
