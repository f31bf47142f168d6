"""A transport over libcurl: HTTP/2 over TLS, multiplexed on one connection, driven by the asyncio event loop.

Belongs here: many requests at once, sockets and timers, who waits for what. Does not belong here: one request and
libcurl's error codes (``curl_handle``), anything that knows a provider.

pycurl's own AsyncCurlMulti makes a future for each request; this one calls back.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pycurl

from notify_pipeline.channels.curl_handle import BROKEN, UNREACHABLE, Handle
from notify_pipeline.channels.transport import End, NotProcessed, Request

# With more, libcurl hands requests to a connection that broke beside the one that replaces it, and starts more streams
# on a new connection than its peer's settings, not yet read, allow. One is bound by what the peer allows at once.
_MAX_CONNECTIONS = 1
# Nothing new is drawn for this long after the peer could not be reached: a peer that is down is not asked once per
# request, and one that is coming back finds requests that have not all failed.
_UNREACHABLE_PAUSE_S = 0.25


class _Batch:
    """One ``post_many`` call."""

    __slots__ = ("done", "exhausted", "in_flight", "on_end", "requests")

    def __init__(
        self, requests: Iterator[Request], on_end: Callable[[int, End], None], done: "asyncio.Future[None]"
    ) -> None:
        self.requests = requests
        self.on_end = on_end
        self.done = done
        self.in_flight: set[Handle] = set()
        self.exhausted = False

    def report(self, number: int, end: End) -> None:
        """Hand an end to the caller; what the caller's function raises ends the batch."""
        try:
            self.on_end(number, end)
        except Exception as error:  # noqa: BLE001 - handed to whoever awaits the batch
            self.fail(error)

    def draw(self) -> Request | None:
        """Take the next request, or None when there is none left."""
        if not self.exhausted:
            try:
                return next(self.requests)
            except StopIteration:
                self.exhausted = True
            except Exception as error:  # noqa: BLE001 - handed to whoever awaits the batch
                self.fail(error)
        return None

    def fail(self, error: Exception) -> None:
        self.exhausted = True
        if not self.done.done():
            self.done.set_exception(error)

    def settle(self) -> None:
        """Let the caller go on once nothing is left to wait for."""
        if self.exhausted and not self.in_flight and not self.done.done():
            self.done.set_result(None)


