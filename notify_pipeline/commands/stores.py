"""What commands open: settings, ledger and lake as the environment names them.

Belongs here: opening, stopping on signals. Does not belong here: what commands do.
"""

import signal
import threading
from types import FrameType

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.settings import Settings


def open_ledger(settings: Settings) -> Ledger:
    """The ledger, for a with block."""
    return Ledger.open(settings.ledger_dsn)


def lake_of(settings: Settings) -> Lake:
    """The lake."""
    return Lake(settings.lake, settings.s3_endpoint_url)


def stop_on_signals() -> threading.Event:
    """An event that SIGINT and SIGTERM set, from now on."""
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    return stop
