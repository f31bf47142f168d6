"""Watches the ledger for messages to users who are connected here.

Belongs here: noticing new numbers, also those that are committed late, and pushing what nobody posts. Does not belong
here: a connection's order of messages (``connection``), storing them (``core.ledger.user_messages``).

What is in a user's inbox changes in transactions of the ingress and of planning, which know no gateway: those messages
are pushed from here. Notifications are posted by their channel; where a post got lost although its user is connected,
they are pushed from here too, a moment later. A connection that has a number already ignores it.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy.exc import SQLAlchemyError

from ingest_api.gateway.connection import Connection, Gone, QueueFull
from ingest_api.gateway.hub import Hub, Tasks
from notify_pipeline.core import gateway
from notify_pipeline.core.ledger import user_messages
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.group_commit import LedgerError
from notify_pipeline.core.ledger.user_messages import INBOX, News, UserMessage

log = logging.getLogger(__name__)

POLL_S = 0.25
# Rows of one look; where there are more, the next look follows at once.
_MOST = 2_000
# A number that is not there while a larger one is belongs to a transaction that is not over, or was rolled back. It is
# looked for so long; at most so many are, the newest.
_SKIPPED_S = 10.0
_MOST_SKIPPED = 1_000
# How long the channel has to post a notification.
_POST_S = 2.0


class Tail:
    """Pushes what is new. Use it in one event loop."""

    def __init__(self, ledger: Ledger, hub: Hub, tasks: Tasks, clock: Callable[[], datetime]) -> None:
        """Take the parts; ``tasks`` is where slow connections are waited for."""
        self._ledger = ledger
        self._hub = hub
        self._tasks = tasks
        self._clock = clock
        self._after = 0
        self._skipped: dict[int, float] = {}
        self._posted: deque[tuple[float, News]] = deque()

    async def begin(self) -> None:
        """Note where to begin, before anybody connects: a bit back, as smaller numbers may still be committed."""
        last = await asyncio.to_thread(user_messages.last_number, self._ledger)
        self._after = max(0, last - _MOST_SKIPPED)

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            try:
                again = await self.look()
            except (LedgerError, SQLAlchemyError) as error:
                log.warning("new messages could not be read: %s", error)
                again = False
            if not again:
                await asyncio.sleep(POLL_S)

    async def look(self) -> bool:
        """Look once; return whether there was more than one look takes."""
        now = asyncio.get_running_loop().time()
        self._skipped = {seq: until for seq, until in self._skipped.items() if until > now}
        found = await asyncio.to_thread(user_messages.news, self._ledger, self._after, [*self._skipped], _MOST)
        self._note(found, now)
        mine = [each for each in found if self._hub.has(each.tenant, each.user_id)]
        due = [each.seq for each in mine if each.kind == INBOX]
        self._posted.extend((now + _POST_S, each) for each in mine if each.kind != INBOX)
        while self._posted and self._posted[0][0] <= now:
            _, news = self._posted.popleft()
            if any(one.last < news.seq for one in self._hub.of(news.tenant, news.user_id)):
                due.append(news.seq)
        if due:
            for row in await asyncio.to_thread(user_messages.numbered, self._ledger, due, self._clock()):
                self._push(row)
        return len(found) == _MOST

    def _note(self, found: Sequence[News], now: float) -> None:
        for each in found:
            if each.seq > self._after:
                for seq in range(max(self._after + 1, each.seq - _MOST_SKIPPED), each.seq):
                    self._skipped[seq] = now + _SKIPPED_S
                self._after = each.seq
            else:
                self._skipped.pop(each.seq, None)
        for seq in [*self._skipped][:-_MOST_SKIPPED]:
            del self._skipped[seq]

    def _push(self, row: UserMessage) -> None:
        text = gateway.message(row.seq, row.payload)
        for one in self._hub.of(row.tenant, row.user_id):
            if one.last < row.seq and not one.closing:
                self._tasks.start(_pushed(one, text, row))


async def _pushed(one: Connection, text: str, row: UserMessage) -> None:
    try:
        await one.push(text, row.seq, row.previous)
    except (Gone, QueueFull, LedgerError, SQLAlchemyError) as error:
        # The client's next message, or its next connection, makes up for it.
        log.info("a message was not pushed: %s", type(error).__name__)
