"""Rounds through all days of logs, in a folder and on S3: what was not read, or changed since, is found at any age."""

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.partitions import partition
from notify_pipeline.receipts import retractions, rounds
from notify_pipeline.receipts.hours import process_hour
from notify_pipeline.receipts.logs import Logs, discover
from tests.receipts.samples import HOUR, line, log, query

FIRST = HOUR - timedelta(days=365)
DAY = timedelta(days=1)


@pytest.fixture
def raw_logs(lake_root: str, lake_endpoint: str | None) -> Lake:
    """Where logs are put."""
    return Lake(f"{lake_root}-logs", lake_endpoint)


@pytest.fixture
def logs(raw_logs: Lake) -> Logs:
    """The same, as the receipts see it."""
    return Logs(raw_logs.root, raw_logs.s3_endpoint_url)


def soon() -> datetime:
    """A moment when the files that a store takes now, by its own clock, came more than a minute ago."""
    return datetime.now(UTC) + timedelta(minutes=2)


def put(raw_logs: Lake, hour: datetime, who: str, source: str = "fastly", name: str = "a.gz") -> str:
    path = f"{source}/{partition(hour)}/{name}"
    raw_logs.write_bytes(path, log(line(query(who), at=hour + timedelta(minutes=1))))
    return path


def round_of(lake: Lake, logs: Logs, steps: int) -> list[datetime]:
    """Return what a round of so many steps finds."""
    found, after = [], None
    for _ in range(steps):
        step = rounds.step(lake, logs, soon(), after, FIRST)
        found += step.hours
        after = step.last
    return found


def test_a_file_of_any_age_that_came_late_or_was_overwritten_is_found(lake: Lake, logs: Logs, raw_logs: Lake) -> None:
    days = [HOUR - number * DAY for number in (0, 1, 8, 40, 300)]
    for hour in days:
        put(raw_logs, hour, "a")
        put(raw_logs, hour, "b", source="other")
    assert round_of(lake, logs, len(days)) == days, "a day at a step, from the latest back"
    for hour in days:
        process_hour(lake, logs, hour)
    seen = discover(logs, None, soon()).cursor
    assert round_of(lake, logs, 2 * len(days)) == []
    put(raw_logs, days[3], "another, of another length")
    put(raw_logs, days[4] + timedelta(hours=3), "c", name="late.gz")
    if raw_logs.root.startswith("s3:"):
        assert discover(logs, seen, soon()).hours == [], "which is not seen at once"
    assert round_of(lake, logs, len(days)) == [days[3], days[4] + timedelta(hours=3)]
    for hour in (days[3], days[4] + timedelta(hours=3)):
        process_hour(lake, logs, hour)
    assert round_of(lake, logs, len(days)) == []


def test_what_was_taken_back_or_has_just_come_or_does_not_count_is_left_alone(
    lake: Lake, logs: Logs, raw_logs: Lake
) -> None:
    gone = put(raw_logs, HOUR - 9 * DAY, "gone")
    retractions.retract(lake, gone, soon(), "a load test")
    put(raw_logs, FIRST - timedelta(hours=1), "before all")
    put(raw_logs, soon() + 2 * DAY, "a clock gone wrong")
    raw_logs.write_bytes(f"fastly/{partition(HOUR)}/.unfinished", b"x")
    raw_logs.write_bytes("fastly/date=2026-11-20/stray.log", b"x")
    assert round_of(lake, logs, 6) == []
    put(raw_logs, HOUR, "just now")
    just_now = datetime.now(UTC) + timedelta(seconds=30)
    assert rounds.step(lake, logs, just_now, (soon() + 2 * DAY).date(), FIRST).hours == []


def test_an_empty_store_has_no_days(lake: Lake, logs: Logs) -> None:
    assert rounds.step(lake, logs, soon(), date(2026, 11, 21), FIRST) == rounds.Found([], None)


def test_in_a_folder_an_old_file_overwritten_in_place_keeps_its_folders_time(folder_lake: Lake, tmp_path: Path) -> None:
    raw_logs = Lake(str(tmp_path / "raw"))
    logs = Logs(raw_logs.root)
    path = tmp_path / "raw" / put(raw_logs, HOUR - 5 * DAY, "a")
    process_hour(folder_lake, logs, HOUR - 5 * DAY)
    assert round_of(folder_lake, logs, 1) == []
    path.write_bytes(log(line(query("b"))))
    os.utime(path, (HOUR.timestamp(),) * 2)
    assert round_of(folder_lake, logs, 1) == [HOUR - 5 * DAY]


@settings(max_examples=20)
@given(st.sets(st.dates(date(2020, 1, 1), date(2030, 1, 1)), max_size=400), st.none() | st.dates(date(2019, 1, 1)))
def test_a_round_sees_every_day_in_bounded_steps(days: set[date], after: date | None) -> None:
    seen: set[date] = set()
    for _ in range(2 * rounds.STEPS):
        taken = rounds.next_days(days, after)
        seen.update(taken)
        after = taken[-1] if taken else None
    assert seen == days
    assert len(rounds.next_days(days, None)) <= len(days) / rounds.STEPS + 1
