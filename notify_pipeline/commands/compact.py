"""``notify compact``: compaction of the lake, by hand.

Belongs here: the command. Does not belong here: compacting (``core.compaction``).
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.table import Table

from notify_pipeline.commands.console import CONSOLE, failing_clearly, steps
from notify_pipeline.commands.stores import lake_of, open_ledger
from notify_pipeline.core.compaction import compact as compact_table
from notify_pipeline.core.schemas import LANDING_TABLES
from notify_pipeline.core.settings import Settings

app = typer.Typer()


@app.command()
@failing_clearly(OSError)
def compact(
    ended_for: Annotated[float, typer.Option(min=0, help="Minutes that an hour must be over.")] = 10.0,
) -> None:
    """Make few large files of the many small ones of past hours. Safe beside a running system."""
    settings = Settings()
    table = Table("table", "files put together", "into", "rows", "stopped")
    with open_ledger(settings) as ledger:
        for name in steps(list(LANDING_TABLES), "tables"):
            age = timedelta(minutes=ended_for)
            done = compact_table(ledger, lake_of(settings), name, age, datetime.now(UTC))
            table.add_row(name, f"{done.inputs:,}", f"{done.compacted:,}", f"{done.rows:,}", done.stopped_reason)
    CONSOLE.print(table)
