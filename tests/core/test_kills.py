"""kill -9 at random moments, with real processes: what was answered is stored, and lands exactly once."""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from sqlalchemy import select

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.lander import LEASE_S, Lander
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.outbox_tables import OUTBOX
from notify_pipeline.core.ledger.tables import AUDIT, REQUESTS
from tests.waiting import wait_for

# Accepts sends with 16 threads and writes down each answer, a line in one call, so that a kill leaves whole lines.
WRITER = """
import os, sys, threading
from datetime import datetime, timedelta, UTC
from notify_pipeline.core.ledger import requests
from notify_pipeline.core.ledger.engine import Ledger
ledger, tag = Ledger.open(sys.argv[1]), sys.argv[2]
def run(thread):
    for n in range(10**6):
        now = datetime.now(UTC)
        new = requests.NewRequest("t", f"{tag}-{thread}-{n}", {"type": "news"}, now, now + timedelta(days=1))
        accepted = requests.accept(ledger, new)
        os.write(1, f"{accepted.notification_id} {accepted.request_id}\\n".encode())
for thread in range(16):
    threading.Thread(target=run, args=(thread,)).start()
"""
# Lands as fast as it can and writes a line per run. Its clock runs a lease ahead of its predecessor's, so that it need
# not wait for the lease of a dead one to run out.
LANDER = """
import os, sys
from datetime import datetime, timedelta, UTC
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.lander import Lander
from notify_pipeline.core.ledger.engine import Ledger
ledger, ahead = Ledger.open(sys.argv[1]), timedelta(seconds=float(sys.argv[3]))
lander = Lander(ledger, Lake(sys.argv[2]), lambda: datetime.now(UTC) + ahead)
while True:
    os.write(1, f"{lander.run_once()}\\n".encode())
"""


@contextmanager
def running(script: str, *argv: str, output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A Python process, killed at the end at the latest."""
    with output.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-c", script, *argv], stdout=file)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for_output(*outputs: Path) -> None:
    wait_for(lambda: all(output.stat().st_size for output in outputs), what="the processes to answer", every_s=0.01)


def kill_writers(url: str, folder: Path, rounds: int) -> None:
    dice = random.Random(0)
    answers: dict[str, str] = {}
    with Ledger.open(url) as ledger:
        for number in range(rounds):
            outputs = [folder / f"{number}-{n}.txt" for n in range(2)]
            with ExitStack() as stack:
                writers = [stack.enter_context(running(WRITER, url, o.stem, output=o)) for o in outputs]
                wait_for_output(*outputs)
                for writer in writers:
                    time.sleep(dice.uniform(0.0, 0.15))
                    writer.kill()
                    writer.wait()
            answers.update(line.split(" ") for o in outputs for line in o.read_text().splitlines())
            check_ledger(ledger, answers)


def check_ledger(ledger: Ledger, answers: dict[str, str]) -> None:
    with ledger.read() as conn:
        stored = dict(conn.execute(select(REQUESTS.c.notification_id, REQUESTS.c.request_id)).tuples().all())
        audited = list(conn.execute(select(AUDIT.c.request_id)).scalars())
        waiting = conn.execute(select(OUTBOX.c.rows).where(OUTBOX.c.lake_table == "requests")).scalars()
        lake = [row["request_id"] for rows in waiting for row in orjson.loads(rows)]
    assert answers.items() <= stored.items()  # nothing that was answered is lost or another's
    assert sorted(audited) == sorted(lake) == sorted(stored.values())  # nothing is half there


def kill_landers(url: str, folder: Path, rounds: int) -> None:
    dice = random.Random(1)
    lake = Lake(str(folder / "lake"))
    written = folder / "writer.txt"
    with running(WRITER, url, "w", output=written):
        wait_for_output(written)
        for number in range(rounds):
            output = folder / f"lander-{number}.txt"
            with running(LANDER, url, lake.root, str(number * LEASE_S), output=output) as lander:
                wait_for_output(output)
                time.sleep(dice.uniform(0.0, 0.3))
                lander.kill()
    answers = dict(line.split(" ") for line in written.read_text().splitlines())
    with Ledger.open(url) as ledger:
        ahead = timedelta(seconds=rounds * LEASE_S)
        last = Lander(ledger, lake, lambda: datetime.now(UTC) + ahead)
        reasons = [last.run_once().stopped_reason for _ in range(50)]
        assert reasons[-1] == "empty"
        with ledger.read() as conn:
            stored = dict(conn.execute(select(REQUESTS.c.notification_id, REQUESTS.c.request_id)).tuples().all())
            audited = list(conn.execute(select(AUDIT.c.audit_id)).scalars())
    assert answers.items() <= stored.items()
    for table, column, expected in (("requests", "request_id", list(stored.values())), ("audit", "audit_id", audited)):
        landed = [v for f in lake.list(table) for v in lake.read(f.path)[column].to_pylist()]
        assert sorted(landed) == sorted(expected)


def test_nothing_answered_is_lost_when_writers_are_killed(sqlite_url: str, tmp_path: Path) -> None:
    kill_writers(sqlite_url, tmp_path, rounds=3)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_nothing_answered_is_lost_when_writers_are_killed_twenty_times(ledger_url: str, tmp_path: Path) -> None:
    kill_writers(ledger_url, tmp_path, rounds=20)


def test_every_row_lands_once_when_landers_are_killed(sqlite_url: str, tmp_path: Path) -> None:
    kill_landers(sqlite_url, tmp_path, rounds=4)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_every_row_lands_once_when_landers_are_killed_twenty_times(ledger_url: str, tmp_path: Path) -> None:
    kill_landers(ledger_url, tmp_path, rounds=20)
