"""``notify lander``: the process that lands outbox rows in the lake.

Belongs here: starting and stopping it. Does not belong here: landing (``core.lander``).
"""

import logging
import sys

import typer

from notify_pipeline.commands.console import failing_clearly
from notify_pipeline.commands.stores import lake_of, open_ledger, stop_on_signals
from notify_pipeline.core.lander import Lander
from notify_pipeline.core.ledger.engine import utc_now
from notify_pipeline.core.settings import Settings

app = typer.Typer()


@app.command()
@failing_clearly()
def lander() -> None:
    """Land what waits in the ledger, until SIGINT or SIGTERM."""
    settings = Settings()
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    stop = stop_on_signals()
    with open_ledger(settings) as ledger:
        # The supervisor takes the first line for the sign that it is ready.
        logging.getLogger(__name__).info("landing in %s every %s s", settings.lake, settings.lander_interval_s)
        Lander(ledger, lake_of(settings), utc_now).run(stop, settings.lander_interval_s)
