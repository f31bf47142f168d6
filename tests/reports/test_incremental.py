"""Reports are exactly-once: whatever comes late, is compacted or goes, and whatever fails. See ``test_properties``."""

import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notify_pipeline.core.lake import Lake, LakeFile
from notify_pipeline.reports import build, lake_files
from notify_pipeline.reports.build import LakeKeepsChangingError, is_stale
from notify_pipeline.reports.comparison import Files, compare, files_of
from notify_pipeline.reports.lake_diff import Diff
from notify_pipeline.reports.state import State
from notify_pipeline.reports.versions import current
from tests.examples import examples
from tests.reports.desk import NOW, Desk, passed
from tests.reports.worlds import START, World, put, scatter, seconds

OUTCOMES = ["accepted", "accepted", "transient", "ambiguous", "throttled", "permanent", "invalid_recipient", "skipped"]

# Each builds seven to nine versions, which takes seconds: three in CI.
_EXAMPLES = examples(12) - 2


# Not even a new database's schema fits.
TOO_LITTLE = "1MB"


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Some notifications of two tenants, with retries, beacons, foreign beacons and unfinished ones."""
    world = World()
    for tenant in ("t1", "t2"):
        for number in range(draw(st.integers(1, 3))):
            name = f"n{number}"
            domain = draw(st.sampled_from([None, "example.com"]))
            body = draw(st.sampled_from(["{}", '{"content":{"actions":[{"action":"read"},{"action":"later"}]}}']))
            world.request(name, tenant, at=number * 10, domain=domain, body=body)
            for revision in range(1, draw(st.integers(0, 2)) + 1):
                world.edit(revision, name, tenant, title=f"Title {revision}", send_at=seconds(revision))
            people = draw(st.lists(st.sampled_from("abcdef"), max_size=5, unique=True))
            for platform in ("ios", "android"):
                world.audience(len(people), platform, name, tenant)
                for who in people:
                    _deliver(draw, world, who, platform, name, tenant)
            if draw(st.booleans()):
                world.state(name, tenant, draw(st.sampled_from(["sending", "done"])), 20)
    for token in draw(st.lists(st.sampled_from("abc"), unique=True)):
        ops = draw(st.lists(st.sampled_from(["upsert", "upsert", "delete", "drop"]), max_size=4))
        world.token(token, "upsert", *ops, at=draw(st.integers(0, 90_000)))
    world.beacon("f" * 40, notification="unknown")
    return world


def _deliver(draw: st.DrawFn, world: World, who: str, platform: str, name: str, tenant: str) -> None:
    for number, outcome in enumerate(draw(st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=3)), 1):
        delivery = world.attempt(who, outcome, number, number, platform, name, tenant, code=f"code {outcome}")
    for event in draw(st.lists(st.sampled_from(["received", "received", "opened", "clicked", "clicked"]), max_size=3)):
        action = draw(st.sampled_from([None, "read", "later", "none"])) if event == "clicked" else None
        world.beacon(delivery, event, draw(st.integers(0, 200)), name, action)


@contextmanager
def desks(count: int) -> Iterator[list[Desk]]:
    """Yield desks with lakes of their own."""
    with tempfile.TemporaryDirectory() as folder:
        found = [Desk(Lake(f"{folder}/{n}/lake"), Path(folder) / str(n) / "reports") for n in range(count)]
        yield found
        for desk in found:
            desk.reader.close()


def published(desk: Desk) -> Files:
    """Return the current version's files."""
    version = current(desk.root)
    assert version is not None
    return files_of(version, desk.root)


@settings(max_examples=_EXAMPLES, deadline=None)
@given(worlds(), st.integers(0, 2**32), st.integers(2, 4))
def test_late_files_and_rebuilds_give_equal_tables(world: World, order: int, steps: int) -> None:
    draws = random.Random(order)
    with desks(1) as (desk,):
        waiting = [(table, row) for table, rows in world.rows.items() for row in rows]
        draws.shuffle(waiting)
        for step in range(steps):
            for table in world.rows:
                rows = [row for name, row in waiting[step::steps] if name == table]
                if rows:
                    put(desk.lake, table, rows, f"step-{step}", START + timedelta(hours=draws.randint(0, 30)))
            assert passed(desk.update())
        _equals_rebuild(desk)
        # A compaction, a retraction, and a file that comes back.
        paths = [file.path for file in desk.lake.list() if draws.random() < 0.5]
        tables = {path: desk.lake.read(path) for path in paths}
        desk.lake.delete(paths)
        desk.publish()
        _equals_rebuild(desk)
        for path, table in tables.items():
            desk.lake.write(path.replace("step", "compacted"), table)
        assert passed(desk.update())
        _equals_rebuild(desk)


