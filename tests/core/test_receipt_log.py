"""The raw receipt log: durable lines, whole files, nothing lost or doubled by a kill."""

import gzip
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.receipt_log import ReceiptLog, receipt_line
from tests.waiting import PATIENCE_S

NOW = datetime(2026, 11, 21, 6, 59, 59, 987654, tzinfo=UTC)


def open_log(home: Path, **options: float) -> ReceiptLog:
    clock = options.pop("at", None)
    extra = {} if clock is None else {"monotonic": lambda: clock}
    return ReceiptLog(home / "open", Lake(str(home / "logs")), **options, **extra)  # type: ignore[arg-type]


def delivered(home: Path) -> Counter[bytes]:
    """Return every delivered line with how often it is there. Raises if a file is torn."""
    lines: Counter[bytes] = Counter()
    for path in (home / "logs").rglob("*.log.gz"):
        content = gzip.decompress(path.read_bytes())
        assert content.endswith(b"\n")
        lines.update(content.splitlines())
    return lines


def test_a_line_is_what_a_cdn_writes() -> None:
    line = orjson.loads(receipt_line("/notification/received", "a=1&b=%00", NOW, status=204))
    assert line == {
        "datetime": "2026-11-21T06:59:59.987Z",
        "event": "/notification/received",
        "querystring": "a=1&b=%00",
        "status": 204,
    }


def test_a_moment_in_another_zone_is_written_in_utc() -> None:
    from zoneinfo import ZoneInfo

    there = NOW.astimezone(ZoneInfo("Asia/Kolkata"))
    assert receipt_line("/x", "", there) == receipt_line("/x", "", NOW)