class CurlTransport:
    """See ``Transport``. Belongs to the event loop in which it is first used."""

    def __init__(self, base_url: str, *, ca: Path, max_in_flight: int, timeout_s: float) -> None:
        """Prepare; nothing is opened yet.

        Args:
            base_url: Scheme, host and port, without a trailing slash; https only.
            ca: The bundle that the peer's certificate must chain to.
            max_in_flight: Requests under way at once, over all callers.
            timeout_s: From drawing a request to the end of its answer.
        """
        if not base_url.startswith("https://"):
            raise ValueError(f"a provider's address must be https, not {base_url}")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        self._multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, _MAX_CONNECTIONS)
        self._multi.setopt(pycurl.M_MAX_CONCURRENT_STREAMS, max(100, max_in_flight))
        self._idle = [Handle(base_url, ca, timeout_s) for _ in range(max_in_flight)]
        self._busy: dict[pycurl.Curl, tuple[_Batch, Handle]] = {}
        self._batches: deque[_Batch] = deque()
        self._timer: asyncio.Handle | None = None
        self._watched: dict[int, int] = {}
        self._pause: asyncio.TimerHandle | None = None
        self._suspicious = False  # libcurl may hand a connection that broke to the next request
        self._closed = False

    async def post_many(self, requests: Iterable[Request], on_end: Callable[[int, End], None]) -> None:
        """See ``Transport.post_many``."""
        self._loop = asyncio.get_running_loop()
        batch = _Batch(iter(requests), on_end, self._loop.create_future())
        if self._closed:
            self._refuse(batch)
        else:
            self._batches.append(batch)
            self._pump()
        try:
            await batch.done
        finally:
            batch.exhausted = True
            self._give_up(batch, "cancelled")
            self._pump()

    async def aclose(self) -> None:
        """See ``Transport.aclose``."""
        if self._closed:
            return
        self._closed = True
        for batch in {batch for batch, _ in self._busy.values()} | set(self._batches):
            self._give_up(batch, "closed")
            self._refuse(batch)
        self._batches.clear()
        for timer in (self._timer, self._pause):
            if timer is not None:
                timer.cancel()
        for handle in self._idle:
            handle.curl.close()
        self._multi.close()  # closes the connections, and through _on_socket stops watching them

    def _refuse(self, batch: _Batch) -> None:
        while (request := batch.draw()) is not None:
            batch.report(request.number, NotProcessed("closed"))
        batch.settle()

    def _give_up(self, batch: _Batch, reason: str) -> None:
        while batch.in_flight:
            handle = batch.in_flight.pop()
            end = handle.interrupted(reason)
            self._release(handle)
            batch.report(handle.number, end)

    def _pump(self) -> None:
        """Fill the idle handles, taking turns between the batches."""
        while self._idle and self._batches and not self._closed and self._pause is None:
            batch = self._batches.popleft()
            request = batch.draw()
            if request is None:
                batch.settle()
                continue
            self._batches.append(batch)
            handle = self._idle.pop()
            try:
                handle.load(request, fresh=self._suspicious)
            except (ValueError, TypeError, pycurl.error) as error:
                self._idle.append(handle)
                batch.fail(ValueError(f"request {request.number} cannot be sent: {error}"))
                continue
            self._suspicious = False
            batch.in_flight.add(handle)
            self._busy[handle.curl] = batch, handle
            self._multi.add_handle(handle.curl)

    def _release(self, handle: Handle) -> None:
        self._multi.remove_handle(handle.curl)
        del self._busy[handle.curl]
        self._idle.append(handle)

    def _act(self, fd: int, events: int) -> None:
        """Let libcurl work, collect what ended, and send more."""
        self._multi.socket_action(fd, events)
        left = 1
        while left:
            left, succeeded, failed = self._multi.info_read()
            for curl in succeeded:
                self._finish(curl, 0, "")
            for curl, errno, text in failed:
                self._finish(curl, errno, text)
        self._pump()

    def _finish(self, curl: pycurl.Curl, errno: int, text: str) -> None:
        if curl not in self._busy:
            return  # given up while its result was waiting to be read
        batch, handle = self._busy[curl]
        end = handle.end(errno, text)
        self._suspicious |= errno in BROKEN
        if errno in UNREACHABLE and self._pause is None and self._loop is not None:
            self._pause = self._loop.call_later(_UNREACHABLE_PAUSE_S, self._resume)
        batch.in_flight.discard(handle)
        self._release(handle)
        batch.report(handle.number, end)
        batch.settle()

    def _resume(self) -> None:
        self._pause = None
        self._pump()

    def _on_socket(self, what: int, fd: int, _multi: Any, _data: Any) -> None:
        if self._loop is None:
            return
        wanted = 0 if what == pycurl.POLL_REMOVE else what
        before = self._watched.pop(fd, 0)
        for bit, add, remove, event in (
            (pycurl.POLL_IN, self._loop.add_reader, self._loop.remove_reader, pycurl.CSELECT_IN),
            (pycurl.POLL_OUT, self._loop.add_writer, self._loop.remove_writer, pycurl.CSELECT_OUT),
        ):
            if wanted & bit and not before & bit:
                add(fd, self._act, fd, event)
            elif before & bit and not wanted & bit:
                remove(fd)
        if wanted:
            self._watched[fd] = wanted

    def _on_timer(self, timeout_ms: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if timeout_ms < 0 or self._loop is None or self._closed:
            return
        if timeout_ms == 0:
            self._timer = self._loop.call_soon(self._on_timeout)
        else:
            self._timer = self._loop.call_later(timeout_ms / 1000, self._on_timeout)

    def _on_timeout(self) -> None:
        self._timer = None
        self._act(pycurl.SOCKET_TIMEOUT, 0)
