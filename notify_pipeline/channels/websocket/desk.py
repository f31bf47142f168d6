"""Stores messages and finds their users' connections, together for all deliveries that ask at the same time.

Belongs here: the ledger's side of the channel. Does not belong here: queries (``core.ledger``), posting (``posting``).
"""

from collections.abc import Sequence
from typing import NamedTuple

from notify_pipeline.channels.base import Clock
from notify_pipeline.core.ledger import connections, user_messages
from notify_pipeline.core.ledger.connections import Held
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.user_messages import NewMessage, Stored
from notify_pipeline.core.together import Together

_MOST = 500


class Stowed(NamedTuple):
    """A message that is stored, and where its user is connected."""

    stored: Stored
    held: Sequence[Held]


class Desk:
    """Use it in one event loop."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        """Args: ledger: the ledger. clock: tells the time."""
        self._ledger = ledger
        self._clock = clock
        self._puts: Together[NewMessage, Stowed] = Together(self._put, _MOST)
        self._gone: Together[Held, None] = Together(self._remove, _MOST)

    async def put(self, message: NewMessage) -> Stowed:
        """Store a message, once, and then look where its user is connected.

        Raises:
            LedgerError, SQLAlchemyError: The ledger could not.
        """
        return await self._puts.ask(message)

    async def remove(self, held: Held) -> None:
        """Forget a connection that is gone."""
        await self._gone.ask(held)

    async def aclose(self) -> None:
        """Wait for what is under way."""
        await self._puts.aclose()
        await self._gone.aclose()

    def _put(self, messages: Sequence[NewMessage]) -> list[Stowed]:
        now = self._clock()
        stored = user_messages.store(self._ledger, messages, now)
        # Read after that commit: whoever connects later reads the message. So nobody is missed in between.
        found = connections.of_users(self._ledger, {(each.tenant, each.user_id) for each in messages}, now)
        return [
            Stowed(numbers, found.get((each.tenant, each.user_id), ()))
            for numbers, each in zip(stored, messages, strict=True)
        ]

    def _remove(self, gone: Sequence[Held]) -> list[None]:
        connections.remove(self._ledger, [(each.tenant, each.connection_id) for each in gone])
        return [None for _ in gone]