def test_a_line_is_durable_before_append_returns(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.append(b"one", NOW)
    (path,) = (tmp_path / "open").iterdir()
    assert path.read_bytes() == b"one\n"
    assert delivered(tmp_path) == {}
    log.close()
    assert delivered(tmp_path) == {b"one": 1}
    assert list((tmp_path / "open").iterdir()) == []


def test_files_go_to_their_hour(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.append(b"before", NOW)
    log.append(b"after", NOW + timedelta(seconds=1))
    log.append(b"late", NOW)
    log.close()
    hours = Counter(str(path.parent.relative_to(tmp_path / "logs")) for path in (tmp_path / "logs").rglob("*.gz"))
    assert hours == {"ingress/date=2026-11-21/hour=06": 2, "ingress/date=2026-11-21/hour=07": 1}
    assert delivered(tmp_path) == {b"before": 1, b"after": 1, b"late": 1}


def test_age_and_size_rotate(tmp_path: Path) -> None:
    now = [0.0]
    log = ReceiptLog(
        tmp_path / "open", Lake(str(tmp_path / "logs")), rotate_s=5, max_bytes=10, monotonic=lambda: now[0]
    )
    log.append(b"a", NOW)
    now[0] = 4.9
    log.tick()
    assert delivered(tmp_path) == {}
    now[0] = 5.0
    log.tick()
    assert delivered(tmp_path) == {b"a": 1}
    log.append(b"b" * 20, NOW)
    log.append(b"c", NOW)
    log.tick()
    assert delivered(tmp_path) == {b"a": 1, b"b" * 20: 1}
    log.close()


def test_waiting_callers_share_a_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log(tmp_path)
    syncs = []
    real = os.fdatasync

    def slow(fd: int) -> None:
        syncs.append(fd)
        time.sleep(0.05)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", slow)
    threads = [threading.Thread(target=log.append, args=(f"{n}".encode(), NOW)) for n in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert delivered(tmp_path) == {f"{n}".encode(): 1 for n in range(40)}
    assert len(syncs) < 20


def test_a_failed_write_is_told_and_leaves_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log(tmp_path)
    log.append(b"good", NOW)
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[: len(data) // 2]))
    with pytest.raises(OSError, match="disk full"):
        log.append(b"never answered", NOW)
    monkeypatch.undo()
    log.append(b"again", NOW)
    log.close()
    assert delivered(tmp_path) == {b"good": 1, b"again": 1}


def test_a_closed_log_refuses(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.close()
    log.close()
    with pytest.raises(OSError, match="closed"):
        log.append(b"x", NOW)


def test_a_store_that_fails_loses_nothing(tmp_path: Path) -> None:
    class Broken:
        def exists(self, path: str) -> bool:
            return False

        def write_bytes(self, path: str, data: bytes) -> None:
            raise ConnectionError("the store is away")

    log = ReceiptLog(tmp_path / "open", Broken())
    log.append(b"kept", NOW)
    with pytest.raises(ConnectionError):
        log.close()
    open_log(tmp_path).sweep()
    assert delivered(tmp_path) == {b"kept": 1}


def test_a_line_cut_by_a_power_loss_was_never_answered(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "2026-11-21T06--dead-000000.log").write_bytes(b"whole\nhal")
    (tmp_path / "open" / "2026-11-21T06--dead-000001.log").write_bytes(b"hal")
    (tmp_path / "open" / "2026-11-21T06--dead-000002.log").write_bytes(b"")
    open_log(tmp_path).sweep()
    assert delivered(tmp_path) == {b"whole": 1}
    assert list((tmp_path / "open").iterdir()) == []


def test_a_kill_between_delivering_and_removing_doubles_nothing(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.append(b"once", NOW)
    (path,) = (tmp_path / "open").iterdir()
    content = path.read_bytes()
    log.close()
    # As if it had been killed before the removal.
    path.write_bytes(content)
    assert open_log(tmp_path).sweep() == 1
    assert delivered(tmp_path) == {b"once": 1}


def test_a_living_worker_keeps_its_file(tmp_path: Path) -> None:
    first, second = open_log(tmp_path), open_log(tmp_path)
    first.append(b"mine", NOW)
    assert second.sweep() == 0
    first.append(b"too", NOW)
    first.close()
    second.close()
    assert delivered(tmp_path) == {b"mine": 1, b"too": 1}


def test_many_sweepers_deliver_each_file_once(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    for n in range(50):
        (tmp_path / "open" / f"2026-11-21T06--dead-{n:06d}.log").write_bytes(f"line {n}\n".encode())
    logs = [open_log(tmp_path) for _ in range(8)]
    counts: list[int] = []
    threads = [threading.Thread(target=lambda log=log: counts.append(log.sweep())) for log in logs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 50
    assert delivered(tmp_path) == {f"line {n}".encode(): 1 for n in range(50)}


_WORKER = """
import sys, threading
from datetime import UTC, datetime
from pathlib import Path
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.receipt_log import ReceiptLog

home, name = Path(sys.argv[1]), sys.argv[2]
log = ReceiptLog(home / "open", Lake(str(home / "logs")), rotate_s=0.02)
guard = threading.Lock()
def write(thread):
    n = 0
    while True:
        line = f"{name}-{thread}-{n}"
        log.append(line.encode(), datetime.now(UTC))
        with guard:
            sys.stdout.write(line + "\\n"); sys.stdout.flush()
        n += 1
for thread in range(4):
    threading.Thread(target=write, args=(thread,), daemon=True).start()
while True:
    log.tick()
"""


def test_kill_9_loses_no_acknowledged_line_and_doubles_none(tmp_path: Path) -> None:
    rng = random.Random(7)
    answered: list[bytes] = []
    for round_number in range(6):
        workers = []
        for n in range(2):
            path = tmp_path / f"answered-{round_number}-{n}"
            with path.open("wb") as out:
                command = [sys.executable, "-c", _WORKER, str(tmp_path), f"{round_number}.{n}"]
                workers.append((subprocess.Popen(command, stdout=out), path))
        deadline = time.monotonic() + PATIENCE_S
        while not all(path.stat().st_size for _, path in workers) and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(rng.uniform(0.05, 0.3))
        for process, path in workers:
            process.kill()
            process.wait()
            # The last line may be cut by the kill.
            answered += path.read_bytes().split(b"\n")[:-1]
    open_log(tmp_path).sweep()
    lines = delivered(tmp_path)
    assert len(answered) > 100
    assert set(answered) <= set(lines)
    assert max(lines.values()) == 1