def test_an_edit_is_what_was_sent_also_beside_files_from_before_there_were_edits() -> None:
    with desks(1) as (desk,):
        world = World()
        world.request("n1")
        world.request("n2")
        world.edit(1, "n1", title="Second", send_at=seconds(5))
        world.edit(2, "n1", title="Third", type="sport")
        old, rest = world.rows["requests"][:2], world.rows["requests"][2:]
        path = put(desk.lake, "requests", old, "old")
        desk.lake.write(path, desk.lake.read(path).drop_columns(["revision"]))
        put(desk.lake, "audit", world.rows["audit"], "audit")
        assert passed(desk.update())
        titles = "SELECT notification_id, title, type, send_at IS NULL FROM notifications ORDER BY ALL"
        assert desk.query(titles) == [("n1", "Title of n1", "news", True), ("n2", "Title of n2", "news", True)]
        put(desk.lake, "requests", rest[1:], "newest")
        put(desk.lake, "requests", rest[:1], "between")
        assert passed(desk.update())
        assert desk.query(titles) == [("n1", "Third", "sport", True), ("n2", "Title of n2", "news", True)]
        _equals_rebuild(desk)


def _equals_rebuild(desk: Desk) -> None:
    candidate = desk.build(full=True)
    assert candidate.based_on is None
    assert compare(published(desk), files_of(candidate, desk.root)) == {}
    candidate.discard()


@pytest.fixture
def desk(folder_lake: Lake, tmp_path: Path) -> Desk:
    """A lake with one notification, and its reports."""
    desk = Desk(folder_lake, tmp_path / "reports")
    world = World()
    world.request()
    world.audience(2)
    world.beacon(world.attempt("a", "accepted"))
    world.put(desk.lake)
    return desk


def test_a_comparison_sees_a_difference(desk: Desk, tmp_path: Path) -> None:
    desk.publish()
    other = Desk(desk.lake, tmp_path / "other")
    World().put(desk.lake, "nothing")
    other.publish()
    assert compare(published(desk), published(other)) == {}
    world = World()
    world.attempt("b", "accepted")
    world.put(desk.lake, "more")
    other.publish()
    found = compare(published(desk), published(other))
    assert {table: each.rows for table, each in found.items()} == {
        **dict.fromkeys(("notifications", "platform_reports", "timeline", "calls"), 2),
        "latencies": 4,
    }
    assert [text[:9] for text in found["notifications"].examples] == ["only in a", "only in b"]


def test_only_what_changed_is_computed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(2, 30):
        world = World()
        world.request(f"n{number}")
        world.beacon(world.attempt("a", "accepted", notification=f"n{number}"), notification=f"n{number}")
        world.put(desk.lake, f"of n{number}")
    desk.publish()
    assert desk.query("SELECT recomputed, files FROM build") == [(29, 6 * 29)]
    opened: list[str] = []
    local_files = lake_files.local_files

    def watched(lake: Lake, paths: list[str]) -> Any:
        opened.extend(paths)
        return local_files(lake, paths)

    monkeypatch.setattr(lake_files, "local_files", watched)
    world = World()
    world.attempt("b", "transient", notification="n7")
    path = put(desk.lake, "attempts", world.rows["attempts"], "later")
    candidate = desk.build()
    assert (candidate.changes.added, candidate.changes.affected, candidate.based_on) == (1, 1, 1)
    candidate.discard()
    told = ("requests", "audit", "attempts", "receipts")  # no audience was put, nor does a registration tell of it
    of_n7 = [file.path for table in told for file in desk.lake.list(table) if "of n7." in file.path]
    assert sorted(set(opened)) == sorted([path, *of_n7])


def test_nothing_changed_is_no_version(desk: Desk) -> None:
    assert is_stale(desk.lake, desk.root, desk.settings)
    desk.publish()
    assert not is_stale(desk.lake, desk.root, desk.settings)
    candidate = desk.build()
    assert not candidate.is_changed
    candidate.discard()
    desk.publish()
    version = current(desk.root)
    assert version is not None
    assert version.number == 1
    settings = desk.settings.model_copy(update={"settle_hours": 9.0})
    assert is_stale(desk.lake, desk.root, settings)
    World().put(desk.lake, "an empty file")
    assert is_stale(desk.lake, desk.root, desk.settings)
    desk.publish()
    assert not is_stale(desk.lake, desk.root, desk.settings)


