"""The transport of our own: POSTs over HTTP/2 in as few writes and with as little work per request as can be.

Belongs here: which request goes to which link, how many links there are, who waits for what. Does not belong here:
bytes (``connection``), sockets (``link``, ``dial``), anything that knows a provider.

There is no future, task or timer per request: links report ends as they read them, and one tick of the clock serves
all that wait.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from notify_pipeline.channels.transport import End, NotProcessed, Request
from notify_pipeline.channels.wire.batch import Batch
from notify_pipeline.channels.wire.dial import Dialer, pause_after
from notify_pipeline.channels.wire.link import Link

# A thousand requests under way where the peer allows a hundred streams on each. Many more look like an attack to it.
MAX_CONNECTIONS = 10
# Time-outs strike up to two ticks late; a tick costs some microseconds.
_TICKS_PER_TIMEOUT = 20
_LONGEST_TICK_S = 0.25
_SHORTEST_TICK_S = 0.01
_CLOSE_TIMEOUT_S = 1.0
# Requests that go out in one write. Between two writes the loop has its say: that a write failed is known only then.
_BURST = 128


class WireTransport:
    """See ``Transport``. Belongs to the event loop in which it is first used."""

    def __init__(
        self,
        base_url: str,
        *,
        ca: Path,
        max_in_flight: int,
        timeout_s: float,
        max_connections: int = MAX_CONNECTIONS,
        unindexed: Collection[str] = (),
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            base_url: Scheme, host and port, without a trailing slash; https only.
            ca: The bundle that the peer's certificate must chain to.
            max_in_flight: Requests under way at once, over all callers.
            timeout_s: From drawing a request to the end of its answer.
            max_connections: Opened at most, where the peer allows fewer streams on each than are wanted.
            unindexed: Names of headers to keep out of the peer's compression table, where a provider asks for that.
        """
        self._dialer = Dialer(base_url, ca, timeout_s)
        self._max_in_flight = max_in_flight
        self._max_connections = max_connections
        self._timeout_s = timeout_s
        self._unindexed = unindexed
        self._tick_s = min(_LONGEST_TICK_S, max(_SHORTEST_TICK_S, timeout_s / _TICKS_PER_TIMEOUT))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._links: list[Link] = []
        self._batches: deque[Batch] = deque()  # with something left to draw
        self._in_flight = 0
        self._dialing: asyncio.Task[None] | None = None
        self._failures = 0  # in a row
        self._not_before = 0.0
        self._moved_at = 0.0  # when something was drawn, or nothing waited
        self._again: asyncio.Handle | None = None  # the next write, once the loop had its say
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def post_many(self, requests: Iterable[Request], on_end: Callable[[int, End], None]) -> None:
        """See ``Transport.post_many``."""
        self._loop = asyncio.get_running_loop()
        batch = Batch(iter(requests), on_end)
        if self._closed:
            batch.refuse(NotProcessed("closed"))
            batch.settle()
        else:
            if not self._batches:
                self._moved_at = self._loop.time()
            self._batches.append(batch)
            self._pump()
            self._arm()
        try:
            await batch.done
        finally:
            batch.exhausted = True
            if batch.in_flight:
                self._give_up(batch)
            if batch in self._batches:
                self._batches.remove(batch)
            self._pump()

    def _give_up(self, batch: Batch) -> None:
        for link in list(self._links):
            link.connection.abandon(lambda tag: tag[0] is batch, "cancelled")
            self._report(link)
            link.flush()

    async def aclose(self) -> None:
        """See ``Transport.aclose``."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._dialing is not None:
            self._dialing.cancel()
            await asyncio.wait([self._dialing])
        links = list(self._links)
        for link in links:
            link.close("closed")
            self._report(link)
        while self._batches:
            batch = self._batches.popleft()
            batch.refuse(NotProcessed("closed"))
            batch.settle()
        if links:
            await asyncio.wait([link.gone for link in links], timeout=_CLOSE_TIMEOUT_S)
            for link in links:
                link.abort("closed", "")

    def on_progress(self, link: Link) -> None:
        """See ``link.Owner``."""
        self._report(link)
        self._pump()

    def on_gone(self, link: Link) -> None:
        """See ``link.Owner``."""
        self._report(link)
        if link in self._links:
            self._links.remove(link)
            if link.connection.answered == 0:
                self._failed()
        self._pump()

    def _report(self, link: Link) -> None:
        connection = link.connection
        ends = connection.ends
        if not ends:
            return
        connection.ends = []
        self._in_flight -= len(ends)
        if connection.answered:
            self._failures = 0
        for (batch, number), end in ends:
            batch.report(number, end)

    def _pump(self) -> None:
        """Draw requests for the links that have room, and open a link where there is none."""
        if self._closed or self._loop is None or not self._batches:
            return
        now = self._loop.time()
        usable = False
        for link in self._links:
            if link.connection.draining or link.connection.closed:
                continue
            usable = True
            link.wake(now)
            if link.room > 0 and self._in_flight < self._max_in_flight and self._batches:
                self._fill(link, now)
        if self._batches and not usable:
            self._dial(now)

    def _fill(self, link: Link, now: float) -> None:
        """Take turns between the batches until one write is full, the link has no room or nothing is left to draw."""
        connection = link.connection
        left = _BURST
        while self._batches and (room := min(link.room, self._max_in_flight - self._in_flight, left)) > 0:
            batch = self._batches[0]
            sent = batch.send(connection, max(1, room // len(self._batches)))
            left -= sent
            self._in_flight += sent
            if sent:
                self._moved_at = now
            if batch.exhausted:
                self._batches.remove(batch)
                batch.settle()
            else:
                self._batches.rotate(-1)
        link.flush()
        if left <= 0 and self._batches and self._again is None and self._loop is not None:
            self._again = self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._again = None
        self._pump()

    def _dial(self, now: float) -> None:
        links = sum(not link.connection.closed for link in self._links)
        if self._dialing is None and now >= self._not_before and links < self._max_connections:
            self._dialing = asyncio.create_task(self._open_link())

    async def _open_link(self) -> None:
        try:
            opened = await self._dialer.open(self._new_link)
        except Exception as error:  # noqa: BLE001 - handed to whoever awaits a batch
            while self._batches:
                self._batches.popleft().fail(error)
            return
        finally:
            self._dialing = None
        if self._closed:
            if isinstance(opened, Link):
                opened.abort("closed", "")
        elif isinstance(opened, Link):
            if opened.connection.closed:
                self._failed()
            else:
                self._links.append(opened)
            self._pump()
        else:
            self._failed()
            if not self._links:
                self._refuse(opened)
        self._arm()

    def _new_link(self) -> Link:
        return Link(self, self._dialer.authority, self._unindexed, self._timeout_s)

    def _failed(self) -> None:
        """Take note that a connection was of no use; the next attempt waits."""
        self._failures += 1
        if self._loop is not None:
            self._not_before = self._loop.time() + pause_after(self._failures)

    def _refuse(self, end: NotProcessed) -> None:
        """End as many requests as would be under way: callers learn of trouble, and not all at once."""
        if self._loop is not None:
            self._moved_at = self._loop.time()
        left = self._max_in_flight
        while left > 0 and self._batches:
            batch = self._batches.popleft()
            left -= batch.refuse(end, max(1, left // (len(self._batches) + 1)))
            if batch.exhausted:
                batch.settle()
            else:
                self._batches.append(batch)

    def _arm(self) -> None:
        if self._timer is None and not self._closed and self._loop is not None:
            self._timer = self._loop.call_later(self._tick_s, self._tick, self._loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        for link in list(self._links):
            if not link.tick(now):
                link.abort("silent", "no sign of life from the peer")
                self._report(link)
            elif len(self._links) > 1 and link.is_stale(now):
                link.close()
        if not self._batches or self._in_flight:
            self._moved_at = now
        elif now - self._moved_at >= self._timeout_s and self._dialing is None:
            self._starved()
        if self._batches and self._in_flight < self._max_in_flight and all(link.is_full for link in self._links):
            self._dial(now)
        self._pump()
        if self._links or self._batches or self._dialing is not None:
            self._arm()

    def _starved(self) -> None:
        """Nothing could be sent for a whole time-out: the peer takes connections and no requests."""
        for link in list(self._links):
            link.close("no_stream")
        self._failed()
        self._refuse(NotProcessed("no_stream", "the peer takes no requests"))
