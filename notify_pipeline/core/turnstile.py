"""Lets few through at once: high priority first, and within one priority tenants in turn.

Belongs here: that queue of asyncio tasks. Does not belong here: what they do inside.
"""

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager


class Turnstile:
    """Use it in one event loop.

    Args:
        most: By rank, how many may be inside once one of that rank has entered; never more than the rank before.
    """

    def __init__(self, most: Sequence[int]) -> None:
        self._most = most
        self._inside = 0
        self._numbers = itertools.count()
        # (rank, turn, number): a tenant's second comes after everybody's first.
        self._line: list[tuple[int, int, int, asyncio.Future[None]]] = []
        self._turns: dict[tuple[int, str], int] = {}
        self._served: dict[int, int] = {}

    @asynccontextmanager
    async def passed(self, rank: int, tenant: str) -> AsyncIterator[None]:
        """Wait for one's turn, and be inside for the length of the block."""
        await self._enter(rank, tenant)
        try:
            yield
        finally:
            self._inside -= 1
            self._let_in()

    async def _enter(self, rank: int, tenant: str) -> None:
        turn = max(self._served.get(rank, 0), self._turns.get((rank, tenant), 0)) + 1
        self._turns[rank, tenant] = turn
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._line, (rank, turn, next(self._numbers), waiting))
        self._let_in()
        try:
            await waiting
        except asyncio.CancelledError:
            if not waiting.cancelled():  # let in at the very moment
                self._inside -= 1
                self._let_in()
            raise

    def _let_in(self) -> None:
        while self._line:
            rank, turn, _, waiting = self._line[0]
            if not waiting.done():
                if self._inside >= self._most[rank]:
                    return
                self._inside += 1
                self._served[rank] = turn
                waiting.set_result(None)
            heapq.heappop(self._line)
        self._turns.clear()
        self._served.clear()
