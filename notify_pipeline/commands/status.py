"""``notify status``: what runs here, and what waits.

Belongs here: the command. Does not belong here: counting (``core.ledger``), the processes (``up``).
"""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import typer
from rich.table import Table

from notify_pipeline.commands.console import CONSOLE, failing_clearly
from notify_pipeline.commands.stores import open_ledger
from notify_pipeline.commands.up import home
from notify_pipeline.commands.up.command import DRAIN_LEASE, OUTPUT_FOLDER
from notify_pipeline.commands.up.supervisor import STATE_FILE
from notify_pipeline.core.ledger import broadcasts, callback_messages, deliveries, event_lists, leases, outbox
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.settings import Settings

app = typer.Typer()


@app.command()
@failing_clearly(OSError)
def status() -> None:
    """Show the running system's processes and queues. Exit code 1 when none runs in this home."""
    settings = Settings()
    if not home.is_running(settings.home):
        CONSOLE.print(f"nothing runs in {settings.home.resolve()}", soft_wrap=True)
        sys.exit(1)
    run = home.read_run_file(settings.home)
    if run is None:
        CONSOLE.print("starting")
    else:
        CONSOLE.print(_table(("part", "address"), [(k, str(v)) for k, v in run.items() if k != "admin_key"]))
    CONSOLE.print(_table(("process", "id", "restarts"), _processes(settings.home / OUTPUT_FOLDER / STATE_FILE)))
    with open_ledger(settings) as ledger:
        CONSOLE.print(_table(("queue", "waiting"), _queues(ledger, datetime.now(UTC))))


def _processes(path: Path) -> Iterator[tuple[str, ...]]:
    if path.exists():
        for name, state in orjson.loads(path.read_bytes()).items():
            yield name, str(state["pid"] or "down"), str(state["deaths"])


def _queues(ledger: Ledger, now: datetime) -> Iterator[tuple[str, ...]]:
    yield "drain", leases.holder(ledger, DRAIN_LEASE, now) or "no drain run is alive"
    for channel, states in sorted(deliveries.depths(ledger).items()):
        for state, count in sorted(states.items()):
            yield f"{channel} deliveries {state}", f"{count:,}"
    for due in broadcasts.due(ledger, now):
        yield f"broadcast {due.request_id}", f"{due.shards - due.shards_done} of {due.shards} shards"
    for state, count in sorted(callback_messages.depths(ledger).items()):
        yield f"messages to callbacks {state}", f"{count:,}"
    for state, count in sorted(event_lists.depths(ledger).items()):
        yield f"events {state}", f"{count:,}"
    for table, count in sorted(outbox.depth(ledger).items()):
        yield f"rows for the lake's {table}", f"{count:,}"


def _table(heads: tuple[str, ...], rows: Iterator[tuple[str, ...]] | list[tuple[str, ...]]) -> Table:
    table = Table(*heads)
    for row in rows:
        table.add_row(*row)
    return table
