"""The ledger: one handle on SQLite or PostgreSQL for reading and for durable, atomic writing.

Belongs here: opening, connections, transactions, and which store does them how. Does not belong here: what is read or
written (one module per group of tables beside this one), the group commit itself (``group_commit``).
"""

import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import Pool, StaticPool

from notify_pipeline.core.ledger import cursors
from notify_pipeline.core.ledger.group_commit import FileLock, GroupCommit, LedgerClosed
from notify_pipeline.core.ledger.migrate import upgrade, upgrade_locked
from notify_pipeline.core.ledger.statements import insert_for
from notify_pipeline.core.ledger.tables import META

Item = TypeVar("Item")
Result = TypeVar("Result")
# Gets everything that waits for it in one transaction; gives one result or exception per item, in order. An exception
# in the list fails that item only and undoes nothing; a raised one undoes the batch.
Handler = Callable[[Connection, Sequence[Item]], Sequence[Result | Exception]]

# Two processes under the file lock never contend; this covers tools that open the file beside us.
BUSY_TIMEOUT_MS = 10_000
# A checkpoint costs two fsyncs under the file lock. SQLite's default of 1,000 pages comes every 30 group commits; 32 MB
# of log come every few seconds at full load, write each page once for many changes, and cost readers nothing.
CHECKPOINT_PAGES = 8_000
# Per process; PostgreSQL's default is 100 connections for everybody. No overflow: those would be made anew each time.
_POSTGRES_POOL = {"pool_size": 16, "max_overflow": 0, "pool_timeout": 30.0}
# SQLite connections are cheap to keep and dear to make; one for each of many threads.
_SQLITE_POOL = {"pool_size": 128, "max_overflow": 0, "pool_timeout": 30.0}
# serialization_failure, deadlock_detected: the transaction is undone and may be run again.
# https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html
_RETRYABLE_SQLSTATES = frozenset({"40001", "40P01"})
_WRITE_TRIES = 8

_open_ledgers: "weakref.WeakSet[Ledger]" = weakref.WeakSet()
_parents_pools: list[Pool] = []


def utc_now() -> datetime:
    """The real clock: aware UTC."""
    return datetime.now(UTC)


class Ledger:
    """One process's handle. Make it with ``open``; it may be used from any thread, and in forked children."""

    def __init__(self, url: URL, clock: Callable[[], datetime]) -> None:
        self.url = url
        self.clock = clock
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self._guard = threading.Lock()
        self._closed = False
        self._secrets: dict[str, bytes] = {}
        self._writer: GroupCommit | None = None
        self._engine, self._reader = self._engines()
        _open_ledgers.add(self)

    @classmethod
    def open(cls, url: str, clock: Callable[[], datetime] = utc_now) -> Self:
        """Open the ledger, creating and migrating it first when needed.

        Several processes may do so at once: the first one creates, the others wait for it.

        Args:
            url: ``sqlite:///path``, or ``postgresql://…``.
            clock: Stands in for the real time in tests.

        Returns:
            The handle; close it, or use it in a with block.

        Raises:
            ValueError: The URL names a store that is neither, or an in-memory SQLite.
        """
        parsed = checked_url(url)
        ledger = cls(parsed, clock)
        try:
            upgrade_ledger(ledger)
        except BaseException:
            ledger.close()
            raise
        return ledger

    def close(self) -> None:
        """Finish queued writes and close every connection. Harmless when closed already."""
        with self._guard:
            self._closed = True
            writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        self._engine.dispose()
        self._reader.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a connection inside one read-only transaction that sees one moment of the ledger.

        Keep it short: on SQLite an open read keeps the write-ahead log from being emptied.
        """
        if self._closed:
            raise LedgerClosed("the ledger is closed")
        with self._reader.connect() as conn, conn.begin():
            yield conn

    def write(self, handler: Handler[Item, Result], item: Item) -> Result:
        """Run one item through its handler in a transaction; return when that is durable.

        Args:
            handler: A function that stays the same object between calls, so that waiting items form one batch.
            item: What to write.

        Returns:
            The handler's result for this item.

        Raises:
            LedgerBusy, LedgerClosed, WriteFailed: The ledger could not; see ``group_commit``.
            Exception: Whatever the handler raised or returned for this item.
        """
        if self.is_sqlite:
            result: Result = self._group_commit().submit(handler, item)
            return result
        return self._write_alone(handler, item)

    def secret(self, name: str) -> bytes:
        """Return 32 random bytes that are made once per installation and never change."""
        if name not in self._secrets:
            self._secrets[name] = bytes.fromhex(self.write(_make_secret, name))
        return self._secrets[name]

    @property
    def waiting(self) -> int:
        """How many writes of this process wait for the next group commit; for metrics. 0 on PostgreSQL."""
        return 0 if self._writer is None else self._writer.waiting

    @property
    def lock_path(self) -> Path:
        """The file whose lock serialises SQLite's writers, beside the database."""
        return Path(str(self.url.database)).with_suffix(".lock")

    def _group_commit(self) -> GroupCommit:
        writer = self._writer
        if writer is not None and writer.alive:
            return writer
        with self._guard:
            if self._closed:
                raise LedgerClosed("the ledger is closed")
            if self._writer is None or not self._writer.alive:
                self._writer = GroupCommit(self._engine.connect, self.lock_path)
            return self._writer

    def _write_alone(self, handler: Handler[Item, Result], item: Item) -> Result:
        if self._closed:
            raise LedgerClosed("the ledger is closed")
        for tries_left in reversed(range(_WRITE_TRIES)):
            try:
                return self._write_once(handler, item)
            except DBAPIError as error:
                if not tries_left or not _is_undone(error):
                    raise
            # Whoever we collided with needs a moment; jitter keeps two from meeting again.
            time.sleep(random.uniform(0.001, 0.02))  # noqa: S311 - not a secret
        raise AssertionError("unreachable: the last try returns or raises")

    def _write_once(self, handler: Handler[Item, Result], item: Item) -> Result:
        with self._engine.connect() as conn, conn.begin():
            (outcome,) = handler(conn, [item])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _engines(self) -> tuple[Engine, Engine]:
        """Make the engine that writes and the one that reads.

        Errors are logged: they hide the values of their statements, which are tokens, e-mail addresses, phone numbers.
        """
        if not self.is_sqlite:
            engine = create_engine(self.url, pool_pre_ping=False, hide_parameters=True, **_POSTGRES_POOL)
            return engine, engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        # One connection that only the writer thread uses, and a pool of others that cannot write.
        alone = {"check_same_thread": False}
        writer = create_engine(self.url, poolclass=StaticPool, hide_parameters=True, connect_args=alone)
        tidy = {"factory": cursors.TidyConnection}
        reader = create_engine(self.url, hide_parameters=True, connect_args=tidy, **_SQLITE_POOL)
        cursors.tidy(reader)
        _prepare_sqlite(writer, begin="BEGIN IMMEDIATE", query_only=False)
        _prepare_sqlite(reader, begin="BEGIN", query_only=True)
        return writer, reader

    def _after_fork(self) -> None:
        """In a child: let go of the parent's connections and thread without touching their state."""
        self._guard = threading.Lock()
        if self._writer is not None:
            self._writer.abandon()
            self._writer = None
        # Kept, not dropped: the collector would close them, and with them the parent's session on the server.
        _parents_pools.extend((self._engine.pool, self._reader.pool))
        self._engine, self._reader = self._engines()


