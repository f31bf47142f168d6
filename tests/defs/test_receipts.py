"""Receipts in Dagster: changed hours are asked for until they are done, backfills are one run and change nothing."""

import gzip
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import orjson
import pytest
from dagster import DagsterRunStatus

from notify_pipeline.core import log_watermark
from notify_pipeline.core.ids import DeliveryIds
from notify_pipeline.core.partitions import hour_start, partition
from notify_pipeline.core.receipt_log import receipt_line
from notify_pipeline.core.schemas import ATTEMPTS
from notify_pipeline.defs.receipts.asset import FRESHNESS_JOB, JOB, key_of
from notify_pipeline.defs.receipts.hours import MAX_HOURS, Batch, Memory, batches
from notify_pipeline.defs.receipts.schedules import NIGHTLY, RECENT
from notify_pipeline.receipts import rounds
from notify_pipeline.receipts.hours import process_hour
from tests.defs.conftest import World

HOUR = timedelta(hours=1)
START = datetime(2026, 3, 1, 7, tzinfo=UTC)
NAMES = DeliveryIds(b"secret", "tenant", "n", "fcm")
SENSOR = "process_changed_hours"


def add_log(world: World, hour: datetime, name: str, lines: int = 3) -> None:
    queries = (f"notificationId=n&platform=android&provider=fcm&d={NAMES.of(f'{name}-{i}')}" for i in range(lines))
    moment = hour + timedelta(minutes=1)
    content = b"\n".join(receipt_line("/notification/received", query, moment) for query in queries)
    path = Path(world.settings.logs) / "fastly" / partition(hour) / f"{name}.log.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content))


def lake_files(world: World) -> dict[str, bytes]:
    return {file.path: world.lake.read_bytes(file.path) for file in world.lake.list("receipts")}


def finish(world: World, request: Any, status: dg.DagsterEventType) -> None:
    tags = {**request.tags, "dagster/run_key": request.run_key}
    job = world.repository.get_job(JOB)
    run = world.instance.create_run_for_job(job, tags=tags, status=DagsterRunStatus.NOT_STARTED)
    for event in (dg.DagsterEventType.RUN_START, status):
        world.instance.report_dagster_event(dg.DagsterEvent(event.value, JOB), run.run_id)


def test_an_hour_becomes_events_in_the_lake_and_counts_in_dagster(world: World) -> None:
    add_log(world, START, "one")
    result = world.run(JOB, partition_key=key_of(START))
    assert result.success
    assert world.lake.read(lake_files(world).popitem()[0]).num_rows == 3
    (event,) = world.instance.fetch_materializations(dg.AssetKey("receipts"), limit=10).records
    assert event.partition_key == "2026-03-01-07:00"
    assert event.asset_materialization is not None
    told = event.asset_materialization.metadata
    assert (told["events"].value, told["files"].value, told["dagster/partition_row_count"].value) == (3, 1, 3)
    assert told["latest"].value == (START + timedelta(minutes=1)).timestamp()
    (beside,) = world.instance.fetch_materializations(dg.AssetKey("quarantine"), limit=10).records
    assert beside.partition_key == "2026-03-01-07:00"


def test_a_backfill_of_many_hours_is_one_run_and_the_second_one_changes_nothing(world: World) -> None:
    for number in range(5):
        add_log(world, START + number * HOUR, f"log-{number}")
    span = {
        "dagster/asset_partition_range_start": key_of(START),
        "dagster/asset_partition_range_end": key_of(START + 4 * HOUR),
    }
    assert world.run(JOB, tags=span).success
    first = lake_files(world)
    assert len(first) == 5
    assert world.instance.get_materialized_partitions(dg.AssetKey("receipts")) == {
        key_of(START + number * HOUR) for number in range(5)
    }
    assert world.run(JOB, tags=span).success
    assert lake_files(world) == first


