"""What the SMS stand-in posts to whoever sends through it: what became of messages, and what phones reply.

Belongs here: signing and posting forms, as Twilio does. Does not belong here: when and what (``sms``).
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from notify_pipeline.core.twilio_signature import HEADER, signature

if TYPE_CHECKING:
    import aiohttp

# Like Twilio, it does not try again. https://www.twilio.com/docs/usage/webhooks/webhooks-faq
_TIMEOUT_S = 15.0
_AT_ONCE = 32
# About 100 MB. Beyond that what became of messages is not told, and counted.
MAX_WAITING = 50_000


class Posts:
    """Posts in the background, some at once."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._waiting: asyncio.Queue[tuple[str, Mapping[str, str]]] = asyncio.Queue(MAX_WAITING)
        self._tasks: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession | None = None
        self.counts: Counter[str] = Counter()

    def add(self, url: str, form: Mapping[str, str]) -> None:
        """Post a form some time; a full queue is counted, not raised."""
        try:
            self._waiting.put_nowait((url, form))
        except asyncio.QueueFull:
            self.counts["overflow"] += 1
            return
        if len(self._tasks) < _AT_ONCE:
            self._tasks.append(asyncio.create_task(self._work()))

    async def post(self, url: str, form: Mapping[str, str]) -> int:
        """Post a form now; return the status, 0 without an answer."""
        import aiohttp

        headers = {HEADER: signature(self._token, url, form.items())}
        try:
            async with self._opened().post(url, data=form, headers=headers) as answer:
                await answer.read()
                status = answer.status
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            status = 0
        self.counts[str(status)] += 1
        return status

    async def stop(self, patience_s: float) -> None:
        """Post what waits, for a while, and end."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._waiting.join(), patience_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _work(self) -> None:
        while True:
            url, form = await self._waiting.get()
            try:
                await self.post(url, form)
            finally:
                self._waiting.task_done()

    def _opened(self) -> "aiohttp.ClientSession":
        if self._session is None:
            import aiohttp

            timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
            self._session = aiohttp.ClientSession(timeout=timeout, trust_env=False)
        return self._session