def checked_url(url: str) -> URL:
    """Parse a ledger URL, with psycopg2 as PostgreSQL's driver.

    Raises:
        ValueError: Neither SQLite in a file nor PostgreSQL.
    """
    parsed = make_url(url)
    backend = parsed.get_backend_name()
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg2")
    if backend != "sqlite" or not parsed.database or parsed.database == ":memory:":
        raise ValueError("the ledger URL must be sqlite:///<file> or postgresql://…")
    return parsed


def upgrade_ledger(ledger: Ledger) -> str:
    """Create and migrate the schema if it is behind; return the revision it was at before ('' when new)."""
    if not ledger.is_sqlite:
        with ledger._engine.connect() as conn:
            return upgrade_locked(conn)
    Path(str(ledger.url.database)).resolve().parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(ledger.lock_path)
    try:
        # Two processes that open a new file race on journal_mode=wal, so that too happens under the lock.
        with lock.held(), ledger._engine.connect() as conn:
            return upgrade(conn)
    finally:
        lock.close()


def _prepare_sqlite(engine: Engine, begin: str, query_only: bool) -> None:
    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:
        # sqlite3's own idea of when a transaction begins is switched off; "begin" below says it.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        # A setting of the file: only the writer makes it, the first time under the file lock.
        if not query_only:
            cursor.execute("PRAGMA journal_mode = wal")
            cursor.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        cursor.execute("PRAGMA synchronous = full")
        cursor.execute("PRAGMA foreign_keys = on")
        cursor.execute(f"PRAGMA query_only = {int(query_only)}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def on_begin(conn: Connection) -> None:
        conn.exec_driver_sql(begin)


def _is_undone(error: DBAPIError) -> bool:
    """True when the server surely undid the transaction and it may be run again."""
    return getattr(error.orig, "pgcode", None) in _RETRYABLE_SQLSTATES


def _make_secret(conn: Connection, names: Sequence[str]) -> list[str]:
    insert = insert_for(conn.dialect.name)
    for name in names:
        conn.execute(insert(META).values(name=name, value=os.urandom(32).hex()).on_conflict_do_nothing())
    stored = dict(conn.execute(select(META.c.name, META.c.value).where(META.c.name.in_(names))).tuples().all())
    return [stored[name] for name in names]


def _forget_parent() -> None:
    for ledger in list(_open_ledgers):
        ledger._after_fork()


os.register_at_fork(after_in_child=_forget_parent)