def test_the_sensor_asks_for_changed_hours_until_they_are_done(world: World) -> None:
    add_log(world, START, "one")
    first = world.tick(SENSOR)
    (request,) = first.run_requests
    assert request.partition_key == key_of(START)

    asleep = world.tick(SENSOR, first.cursor)
    assert [r.run_key for r in asleep.run_requests] == [request.run_key], "the daemon may have died before launching"

    finish(world, request, dg.DagsterEventType.RUN_SUCCESS)
    done = world.tick(SENSOR, first.cursor)
    assert done.run_requests == []
    assert Memory.parse(done.cursor).pending == ()

    add_log(world, START, "two")
    changed = world.tick(SENSOR, done.cursor)
    (again,) = changed.run_requests
    assert again.partition_key == key_of(START)
    assert again.run_key != request.run_key


def test_an_hour_that_fails_is_asked_for_again_but_not_at_once_and_keeps_no_other_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_log(world, START, "one")
    first = world.tick(SENSOR)
    finish(world, first.run_requests[0], dg.DagsterEventType.RUN_FAILURE)
    add_log(world, START, "more")
    add_log(world, START + HOUR, "two")
    waiting = world.tick(SENSOR, first.cursor)
    assert [r.partition_key for r in waiting.run_requests] == [key_of(START + HOUR)]
    assert len(Memory.parse(waiting.cursor).pending) == 2
    finish(world, waiting.run_requests[0], dg.DagsterEventType.RUN_SUCCESS)
    still = world.tick(SENSOR, waiting.cursor)
    assert still.run_requests == []

    monkeypatch.setattr("notify_pipeline.defs.receipts.hours._DELAY_STEP", timedelta(0))
    second = world.tick(SENSOR, still.cursor)
    assert [r.partition_key for r in second.run_requests] == [key_of(START)]
    add_log(world, START + 2 * HOUR, "three")
    asked = [r.partition_key for r in world.tick(SENSOR, second.cursor).run_requests]
    assert key_of(START + 2 * HOUR) not in asked, "a run that is under way may have listed the files before"
    finish(world, second.run_requests[0], dg.DagsterEventType.RUN_SUCCESS)
    third = world.tick(SENSOR, second.cursor)
    assert [r.partition_key for r in third.run_requests] == [key_of(START + 2 * HOUR)], "nothing is lost"


def test_the_sensor_comes_round_to_an_old_file_that_was_overwritten(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "STEP", timedelta())
    add_log(world, START, "one")
    process_hour(world.lake, world.logs, START)
    first = world.tick(SENSOR)
    for request in first.run_requests:
        finish(world, request, dg.DagsterEventType.RUN_SUCCESS)
    path = Path(world.settings.logs) / "fastly" / partition(START) / "one.log.gz"
    folder = path.parent.stat().st_mtime_ns
    path.write_bytes(gzip.compress(b"what it should have said"))
    os.utime(path, (START.timestamp(),) * 2)
    assert path.parent.stat().st_mtime_ns == folder, "nothing but the file itself tells"
    found = world.tick(SENSOR, first.cursor)
    (request,) = found.run_requests
    assert request.partition_key == key_of(START)
    assert request.run_key not in {each.run_key for each in first.run_requests}
    process_hour(world.lake, world.logs, START)
    finish(world, request, dg.DagsterEventType.RUN_SUCCESS)
    assert world.tick(SENSOR, found.cursor).run_requests == []


def test_consecutive_hours_share_a_run(world: World) -> None:
    for hour in (START, START + HOUR, START + 5 * HOUR):
        add_log(world, hour, "log")
    together, alone = world.tick(SENSOR).run_requests
    assert together.tags["dagster/asset_partition_range_start"] == key_of(START)
    assert together.tags["dagster/asset_partition_range_end"] == key_of(START + HOUR)
    assert alone.partition_key == key_of(START + 5 * HOUR)


def test_hours_that_no_partition_has_are_left_out(world: World) -> None:
    now = hour_start(datetime.now(UTC))
    for hour in (world.settings.receipts_from - HOUR, now + 5 * HOUR, now + HOUR):
        add_log(world, hour, "log")
    assert [r.partition_key for r in world.tick(SENSOR).run_requests] == [key_of(now + HOUR)]


