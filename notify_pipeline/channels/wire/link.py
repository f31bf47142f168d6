"""A connection on a socket: bytes between asyncio and ``Connection``, and what depends on time.

Belongs here: backpressure, ALPN, time-outs, signs of life. Does not belong here: what the bytes mean (``connection``),
how many links there are and what they carry (``transport``).

No request has a timer: at each tick a link notes which stream id it has come to, and streams below an id noted long
enough ago are late.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol, TypeAlias

from notify_pipeline.channels.wire.connection import Connection

if TYPE_CHECKING:
    from notify_pipeline.channels.wire.batch import Batch

RequestTag: TypeAlias = "tuple[Batch, int]"

# Unsent bytes at which nothing more is drawn: enough for a socket that keeps up, and little to be unsure of if it dies.
_HIGH_WATER = 131_072
# Routers forget silent connections after a minute or more. One that was idle for so long must answer a PING before it
# gets requests: a request that is lost with it might have been processed, a PING cannot.
_STALE_AFTER_S = 50.0
# With so many requests left open and fewer new answers than this in one read, the next read waits for more of them: one
# that comes alone costs a turn of the event loop, a TLS record and a write, twice of what it costs in company.
_MANY_OPEN = 64
_FEW_ANSWERS = 32
# ... and for so long: little beside the 50 ms that providers take. Requests go on being written meanwhile.
_GATHER_S = 0.002
# A busy peer gets at least this long to answer a PING.
_SIGN_OF_LIFE_S = 2.0


class Owner(Protocol):
    """Whoever a link tells of its news."""

    def on_progress(self, link: "Link") -> None:
        """There are ends to take away, or there is room again."""
        ...

    def on_gone(self, link: "Link") -> None:
        """The link is over; ends may be there to take away."""
        ...


class Link(asyncio.Protocol):
    """One connection of a transport.

    Attributes:
        connection: Its state.
        ready: Done when the peer's settings have come; fails when the link is gone before.
        gone: Done when the socket is closed.
    """

    def __init__(self, owner: Owner, authority: str, unindexed: Collection[str], timeout_s: float) -> None:
        """Args: authority, unindexed: see ``RequestHeads``. timeout_s: for an answer, and for a sign of life."""
        loop = asyncio.get_running_loop()
        self.connection: Connection[RequestTag] = Connection(authority, unindexed)
        self.ready: asyncio.Future[None] = loop.create_future()
        self.gone: asyncio.Future[None] = loop.create_future()
        self._owner = owner
        self._loop = loop
        self._timeout_s = timeout_s
        self._patience_s = max(timeout_s / 2, _SIGN_OF_LIFE_S)
        self._below: asyncio.Transport | None = None  # the socket
        self._transport: asyncio.Transport | None = None  # TLS on it
        self._paused = False
        self._heard = False
        self._quiet_since = loop.time()  # when nothing has come since, though something was due
        self._idle_since = loop.time()
        self._asked_at: float | None = None  # a PING that nothing has followed
        self._marks: deque[tuple[float, int]] = deque()

    def carry(self, below: asyncio.Transport, transport: asyncio.Transport) -> None:
        """Check that the peer agreed to HTTP/2, and open.

        The peer's first bytes may have come before.

        Args:
            below: The socket.
            transport: TLS on it.
        """
        self._below, self._transport = below, transport
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        if tls is None or tls.selected_alpn_protocol() != "h2":
            transport.abort()
            raise ssl.SSLError("the peer does not speak HTTP/2 (ALPN)")
        transport.set_write_buffer_limits(high=_HIGH_WATER)
        self.flush()

    def data_received(self, data: bytes) -> None:
        """Let the connection take it."""
        self._heard = True
        self._asked_at = None
        connection = self.connection
        answered = connection.answered
        connection.receive(data)
        if len(connection.streams) >= _MANY_OPEN and connection.answered - answered < _FEW_ANSWERS:
            self._gather()
        if connection.ready and not self.ready.done():
            self.ready.set_result(None)
        self._owner.on_progress(self)
        self.flush()
        if connection.closed or (connection.draining and not connection.streams):
            self.close()

    def _gather(self) -> None:
        """Read nothing for a moment."""
        if self._below is not None and not self._below.is_closing():
            self._below.pause_reading()
            self._loop.call_later(_GATHER_S, self._below.resume_reading)

    def pause_writing(self) -> None:
        """Take no more requests: the socket does not keep up."""
        self._paused = True

    def resume_writing(self) -> None:
        """Go on."""
        self._paused = False
        self._owner.on_progress(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End what is open."""
        detail = str(exc) if exc else "the peer closed the connection"
        self.connection.lost("connection_lost", detail)
        if not self.ready.done():
            self.ready.set_exception(exc if isinstance(exc, OSError) else ConnectionResetError(detail))
            self.ready.exception()  # whoever waits for it may be gone
        self._owner.on_gone(self)
        if not self.gone.done():
            self.gone.set_result(None)

    @property
    def room(self) -> int:
        """How many requests it takes now."""
        return 0 if self._paused or self._asked_at is not None or not self.ready.done() else self.connection.room

    @property
    def is_full(self) -> bool:
        """It carries as many streams as its peer allows, and the peer has shown that it answers."""
        connection = self.connection
        return not self._paused and connection.answered > 0 and len(connection.streams) >= connection.limit

    def is_stale(self, now: float) -> bool:
        """It was idle for so long that nobody knows whether it still reaches the peer."""
        return not self.connection.streams and now - self._idle_since > _STALE_AFTER_S

    def wake(self, now: float) -> None:
        """Before requests go to a link that was idle for long, ask it for a sign of life."""
        if self._asked_at is None and self.is_stale(now):
            self._ask(now)

    def flush(self) -> None:
        """Write what the connection has to say."""
        if self._transport is None:
            return
        data = self.connection.take()
        if data and not self._transport.is_closing():
            # asyncio cuts what it could not encrypt at once; cutting a view copies nothing.
            self._transport.write(memoryview(data))

    def tick(self, now: float) -> bool:
        """Act on the time that has passed; return False when the link is of no use any more."""
        connection = self.connection
        connection.relax()
        if self._heard:
            self._heard = False
            self._quiet_since = self._idle_since = now
        if not connection.streams and self._asked_at is None:
            self._quiet_since = now
            self._marks.clear()
            if connection.draining:
                self.close()
            return True
        if connection.streams:
            self._idle_since = now
            self._expire(now)
        if self._asked_at is not None:
            return now - self._asked_at < self._patience_s
        if now - self._quiet_since >= self._timeout_s / 2:
            self._ask(now)
        return True

    def _expire(self, now: float) -> None:
        connection = self.connection
        if not self._marks or self._marks[-1][1] != connection.next_stream:
            self._marks.append((now, connection.next_stream))
        late = 0
        while self._marks and self._marks[0][0] + self._timeout_s <= now:
            late = self._marks.popleft()[1]
        if late and connection.expire(late):
            self._owner.on_progress(self)
            self.flush()

    def _ask(self, now: float) -> None:
        self._asked_at = now
        self.connection.ping()
        self.flush()

    def close(self, reason: str = "closed", detail: str = "") -> None:
        """Say goodbye; what is open ends for this reason."""
        self.connection.close(reason, detail)
        self.flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self, reason: str, detail: str) -> None:
        """Cut the connection; what is open ends for this reason."""
        self.connection.lost(reason, detail)
        if self._transport is not None:
            self._transport.abort()
