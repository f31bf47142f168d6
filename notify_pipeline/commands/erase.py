"""``notify erase``: carrying erasures through by hand.

Belongs here: the command. Does not belong here: what an erasure does (``core.erasing``), asking for one (the API).
"""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.table import Table

from notify_pipeline.commands.console import CONSOLE, failing_clearly
from notify_pipeline.commands.stores import lake_of, open_ledger
from notify_pipeline.core.erasing import Erasing
from notify_pipeline.core.ledger.engine import BUSY_TIMEOUT_MS, Ledger
from notify_pipeline.core.ledger.group_commit import FileLock
from notify_pipeline.core.settings import Settings

app = typer.Typer(help="Erasures that the API has accepted.", no_args_is_help=True)


@app.callback()
def _root() -> None:
    """Erasures that the API has accepted."""


@app.command()
@failing_clearly(OSError)
def run(
    settle: Annotated[
        float | None, typer.Option(min=0, help="Seconds to wait for what was under way; default: erasure_settle_s.")
    ] = None,
    vacuum: Annotated[
        bool,
        typer.Option(help="Then write SQLite's file anew, without the bytes of deleted rows. Writers wait for it."),
    ] = False,
) -> None:
    """Take every erasure as far as it can go now. Safe beside a running system, and again after it died."""
    from notify_pipeline.delivery import audience  # loads polars

    settings = Settings()
    lake = lake_of(settings)
    seconds = settings.erasure_settle_s if settle is None else settle
    table = Table("erasure", "state", "waits for", "rows in the ledger", "rows in the lake")
    with open_ledger(settings) as ledger:

        def now() -> datetime:
            return datetime.now(UTC)

        erasing = Erasing(
            ledger, lake, lambda: audience.rebuild_base(lake, ledger, now()), timedelta(seconds=seconds), now
        )
        for each in erasing.run():
            rows = (f"{sum(each.counts.get(room, {}).values()):,}" for room in ("ledger", "lake"))
            table.add_row(each.erasure_id, each.state.value, each.waits_for or "", *rows)
        if vacuum:
            write_anew(ledger)
    CONSOLE.print(table)


def write_anew(ledger: Ledger) -> None:
    """Leave nothing in SQLite's file and its log but what is there to be read; PostgreSQL sees to that by itself."""
    if not ledger.is_sqlite:
        return
    lock = FileLock(ledger.lock_path)
    try:
        with lock.held(), closing(sqlite3.connect(str(ledger.url.database), isolation_level=None)) as conn:
            # Readers that are in the middle of something keep the log: they take milliseconds.
            conn.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
            conn.execute("VACUUM")
            conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        lock.close()
