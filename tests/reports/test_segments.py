"""Segments: a change writes the days that it concerns and no other, what is frozen stays, and a crash costs nothing."""

import multiprocessing
import os
import random
from datetime import date, timedelta
from pathlib import Path

import pytest

from notify_pipeline.core import log_watermark
from notify_pipeline.core.lake import Lake
from notify_pipeline.reports import frozen, lake_diff, state, versions
from notify_pipeline.reports.build import DamagedSegmentError, is_stale
from notify_pipeline.reports.comparison import compare, files_of
from notify_pipeline.reports.thinning import kept
from notify_pipeline.reports.verification import verify
from tests.reports.desk import NOW, Desk, passed
from tests.reports.worlds import START, World, put, seconds

DAY = 86_400


@pytest.fixture
def desk(folder_lake: Lake, tmp_path: Path) -> Desk:
    """Three notifications, of three days, each with a genuine beacon and one that belongs to nothing."""
    desk = Desk(folder_lake, tmp_path / "reports")
    for number in range(3):
        put_all(_sent(number), desk.lake, f"day-{number}", number)
    assert passed(desk.update())
    return desk


def _sent(number: int) -> World:
    world, name, at = World(), f"n{number}", number * DAY
    world.request(name, at=at)
    world.audience(3, notification=name)
    world.beacon(world.attempt("a", "accepted", at + 1, notification=name), at=at + 5, notification=name)
    world.beacon("f" * 40, at=at + 5, notification=name)
    world.beacon("e" * 40, at=at + 6, notification=f"unknown-{number}")
    return world


def put_all(world: World, lake: Lake, name: str, day: int) -> None:
    """Write a world's rows, one file per table, into the hour of a day where such rows would be."""
    for table, rows in world.rows.items():
        put(lake, table, rows, name, seconds(day * DAY))


def files(desk: Desk) -> dict[str, str]:
    """Return the current version's files by day."""
    version = versions.current(desk.root)
    assert version is not None
    return {segment.name: segment.file for segment in version.segments}


def equals_rebuild(desk: Desk) -> None:
    """Hold the current version against the whole lake."""
    version = versions.current(desk.root)
    assert version is not None
    candidate = desk.build(full=True)
    assert compare(files_of(version, desk.root), files_of(candidate, desk.root)) == {}
    candidate.discard()


def test_a_change_writes_the_days_that_it_concerns(desk: Desk) -> None:
    before = files(desk)
    assert list(before) == ["2026-11-21", "2026-11-22", "2026-11-23"]
    late = World()
    late.beacon(late.attempt("b", "accepted", DAY + 2, notification="n1"), at=2 * DAY, notification="n1")
    put_all(late, desk.lake, "late", 1)
    assert passed(desk.update())
    after = files(desk)
    assert {day for day in after if after[day] != before[day]} == {"2026-11-22"}
    assert desk.report("n1")["totals"]["received"] == 2
    # The same rows in other files, as a compaction leaves them: nothing is written, though a version says so.
    for file in desk.lake.list("attempts"):
        desk.lake.write(file.path.replace(".parquet", "-compacted.parquet"), desk.lake.read(file.path))
        desk.lake.delete([file.path])
    assert passed(desk.update())
    assert files(desk) == after
    # A retraction takes a day's rows away, and a request that was accepted on another day moves.
    desk.lake.delete([file.path for file in desk.lake.list() if "day-2" in file.path])
    moved = World()
    moved.request("n0", at=DAY)
    desk.lake.delete([file.path for file in desk.lake.list("requests") if "day-0" in file.path])
    put(desk.lake, "requests", moved.rows["requests"], "moved", seconds(DAY))
    desk.publish()
    assert sorted(files(desk)) == ["2026-11-21", "2026-11-22"]
    days = desk.query("SELECT notification_id, accepted_at::DATE FROM notifications ORDER BY ALL")
    assert days == [("n0", date(2026, 11, 22)), ("n1", date(2026, 11, 22))]
    equals_rebuild(desk)


