"""What every part of delivery is handed: the stores, the way to the channels, the clock, and who is working.

Belongs here: that bundle. Does not belong here: making its parts (whoever starts a run does), any behaviour.
"""

import random
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime

from notify_pipeline.channels.base import ChannelSender
from notify_pipeline.core.ids import new_id
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger.engine import Ledger, utc_now
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.vocabulary import Channel

# The installation's secret that delivery ids are made with; receipts check them with the same.
DELIVERY_SECRET = "delivery"  # noqa: S105 - its name


@dataclass(frozen=True)
class DeliveryContext:
    """One run's surroundings.

    Attributes:
        settings: The configuration.
        ledger: The ledger.
        lake: The lake.
        open_channels: Opens the senders inside the run's event loop.
        run_id: The run that attempts are recorded under.
        clock: Aware UTC now.
        draw: Uniform numbers in [0, 1) for the jitter.
        owner: Names this very execution in leases: two executions of one run (a step and its retry) are two owners.
    """

    settings: Settings
    ledger: Ledger
    lake: Lake
    open_channels: Callable[[], AbstractAsyncContextManager[Mapping[Channel, ChannelSender]]]
    run_id: str
    clock: Callable[[], datetime] = utc_now
    # Python seeds this generator anew in a forked process. One of our own would draw the same jitter in every run.
    draw: Callable[[], float] = random.random
    owner: str = field(default="")

    def __post_init__(self) -> None:
        """Give the execution its name."""
        if not self.owner:
            object.__setattr__(self, "owner", f"{self.run_id}/{new_id()}")

    @property
    def delivery_secret(self) -> bytes:
        """The secret of delivery ids."""
        return self.ledger.secret(DELIVERY_SECRET)


def run_of(owner: str) -> str:
    """Return the run that an owner worked for."""
    return owner.rpartition("/")[0] or owner
