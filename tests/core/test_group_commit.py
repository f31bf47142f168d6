"""Group commit: who gets which answer, forks, and a lock whose holder died."""

import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, select

from notify_pipeline.core.ledger import group_commit, requests
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.group_commit import FileLock, LedgerBusy, LedgerClosed, WriteFailed
from notify_pipeline.core.ledger.tables import META
from notify_pipeline.core.ledger.tenant_tables import KEYS
from tests.waiting import PATIENCE_S

WRITER_DIES = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


def put(conn: Connection, items: Sequence[str]) -> list[str]:
    for item in items:
        conn.execute(META.insert().values(name=item, value="x"))
    return list(items)


def names(ledger: Ledger) -> set[str]:
    with ledger.read() as conn:
        return set(conn.execute(select(META.c.name)).scalars())


def test_what_waits_shares_a_transaction(sqlite_ledger: Ledger) -> None:
    sizes: list[int] = []

    def count(conn: Connection, items: Sequence[int]) -> list[int]:
        sizes.append(len(items))
        return list(items)

    lock = FileLock(sqlite_ledger.lock_path)
    with ThreadPoolExecutor(20) as pool:
        with lock.held():
            waiting = [pool.submit(sqlite_ledger.write, count, n) for n in range(20)]
            deadline = time.monotonic() + PATIENCE_S
            while sqlite_ledger.waiting < 19 and time.monotonic() < deadline:
                time.sleep(0.001)
        assert [f.result() for f in waiting] == list(range(20))
    lock.close()
    assert sizes == [20]


def test_a_transaction_is_bounded(sqlite_ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "MAX_ITEMS_PER_TRANSACTION", 4)
    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(lambda n: sqlite_ledger.write(put, f"n{n}"), range(40))) == [f"n{n}" for n in range(40)]


def test_a_handler_that_forgets_an_item_is_found_out(sqlite_ledger: Ledger) -> None:
    def forgetful(conn: Connection, items: Sequence[str]) -> list[str]:
        put(conn, items)
        return []

    with pytest.raises(RuntimeError, match="0 results for 1 items"):
        sqlite_ledger.write(forgetful, "x")
    assert names(sqlite_ledger) == set()


def test_a_transaction_that_cannot_commit_fails_every_caller_and_stores_nothing(sqlite_ledger: Ledger) -> None:
    def orphan(conn: Connection, items: Sequence[str]) -> list[str]:
        put(conn, items)
        conn.exec_driver_sql("PRAGMA defer_foreign_keys = on")
        key = {"key_id": "k", "tenant": "nobody", "scope": "secret", "sha256": "x", "created_at": 0}
        conn.execute(KEYS.insert().values(key))
        return list(items)

    with pytest.raises(WriteFailed, match="FOREIGN KEY"):
        sqlite_ledger.write(orphan, "x")
    assert sqlite_ledger.write(put, "after") == "after"
    assert names(sqlite_ledger) == {"after"}


def test_a_closed_ledger_refuses(sqlite_ledger: Ledger) -> None:
    sqlite_ledger.write(put, "x")
    sqlite_ledger.close()
    sqlite_ledger.close()
    with pytest.raises(LedgerClosed):
        sqlite_ledger.write(put, "y")
    with pytest.raises(LedgerClosed), sqlite_ledger.read():
        pass


def test_a_caller_is_told_when_nobody_can_write(sqlite_ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    sqlite_ledger.write(put, "x")
    monkeypatch.setattr(group_commit, "WAIT_S", 0.05)
    lock = FileLock(sqlite_ledger.lock_path)
    with lock.held(), pytest.raises(LedgerBusy):
        sqlite_ledger.write(put, "y")
    lock.close()


@WRITER_DIES
def test_a_writer_that_died_is_replaced(sqlite_ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(conn: Connection, items: Sequence[str]) -> list[str]:
        raise SystemExit

    with pytest.raises(LedgerClosed):
        sqlite_ledger.write(dies, "x")
    assert sqlite_ledger.write(put, "y") == "y"


def _child(ledger: Ledger, name: str) -> None:
    assert ledger.write(put, name) == name
    assert name in names(ledger)
    ledger.close()


def test_a_forked_child_writes_and_reads_beside_its_parent(ledger: Ledger) -> None:
    ledger.write(put, "before")
    children = [multiprocessing.get_context("fork").Process(target=_child, args=(ledger, f"c{n}")) for n in range(3)]
    for child in children:
        child.start()
    ledger.write(put, "parent")
    for child in children:
        child.join(PATIENCE_S)
    assert [child.exitcode for child in children] == [0, 0, 0]
    ledger.write(put, "after")
    assert names(ledger) == {"before", "parent", "c0", "c1", "c2", "after"}


def test_a_child_of_a_dead_parent_does_not_keep_its_lock(tmp_path: Path) -> None:
    script = """
import os, sys, time, signal
from notify_pipeline.core.ledger.engine import Ledger
ledger = Ledger.open(sys.argv[1])
def hang(conn, items):
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(60)
    time.sleep(60)
ledger.write(hang, None)
"""
    url = f"sqlite:///{tmp_path}/ledger.db"
    parent = subprocess.Popen([sys.executable, "-c", script, url], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    orphan = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    try:
        with Ledger.open(url) as ledger:
            assert ledger.write(put, "x") == "x"
        with (tmp_path / "ledger.lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.kill(orphan, signal.SIGKILL)
        parent.stdout.close()


def test_an_id_accepted_before_a_restart_is_replayed_after_it(ledger_url: str) -> None:
    now = datetime(2026, 11, 21, tzinfo=UTC)

    def send(ledger: Ledger) -> requests.Accepted:
        new = requests.NewRequest("t", "n", {"type": "news"}, now, now + timedelta(days=1))
        return requests.accept(ledger, new)

    with Ledger.open(ledger_url) as ledger:
        first = send(ledger)
    with Ledger.open(ledger_url) as ledger, ThreadPoolExecutor(16) as pool:
        again = list(pool.map(lambda _: send(ledger), range(64)))
    assert {(a.request_id, a.duplicate) for a in again} == {(first.request_id, True)}


@WRITER_DIES
def test_threads_of_a_dead_writer_do_not_hang(sqlite_ledger: Ledger) -> None:
    def dies(conn: Connection, items: Sequence[str]) -> list[str]:
        raise SystemExit

    lock = FileLock(sqlite_ledger.lock_path)
    sqlite_ledger.write(put, "first")
    with ThreadPoolExecutor(8) as pool:
        with lock.held():
            waiting = [
                pool.submit(sqlite_ledger.write, handler, str(n))
                for n, handler in enumerate([put] * 3 + [dies] + [put] * 3)
            ]
            deadline = time.monotonic() + PATIENCE_S
            while sqlite_ledger.waiting < 6 and time.monotonic() < deadline:
                time.sleep(0.001)
        for future in waiting:
            assert isinstance(future.exception(timeout=PATIENCE_S), LedgerClosed)
    lock.close()
    assert names(sqlite_ledger) == {"first"}
