"""``notify retention``: letting go of old data by hand, or seeing what would go.

Belongs here: the command. Does not belong here: what goes and how (``reports.retention``,
``delivery.audience_history``).
"""

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table

from notify_pipeline.commands.console import CONSOLE, failing_clearly
from notify_pipeline.commands.stores import lake_of, open_ledger
from notify_pipeline.core.schemas import REGISTRATIONS
from notify_pipeline.core.settings import Settings
from notify_pipeline.delivery import audience_history
from notify_pipeline.reports import retention as retaining
from notify_pipeline.reports.reading import opened

app = typer.Typer()


@app.command()
@failing_clearly(OSError)
def retention(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go; change nothing.")] = False,
) -> None:
    """Let go of what is older than its setting (NOTIFY_LAKE_<TABLE>_DAYS) says. Safe beside a running system."""
    settings, now = Settings(), datetime.now(UTC)
    lake = lake_of(settings)
    with open_ledger(settings) as ledger:
        with opened(settings) as reader:
            planned = retaining.plan(settings, ledger, lake, reader, now)
        if dry_run:
            _show(planned.going, "would go")
        else:
            _show(list(retaining.carry_out(planned, settings, ledger, lake, now)), "went")
            for each in planned.going:
                if each.table == REGISTRATIONS.name and each.files:
                    done = audience_history.thin(lake, ledger, [file.path for file in each.files], now)
                    CONSOLE.print(f"registrations: {done.rows:,} superseded rows went out of {done.rewritten} files")
    if planned.freeze_before is not None:
        tense = "would be" if dry_run else "are"
        CONSOLE.print(f"reports of notifications accepted before {planned.freeze_before} {tense} frozen")


def _show(going: "list[retaining.Going] | tuple[retaining.Going, ...]", verb: str) -> None:
    if not going:
        CONSOLE.print(f"nothing {verb}")
        return
    table = Table("table", f"files that {verb}", "bytes", "days before", "held by")
    for each in going:
        counts = (f"{len(each.files):,}", f"{each.bytes:,}", str(each.before or ""), each.held_by or "")
        table.add_row(each.table, *counts)
    CONSOLE.print(table)
