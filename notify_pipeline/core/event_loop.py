"""The event loop that sends are sent from: asyncio's, which looks names up in threads of their own.

Belongs here: looking names up without holding anything else up. Does not belong here: connecting (``channels``).

asyncio looks names up in the loop's default threads, where every call of the ledger runs too. A name server that is
dead holds a thread for half a minute for each lookup, whatever the caller's time-out: two dozen connections that one
channel tries to open would stop all the others.
"""

import asyncio
import socket
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

# No two are of one name, so a provider whose name is not found holds one or two of them.
_THREADS = 64


class Lookups:
    """Looks names up, each in a thread of its own; who asks for one that is asked for already waits with the others.

    Use it in one event loop.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="names")
        self._under_way: dict[tuple[Any, ...], asyncio.Future[list[Any]]] = {}

    async def find(self, *asked: Any) -> list[Any]:
        """Return what ``socket.getaddrinfo`` returns for these arguments.

        Raises:
            OSError: As it does.
        """
        lookup = self._under_way.get(asked)
        if lookup is None:
            # Found when it is called, as asyncio does.
            lookup = asyncio.get_running_loop().run_in_executor(self._threads, socket.getaddrinfo, *asked)
            self._under_way[asked] = lookup
            lookup.add_done_callback(lambda done: self._forget(asked, done))
        # Who gives up does so for himself.
        return await asyncio.shield(lookup)

    def close(self) -> None:
        """Wait for no lookup."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _forget(self, asked: tuple[Any, ...], done: "asyncio.Future[list[Any]]") -> None:
        self._under_way.pop(asked, None)
        if not done.cancelled():
            done.exception()  # asked for, so that one that nobody waits for any more is not reported


class _Loop(asyncio.SelectorEventLoop):
    """asyncio's loop with ``Lookups``: whatever library connects, it asks the loop."""

    def __init__(self) -> None:
        super().__init__()
        self._lookups = Lookups()

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 - asyncio's name for it
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        return await self._lookups.find(host, port, family, type, proto, flags)

    def close(self) -> None:
        self._lookups.close()
        super().close()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, as ``asyncio.run`` does."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(main)
