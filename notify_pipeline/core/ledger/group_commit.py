"""Group commit: one thread writes for a whole process, one transaction for everything that waits.

Belongs here: the queue, the file lock between processes, and who gets which result. Does not belong here: what is
written (handlers), how a connection is made (``engine``).

Why: two processes that each run plain SQLite transactions starve each other in SQLite's busy back-off (seconds), and a
transaction per caller pays one fsync per caller. Under an ``flock`` the kernel queues the processes, and one fsync
serves all callers that came meanwhile. A lone caller waits for nobody. Where the rounds before show that several
callers are about, a round waits up to a millisecond until they have all come back: half of them would otherwise always
miss the bus, and a transaction's own cost (a quarter of a millisecond of CPU) would be shared by half as many.
"""

import fcntl
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from sqlalchemy import Connection

# Enough for every thread of a busy ingress; bounds how long one transaction keeps other processes waiting.
MAX_ITEMS_PER_TRANSACTION = 512
# From how many callers on a round waits for the others, and how long at most.
LINGER_FROM = 4
LINGER_S = 0.001
# More than a queue ever holds.
_NEVER = 1 << 60
# A caller that waited this long gets LedgerBusy: the disk or a stopped process holds the lock.
WAIT_S = 30.0

AnyHandler = Callable[[Connection, Sequence[Any]], Sequence[Any]]


class LedgerError(Exception):
    """The ledger could not do what was asked; what the caller sent is not at fault."""


class LedgerBusy(LedgerError):
    """Nobody took the write in time. It may still be done later: only repeat what is idempotent."""


class LedgerClosed(LedgerError):
    """The ledger was closed before the write was taken."""


class WriteFailed(LedgerError):
    """The transaction that held the write was rolled back; nothing of it is stored."""


class _Ticket:
    __slots__ = ("done", "error", "handler", "item", "result")

    def __init__(self, handler: AnyHandler, item: Any) -> None:
        self.handler = handler
        self.item = item
        self.result: Any = None
        self.error: BaseException | None = None
        # A bare lock as a latch: an Event costs several times as much.
        self.done = threading.Lock()
        self.done.acquire()

    def settle(self, outcome: Any) -> None:
        # Both, always: a batch that is run again must not leave the first run's verdict.
        failed = isinstance(outcome, Exception)
        self.error, self.result = (outcome, None) if failed else (None, outcome)


class FileLock:
    """An exclusive ``flock`` on a file beside the database. The kernel releases it when its process dies."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock for the length of a with block; waits for as long as it takes."""
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the descriptor. In a forked child this does not release the parent's lock."""
        os.close(self._fd)


class GroupCommit:
    """The writer of one process. ``submit`` may be called from any thread."""

    def __init__(self, connect: Callable[[], Connection], lock_path: Path) -> None:
        self._connect = connect
        self._lock = FileLock(lock_path)
        self._queue: SimpleQueue[_Ticket | None] = SimpleQueue()
        # A lingering writer waits for this latch; the put that makes the queue this long opens it.
        self._wanted = _NEVER
        self._enough = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """False once it was closed, or its thread died."""
        return not self._closed

    @property
    def waiting(self) -> int:
        """How many items wait for the next transaction, the one that its thread has in hand not counted."""
        return self._queue.qsize()

    def submit(self, handler: AnyHandler, item: Any) -> Any:
        """Hand one item to its handler inside the next transaction and return its result once that is durable."""
        if self._closed:
            raise LedgerClosed("the ledger is closed")
        ticket = _Ticket(handler, item)
        self._queue.put(ticket)
        if self._queue.qsize() >= self._wanted:
            self._end_linger()
        if not ticket.done.acquire(timeout=WAIT_S):
            raise LedgerBusy(f"no writer took this within {WAIT_S} s; it may still be stored")
        if ticket.error is not None:
            raise ticket.error
        return ticket.result

    def close(self) -> None:
        """Finish what is queued, then end the thread and close its connection."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        self._thread.join()

    def abandon(self) -> None:
        """Let go of the parent's descriptor in a forked child, where the thread does not exist."""
        self._closed = True
        self._lock.close()

    def _run(self) -> None:
        batch: list[_Ticket] = []
        callers = 1
        try:
            with self._connect() as conn:
                while (first := self._queue.get()) is not None:
                    batch = [first]
                    self._linger(callers)
                    with self._lock.held():
                        more = self._fill(batch)
                        _transact(conn, batch)
                    settled, batch = batch, []
                    callers = len(settled) + self._queue.qsize()
                    _release(settled)
                    if not more:
                        break
        finally:
            # Reached in order (close) or when the thread dies (no connection, out of memory): nobody may hang.
            self._closed = True
            _refuse(batch)
            self._refuse_queued()
            self._lock.close()

    def _linger(self, callers: int) -> None:
        """Wait until as many callers as there were in the round before have come back, for a moment at most."""
        if callers < LINGER_FROM or self._queue.qsize() >= callers - 1:
            return
        self._enough.acquire(blocking=False)
        self._wanted = callers - 1
        # Somebody may have put the last one before the line above.
        if self._queue.qsize() < callers - 1:
            self._enough.acquire(timeout=LINGER_S)
        self._wanted = _NEVER

    def _end_linger(self) -> None:
        self._wanted = _NEVER
        try:
            self._enough.release()
        except RuntimeError:
            # Another caller was as quick and has opened it.
            return

    def _fill(self, batch: list[_Ticket]) -> bool:
        """Take what waits, now that the lock is ours; False when the queue was told to end."""
        while len(batch) < MAX_ITEMS_PER_TRANSACTION:
            try:
                ticket = self._queue.get_nowait()
            except Empty:
                return True
            if ticket is None:
                return False
            batch.append(ticket)
        return True

    def _refuse_queued(self) -> None:
        while True:
            try:
                ticket = self._queue.get_nowait()
            except Empty:
                return
            if ticket is not None:
                _refuse([ticket])


