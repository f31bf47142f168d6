"""One WebSocket connection: what it was sent, what waits for it, and when it ends.

Belongs here: sending to one client in the order of its user's numbers, each once. Does not belong here: who is let in
(``server``), all connections together (``hub``), what clients say (``talking``).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from aiohttp.web import WebSocketResponse

from notify_pipeline.core import gateway
from notify_pipeline.core.ledger.user_messages import UserMessage

# Returns a user's messages after a cursor, at most a page of them.
ReadSince = Callable[[str, str, int], Awaitable[Sequence[UserMessage]]]

# WebSocket close codes: 4000 to 4999 are for applications (RFC 6455 section 7.4.2). docs/websocket.md lists them.
TOKEN_EXPIRED = 4401
NOT_ACTIVE = 4403
IDLE = 4408
REPLACED = 4409
LIFETIME = 4410
TOO_MANY = 4429
GOING_AWAY = 1001
TRY_AGAIN = 1013

# A client that takes nothing for so long, while 64 KB wait for it, is given up: less than whoever posts waits for us.
_SLOW_S = 5.0
# How long a client may take to say goodbye.
CLOSE_S = 3.0


class Gone(Exception):
    """The connection is closed, or is being closed."""


class QueueFull(Exception):
    """As many messages wait for the connection already as may."""


@dataclass(frozen=True, slots=True)
class Client:
    """Who is connected, and from where."""

    connection_id: str
    tenant: str
    user_id: str
    token_expires_at: datetime
    connected_at: datetime
    source_ip: str
    user_agent: str


class Connection:
    """A client's connection. What is pushed before it has begun waits."""

    __slots__ = (
        "_abort",
        "_may_wait",
        "_read",
        "_socket",
        "_turn",
        "_waiting",
        "active_at",
        "client",
        "closing",
        "last",
        "said",
    )

    def __init__(
        self,
        client: Client,
        socket: WebSocketResponse,
        abort: Callable[[], None],
        read: ReadSince,
        may_wait: int,
        now: float,
    ) -> None:
        """Take the parts.

        Args:
            client: Who.
            socket: The open WebSocket.
            abort: Cuts it off, whatever is still to be sent.
            read: Reads what was missed.
            may_wait: How many messages may wait.
            now: The event loop's time.
        """
        self.client = client
        self.closing = False
        self.active_at = now
        self.said = 0  # messages that the client sent lately
        self.last = 0  # the number up to which the client has everything
        self._socket = socket
        self._abort = abort
        self._read = read
        self._may_wait = may_wait
        self._waiting = 0
        self._turn = asyncio.Lock()

    async def begin(
        self, arrive: Callable[[], Awaitable[int]], cursor: int | None, greet: Callable[[int], str]
    ) -> None:
        """Greet the client and send it what it missed, before anything that is pushed meanwhile.

        Args:
            arrive: Makes the connection known to whoever pushes, and only then asks for the user's last number; so
                what is stored later is pushed, and what was stored before is counted.
            cursor: The number that the client has seen last; None: what was before does not matter to it.
            greet: Makes the first message of the number from which the client goes on.

        Raises:
            Gone: The client is.
            LedgerError, SQLAlchemyError: The ledger could not be asked.
        """
        async with self._turn:
            latest = await arrive()
            # Numbers beyond the user's last one that is there are of messages that have gone, or were never given.
            self.last = latest if cursor is None else min(cursor, latest)
            await self.send(greet(self.last))
            if self.last < latest:
                await self._catch_up()

    async def push(self, text: str, seq: int = 0, previous: int = 0) -> None:
        """Send a message, after those of the user's that come before it.

        Args:
            text: The message.
            seq: Its number; one that the client has already is not sent again. 0: it has none and is just sent.
            previous: The number of the user's message before it: where the client does not have that, it and whatever
                else is missing is read and sent first.

        Raises:
            Gone, QueueFull: It was not sent.
            LedgerError, SQLAlchemyError: What is missing could not be read.
        """
        if self.closing:
            raise Gone
        if self._waiting >= self._may_wait:
            raise QueueFull
        self._waiting += 1
        try:
            async with self._turn:
                if not seq:
                    return await self.send(text)
                if previous > self.last:
                    await self._catch_up()
                if seq > self.last:
                    await self.send(text)
                    self.last = seq
        finally:
            self._waiting -= 1

    async def send(self, text: str) -> None:
        """Send at once, whatever waits: greetings and answers.

        Raises:
            Gone: The client is, or it is so slow that it is given up.
        """
        try:
            # Returns when the text is written, unless 64 KB are still to be taken by the client.
            async with asyncio.timeout(_SLOW_S):
                await self._socket.send_str(text)
        except TimeoutError:
            self.closing = True
            self._abort()  # a close frame would only wait behind the rest
            raise Gone from None
        except (ConnectionError, RuntimeError):  # what aiohttp raises once it is closing
            self.closing = True
            raise Gone from None
        self.active_at = asyncio.get_running_loop().time()

    async def close(self, code: int, reason: str) -> None:
        """End the connection; harmless when it has ended."""
        self.closing = True
        try:
            async with asyncio.timeout(2 * CLOSE_S):
                await self._socket.close(code=code, message=reason.encode())
        except (TimeoutError, ConnectionError, RuntimeError):
            self._abort()

    async def _catch_up(self) -> None:
        while rows := await self._read(self.client.tenant, self.client.user_id, self.last):
            for row in rows:
                await self.send(gateway.message(row.seq, row.payload))
                self.last = row.seq
