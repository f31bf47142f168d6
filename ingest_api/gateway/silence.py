"""Connections of strangers who ask for nothing: they are cut off, as each takes memory and a file from those who do.

Belongs here: that. Does not belong here: connections that have begun to speak, whose ends are ``hub``'s.

aiohttp waits for a connection's first request as long as it takes, and for half of one too.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from weakref import WeakSet

from aiohttp import web

# A connection without a whole request is cut off at the second look that finds it so.
LOOK_S = 10.0
# Whoever posts lets go of idle connections after 15 s; aiohttp's own limit is an hour.
KEEP_ALIVE_S = 60.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Silence:
    """Knows who has asked for something. Use it in one event loop."""

    def __init__(self) -> None:
        self._heard: WeakSet[Any] = WeakSet()
        self._silent: WeakSet[Any] = WeakSet()

    def listen(self, app: web.Application) -> None:
        """Hear an application's requests; before its runner is set up."""

        @web.middleware
        async def heed(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.transport is not None:
                self._heard.add(request.transport)
            return await handler(request)

        app.middlewares.append(heed)

    async def watch(self, server: web.Server, every_s: float = LOOK_S) -> None:
        """Cut off who is silent, until cancelled."""
        while True:
            await asyncio.sleep(every_s)
            for each in server.connections:
                transport = each.transport
                if transport is None or transport in self._heard:
                    continue
                if transport in self._silent:
                    transport.abort()
                else:
                    self._silent.add(transport)
