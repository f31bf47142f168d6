"""``notify sandbox``: stand-ins for the providers, the devices and the CDN, in one process.

Belongs here: starting it. Does not belong here: the stand-ins (``sandbox``).
"""

import typer

from notify_pipeline.commands.console import failing_clearly
from notify_pipeline.core.settings import Settings
from notify_pipeline.sandbox import server

app = typer.Typer()


@app.command()
@failing_clearly(OSError)
def sandbox() -> None:
    """Serve stand-ins for all providers, devices and the CDN, until SIGINT or SIGTERM. Prints its addresses as JSON."""
    server.run(Settings())
