"""Which of Dagster's runs are forgotten."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from notify_pipeline.defs import lanes
from notify_pipeline.defs.maintenance.history import forget_runs

BY_SENSOR = {"dagster/sensor_name": "keep_drain_alive"}
LATER = datetime.now(UTC) + timedelta(hours=1)


@dg.op
def nothing() -> None:
    """Do nothing."""


@dg.job(tags=lanes.tag(lanes.DRAIN))
def routine() -> None:
    nothing()


@dg.job
def special() -> None:
    nothing()


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as made:
        yield made


def run(instance: dg.DagsterInstance, job: dg.JobDefinition, **tags: str) -> str:
    return job.execute_in_process(instance=instance, tags={**BY_SENSOR, **tags}).run_id


def left(instance: dg.DagsterInstance) -> set[str]:
    return {run.run_id for run in instance.get_runs()}


def test_forgets_routine_runs_but_for_the_latest_and_their_files(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    old, new = run(instance, routine), run(instance, routine)
    event_file = tmp_path / "history" / "runs" / f"{old}.db"
    assert event_file.exists()
    assert forget_runs(instance, LATER) == 1
    assert left(instance) == {new}
    assert not event_file.exists()


def test_keeps_young_runs(instance: dg.DagsterInstance) -> None:
    run(instance, routine), run(instance, routine)
    assert forget_runs(instance, datetime.now(UTC) - timedelta(hours=1)) == 0


def test_keeps_runs_of_no_routine_lane_and_those_started_by_hand(instance: dg.DagsterInstance) -> None:
    kept = {run(instance, special), run(instance, special)}
    kept.add(routine.execute_in_process(instance=instance).run_id)
    kept.add(run(instance, routine))
    assert forget_runs(instance, LATER) == 0
    assert left(instance) == kept


def test_keeps_the_latest_run_of_each_partition(instance: dg.DagsterInstance) -> None:
    old = run(instance, routine, **{"dagster/partition": "2026-11-21-10:00"})
    kept = {run(instance, routine, **{"dagster/partition": f"2026-11-21-{hour}:00"}) for hour in (10, 11)}
    assert forget_runs(instance, LATER) == 1
    assert left(instance) == kept
    assert old not in kept


def test_stops_at_its_limit(instance: dg.DagsterInstance) -> None:
    for _ in range(4):
        run(instance, routine)
    assert forget_runs(instance, LATER, limit=2) == 2
    assert len(left(instance)) == 2