def test_what_is_frozen_stays_whatever_the_lake_says(desk: Desk) -> None:
    before = files(desk)
    reports = [desk.report(f"n{number}")["totals"] for number in range(2)]
    assert frozen.move(desk.root, date(2026, 11, 23)) == date(2026, 11, 23)
    assert frozen.move(desk.root, date(2026, 11, 1)) == date(2026, 11, 23)
    desk.lake.delete([file.path for file in desk.lake.list() if "day-0" in file.path])
    late = World()
    late.attempt("b", "accepted", DAY + 2, notification="n1")
    late.beacon("d" * 40, notification="n0")
    late.beacon("d" * 40, notification="unknown-1")
    late.request("n9", at=5)
    late.put(desk.lake, "late")
    for full in (False, True):
        assert passed(desk.update(full=full))
        after = files(desk)
        assert {day for day in after if after[day] != before[day]} <= {"2026-11-23"}
        assert [desk.report(f"n{number}")["totals"] for number in range(2)] == reports
        assert not desk.knows("n9")
        assert desk.query("SELECT sum(deliveries)::INT FROM facts.foreign_beacons") == [(6,)]
    new = World()
    new.request("n1", "t2", at=2 * DAY)  # of that name, but another tenant's and another day's
    put_all(new, desk.lake, "new", 2)
    assert passed(desk.update())
    assert desk.report("n1", "t2")["accepted_at"] == seconds(2 * DAY)
    assert verify(desk.lake, desk.root, desk.settings, NOW) == {}


@pytest.mark.parametrize(("length", "scratched"), [(None, []), (5_000, []), (None, [4_096]), (None, [12_388, 274_532])])
def test_a_damaged_day_is_computed_anew_unless_it_is_frozen(
    desk: Desk, length: int | None, scratched: list[int]
) -> None:
    def damage() -> None:
        path = desk.root / files(desk)["2026-11-22"]
        with path.open("r+b") as file:
            for place in scratched:
                file.seek(place)
                file.write(bytes(100 * [1]))
        if not scratched:
            path.unlink() if length is None else os.truncate(path, length)

    late = World()
    late.beacon(late.attempt("b", "accepted", DAY + 2, notification="n1"), at=2 * DAY, notification="n1")
    damage()
    put_all(late, desk.lake, "late", 1)
    assert passed(desk.update())
    assert desk.report("n1")["totals"]["received"] == 2
    equals_rebuild(desk)
    frozen.move(desk.root, date(2026, 11, 23))
    damage()
    with pytest.raises(DamagedSegmentError, match=files(desk)["2026-11-22"]):
        desk.publish(full=True)


def test_a_lost_memory_is_made_anew_and_a_late_one_catches_up(desk: Desk, tmp_path: Path) -> None:
    path = state.state_path(desk.root)
    before = path.read_bytes()
    late = World()
    late.attempt("b", "accepted", 2, notification="n0")
    late.request("n5", at=DAY)
    late.put(desk.lake, "late")
    assert passed(desk.update())
    path.write_bytes(before)  # as if the process had died after the pointer moved
    assert is_stale(desk.lake, desk.root, desk.settings)
    retracted = [file.path for file in desk.lake.list() if "late" in file.path]
    desk.lake.delete(retracted)
    desk.publish()
    assert not desk.knows("n5")
    equals_rebuild(desk)
    path.unlink()
    assert is_stale(desk.lake, desk.root, desk.settings)
    candidate = desk.build()
    assert candidate.based_on is None
    candidate.discard()


def test_the_watermark_settles_reports_and_then_costs_nothing(desk: Desk) -> None:
    final = World()
    for number in range(3):
        final.state(f"n{number}", "t1", "done", number * DAY + 3)
    final.put(desk.lake, "final")
    assert passed(desk.update())
    before = files(desk)
    assert not desk.report("n2")["settled"]
    assert not is_stale(desk.lake, desk.root, desk.settings)
    log_watermark.advance(desk.lake, seconds(2 * DAY + 4_000))
    assert is_stale(desk.lake, desk.root, desk.settings)
    assert passed(desk.update())
    report = desk.report("n2")
    assert (report["settled"], report["received_through"]) == (True, seconds(2 * DAY + 4_000))
    assert files(desk) == before
    log_watermark.advance(desk.lake, seconds(3 * DAY))
    assert not is_stale(desk.lake, desk.root, desk.settings)
    candidate = desk.build()
    assert not candidate.is_changed
    candidate.discard()


def test_a_mark_that_a_wrong_clock_had_set_settles_nothing_for_good(desk: Desk) -> None:
    final = World()
    for number in range(3):
        final.state(f"n{number}", "t1", "done", number * DAY + 3)
    final.put(desk.lake, "final")
    true = seconds(2 * DAY + 100)
    log_watermark.advance(desk.lake, true)
    assert passed(desk.update())
    log_watermark.advance(desk.lake, seconds(400 * DAY))
    assert passed(desk.update())
    assert desk.report("n2")["settled"]
    log_watermark.take_back(desk.lake, seconds(3 * DAY))
    log_watermark.advance(desk.lake, true)
    assert is_stale(desk.lake, desk.root, desk.settings)
    assert passed(desk.update())
    report = desk.report("n2")
    assert (report["settled"], report["received_through"]) == (False, true)
    assert not is_stale(desk.lake, desk.root, desk.settings)


