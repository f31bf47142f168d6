"""A lean HTTP/1.1 client for the devices' beacons: GET, keep-alive, a bounded queue, nothing else.

Belongs here: connections, retries, counting. Does not belong here: which beacon a device calls (``devices``).
"""

import asyncio
import re
import ssl
from collections import Counter, deque
from dataclasses import dataclass
from typing import cast

# Together these keep one ingress or CDN worker busy without filling its backlog.
_CONNECTIONS = 8
_ATTEMPTS = 3
_RETRY_S = 0.2
_TIMEOUT_S = 10.0
# About 100 MB of URLs. Beyond that beacons are lost, and counted, as those of a phone that stays offline.
MAX_QUEUED = 200_000
_MAX_HEAD = 65_536
_URL = re.compile(r"(https?)://([A-Za-z0-9.-]+)(?::(\d{1,5}))?(/[!-~]*)")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CLOSES = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)


@dataclass(slots=True)
class _Job:
    target: str
    agent: str
    attempts: int = 0


class Beacons:
    """Calls URLs in the background, over a few connections per server."""

    def __init__(self) -> None:
        self._pools: dict[str, _Pool] = {}
        self.counts: Counter[str] = Counter()

    @property
    def pending(self) -> int:
        """How many beacons are queued or under way."""
        return sum(pool.pending for pool in self._pools.values())

    def call(self, url: str, agent: str) -> None:
        """Queue one call. An unusable URL or a full queue is counted, not raised."""
        end = url.find("/", 8)
        origin = url[:end]
        pool = self._pools.get(origin)
        if pool is None or not _URL.fullmatch(url):
            match = _URL.fullmatch(url)
            if match is None:
                self.counts["bad_url"] += 1
                return
            port = int(match[3] or (443 if match[1] == "https" else 80))
            pool = self._pools[origin] = _Pool(self.counts, match[2], port, match[1] == "https")
        if self.pending >= MAX_QUEUED:
            self.counts["overflow"] += 1
            return
        pool.add(_Job(url[end:], agent))

    async def drain(self, timeout_s: float) -> bool:
        """Wait until nothing is pending; tell whether that was reached in time."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while self.pending:
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(0.01)
        return True

    def close(self) -> None:
        """Drop all connections. What is pending is lost."""
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()


class _Pool:
    """The connections to one server."""

    def __init__(self, counts: Counter[str], host: str, port: int, secure: bool) -> None:
        self.counts = counts
        self.host = host
        self._port = port
        self._tls = ssl.create_default_context() if secure else None
        self._queue: deque[_Job] = deque()
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._watch: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def pending(self) -> int:
        return len(self._queue) + len(self._busy)

    def add(self, job: _Job) -> None:
        self._queue.append(job)
        self._pump()

    def take(self, connection: "_Connection") -> _Job | None:
        """Give a free connection its next job, or let it idle."""
        if self._queue:
            self._busy.add(connection)
            return self._queue.popleft()
        self._busy.discard(connection)
        self._idle.append(connection)
        return None

    def done(self, job: _Job, status: int) -> None:
        """Count an answer. 5xx and 429 are tried again."""
        if status >= 500 or status == 429:
            self.retry(job)
        else:
            self.counts["ok" if status < 300 else f"http_{status}"] += 1

    def gone(self, connection: "_Connection", job: _Job | None) -> None:
        """Forget a connection; its job is tried on another."""
        self._busy.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if job is not None:
            self.retry(job)

    def retry(self, job: _Job) -> None:
        """Queue a job again after a pause, or give it up."""
        job.attempts += 1
        if job.attempts >= _ATTEMPTS or self._closed:
            self.counts["failed"] += 1
            return
        self.counts["retried"] += 1
        self._queue.append(job)
        self._loop.call_later(_RETRY_S, self._pump)

    def close(self) -> None:
        self._closed = True
        self.counts["lost_at_stop"] += self.pending
        self._queue.clear()
        for task in self._opening:
            task.cancel()
        if self._watch is not None:
            self._watch.cancel()
        for connection in [*self._idle, *self._busy]:
            connection.abort()

    def _pump(self) -> None:
        if self._closed:
            return
        while self._queue and self._idle:
            self._idle.pop().next()
        if self._queue and len(self._busy) + len(self._opening) < _CONNECTIONS:
            task = self._loop.create_task(self._open())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        if self._watch is None and self._busy:
            self._watch = self._loop.call_later(_TIMEOUT_S / 2, self._sweep)

    async def _open(self) -> None:
        try:
            await asyncio.wait_for(
                self._loop.create_connection(lambda: _Connection(self), self.host, self._port, ssl=self._tls),
                _TIMEOUT_S,
            )
        except (OSError, TimeoutError):
            self.counts["connect_failed"] += 1
            if self._queue:
                self.retry(self._queue.popleft())
            return
        # One connection at a time, so that a short burst does not open all of them.
        self._loop.call_soon(self._pump)

    def _sweep(self) -> None:
        self._watch = None
        now = self._loop.time()
        for connection in [c for c in self._busy if now - c.since > _TIMEOUT_S]:
            self.counts["timed_out"] += 1
            connection.abort()
        self._pump()


class _Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    def __init__(self, pool: _Pool) -> None:
        self._pool = pool
        self._buffer = b""
        self._job: _Job | None = None
        self.since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.next()

    def connection_lost(self, exc: Exception | None) -> None:
        job, self._job = self._job, None
        self._pool.gone(self, job)

    def abort(self) -> None:
        self._transport.abort()

    def next(self) -> None:
        """Send the next job, if there is one."""
        job = self._job = self._pool.take(self)
        if job is None:
            return
        self.since = asyncio.get_running_loop().time()
        self._transport.write(
            f"GET {job.target} HTTP/1.1\r\nHost: {self._pool.host}\r\nUser-Agent: {job.agent}\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _MAX_HEAD:
                self.abort()
            return
        head = self._buffer[:end]
        status = int(head[9:12]) if head[9:12].isdigit() else 0
        length = _LENGTH.search(head)
        if self._job is None or not status or (length is None and status not in (204, 304)):
            # Nothing asked, no HTTP, or an end that this client does not understand (chunked): count and start anew.
            self._finish(status or 599)
            self.abort()
            return
        if len(self._buffer) < end + 4 + (int(length[1]) if length else 0):
            return
        self._buffer = b""
        self._finish(status)
        if _CLOSES.search(head):
            self._transport.close()
        else:
            self.next()

    def _finish(self, status: int) -> None:
        job, self._job = self._job, None
        if job is not None:
            self._pool.done(job, status)