class _BatchFailed(Exception):
    """A handler raised on the short way; the transaction is undone and the long way finds out whose item it was."""


def _transact(conn: Connection, batch: list[_Ticket]) -> None:
    groups = _by_handler(batch)
    try:
        try:
            # Savepoints would cost more than everything else a small transaction does, and failures are rare.
            with conn.begin():
                for handler, tickets in groups:
                    _run_bare(conn, handler, tickets)
        except _BatchFailed:
            with conn.begin():
                for handler, tickets in groups:
                    _run_guarded(conn, handler, tickets)
    except Exception as error:  # every caller is told, each with an exception of its own
        # After a COMMIT that failed (a full disk), SQLAlchemy takes the transaction for ended, but SQLite does not.
        conn.connection.rollback()
        for ticket in batch:
            ticket.error = WriteFailed(f"the transaction was rolled back: {error}")
            ticket.error.__cause__ = error


def _by_handler(batch: list[_Ticket]) -> list[tuple[AnyHandler, list[_Ticket]]]:
    groups: dict[AnyHandler, list[_Ticket]] = {}
    for ticket in batch:
        groups.setdefault(ticket.handler, []).append(ticket)
    return list(groups.items())


def _run_bare(conn: Connection, handler: AnyHandler, tickets: list[_Ticket]) -> None:
    try:
        outcomes = _run(conn, handler, tickets)
    except Exception as error:
        raise _BatchFailed from error
    for ticket, outcome in zip(tickets, outcomes, strict=True):
        ticket.settle(outcome)


def _run_guarded(conn: Connection, handler: AnyHandler, tickets: list[_Ticket]) -> None:
    """Run one handler over its items; if that fails, over each item alone, so that only the bad one fails."""
    savepoint = conn.begin_nested()
    try:
        outcomes = _run(conn, handler, tickets)
    except Exception as error:
        savepoint.rollback()
        if len(tickets) == 1:
            tickets[0].settle(error)
            return
        for ticket in tickets:
            _run_guarded(conn, handler, [ticket])
        return
    savepoint.commit()
    for ticket, outcome in zip(tickets, outcomes, strict=True):
        ticket.settle(outcome)


def _run(conn: Connection, handler: AnyHandler, tickets: list[_Ticket]) -> Sequence[Any]:
    outcomes = handler(conn, [ticket.item for ticket in tickets])
    if len(outcomes) != len(tickets):
        raise RuntimeError(f"{handler!r} gave {len(outcomes)} results for {len(tickets)} items")
    return outcomes


def _release(batch: list[_Ticket]) -> None:
    for ticket in batch:
        ticket.done.release()


def _refuse(batch: list[_Ticket]) -> None:
    for ticket in batch:
        ticket.error = LedgerClosed("the ledger's writer ended before this was stored")
        ticket.done.release()