def test_other_models_compute_everything_anew(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.publish()
    monkeypatch.setattr(build.database, "model_version", lambda: "changed")
    assert is_stale(desk.lake, desk.root, desk.settings)
    candidate = desk.build()
    assert (candidate.based_on, candidate.number, candidate.changes.affected) == (None, 2, 1)
    candidate.discard()


def test_a_file_compacted_away_while_it_is_read_is_no_error(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    candidates = _building_with_a_file_gone(desk, monkeypatch, times=1)
    candidate = desk.build()
    assert candidate.changes.affected == 1
    assert list(candidates.iterdir()) == [candidate.folder]
    candidate.discard()


def test_a_file_that_cannot_be_read_is_an_error_in_the_end(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    candidates = _building_with_a_file_gone(desk, monkeypatch, times=9)
    with pytest.raises(LakeKeepsChangingError, match="gone.parquet"):
        desk.build()
    assert list(candidates.iterdir()) == []


def _building_with_a_file_gone(desk: Desk, monkeypatch: pytest.MonkeyPatch, times: int) -> Path:
    """Have a listing name a file that is gone by then, so many times; return the folder of candidates."""
    gone = LakeFile("attempts/date=2026-11-21/hour=06/gone.parquet", 1, "e", NOW)
    difference = build.difference
    left = [gone] * times

    def racing(lake: Lake, state: State) -> Diff:
        found = difference(lake, state)
        found.added += [("attempts", left.pop())] if left else []
        return found

    monkeypatch.setattr(build, "difference", racing)
    return desk.root / "building"


def test_what_does_not_fit_into_little_memory_is_built_with_more(
    desk: Desk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    little = Desk(desk.lake, tmp_path / "little")
    little.settings = little.settings.model_copy(update={"report_memory": TOO_LITTLE})
    assert passed(little.update())
    assert "of memory do not suffice" in caplog.text
    desk.publish()
    assert compare(published(little), published(desk)) == {}


def test_too_little_memory_is_an_error_and_leaves_nothing(desk: Desk) -> None:
    desk.settings = desk.settings.model_copy(update={"report_memory": TOO_LITTLE, "duckdb_memory": TOO_LITTLE})
    with pytest.raises(duckdb.OutOfMemoryException):
        desk.build()
    assert list((desk.root / "building").iterdir()) == []


def test_a_lake_on_s3_gives_the_same_tables(lake: Lake, tmp_path: Path) -> None:
    reports = {}
    for name, root in (("this", lake), ("folder", Lake(str(tmp_path / "plain")))):
        desk = Desk(root, tmp_path / name)
        world = World()
        world.request()
        world.audience(2)
        world.beacon(world.attempt("a", "accepted"))
        scatter(root, world, random.Random(3))
        assert passed(desk.update())
        later = World()
        later.attempt("b", "permanent")
        later.put(root, "later")
        assert passed(desk.update())
        reports[name] = published(desk)
    assert compare(reports["this"], reports["folder"]) == {}


def test_checks_find_what_is_wrong(desk: Desk) -> None:
    from notify_pipeline.reports import checks

    candidate = desk.build()
    [segment] = candidate.changed
    with duckdb.connect(str(candidate.path_of(segment))) as connection:
        connection.execute("UPDATE facts.platform_reports SET received = 5, hits = 1, audience = 0, failed = 1")
        connection.execute("UPDATE facts.notifications SET received = 5")
        connection.execute("INSERT INTO facts.notifications FROM facts.notifications")
        connection.execute("UPDATE facts.latencies SET max_s = 0.1")
        connection.execute("UPDATE facts.calls SET attempts = 0")
        for values in (
            "actions AS SELECT 't1' tenant, 'n1' notification_id, NULL::VARCHAR \"domain\", now() accepted_at,"
            " 'ios' platform, 'read' \"action\", 2::BIGINT clicked, 2::BIGINT hits",
            "consumed AS SELECT 't1' tenant, 'example.com' \"domain\", 'n1' notification_id, now() second_at,"
            " 1::BIGINT accepted",
        ):
            connection.execute(f"CREATE TABLE facts.{values}")
    tables = (*segment.tables, "actions", "consumed")
    damaged = replace(segment, tables=tables)
    version = replace(candidate.version, segments=(damaged,))
    candidate = replace(candidate, changed=(damaged,), version=version)
    results = checks.run(candidate, desk.lake, desk.settings)
    assert [result.name for result in results] == list(checks.NAMES)
    failed = {result.name: result.examples for result in results if not result.passed}
    assert failed.keys() == set(checks.NAMES)
    assert failed["received_within_accepted"] == ["n1"]
    assert failed["sample_matches_lake"][0].startswith("t1/n1: reported in notifications: ")
    candidate.discard()
