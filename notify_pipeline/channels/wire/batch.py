"""One ``post_many`` call under way.

Belongs here: drawing requests, reporting ends, knowing when all is done. Does not belong here: where requests go
(``transport``).
"""

import asyncio
from collections.abc import Callable, Iterator

from notify_pipeline.channels.transport import End, Request
from notify_pipeline.channels.wire.connection import Connection


class Batch:
    """Requests of one caller.

    Attributes:
        done: Done when every request has ended; fails with what the caller's functions raised.
        exhausted: Nothing more is drawn.
        in_flight: Requests drawn that have not ended.
    """

    __slots__ = ("_on_end", "_requests", "done", "exhausted", "in_flight")

    def __init__(self, requests: Iterator[Request], on_end: Callable[[int, End], None]) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.exhausted = False
        self.in_flight = 0
        self._requests = requests
        self._on_end = on_end

    def send(self, connection: "Connection[tuple[Batch, int]]", share: int) -> int:
        """Open streams for so many requests, or fewer when the peer's window is full; return how many."""
        sent = 0
        post, bodies = connection.open, connection.bodies
        try:
            for number, path, headers, body in self._requests:
                try:
                    post((self, number), path, headers, body)
                except (ValueError, TypeError) as error:
                    raise ValueError(f"request {number} cannot be sent: {error}") from error
                sent += 1
                if sent >= share or bodies.window <= 0:
                    break
            else:
                self.exhausted = True
        except Exception as error:  # noqa: BLE001 - handed to whoever awaits the batch
            self.fail(error)
        self.in_flight += sent
        return sent

    def refuse(self, end: End, most: int | None = None) -> int:
        """Draw requests, so many at most, and end each like this; return how many."""
        refused = 0
        try:
            while not self.exhausted and refused != most:
                self._on_end(next(self._requests).number, end)
                refused += 1
        except StopIteration:
            self.exhausted = True
        except Exception as error:  # noqa: BLE001 - handed to whoever awaits the batch
            self.fail(error)
        return refused

    def report(self, number: int, end: End) -> None:
        """Hand an end to the caller; what the caller's function raises ends the batch."""
        self.in_flight -= 1
        try:
            self._on_end(number, end)
        except Exception as error:  # noqa: BLE001 - handed to whoever awaits the batch
            self.fail(error)
        if self.exhausted and not self.in_flight:
            self.settle()

    def fail(self, error: Exception) -> None:
        """Stop drawing, and hand an error to the caller."""
        self.exhausted = True
        if not self.done.done():
            self.done.set_exception(error)

    def settle(self) -> None:
        """Let the caller go on once nothing is left to wait for."""
        if self.exhausted and not self.in_flight and not self.done.done():
            self.done.set_result(None)
