"""One attempt to post a message to a callback.

Belongs here: the request, and what became of it. Does not belong here: which messages are sent when (``callbacks``),
what an answer means for the message (``callback_schedule``), what is refused a connection (``channels.public_http``).
"""

from datetime import datetime
from types import TracebackType
from typing import Self

import aiohttp
from yarl import URL

from notify_pipeline.channels.public_http import PRIVATE, PublicSession, empty, word_for
from notify_pipeline.channels.retry_after import parse_retry_after
from notify_pipeline.core.addresses import url_fault
from notify_pipeline.core.ledger.callback_claims import Claimed
from notify_pipeline.core.settings import Settings
from notify_pipeline.delivery.callback_schedule import Answer
from notify_pipeline.delivery.callback_signing import signed_headers

_HEADERS = {"Content-Type": "application/json", "User-Agent": "notify-pipeline-callbacks/1"}


class CallbackClient:
    """Posts messages. Use it in an ``async with`` block, in one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._allow_private = settings.callback_allow_private
        self._timeout_s = settings.callback_timeout_s

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=self._timeout_s)
        self._opened = PublicSession(self._allow_private, timeout, _HEADERS)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._opened.aclose()

    async def send(self, message: Claimed, now: datetime) -> Answer:
        """Post a message once and return what came of it."""
        # The setting may have changed since it was registered.
        if url_fault(message.url, self._allow_private) is not None:
            return Answer(error=PRIVATE)
        payload = message.payload.encode()
        headers = signed_headers(message.message_id, payload, message.secrets, now)
        url = URL(message.url, encoded=True)
        try:
            async with self._opened.session.post(
                url, data=payload, headers={**headers, **self._opened.parting}, allow_redirects=False
            ) as answer:
                await empty(answer)
                wait_s = parse_retry_after(answer.headers.get("Retry-After"), now)
                return Answer(answer.status, None if answer.status < 300 else _refusal(answer.status), wait_s)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Answer(error=word_for(error))


def _refusal(status: int) -> str:
    return "redirect_not_followed" if status < 400 else "refused"