def test_a_year_is_cut_into_weeks() -> None:
    hours = [START + number * HOUR for number in range(365 * 24)]
    made = list(batches(hours, "state"))
    assert len(made) == -(-len(hours) // MAX_HOURS)
    assert datetime.fromisoformat(made[-1].last) == hours[-1]
    assert len({batch.run_key for batch in made}) == len(made)


def test_the_memory_survives_being_a_cursor() -> None:
    memory = Memory("logs", (Batch("a", "b", "t", 3),), "2026-11-20", "2026-11-21T06:00:00+00:00")
    assert Memory.parse(memory.text()) == memory
    before = {"logs": "logs", "pending": []}
    assert Memory.parse(orjson.dumps(before).decode()) == Memory("logs"), "as it was before there were rounds"
    assert orjson.loads(memory.text())["logs"] == "logs"
    assert Memory.parse(None) == Memory()


def scheduled(world: World, name: str) -> Any:
    context = dg.build_schedule_context(
        world.instance,
        resources=world.resources,
        repository_def=world.repository,
        scheduled_execution_time=datetime.now(UTC),
    )
    return world.repository.get_schedule_def(name).evaluate_tick(context)


def test_the_schedule_starts_a_run_only_for_what_lies_unread_and_moves_the_mark(world: World) -> None:
    nothing = scheduled(world, RECENT)
    assert nothing.run_requests == []
    assert "hours of logs are read" in str(nothing.skip_message)
    before = log_watermark.read(world.lake)
    assert before is not None

    hour = hour_start(datetime.now(UTC))
    add_log(world, hour, "missed")
    (path,) = Path(world.settings.logs).rglob("*.gz")
    an_hour_ago = datetime.now(UTC).timestamp() - 3600
    os.utime(path, (an_hour_ago, an_hour_ago))
    (request,) = scheduled(world, RECENT).run_requests
    assert request.partition_key == key_of(hour)
    assert log_watermark.read(world.lake) == before
    run = world.run(JOB, partition_key=key_of(hour), tags={"dagster/schedule_name": RECENT})
    assert run.success
    after = log_watermark.read(world.lake)
    assert after is not None
    assert after > before
    assert scheduled(world, RECENT).run_requests == []


def test_silence_is_an_alarm_only_where_something_was_sent(world: World) -> None:
    def passes() -> bool:
        result = world.run(FRESHNESS_JOB)
        (evaluation,) = result.get_asset_check_evaluations()
        return evaluation.passed

    assert passes(), "a quiet night"
    sent = hour_start(datetime.now(UTC)) - 3 * HOUR
    row = {"outcome": "accepted", "platform": "ios", "sent_at": sent, "notification_id": "n"}
    few, many = (ATTEMPTS.schema.empty_table().from_pylist([row] * n, schema=ATTEMPTS.schema) for n in (9, 2_000))
    world.lake.write(f"attempts/{partition(sent)}/few.parquet", few)
    assert passes(), "too few for anybody to have answered"
    world.lake.write(f"attempts/{partition(sent)}/many.parquet", many)
    assert not passes()
    add_log(world, sent - HOUR, "of before")
    process_hour(world.lake, world.logs, sent - HOUR)
    assert not passes()
    add_log(world, sent + HOUR, "late")
    process_hour(world.lake, world.logs, sent + HOUR)
    assert passes()


def test_the_nightly_schedule_asks_for_one_run_of_three_days(world: World) -> None:
    (request,) = scheduled(world, NIGHTLY).run_requests
    first, last = (datetime.strptime(f"{key}+0000", "%Y-%m-%d-%H:%M%z") for key in sorted(span_of(request)))
    assert last - first == timedelta(days=3)


def span_of(request: Any) -> list[str]:
    return [value for name, value in request.tags.items() if name.startswith("dagster/asset_partition_range")]
