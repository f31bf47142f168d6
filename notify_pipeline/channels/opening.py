"""What opening a channel takes: its surroundings, and what opens it.

Belongs here: what is handed to every channel's opener. Does not belong here: the list of them (``registry``), any
provider.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from notify_pipeline.channels.base import ChannelSender, Clock
from notify_pipeline.channels.rates import Gate, SharedBucket
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.rates import Limits
from notify_pipeline.core.settings import Settings


class ChannelsMisconfigured(Exception):
    """The settings name no provider that could be spoken to, or half of one."""


@dataclass(frozen=True, slots=True)
class Around:
    """What a channel is opened in.

    Attributes:
        settings: This process's configuration.
        ledger: Holds what processes share of their providers' rate limits and pauses.
        clock: Tells the time.
        receipt_url: Base of the beacons that devices call, without a trailing slash.
        sandbox: What the sandbox says of itself; None where every channel is to speak to its real provider.
    """

    settings: Settings
    ledger: Ledger
    clock: Clock
    receipt_url: str
    sandbox: Mapping[str, str] | None

    async def gate(self, credential: str, per_minute: float | None) -> Gate:
        """Return the gate that everything sent with a credential passes, in every process.

        Args:
            credential: Provider and credential; names the bucket.
            per_minute: Most calls per minute; None: no limit.
        """
        gate = Gate(SharedBucket(self.ledger, credential), Limits(per_minute), self.clock)
        await gate.look()  # a pause may be in force
        return gate


# Opens a channel; None where the settings leave it out.
Opener: TypeAlias = Callable[[Around], Awaitable[ChannelSender | None]]
