"""Looks through the logs: they find what lies unread, and say how far all is read."""

import os
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from notify_pipeline.core import log_watermark
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.partitions import HOUR as ONE_HOUR
from notify_pipeline.core.partitions import partition
from notify_pipeline.receipts.hours import process_hour
from notify_pipeline.receipts.logs import Logs
from notify_pipeline.receipts.looking import GRACE, Look, look
from tests.receipts.samples import HOUR, line, log

NOW = HOUR + timedelta(minutes=30)
DELAY = timedelta(minutes=10)
FIRST = HOUR - timedelta(days=40)


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    """Raw logs in a folder."""
    return Logs(str(tmp_path / "logs"))


def put(tmp_path: Path, hour: datetime, name: str = "a.log", *, written: datetime) -> None:
    """Put a log file that appeared at a moment."""
    path = tmp_path / "logs" / "fastly" / partition(hour) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(log(line(), compress=False))
    os.utime(path, (written.timestamp(), written.timestamp()))


def look_at(lake: Lake, logs: Logs, now: datetime = NOW) -> Look:
    """Look."""
    return look(lake, logs, now, DELAY, FIRST)


def test_with_nothing_to_read_the_mark_follows_the_clock(folder_lake: Lake, logs: Logs) -> None:
    assert look_at(folder_lake, logs).mark == NOW - GRACE - DELAY
    later = NOW + timedelta(minutes=5)
    found = look_at(folder_lake, logs, later)
    assert found.mark == log_watermark.read(folder_lake) == later - GRACE - DELAY
    assert (found.hours[0], found.hours[-1]) == (HOUR - 3 * ONE_HOUR, HOUR + ONE_HOUR)


def test_a_file_that_lies_unread_holds_the_mark_back(folder_lake: Lake, logs: Logs, tmp_path: Path) -> None:
    look_at(folder_lake, logs)
    later = NOW + timedelta(minutes=5)
    put(tmp_path, HOUR, written=NOW + timedelta(minutes=1))
    found = look_at(folder_lake, logs, later)
    assert (found.waiting, found.mark) == ([HOUR], NOW - GRACE - DELAY)
    process_hour(folder_lake, logs, HOUR)
    assert look_at(folder_lake, logs, later).mark == later - GRACE - DELAY


def test_a_mark_that_lies_ahead_is_taken_back_and_all_is_looked_through(
    folder_lake: Lake, logs: Logs, tmp_path: Path
) -> None:
    put(tmp_path, old := HOUR - timedelta(days=2), written=NOW - timedelta(minutes=20))
    put(tmp_path, HOUR, written=NOW - timedelta(minutes=20))
    log_watermark.advance(folder_lake, NOW + timedelta(days=400))
    found = look_at(folder_lake, logs)
    assert (found.waiting, found.mark) == ([old, HOUR], None)
    for hour in found.waiting:
        process_hour(folder_lake, logs, hour)
    assert look_at(folder_lake, logs).mark == NOW - GRACE - DELAY


def test_a_file_that_just_came_is_left_to_the_sensor(folder_lake: Lake, logs: Logs, tmp_path: Path) -> None:
    put(tmp_path, HOUR, written=NOW - GRACE + timedelta(seconds=1))
    found = look_at(folder_lake, logs)
    assert (found.waiting, found.mark) == ([], NOW - GRACE - DELAY)


def test_no_hour_is_jumped_over_after_a_pause(folder_lake: Lake, logs: Logs, tmp_path: Path) -> None:
    look_at(folder_lake, logs)
    back = NOW + timedelta(days=2)
    put(tmp_path, HOUR, "late.log", written=NOW)
    put(tmp_path, HOUR + 20 * ONE_HOUR, written=back - ONE_HOUR)
    found = look_at(folder_lake, logs, back)
    assert (found.waiting, found.mark) == ([HOUR, HOUR + 20 * ONE_HOUR], NOW - GRACE - DELAY)
    for hour in found.waiting:
        process_hour(folder_lake, logs, hour)
    assert look_at(folder_lake, logs, back).mark == back - GRACE - DELAY


def test_the_first_look_is_at_every_hour_that_counts(folder_lake: Lake, logs: Logs, tmp_path: Path) -> None:
    put(tmp_path, FIRST - ONE_HOUR, written=NOW - timedelta(days=1))
    put(tmp_path, FIRST, written=NOW - timedelta(days=1))
    found = look_at(folder_lake, logs)
    assert (found.waiting, found.mark) == ([FIRST], None)
    assert look(folder_lake, logs, NOW, DELAY, FIRST, at_most=3).waiting == found.hours
