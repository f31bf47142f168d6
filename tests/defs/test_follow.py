"""While a broadcast is sent one run reads log files and builds; whatever else reads or builds leaves it alone."""

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterRunStatus

from notify_pipeline.core.partitions import hour_start, partition
from notify_pipeline.core.receipt_log import receipt_line
from notify_pipeline.defs.receipts.asset import key_of
from notify_pipeline.defs.reports import follow
from notify_pipeline.defs.reports.assets import JOB
from notify_pipeline.defs.reports.follow import JOB as FOLLOW_JOB
from notify_pipeline.defs.reports.follow import Follower
from notify_pipeline.reports import checks, reading_details, versions
from notify_pipeline.reports.reading import ReportReader
from tests.defs.conftest import TOPIC, World
from tests.waiting import wait_for

BUILDS, READS = "build_when_the_lake_changed", "process_changed_hours"


def add_log(world: World, name: str, moment: datetime) -> None:
    """Put a log file with a beacon of each delivery of ``first``."""
    rows = [row for file in world.lake.list("attempts") for row in world.lake.read(file.path).to_pylist()]
    ours = [row["delivery_id"] for row in rows if row["notification_id"] == "first" and row["platform"] == "android"]
    queries = (f"notificationId=first&platform=android&provider=fcm&d={each}" for each in ours)
    content = b"\n".join(receipt_line("/notification/clicked", query, moment) for query in queries)
    path = Path(world.settings.logs) / "fastly" / partition(moment) / f"{name}.log.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content))


def clicked(world: World) -> int:
    report = reading_details.one(ReportReader(world.settings.reports), world.tenant, "first")
    return 0 if report is None else int(report["totals"]["clicked"])


def asked(world: World, sensor: str, cursor: str | None = None) -> list[str]:
    """Tick a sensor; return the partitions that it asks for, or the jobs where these have none."""
    tick: Any = world.tick(sensor, cursor)
    return [request.partition_key or request.job_name for request in tick.run_requests]


@pytest.fixture
def sending(make_world: Callable[..., World], sandbox_url: str) -> World:
    """A small send that is over, and a broadcast that is planned, and so under way."""
    world = make_world(sandbox_url=sandbox_url, inline_limit=3)
    world.register(4)
    world.send("first", users=["user-0", "user-1"])
    world.send("wide", topics=[TOPIC])
    assert world.run("drain").success
    world.land()
    return world


@contextmanager
def following(world: World) -> Iterator[Follower]:
    follower = Follower(world.settings, world.ledger, world.lake, world.logs)
    stop = threading.Event()
    thread = threading.Thread(target=follower.run, args=(stop,))
    thread.start()
    try:
        yield follower
    finally:
        stop.set()
        thread.join()


def test_it_reads_and_builds_alone_and_what_it_does_not_read_is_still_read(sending: World) -> None:
    world, now = sending, datetime.now(UTC)
    with following(world) as follower:
        wait_for(lambda: follower.builds, what="its first build")
        assert clicked(world) == 0
        add_log(world, "now", now)
        add_log(world, "late", now - timedelta(days=2))
        assert asked(world, READS) == [key_of(hour_start(now) - timedelta(days=2))]
        wait_for(lambda: clicked(world) == 1, what="the beacon in the report")
        assert hour_start(now) in follower.read
    add_log(world, "again", now)
    assert key_of(hour_start(now)) in asked(world, READS), "it has gone"


def test_a_file_that_cannot_be_read_keeps_neither_builds_nor_other_files_from_their_turn(
    sending: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = datetime.now(UTC)
    add_log(sending, "other", now)
    broken = Path(sending.settings.logs) / "fastly" / partition(now) / "broken.log.gz"
    broken.symlink_to("/proc/self/mem")  # a file that everybody sees, and that gives an error when it is read
    with following(sending) as follower:
        wait_for(lambda: clicked(sending) == 1, what="the beacon in the report")
        assert list(follower.unread) == [hour_start(now)]
        assert "could be read" in caplog.text
        broken.unlink()
        wait_for(lambda: not follower.unread, what="the hour without it")
        add_log(sending, "later", now)
        wait_for(lambda: hour_start(now) in follower.read, what="the hour's next file")
    monkeypatch.setattr(follow, "LONGEST", timedelta(seconds=1))
    broken.symlink_to("/proc/self/mem")
    assert sending.run(FOLLOW_JOB).success, "and a run is no failure for it"


def test_a_build_that_raises_is_a_build_that_failed(sending: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> Any:
        raise OSError("the store is away")

    with monkeypatch.context() as patch, following(sending) as follower:
        patch.setattr(follow.build, "build_candidate", away)
        wait_for(lambda: follower.builds, what="a build that fails")
        assert follower.builds[-1].failed
        patch.undo()
        wait_for(lambda: not follower.builds[0].failed, what="the next one")


def test_a_run_tells_what_it_read_and_built(sending: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "LONGEST", timedelta(seconds=1))
    now = datetime.now(UTC)
    add_log(sending, "now", now)
    assert sending.run(FOLLOW_JOB).success
    assert clicked(sending) == 1
    assert sending.instance.get_materialized_partitions(dg.AssetKey("receipts")) == {key_of(hour_start(now))}
    assert sending.instance.get_latest_materialization_event(dg.AssetKey(["reports", "notifications"])) is not None


def test_what_fails_a_check_is_published_by_nobody(sending: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any) -> list[checks.CheckResult]:
        return [checks.CheckResult(name, name != checks.NAMES[0], "as told", 1, ["x"]) for name in checks.NAMES]

    monkeypatch.setattr(checks, "run", run)
    monkeypatch.setattr(follow, "LONGEST", timedelta(seconds=1))
    assert not sending.run(FOLLOW_JOB).success
    assert versions.current(sending.settings.reports) is None


def test_the_sensor_has_broadcasts_followed_and_else_builds(sending: World) -> None:
    name = str(sending.tick(BUILDS).cursor).partition("@")[0]
    cursor = f"{name}@{datetime.now(UTC).timestamp() - 60:.1f}"
    assert asked(sending, BUILDS, cursor) == [FOLLOW_JOB]
    job = sending.repository.get_job(FOLLOW_JOB)
    sending.instance.create_run_for_job(job, status=DagsterRunStatus.NOT_STARTED)
    assert asked(sending, BUILDS, cursor) == [], "it is waiting for its turn"


def test_where_nothing_is_sent_it_ends_at_once(world: World) -> None:
    assert asked(world, BUILDS) == [JOB]
    assert world.run(FOLLOW_JOB).success
    assert versions.current(world.settings.reports) is None
