"""Months, the rows of many days in one file: whether they are there changes no answer, only how many files it takes."""

import os
import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from notify_pipeline.core.lake import Lake
from notify_pipeline.reports import (
    merging,
    months,
    reading_downloads,
    reading_lists,
    reading_totals,
    verification,
    versions,
)
from notify_pipeline.reports.manifests import Segment, Version
from notify_pipeline.reports.months import Month
from notify_pipeline.reports.reading import ReportReader
from notify_pipeline.reports.reading_filters import ListFilter
from notify_pipeline.reports.reading_formats import Format
from notify_pipeline.reports.reading_lists import Sort
from tests.reports.desk import NOW, Desk, passed
from tests.reports.worlds import PROVIDERS, World, delivery_id

_DAYS = 7
_DAY_S = 86_400
_LATER = NOW + timedelta(days=60)
_WHERE = ListFilter(("t1",), include_dry_run=True)


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A week in one month, two notifications a day, long ago."""
    folder: Path = tmp_path_factory.mktemp("week")
    made = Desk(Lake(f"{folder}/lake"), folder / "reports")
    world = World()
    for day in range(_DAYS):
        for number in range(2):
            name = f"n{day}-{number}"
            at = day * _DAY_S + number
            world.request(name, at=at, title=f"Title {name}")
            world.audience(3, "ios", name)
            sent = [world.attempt(f"d{who}", "accepted", at + 1 + who, notification=name) for who in range(2)]
            world.attempt("d3", "permanent", at + 4, notification=name, code="Gone")
            world.beacon(sent[0], at=at + 5 + day, notification=name)
            world.state(name, "t1", "done", at + 10)
    world.put(made.lake)
    assert passed(made.update())
    _age(made)
    made.reader.close()
    return folder


@pytest.fixture
def desk(week: Path, tmp_path: Path) -> Iterator[Desk]:
    """That week, to do with as a test likes."""
    shutil.copytree(week, tmp_path, dirs_exist_ok=True)
    made = Desk(Lake(f"{tmp_path}/lake"), tmp_path / "reports")
    yield made
    made.reader.close()


def _age(desk: Desk) -> None:
    """Make every segment look as if it had been written long ago."""
    for path in (desk.root / "segments").glob("*/*"):
        os.utime(path, (0, 0))


def _merge(desk: Desk) -> str | None:
    with versions.writer(desk.root):
        return merging.merge_next(desk.root, desk.settings, _LATER)


def _answers(root: Path, as_of: datetime | None = None) -> list[Any]:
    """Return everything that there is to be told, from a reader of its own."""
    reader = ReportReader(root)
    try:
        pages = []
        for sort in (Sort.NEWEST, Sort.RECEIVED, Sort.P50_UP):
            rows = reading_lists.page(reader, _WHERE, 500, sort, as_of=as_of).rows
            first = reading_lists.page(reader, _WHERE, 5, sort, as_of=as_of)
            second = reading_lists.page(reader, _WHERE, 500, sort, first.following, as_of=as_of)
            assert first.rows + second.rows == rows
            pages.append(rows)
        download = reading_downloads.of_list(reader, _WHERE, next(iter(Format)), by_platform=True, as_of=as_of)
        content = b"".join(download.pieces)
        download.close()
        with reader.cursor(as_of=as_of) as cursor:
            assert cursor is not None
            named = cursor.execute(
                "SELECT table_schema, table_name FROM information_schema.tables"
                " WHERE table_catalog = current_database() ORDER BY ALL"
            ).fetchall()
            tables = [cursor.execute(f"FROM {schema}.{name} ORDER BY ALL").fetchall() for schema, name in named]
        return [pages, content, reading_totals.daily(reader, _WHERE, as_of=as_of), tables]
    finally:
        reader.close()


def _opened(root: Path) -> list[str]:
    """Return the files that a question about all days opens."""
    reader = ReportReader(root)
    version = reader.version()
    assert version is not None
    found = months.parts(version.segments, reader.places(version))
    reader.close()
    return [part.file for part in found]


def test_a_month_gives_the_answers_that_its_days_give(desk: Desk) -> None:
    before = _answers(desk.root)
    assert len(_opened(desk.root)) == _DAYS
    assert _merge(desk) == "2026-11"
    assert len(_opened(desk.root)) == 1
    assert _answers(desk.root) == before
    assert _merge(desk) is None, "all is well, and nothing is copied twice"


def test_a_late_log_shows_at_once_and_what_was_published_before_stays(desk: Desk) -> None:
    before = _answers(desk.root)
    _merge(desk)
    late = World()
    late.beacon(delivery_id("t1", "n2-0", PROVIDERS["ios"][0], "d1"), at=2 * _DAY_S + 60, notification="n2-0")
    late.put(desk.lake, "late")
    desk.update()
    with_month = _answers(desk.root)
    assert with_month != before
    opened = _opened(desk.root)
    assert len(opened) == 2
    months.save(desk.root, [])
    assert _answers(desk.root) == with_month
    old = versions.at(desk.root, NOW)
    assert old is not None
    assert _answers(desk.root, old.published_at) == before


def test_a_day_that_changed_is_copied_once_it_is_quiet(desk: Desk) -> None:
    _merge(desk)
    (first,) = months.load(desk.root)
    late = World()
    late.request("new", at=3 * _DAY_S + 5)
    late.put(desk.lake, "late")
    desk.update()
    with versions.writer(desk.root):
        assert merging.merge_next(desk.root, desk.settings, datetime.now(UTC)) is None
    _age(desk)
    expected = _answers(desk.root)
    assert _merge(desk) == "2026-11"
    (second,) = months.load(desk.root)
    assert first.file != second.file
    assert [path.name for path in (desk.root / merging.FOLDER).iterdir()] == [Path(second.file).name]
    assert len(_opened(desk.root)) == 1
    assert _answers(desk.root) == expected


def test_a_reader_goes_on_when_months_come_and_go(desk: Desk) -> None:
    before = reading_lists.page(desk.reader, _WHERE, 50, Sort.RECEIVED).rows
    for _ in range(3):
        _merge(desk)
        assert reading_lists.page(desk.reader, _WHERE, 50, Sort.RECEIVED).rows == before
        with versions.writer(desk.root):
            merging.drop(desk.root, {"2026-11"})
        assert not list((desk.root / merging.FOLDER).iterdir())
        assert reading_lists.page(desk.reader, _WHERE, 50, Sort.RECEIVED).rows == before


@pytest.mark.parametrize("content", [None, b"no database", b"header"])
def test_a_month_that_cannot_be_read_is_passed_over(desk: Desk, content: bytes | None) -> None:
    before = reading_lists.page(desk.reader, _WHERE, 50, Sort.RECEIVED).rows
    _merge(desk)
    (path,) = (desk.root / merging.FOLDER).iterdir()
    if content == b"header":
        _damage(path, 4096)
    else:
        path.unlink() if content is None else path.write_bytes(content)
    assert reading_lists.page(desk.reader, _WHERE, 50, Sort.RECEIVED).rows == before


def test_verifying_removes_a_copy_whose_rows_are_damaged(desk: Desk) -> None:
    before = reading_lists.page(desk.reader, _WHERE, 50, Sort.RECEIVED).rows
    _merge(desk)
    with versions.writer(desk.root):
        assert merging.drop_unreadable(desk.root, desk.settings) == set()
        (path,) = (desk.root / merging.FOLDER).iterdir()
        for block in range(12_288, path.stat().st_size, 262_144):
            _damage(path, block + 1_000)
        assert verification.verify(desk.lake, desk.root, desk.settings, _LATER) == {}
        assert not path.exists()
    assert reading_lists.page(desk.reader, _WHERE, 50, Sort.RECEIVED).rows == before
    assert _merge(desk) == "2026-11"


def _damage(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes(100 * [1]))


def test_a_day_that_cannot_be_copied_fails_no_build(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    version = versions.current(desk.root)
    assert version is not None
    path = desk.root / version.segments[3].file
    whole = path.read_bytes()
    path.write_bytes(b"damaged")
    os.utime(path, (0, 0))
    assert _merge(desk) is None
    assert "2026-11 could not be copied" in caplog.text
    assert months.load(desk.root) == ()
    path.write_bytes(whole)
    os.utime(path, (0, 0))
    assert _merge(desk) == "2026-11"


def test_what_a_step_that_died_has_left_is_removed(desk: Desk) -> None:
    leftover = desk.root / merging.FOLDER / "2026-11-dead.duckdb"
    leftover.parent.mkdir()
    leftover.write_bytes(b"half")
    assert _merge(desk) == "2026-11"
    assert not leftover.exists()


def _segments(count: int, month: str = "2026-10", notifications: int = 10) -> tuple[Segment, ...]:
    return tuple(
        Segment(f"{month}-{day:02d}", f"s/{month}-{day:02d}", notifications=notifications)
        for day in range(1, count + 1)
    )


def _due(segments: tuple[Segment, ...], found: list[Month], loud: Sequence[Segment] = ()) -> tuple[str, int] | None:
    quiet = {each.file for each in segments} - {each.file for each in loud}
    due = months.due(Version(1, NOW, segments=segments), found, quiet, date(2026, 11, 21))
    return None if due is None else (due[0], len(due[1]))


def _month(segments: tuple[Segment, ...]) -> Month:
    return Month(segments[0].name[:7], "m", "", (), {each.name: each.file for each in segments})


def test_which_month_is_due() -> None:
    month = _segments(31)
    assert _due(month, []) == ("2026-10", 31)
    assert _due(month, [_month(month)]) is None
    assert _due(month, [_month(month[:-1])]) == ("2026-10", 31)
    assert _due(month, [_month(month[:-1])], month[-1:]) is None, "it may change again"
    assert _due(month, [], month[3:]) is None, "three days are opened as they are"
    assert _due(_segments(31, notifications=10_000), []) is None, "to copy that takes too long"
    assert _due(_segments(7, "2026-11"), []) is None, "a month that goes on is not copied daily"
    assert _due(_segments(8, "2026-11"), []) == ("2026-11", 8)
    assert _due(month[1:], [_month(month)]) == ("2026-10", 30), "a day that is no more is not kept in a copy"
    assert _due((), [_month(month)]) == ("2026-10", 0)
    assert _due((*_segments(20, "2026-09"), *month), []) == ("2026-10", 31), "the largest gain first"
