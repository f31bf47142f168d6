"""Many requests at a time through a library that carries one per call: who waits, who is given up, what is reported.

Belongs here: what the ``Transport`` contract asks and both libraries lack: a bound on what is under way, a time-out per
request, exactly one end for each. Does not belong here: a library (``fcm``, ``apns``).
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator

from notify_pipeline.channels.transport import End, NotProcessed, Request, Unknown

# A slot rests this long after the peer could not be reached, so that a peer that is down is not asked once per request.
_UNREACHABLE_PAUSE_S = 0.25
# The part of a request's time that may pass until it can be handed to a connection. What has not been handed over by
# then was certainly not processed; with the whole time, nobody could tell.
CONNECT_SHARE = 0.5
# Why a request was not processed when no connection could be had; the libraries do not tell DNS, TCP and TLS apart.
UNREACHABLE = "connect"


class LibraryTransport(ABC):
    """A ``Transport`` made of a library's own "send one". Belongs to the event loop in which it is first used."""

    def __init__(self, *, max_in_flight: int, timeout_s: float) -> None:
        """Prepare; nothing is opened yet.

        Args:
            max_in_flight: Requests under way at once, over all callers.
            timeout_s: From handing a request to the library to the end of its answer.
        """
        self._max_in_flight = max_in_flight
        self._timeout_s = timeout_s
        self._room = asyncio.Semaphore(max_in_flight)  # first come, first served: callers share it fairly
        self._batches: set[_Batch] = set()
        self._closed = False

    @abstractmethod
    async def _post(self, request: Request) -> End:
        """Let the library carry one request; cancelled when its time is up."""

    @abstractmethod
    async def _close(self) -> None:
        """Close what the library holds open; nothing is under way any more."""

    async def post_many(self, requests: Iterable[Request], on_end: Callable[[int, End], None]) -> None:
        """See ``Transport.post_many``."""
        batch = _Batch(iter(requests), on_end)
        if self._closed:
            batch.refuse()
        else:
            await self._run(batch)
        if batch.error is not None:
            raise batch.error

    async def aclose(self) -> None:
        """See ``Transport.aclose``."""
        if self._closed:
            return
        self._closed = True
        batches = list(self._batches)
        for batch in batches:
            batch.give_up("closed")
            batch.refuse()
        workers = [worker for batch in batches for worker in batch.stop()]
        if workers:
            await asyncio.wait(workers)
        await self._close()

    async def _run(self, batch: "_Batch") -> None:
        self._batches.add(batch)
        # A worker that is never started has drawn nothing: what is drawn is drawn by whoever will report it.
        batch.workers = [asyncio.create_task(self._work(batch, place)) for place in range(self._max_in_flight)]
        try:
            await asyncio.wait(batch.workers, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            batch.give_up("cancelled")
            workers = batch.stop()
            self._batches.discard(batch)
            ends = await asyncio.gather(*workers, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception):
                raise end

    async def _work(self, batch: "_Batch", place: int) -> None:
        while True:
            async with self._room:
                request = batch.draw(place)
                if request is not None:
                    end = await self._carry(request)
                    batch.end(place, end)
                    if isinstance(end, NotProcessed) and end.reason == UNREACHABLE:
                        await asyncio.sleep(_UNREACHABLE_PAUSE_S)
            if batch.error is not None:
                raise batch.error
            if request is None:
                return

    async def _carry(self, request: Request) -> End:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._post(request)
        except TimeoutError:
            return Unknown("timeout", f"no answer in {self._timeout_s:g} s")


class _Batch:
    """One ``post_many`` call."""

    def __init__(self, requests: Iterator[Request], on_end: Callable[[int, End], None]) -> None:
        self._requests = requests
        self._on_end = on_end
        self._exhausted = False
        self._under_way: dict[int, int] = {}  # numbers of requests by their worker's place
        self.workers: list[asyncio.Task[None]] = []
        self.error: Exception | None = None  # what the caller's iterable or function raised

    def draw(self, place: int) -> Request | None:
        """Take the next request for a worker, or None when there is none left."""
        if self._exhausted:
            return None
        try:
            request = next(self._requests)
        except StopIteration:
            self._exhausted = True
            return None
        except Exception as error:  # noqa: BLE001 - handed to whoever awaits the batch
            self._fail(error)
            return None
        self._under_way[place] = request.number
        return request

    def end(self, place: int, end: End) -> None:
        """Report the end of a worker's request, unless it was given up meanwhile."""
        number = self._under_way.pop(place, None)
        if number is not None:
            self._report(number, end)

    def give_up(self, reason: str) -> None:
        """Report everything under way as unknown, and draw nothing more for a worker."""
        while self._under_way:
            _, number = self._under_way.popitem()
            self._report(number, Unknown(reason))

    def refuse(self) -> None:
        """Draw and report what is left, as not processed."""
        while self.draw(0) is not None:
            self.end(0, NotProcessed("closed"))

    def stop(self) -> "list[asyncio.Task[None]]":
        """Cancel the workers and return them."""
        self._exhausted = True
        for worker in self.workers:
            worker.cancel()
        return self.workers

    def _report(self, number: int, end: End) -> None:
        try:
            self._on_end(number, end)
        except Exception as error:  # noqa: BLE001 - handed to whoever awaits the batch
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._exhausted = True
        self.error = self.error or error
