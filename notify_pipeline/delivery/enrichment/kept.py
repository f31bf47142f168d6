"""Answers that are kept for a while, within a bounded amount of memory.

Belongs here: keeping, finding and forgetting them, and asking once where several want the same at once. Does not belong
here: asking.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass

# Of all answers together, as they came. What has not been used for longest goes first.
MAX_BYTES = 16 * 1024 * 1024
MAX_ANSWERS = 20_000


@dataclass(frozen=True, slots=True)
class _Kept:
    at: float
    answer: bytes


class Kept:
    """Answers by key, for one event loop.

    Args:
        monotonic: Seconds that never go back.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._bytes = 0
        self._asked: dict[Hashable, asyncio.Task[bytes]] = {}

    async def get(self, key: Hashable, ttl_s: float, ask: Callable[[], Awaitable[bytes]]) -> bytes:
        """Return an answer that is no older than ``ttl_s``, or ask for it; several who want one ask once.

        Whoever waits may be cancelled; the question goes on for the others. Errors are not kept.
        """
        kept = self._kept.get(key)
        if kept is not None and self._monotonic() - kept.at < ttl_s:
            self._kept.move_to_end(key)
            return kept.answer
        asked = self._asked.get(key)
        if asked is None:
            asked = asyncio.create_task(self._ask(key, ask))
            self._asked[key] = asked
            asked.add_done_callback(lambda done: self._asked_for(key, done))
        return await asyncio.shield(asked)

    async def aclose(self) -> None:
        """Ask no further."""
        asked = list(self._asked.values())
        for each in asked:
            each.cancel()
        await asyncio.gather(*asked, return_exceptions=True)

    async def _ask(self, key: Hashable, ask: Callable[[], Awaitable[bytes]]) -> bytes:
        asked_at = self._monotonic()
        answer = await ask()
        self._forget(key)
        self._kept[key] = _Kept(asked_at, answer)
        self._bytes += len(answer)
        while self._bytes > MAX_BYTES or len(self._kept) > MAX_ANSWERS:
            self._forget(next(iter(self._kept)))
        return answer

    def _forget(self, key: Hashable) -> None:
        gone = self._kept.pop(key, None)
        self._bytes -= 0 if gone is None else len(gone.answer)

    def _asked_for(self, key: Hashable, done: asyncio.Task[bytes]) -> None:
        self._asked.pop(key, None)
        if not done.cancelled():
            done.exception()  # asked for, so that one that nobody waits for any more is not reported
