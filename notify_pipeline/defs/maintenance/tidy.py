"""Removing what nobody needs any more: scratch files, Dagster's record of routine runs, what is old in the ledger.

Belongs here: job and schedule. Does not belong here: deciding what a scratch file is (``core.lake``), which runs go
(``history``).
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import caps, connections, dead_letters, event_forgetting, inbox_changing, user_messages
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.settings import Settings
from notify_pipeline.defs import lanes
from notify_pipeline.defs.maintenance.history import forget_runs
from notify_pipeline.defs.process import yield_to_delivery

# Nobody writes one file for longer than this.
SCRATCH_AGE = timedelta(hours=6)


@dg.op(
    description="Deletes scratch files, old routine runs, dead letters, events, inbox items, uses that no cap counts."
)
def remove_leftovers(
    context: dg.OpExecutionContext,
    settings: dg.ResourceParam[Settings],
    lake: dg.ResourceParam[Lake],
    ledger: dg.ResourceParam[Ledger],
) -> None:
    """Remove them."""
    yield_to_delivery()
    now = datetime.now(UTC)
    removed = {
        "scratch_files": lake.delete_tmp(SCRATCH_AGE, now),
        "runs": forget_runs(context.instance, now - timedelta(hours=settings.run_history_hours)),
        "dead_letters": dead_letters.forget(ledger, now - timedelta(days=settings.dead_letter_days)),
        "events": event_forgetting.forget(ledger, now - timedelta(days=settings.event_days)),
        "cap_uses": caps.forget(ledger, now),
        # Gateways do so too, where there are any.
        "connections": connections.forget_lost(ledger, now),
        "user_messages": sum(iter(lambda: user_messages.tidy(ledger, now), 0)),
        "inbox_items": inbox_changing.forget(ledger, now - timedelta(days=settings.inbox_days)),
    }
    context.add_output_metadata(removed)


@dg.job(
    executor_def=dg.in_process_executor,
    tags=lanes.tag(lanes.MAINTENANCE),
    description="Removes scratch files, routine runs from Dagster's storage, and what has grown old in the ledger.",
)
def tidy() -> None:
    """One op."""
    remove_leftovers()


hourly = dg.ScheduleDefinition(
    job=tidy,
    cron_schedule="35 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
