"""Raw receipt logs as a CDN would write them: durable before the answer, gathered into hourly gzip files.

Belongs here: the log line's form, and a writer that several processes use side by side. Does not belong here: checking
a receipt (``ingest_api``), parsing lines (``receipts``).

A writer appends to a local open file that it holds an ``flock`` on. When that is old or large enough it lets go of it,
and any unlocked file is delivered: compressed, written whole under ``<source>/date=…/hour=…/`` in the log store, then
removed. A dead process lets go likewise, so what it left is delivered by whichever process sweeps next. The delivered
name follows from the open file's name, so a kill between delivering and removing doubles nothing.
"""

import fcntl
import gzip
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import orjson

from notify_pipeline.core.ids import new_id

# Reports are to move within tens of seconds of a receipt; a file per worker every few seconds is easily listed.
ROTATE_S = 5.0
# A whole file is held in memory twice while it is delivered.
MAX_BYTES = 8 * 1024 * 1024
# A file is created, then locked; another process may sweep it between the two. Each try needs that to happen again.
_CREATE_TRIES = 100
_HOUR = "%Y-%m-%dT%H"


class LogStore(Protocol):
    """Where finished files go: ``core.lake.Lake`` over the raw log root."""

    def exists(self, path: str) -> bool:
        """Tell whether a file is there, whole."""

    def write_bytes(self, path: str, data: bytes) -> Any:
        """Write a file whole or not at all."""


def receipt_line(path: str, querystring: str, moment: datetime, **extra: object) -> bytes:
    """Return one log line, without its newline, in the JSON form that Fastly services commonly use.

    Args:
        path: The URL path, such as ``/notification/received``.
        querystring: As it came, without the question mark.
        moment: When; milliseconds are kept, UTC.
        extra: Further fields, such as ``status``.
    """
    stamp = moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return orjson.dumps({"datetime": stamp, "event": path, "querystring": querystring, **extra})


@dataclass(slots=True)
class _Open:
    """The file being appended to."""

    path: Path
    fd: int
    hour: str
    opened: float
    size: int = 0


@dataclass(slots=True, eq=False)
class _Ticket:
    line: bytes
    hour: str
    done: bool = False
    error: OSError | None = field(default=None)


class ReceiptLog:
    """One process's writer. ``append`` may be called from any thread; make it after forking, not before."""

    def __init__(
        self,
        folder: Path,
        store: LogStore,
        source: str = "ingress",
        *,
        rotate_s: float = ROTATE_S,
        max_bytes: int = MAX_BYTES,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create the folder. What dead processes left in it goes out with the first ``tick``.

        Args:
            folder: A local folder for open files, the same for all processes of a source.
            store: Takes the finished files.
            source: The first folder below the log root.
            rotate_s: An open file is delivered after this many seconds.
            max_bytes: ... or beyond this size.
            monotonic: Stands in for the monotonic clock in tests.
        """
        self._folder = folder
        self._store = store
        self._source = source
        self._rotate_s = rotate_s
        self._max_bytes = max_bytes
        self._monotonic = monotonic
        self._worker = new_id()
        self._count = 0
        self._queue: list[_Ticket] = []
        self._queue_guard = threading.Lock()
        self._file_guard = threading.Lock()
        self._open: _Open | None = None
        self._closed = False
        folder.mkdir(parents=True, exist_ok=True)

    def append(self, line: bytes, moment: datetime) -> None:
        """Append one line and return once it is durable; waiting callers share one fsync.

        Args:
            line: Without newline.
            moment: Puts it into the file of its hour.

        Raises:
            OSError: It could not be stored.
        """
        ticket = _Ticket(line, moment.astimezone(UTC).strftime(_HOUR))
        with self._queue_guard:
            self._queue.append(ticket)
        with self._file_guard:
            # Whoever gets here first writes for all that queued meanwhile; the others find their ticket done.
            if not ticket.done and ticket.error is None:
                self._flush()
        if not ticket.done:
            raise ticket.error or OSError("the write that held this line was broken off")

    def tick(self) -> None:
        """Deliver what is due, dead processes' leftovers included. Call it every second or so."""
        with self._file_guard:
            held = self._open
            if held is not None and self._monotonic() - held.opened >= self._rotate_s:
                self._let_go()
        self.sweep()

    def deliver_now(self) -> None:
        """Deliver everything appended so far."""
        with self._file_guard:
            self._let_go()
        self.sweep()

    def sweep(self) -> int:
        """Deliver every file that no living process holds; return how many."""
        return sum(self._deliver(path) for path in sorted(self._folder.glob("*.log")))

    def close(self) -> None:
        """Deliver everything; later appends are refused. Harmless when closed already."""
        with self._file_guard:
            self._closed = True
            self._let_go()
        self.sweep()

    def _flush(self) -> None:
        with self._queue_guard:
            batch, self._queue = self._queue, []
        hours = dict.fromkeys(ticket.hour for ticket in batch)
        for hour in hours:
            tickets = [ticket for ticket in batch if ticket.hour == hour]
            try:
                self._write(hour, (ticket.line for ticket in tickets))
            except OSError as error:
                for ticket in tickets:
                    ticket.error = error
                continue
            for ticket in tickets:
                ticket.done = True

    def _write(self, hour: str, lines: Iterable[bytes]) -> None:
        if self._closed:
            raise OSError("the receipt log is closed")
        held = self._open
        if held is not None and (held.hour != hour or held.size >= self._max_bytes):
            self._let_go()
            held = None
        if held is None:
            held = self._open = self._create(hour)
        data = b"".join(line + b"\n" for line in lines)
        try:
            written = os.write(held.fd, data)
            if written < len(data):
                raise OSError(f"wrote {written} of {len(data)} bytes: is the disk full?")
            os.fdatasync(held.fd)
        except OSError:
            # Nobody was answered. After a failed fsync the kernel may have dropped the pages: begin another file.
            try:
                os.ftruncate(held.fd, held.size)
            finally:
                self._let_go()
            raise
        held.size += len(data)

    def _create(self, hour: str) -> _Open:
        for _ in range(_CREATE_TRIES):
            path = self._folder / f"{hour}--{self._worker}-{self._count:06d}.log"
            self._count += 1
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink:
                _sync_folder(self._folder)
                return _Open(path, fd, hour, self._monotonic())
            os.close(fd)
        raise OSError("every new log file was swept away before it could be locked")

    def _let_go(self) -> None:
        held, self._open = self._open, None
        if held is not None:
            os.close(held.fd)

    def _deliver(self, path: Path) -> bool:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.fstat(fd).st_nlink:
                return False
            self._store_file(path)
            path.unlink()
            return True
        except BlockingIOError:
            return False
        finally:
            os.close(fd)

    def _store_file(self, path: Path) -> None:
        data = path.read_bytes()
        # A last line without its end was being written when the machine stopped: nobody was told that it is stored.
        data = data[: data.rfind(b"\n") + 1]
        hour, _, name = path.stem.partition("--")
        day, _, hour = hour.partition("T")
        target = f"{self._source}/date={day}/hour={hour}/{name}.log.gz"
        if data and not self._store.exists(target):
            # mtime=0: the same lines give the same bytes.
            self._store.write_bytes(target, gzip.compress(data, compresslevel=6, mtime=0))


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
