"""How many enrichments wait for the same other side at once.

Belongs here: turns by name, in the order of asking. Does not belong here: what is done in a turn.
"""

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager


class Turns:
    """Lets so many in at once for each key; forgets keys that nobody waits for. For one event loop."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._waiting: dict[Hashable, tuple[asyncio.Semaphore, int]] = {}

    @asynccontextmanager
    async def of(self, key: Hashable) -> AsyncIterator[None]:
        """Wait for a turn, and hold it inside the with block."""
        turns, number = self._waiting.get(key) or (asyncio.Semaphore(self._at_once), 0)
        self._waiting[key] = (turns, number + 1)
        try:
            async with turns:
                yield
        finally:
            _, number = self._waiting[key]
            if number == 1:
                del self._waiting[key]
            else:
                self._waiting[key] = (turns, number - 1)
