"""``notify audience``: the audience base, by hand.

Belongs here: the command. Does not belong here: the base (``delivery.audience``).
"""

from datetime import UTC, datetime

import typer

from notify_pipeline.commands.console import CONSOLE, failing_clearly, spinner
from notify_pipeline.commands.stores import lake_of, open_ledger
from notify_pipeline.core.settings import Settings
from notify_pipeline.delivery.audience import rebuild_base

app = typer.Typer(no_args_is_help=True, help="The audience base.")


@app.callback()
def _group() -> None:
    """The audience base."""


@app.command()
@failing_clearly(OSError)
def rebuild() -> None:
    """Fold what was registered since into a new version. Sends go on reading the one that they began with."""
    settings = Settings()
    with open_ledger(settings) as ledger, spinner("folding registrations into a new version"):
        report = rebuild_base(lake_of(settings), ledger, datetime.now(UTC))
    CONSOLE.print(report)
