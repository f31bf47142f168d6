"""Letting go of the lake's old files: reports stay, what is needed stays, and a run that died is gone on from."""

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import pytest

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import requests
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.settings import Settings
from notify_pipeline.reports import frozen, retention
from notify_pipeline.reports.verification import verify
from notify_pipeline.reports.versions import writer
from tests.reports.desk import NOW, Desk
from tests.reports.worlds import START, World, put

SOURCES = ("requests", "audiences", "audit", "attempts", "receipts")
# A month and a half later; files' own times are today's, so the version's must be too.
LATER = START + timedelta(days=45)
KEPT = {f"lake_{name}_days": 30 for name in SOURCES}


def sent(lake: Lake, notification: str, *, days: int) -> None:
    """Put a notification into the lake that is over, and the beacon of one of its two deliveries."""
    at = days * 86_400
    world = World()
    world.request(notification, at=at)
    world.audience(2, notification=notification)
    delivery = world.attempt("a", "accepted", at=at + 1, notification=notification)
    world.attempt("b", "permanent", at=at + 1, notification=notification, code="bad")
    world.state(notification, "t1", "done", at + 2)
    world.beacon(delivery, at=at + 9, notification=notification)
    for table, rows in world.rows.items():
        put(lake, table, rows, notification, START + timedelta(days=days))


@pytest.fixture
def desk(folder_lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """See ``published``; S3 makes a difference to the deleting only."""
    return published(folder_lake, tmp_path, monkeypatch)


def published(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Reports of an old and a newer notification, settled, published after their files came."""
    monkeypatch.setattr(retention, "_UNREAD", timedelta(days=-10_000))
    made = Desk(lake, tmp_path / "reports")
    made.settings = Settings(home=tmp_path, reports_root=made.root, settle_hours=1, **KEPT)
    sent(lake, "old", days=0)
    sent(lake, "newer", days=40)
    sent(lake, "newest", days=44)
    made.publish()
    return made


def run(desk: Desk, ledger: Ledger) -> retention.Plan:
    plan = retention.plan(desk.settings, ledger, desk.lake, desk.reader, LATER)
    for _ in retention.carry_out(plan, desk.settings, ledger, desk.lake, LATER):
        pass
    return plan


def days(lake: Lake) -> set[str]:
    return {file.path.split("/")[1] for name in SOURCES for file in lake.list(name)}


def test_raw_data_goes_and_reports_of_it_stay_in_incremental_and_full_builds(
    lake: Lake, tmp_path: Path, sqlite_ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = published(lake, tmp_path, monkeypatch)
    before = desk.report("old")
    plan = run(desk, sqlite_ledger)
    assert {each.table: len(each.files) for each in plan.going} == dict.fromkeys(SOURCES, 1)
    assert plan.freeze_before == frozen.before(desk.root) == (LATER - timedelta(days=29)).date()
    assert days(desk.lake) == {"date=2026-12-31", "date=2027-01-04"}
    desk.publish()
    assert desk.report("old") == before
    with writer(desk.root):
        assert verify(desk.lake, desk.root, desk.settings, NOW) == {}
    desk.publish(full=True)
    assert desk.report("old") == before
    assert desk.report("newest")["totals"]["accepted"] == 1
    assert run(desk, sqlite_ledger).going == ()


def test_a_run_that_died_is_gone_on_from(desk: Desk, sqlite_ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    before = desk.report("old")
    deletes = 0

    def dying(self: Lake, paths: Iterable[str]) -> None:
        nonlocal deletes
        deletes += 1
        if deletes == 3:
            raise OSError("died")
        self._store.delete(list(paths))

    with monkeypatch.context() as patch:
        patch.setattr(Lake, "delete", dying)
        with pytest.raises(OSError, match="died"):
            run(desk, sqlite_ledger)
    desk.publish()
    assert desk.report("old") == before
    assert len(run(desk, sqlite_ledger).going) == 3
    desk.publish()
    assert desk.report("old") == before


def test_what_is_open_unsettled_or_unread_holds_everything_since(desk: Desk, sqlite_ledger: Ledger) -> None:
    body = {"type": "news", "topics": ["a"], "content": {"title": "T", "body": "B"}}
    new = requests.NewRequest("t1", "scheduled", body, START + timedelta(hours=1), LATER + timedelta(days=9))
    requests.accept(sqlite_ledger, new)
    plan = retention.plan(desk.settings, sqlite_ledger, desk.lake, desk.reader, LATER)
    assert plan.freeze_before is None
    assert {each.held_by for each in plan.going} == {"a request accepted at 2026-11-21 07:00 is not over"}
    assert run(desk, sqlite_ledger).freeze_before is None
    assert "date=2026-11-21" in days(desk.lake)


def test_without_a_version_or_with_files_that_none_has_read_nothing_goes(
    folder_lake: Lake, sqlite_ledger: Ledger, tmp_path: Path
) -> None:
    lake = folder_lake
    desk = Desk(lake, tmp_path / "reports")
    desk.settings = Settings(home=tmp_path, reports_root=desk.root, settle_hours=1, **KEPT)
    sent(lake, "old", days=0)
    sent(lake, "newest", days=44)
    found = {each.held_by for each in retention.plan(desk.settings, sqlite_ledger, lake, desk.reader, LATER).going}
    assert found == {"no report version was published yet"}
    desk.publish()  # published, by its own clock, before the files were written
    found = {each.held_by for each in retention.plan(desk.settings, sqlite_ledger, lake, desk.reader, LATER).going}
    assert len(found) == 1
    assert next(iter(found) or "").startswith("reports have not read all files of ")
