"""Extracts of reports: which days are due, what is in their files, and that writing them again changes no byte."""

from datetime import date, timedelta
from pathlib import Path

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notify_pipeline.core.lake import Lake
from notify_pipeline.reports import extracts
from notify_pipeline.reports.extracts import DayState
from tests.reports.desk import Desk
from tests.reports.worlds import START, World, put

DAY = START.date()
NEXT = DAY + timedelta(days=1)
STATES = st.builds(DayState, rows=st.just(1), settled=st.booleans(), token=st.sampled_from("ab"))
DAYS = st.dictionaries(st.dates(DAY, DAY + timedelta(days=6)), STATES)


@given(now=DAYS, written=DAYS, today=st.dates(DAY, DAY + timedelta(days=6)))
def test_a_day_is_due_when_over_and_unwritten_or_newly_settled_or_changed_since(
    now: dict[date, DayState], written: dict[date, DayState], today: date
) -> None:
    found = extracts.due(now, written, today)
    assert found == sorted(found)
    for day, state in now.items():
        before = written.get(day)
        waits = before is not None and not before.settled and not state.settled
        assert (day in found) == (day < today and state != before and not waits)
    # Once what is due has been written, nothing is.
    assert extracts.due(now, written | {day: now[day] for day in found}, today) == []


@given(days=st.sets(st.dates(DAY, DAY + timedelta(days=20))), longest=st.integers(1, 5))
def test_ranges_hold_every_day_once(days: set[date], longest: int) -> None:
    found = extracts.ranges(sorted(days), longest)
    lengths = [(last - first).days + 1 for first, last in found]
    assert max(lengths, default=1) <= longest
    assert [
        first + timedelta(days=n) for (first, _), size in zip(found, lengths, strict=True) for n in range(size)
    ] == (sorted(days))


def contents(lake: Lake) -> dict[str, tuple[str, bytes]]:
    """Return every file of the extracts: what a listing says of it, and its bytes."""
    return {file.path: (file.etag, lake.read_bytes(file.path)) for file in lake.list("extracts", suffix="")}


def test_a_day_is_written_whole_and_again_when_it_settles_and_when_a_late_log_comes(lake: Lake, tmp_path: Path) -> None:
    desk = Desk(lake, tmp_path)
    with pytest.raises(extracts.NoReportsError):
        extracts.write(desk.reader, lake, DAY)
    world = World()
    world.request("n1", title="Ä")
    world.audience(2)
    one = world.attempt("a", "accepted")
    two = world.attempt("b", "accepted")
    world.state("n1", "t1", "done", 2)
    world.put(lake)
    assert all(result.passed for result in desk.update())

    done = extracts.write(desk.reader, lake, DAY)
    assert (done.notifications, done.platform_reports, done.files_changed, done.settled) == (1, 1, 4, False)
    lines = lake.read_bytes(f"extracts/reports/date={DAY}/reports.ndjson").splitlines()
    row = orjson.loads(lines[0])
    assert len(lines) == 1
    assert (row["title"], row["accepted"], row["accepted_at"]) == ("Ä", 2, "2026-11-21T06:00:00.000000Z")
    assert "received_through" not in row
    parquet: pa.Table = lake.read(f"extracts/platform_reports/date={DAY}/platform_reports.parquet")
    assert parquet.select(["platform", "accepted"]).to_pylist() == [{"platform": "ios", "accepted": 2}]
    first = contents(lake)
    assert extracts.write(desk.reader, lake, DAY).files_changed == 0
    assert contents(lake) == first
    assert done.bytes == sum(len(content) for path, (_, content) in first.items() if "date=" in path)
    assert extracts.due(extracts.states(desk.reader), extracts.written(lake), NEXT) == []

    world.beacon(one, at=3_600 * 2)  # read far past the end: all of the day is settled
    put(lake, "receipts", world.rows["receipts"], "log")
    desk.publish()
    assert extracts.due(extracts.states(desk.reader), extracts.written(lake), NEXT) == [DAY]
    assert extracts.write(desk.reader, lake, DAY).settled
    world.rows["receipts"].clear()
    world.beacon(two, at=30)
    put(lake, "receipts", world.rows["receipts"], "late")
    desk.publish()
    assert extracts.due(extracts.states(desk.reader), extracts.written(lake), NEXT) == [DAY]
    assert extracts.write(desk.reader, lake, DAY).files_changed == 4
    assert orjson.loads(lake.read_bytes(f"extracts/reports/date={DAY}/reports.ndjson"))["received"] == 2
    assert extracts.due(extracts.states(desk.reader), extracts.written(lake), NEXT) == []
    assert extracts.write(desk.reader, lake, NEXT).notifications == 0
    assert lake.read(f"extracts/reports/date={NEXT}/reports.parquet").num_rows == 0
