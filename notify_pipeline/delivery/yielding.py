"""How a broadcast makes way for those of higher priority: it begins no chunk while one is under way.

Belongs here: that look, and how long making way lasts. Does not belong here: chunks (``shard``), what is under way
(``ledger.shards``), the providers' tokens (``channels.rates``).

What is under way is known by leases, so that a process that died stops others for as long as its lease lasts. And for
what leases cannot tell (a process that hangs, retries that wait for minutes) a broadcast that makes way sends a chunk
now and then all the same.
"""

import asyncio
import logging
import time

from notify_pipeline.core.ledger import shards
from notify_pipeline.delivery.context import DeliveryContext

log = logging.getLogger(__name__)

# A chunk takes about half a second: this often there is something to decide.
_LOOK_S = 0.5
# After this long a chunk is sent, whatever is under way.
_PATIENCE_S = 30.0


class Yielding:
    """One shard's. Use it in one event loop; ``run`` beside the shard's work.

    Args:
        ctx: The run's surroundings.
        rank: The priority's.

    Attributes:
        now: Whether it makes way.
    """

    def __init__(self, ctx: DeliveryContext, rank: int) -> None:
        self._ctx = ctx
        self._rank = rank
        self._since = 0.0  # of the last chunk that was begun, or when making way began
        self.now = False

    def may_begin(self, busy: bool) -> bool:
        """Say whether the next chunk may begin; ``busy``: one is under way."""
        if not self.now:
            return True
        if busy or time.monotonic() - self._since < _PATIENCE_S:
            return False
        self._since = time.monotonic()
        return True

    async def look(self) -> None:
        """See whether to make way; nobody is above the highest priority."""
        if self._rank == 0:
            return
        try:
            above = await asyncio.to_thread(shards.outranked, self._ctx.ledger, self._rank, self._ctx.clock())
        except Exception:
            log.exception("cannot see whether a broadcast of higher priority is under way")
            above = False
        if above and not self.now:
            self._since = time.monotonic()
        self.now = above

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        while self._rank > 0:
            await asyncio.sleep(_LOOK_S)
            await self.look()
