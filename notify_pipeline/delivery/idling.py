"""How an idle drain waits: for what was queued, or may have been, or may be due because time has passed.

Belongs here: that wait. Does not belong here: what is due (``ledger.deliveries``, ``ledger.routing``).
"""

import asyncio
import time
from types import TracebackType
from typing import Self

from notify_pipeline.core.ledger.commits import Commits
from notify_pipeline.delivery.context import DeliveryContext

# Retries and scheduled sends become due without a commit: they are this much late at most.
_LOOK_S = 0.2


class Idling:
    """One waiter's. Use it in a with block, in one event loop.

    Args:
        ctx: The run's surroundings.
        wake: Ends a wait at once.
    """

    def __init__(self, ctx: DeliveryContext, wake: asyncio.Event) -> None:
        self._poll_s = ctx.settings.poll_seconds
        self._commits = Commits(ctx.ledger)
        self._wake = wake

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._commits.close()

    async def pause(self) -> None:
        """Wait for a poll interval at least, and return when looking for work may find some."""
        until = time.monotonic() + _LOOK_S
        while True:
            try:
                async with asyncio.timeout(self._poll_s):
                    await self._wake.wait()
                return
            except TimeoutError:
                if self._commits.moved() or time.monotonic() >= until:
                    return