def test_folders_that_did_not_change_are_not_listed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lake_diff, "_SLACK_NS", -(10**9))  # all was listed long after it changed
    listed: list[str] = []
    list_ = Lake.list

    def watched(lake: Lake, prefix: str = "", suffix: str = ".parquet") -> object:
        listed.append(prefix)
        return list_(lake, prefix, suffix)

    monkeypatch.setattr(Lake, "list", watched)
    assert not is_stale(desk.lake, desk.root, desk.settings)
    assert [prefix for prefix in listed if "date=" in prefix] == []
    World().put(desk.lake, "empty")
    listed.clear()
    assert is_stale(desk.lake, desk.root, desk.settings)
    assert {prefix.partition("/")[0] for prefix in listed if "date=" in prefix} == set(World().rows) - {"registrations"}


def _die_at(desk_root: Path, lake_root: str, step: int) -> None:
    """Build and publish, and die without a word at a step that changes files."""
    left = [step]
    replace, execute = Path.replace, os.fsync

    def dying(*arguments: object) -> object:
        left[0] -= 1
        if left[0] < 0:
            os._exit(9)
        return replace(*arguments)  # type: ignore[arg-type]

    def dying_sync(handle: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            os._exit(9)
        execute(handle)

    Path.replace = dying  # type: ignore[assignment, method-assign]
    os.fsync = dying_sync
    commit = state.State.commit

    def dying_commit(remembered: state.State, delta: Path) -> None:
        left[0] -= 1
        if left[0] < 0:
            os._exit(9)
        commit(remembered, delta)

    state.State.commit = dying_commit  # type: ignore[method-assign]
    unlink = Path.unlink

    def dying_unlink(path: Path, missing_ok: bool = False) -> None:
        left[0] -= 1
        if left[0] < 0:
            os._exit(9)
        unlink(path, missing_ok)

    Path.unlink = dying_unlink  # type: ignore[method-assign]
    Desk(Lake(lake_root), desk_root).update()


@pytest.mark.parametrize("stride", [9, pytest.param(1, marks=pytest.mark.long)])
def test_a_builder_may_die_anywhere(desk: Desk, stride: int) -> None:
    process = multiprocessing.get_context("forkserver")
    process.set_forkserver_preload(["tests.reports.test_segments"])
    draws, died, step = random.Random(5), 0, 1
    while True:
        world, day = World(), draws.randrange(3)
        world.attempt(f"step-{step}", "skipped", day * DAY + 9, notification=f"n{day}")
        world.audience(step + 4, notification=f"n{day}")
        world.request(f"m{step}", at=day * DAY)
        put_all(world, desk.lake, f"step-{step}", day)
        builder = process.Process(target=_die_at, args=(desk.root, desk.lake.root, step))
        builder.start()
        builder.join()
        assert desk.knows("n0")
        if builder.exitcode == 0:
            break
        assert builder.exitcode == 9
        died, step = died + 1, step + stride
    assert died * stride > 12
    desk.publish()
    assert not is_stale(desk.lake, desk.root, desk.settings)
    equals_rebuild(desk)
    folders = {path.parent.name for path in (desk.root / "segments").glob("*/*.duckdb")}
    assert folders == {"2026-11-21", "2026-11-22", "2026-11-23"}
    assert list((desk.root / "building").iterdir()) == []


def test_versions_are_thinned() -> None:
    every = [(number, START + timedelta(minutes=10 * number)) for number in range(6 * 24 * 40)]
    now = every[-1][1]
    staying = kept(every, 5, 30)
    at = {number: moment for number, moment in every}
    assert {number for number, _ in every[-5:]} <= staying
    recent = [number for number in staying if at[number] > now - timedelta(hours=48)]
    assert len({f"{at[number]:%d %H}" for number in recent}) == 49 - 1 + (at[min(recent)].minute != 50)
    days = {at[number].date() for number in staying}
    assert len(days) in (30, 31)
    assert len(staying) < 5 + 49 + 31
    assert kept(every[:1], 1, 0) == {0}
    assert kept([], 1, 0) == set()
