"""What a gateway reads from the ledger and writes to it, together for all connections that ask at the same time.

Belongs here: registering connections, missed messages, tenants' standing, expiry. Does not belong here: the ledger's
queries (``core.ledger``), new messages as they come (``tail``).
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy.exc import SQLAlchemyError

from ingest_api.gateway.connection import Client
from notify_pipeline.core.ledger import connections, tenants, user_messages
from notify_pipeline.core.ledger.connections import Held
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.group_commit import LedgerError
from notify_pipeline.core.ledger.user_messages import UserMessage
from notify_pipeline.core.together import Together

log = logging.getLogger(__name__)

# Connections in one transaction: thousands that come back at once are a handful of them.
_MOST = 1_000


class Registry:
    """A gateway's side of the ledger. Use it in one event loop."""

    def __init__(self, ledger: Ledger, name: str, endpoint: str, clock: Callable[[], datetime]) -> None:
        """Args: ledger: the ledger. name: this gateway's. endpoint: where it is posted to. clock: tells the time."""
        self._ledger = ledger
        self._name = name
        self._endpoint = endpoint
        self._clock = clock
        self._arrivals: Together[Client, int] = Together(self._register, _MOST)
        self._departures: Together[Client, None] = Together(self._forget, _MOST)

    async def arrive(self, client: Client) -> int:
        """Store a connection, and then return its user's last number.

        Raises:
            LedgerError, SQLAlchemyError: The ledger could not.
        """
        return await self._arrivals.ask(client)

    async def depart(self, client: Client) -> None:
        """Forget a connection. What cannot be forgotten is found to be gone by whoever posts to it."""
        try:
            await self._departures.ask(client)
        except (LedgerError, SQLAlchemyError) as error:
            log.warning("a connection that ended could not be forgotten: %s", error)

    async def since(self, tenant: str, user_id: str, cursor: int) -> Sequence[UserMessage]:
        """Return a page of what a user missed."""
        now = self._clock()
        return await asyncio.to_thread(user_messages.since, self._ledger, tenant, user_id, cursor, now)

    async def counts(self, tenant: str) -> bool:
        """Tell whether a tenant is active."""
        standing = await asyncio.to_thread(tenants.standing, self._ledger, tenant)
        return standing is not None and standing.counts

    async def begin(self) -> None:
        """Forget the connections of this gateway's former life."""
        number = await asyncio.to_thread(connections.remove_gateway, self._ledger, self._name)
        if number:
            log.info("%d connections of this gateway's former life are forgotten", number)

    async def keep(self, clients: Sequence[Client]) -> None:
        """Say that these connections are there, and forget what is over: lost gateways, expired messages."""
        await asyncio.to_thread(connections.keep, self._ledger, self._name, self._clock(), self._held(clients))
        await asyncio.to_thread(user_messages.tidy, self._ledger, self._clock())

    async def end(self) -> None:
        """Forget all connections, as the gateway stops."""
        await asyncio.to_thread(connections.remove_gateway, self._ledger, self._name)

    def _register(self, clients: Sequence[Client]) -> list[int]:
        connections.register(self._ledger, self._held(clients), self._clock())
        # Read after that commit: whoever stores a message later finds the connection.
        last = user_messages.latest(self._ledger, {(c.tenant, c.user_id) for c in clients})
        return [last.get((c.tenant, c.user_id), 0) for c in clients]

    def _held(self, clients: Sequence[Client]) -> list[Held]:
        return [Held(c.tenant, c.user_id, c.connection_id, self._endpoint, self._name) for c in clients]

    def _forget(self, clients: Sequence[Client]) -> list[None]:
        connections.remove(self._ledger, [(c.tenant, c.connection_id) for c in clients])
        return [None for _ in clients]
