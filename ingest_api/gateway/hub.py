"""All connections of this gateway: by id and by user, and which of them are due to end.

Belongs here: finding connections, and the limits on how many and for how long. Does not belong here: one connection
(``connection``), their rows in the ledger (``registry``).
"""

import asyncio
import logging
from collections.abc import Collection, Coroutine, Iterator
from datetime import datetime
from typing import Any

from ingest_api.gateway import connection
from ingest_api.gateway.connection import Connection
from notify_pipeline.core.ledger.user_messages import User
from notify_pipeline.core.settings import Settings

log = logging.getLogger(__name__)


class Tasks:
    """Tasks that nobody waits for; what one of them fails with is logged. Use it in one event loop."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Any]) -> None:
        """Begin."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def ended(self) -> None:
        """Wait for all of them."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task of the gateway failed", exc_info=error)


class Hub:
    """The connections. Use it in one event loop."""

    def __init__(self, settings: Settings, tasks: Tasks) -> None:
        """Args: settings: limits. tasks: where connections are ended."""
        self._settings = settings
        self._tasks = tasks
        self._by_id: dict[str, Connection] = {}
        # In the order in which they came.
        self._by_user: dict[User, dict[str, Connection]] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._by_id.values()))

    def add(self, new: Connection) -> None:
        """Take a connection in; when its user has too many, the oldest is ended."""
        client = new.client
        mine = self._by_user.setdefault((client.tenant, client.user_id), {})
        mine[client.connection_id] = new
        self._by_id[client.connection_id] = new
        there = [each for each in mine.values() if not each.closing]
        for oldest in there[: max(0, len(there) - self._settings.gateway_user_connections)]:
            self.end(oldest, connection.REPLACED, "the user has too many connections")

    def remove(self, old: Connection) -> None:
        """Let go of a connection that has ended."""
        client = old.client
        user = (client.tenant, client.user_id)
        self._by_id.pop(client.connection_id, None)
        mine = self._by_user.get(user, {})
        mine.pop(client.connection_id, None)
        if not mine:
            self._by_user.pop(user, None)

    def get(self, connection_id: str) -> Connection | None:
        """Return a connection that is open."""
        found = self._by_id.get(connection_id)
        return None if found is None or found.closing else found

    def of(self, tenant: str, user_id: str) -> Collection[Connection]:
        """Return a user's connections."""
        return list(self._by_user.get((tenant, user_id), {}).values())

    def has(self, tenant: str, user_id: str) -> bool:
        """Tell whether a user is connected here."""
        return (tenant, user_id) in self._by_user

    @property
    def tenants(self) -> set[str]:
        """Whose users are connected."""
        return {tenant for tenant, _ in self._by_user}

    def end(self, one: Connection, code: int, reason: str) -> None:
        """End a connection, without waiting for it."""
        if not one.closing:
            one.closing = True
            self._tasks.start(one.close(code, reason))

    def end_tenant(self, tenant: str) -> None:
        """End all connections of a tenant's users."""
        for one in self:
            if one.client.tenant == tenant:
                self.end(one, connection.NOT_ACTIVE, "the tenant is not active")

    def sweep(self, now: datetime, loop_time: float) -> None:
        """End what is due: expired tokens, idle and old connections."""
        idle_s, lifetime_s = self._settings.gateway_idle_s, self._settings.gateway_lifetime_s
        for one in self:
            one.said = 0
            if now >= one.client.token_expires_at:
                self.end(one, connection.TOKEN_EXPIRED, "the token has expired")
            elif (now - one.client.connected_at).total_seconds() >= lifetime_s:
                self.end(one, connection.LIFETIME, "the connection is too old")
            elif loop_time - one.active_at >= idle_s:
                self.end(one, connection.IDLE, "idle for too long")

    async def end_all(self) -> None:
        """End every connection, because the gateway stops."""
        await asyncio.gather(*(one.close(connection.GOING_AWAY, "the gateway stops") for one in self))
