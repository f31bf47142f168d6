"""Reports in Dagster: built when the lake changed, published only when every check passes, one builder at a time."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterRunStatus

from notify_pipeline.defs.delivery.work import REQUEST_TAG
from notify_pipeline.defs.reports import watch
from notify_pipeline.defs.reports.assets import JOB, VERIFY_JOB
from notify_pipeline.defs.reports.watch import END_PAUSE, Build, may_build
from notify_pipeline.reports import checks, reading_details, versions
from notify_pipeline.reports.catalogue import TABLES
from notify_pipeline.reports.reading import ReportReader
from tests.defs.conftest import TOPIC, World

SENSOR = "build_when_the_lake_changed"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def evaluations(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {e.check_name: e.passed for e in result.get_asset_check_evaluations()}


def test_a_send_becomes_a_report(make_world: Callable[..., World], sandbox_url: str) -> None:
    world = make_world(sandbox_url=sandbox_url)
    world.register(2)
    world.send("one", users=["user-0", "user-1"])
    assert world.run("drain").success
    world.land()
    assert len(world.tick(SENSOR).run_requests) == 1
    result = world.run(JOB)
    assert result.success
    assert evaluations(result) == dict.fromkeys(checks.NAMES, True)
    report = reading_details.one(ReportReader(world.settings.reports), world.tenant, "one")
    assert report is not None
    assert report["totals"]["accepted"] == 2
    rows = {
        event.asset_key.path[-1]: event.step_materialization_data.materialization.metadata.get("dagster/row_count")
        for event in result.get_asset_materialization_events()
        if event.asset_key is not None and event.asset_key.path[0] == "reports"
    }
    assert rows.keys() == {table.name for table in TABLES}
    assert (rows["notifications"], rows["actions"]) == (dg.IntMetadataValue(1), dg.IntMetadataValue(0))
    assert rows["tenant_usage"] is None

    assert world.run(VERIFY_JOB).success


def test_nothing_changed_nothing_published(world: World) -> None:
    assert world.run(JOB).success
    first = versions.current(world.settings.reports)
    assert first is not None
    assert world.tick(SENSOR).run_requests == []
    assert world.run(JOB).success
    assert versions.current(world.settings.reports) == first


def test_a_failing_check_keeps_the_candidate_from_being_published(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: Any) -> list[checks.CheckResult]:
        return [checks.CheckResult(name, name != checks.NAMES[0], "as told", 1, ["x"]) for name in checks.NAMES]

    monkeypatch.setattr(checks, "run", run)
    result = world.run(JOB)
    assert not result.success
    assert evaluations(result)[checks.NAMES[0]] is False
    assert versions.current(world.settings.reports) is None


def test_a_second_builder_waits_and_then_gives_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notify_pipeline.defs.reports.assets._WRITER_WAIT_S", 0.1)
    with versions.writer(world.settings.reports):
        assert not world.run(JOB).success
    assert world.run(JOB).success


def test_no_second_build_while_one_is_queued(world: World) -> None:
    assert len(world.tick(SENSOR).run_requests) == 1
    job = world.repository.get_job(JOB)
    world.instance.create_run_for_job(job, status=DagsterRunStatus.NOT_STARTED)
    assert world.tick(SENSOR).run_requests == []


def ended(seconds: float, failed: bool = False, took: float = 1) -> Build:
    return Build(NOW - timedelta(seconds=seconds), failed, timedelta(seconds=took))


@pytest.mark.parametrize(
    ("runs", "may"),
    [
        pytest.param([], True, id="never built"),
        pytest.param([Build(None, False)], False, id="under way"),
        pytest.param([ended(1)], False, id="a moment ago"),
        pytest.param([ended(5)], True, id="the pause is over"),
        pytest.param([ended(5, failed=True)], False, id="failed: a longer pause"),
        pytest.param([ended(10, failed=True)], True, id="... twice as long"),
        pytest.param([ended(10, failed=True), ended(30, failed=True)], False, id="... and longer each time"),
        pytest.param([ended(5), ended(30, failed=True)], True, id="a success forgives"),
        pytest.param([ended(300, failed=True)] * 8, True, id="but five minutes are the most"),
    ],
)
def test_when_to_build(runs: list[Build], may: bool) -> None:
    assert may_build(runs, NOW) is may


@pytest.mark.parametrize(
    ("since", "finished", "failures", "ended_too", "may"),
    [
        pytest.param(4.9, 60, 0, False, False, id="a short one is built once, at its end"),
        pytest.param(5, 60, 0, False, True, id="a long one is built on the way"),
        pytest.param(60, 39, 0, False, False, id="a build that took two seconds is followed by a pause"),
        pytest.param(60, 40, 0, False, True, id="... of twenty times as long"),
        pytest.param(40.5, 39.5, 0, False, True, id="the one before said nothing of this broadcast"),
        pytest.param(60, 0.4, 0, True, False, id="the end of another waits for next to nothing"),
        pytest.param(60, 0.5, 0, True, True, id="... half a second"),
        pytest.param(None, 0.5, 0, True, True, id="... whether anything else is sent or not"),
        pytest.param(None, 1.5, 2, True, False, id="what fails is not hurried"),
    ],
)
def test_when_to_build_while_broadcasts_are_sent(
    since: float | None, finished: float, failures: int, ended_too: bool, may: bool
) -> None:
    runs = [ended(finished, failed=True)] * failures or [ended(finished, took=2)]
    begun = None if since is None else NOW - timedelta(seconds=since)
    assert may_build(runs, NOW, sending_since=begun, ended=ended_too) is may


def test_builds_take_a_share_of_the_time_while_a_broadcast_is_sent() -> None:
    begun = NOW - timedelta(hours=1)

    def may(finished: float, took: float) -> bool:
        return may_build([ended(finished, took=took)], NOW, sending_since=begun)

    assert may(5, 0)
    assert not may(4.9, 0)
    assert may(60, 600)
    assert not may(59, 600)


@pytest.mark.parametrize(
    ("took", "pause"),
    [
        pytest.param(0.1, 5, id="what costs little is done as often as ever"),
        pytest.param(0.5, 10, id="a twentieth of the time"),
        pytest.param(1, 14, id="... unless a log file would have to wait too long"),
        pytest.param(5, 6, id="... the shorter the longer a build takes"),
        pytest.param(60, 2, id="but never without a pause"),
    ],
)
def test_a_log_file_is_not_kept_waiting_by_a_broadcast(took: float, pause: float) -> None:
    def may(finished: float) -> bool:
        begun = NOW - timedelta(hours=1)
        return may_build([ended(finished, took=took)], NOW, sending_since=begun, beacons=True)

    assert may(pause)
    assert not may(pause - 0.1)


def test_the_end_of_a_broadcast_is_built_at_once(
    make_world: Callable[..., World], sandbox_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "PAUSE", timedelta(hours=1))  # however long the broadcast takes here
    world = make_world(sandbox_url=sandbox_url, inline_limit=1)
    world.register(4)
    request_id = world.send("all", topics=[TOPIC])
    assert world.run("drain").success  # plans it
    cursor = world.tick(SENSOR).cursor
    assert cursor.startswith(f"{request_id}@")
    assert world.run(JOB).success
    assert world.run("broadcast", tags={REQUEST_TAG: request_id}).success
    waits = world.tick(SENSOR, cursor)
    assert (waits.run_requests, waits.cursor) == ([], cursor), "its last rows have not landed"
    world.land()
    assert world.tick(SENSOR).run_requests == [], "a build was a moment ago"
    time.sleep(END_PAUSE.total_seconds())
    due = world.tick(SENSOR, cursor)
    assert len(due.run_requests) == 1
    assert due.cursor.split() == []
