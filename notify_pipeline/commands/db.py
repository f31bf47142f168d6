"""``notify db``: the ledger's schema.

Belongs here: the commands. Does not belong here: migrations (``core.ledger.migrations``).
"""

import typer

from notify_pipeline.commands.console import CONSOLE, failing_clearly
from notify_pipeline.core.ledger.engine import Ledger, checked_url, upgrade_ledger, utc_now
from notify_pipeline.core.settings import Settings

app = typer.Typer(no_args_is_help=True, help="The ledger's schema.")


@app.callback()
def _group() -> None:
    """The ledger's schema."""


@app.command()
@failing_clearly(ValueError)
def upgrade() -> None:
    """Create the ledger, or migrate it to the newest schema. Every other command does so too when it starts."""
    url = checked_url(Settings().ledger_dsn)
    with Ledger(url, utc_now) as ledger:
        before = upgrade_ledger(ledger)
    CONSOLE.print(f"ledger {url.render_as_string(hide_password=True)} is up to date (was: {before or 'empty'})")
