"""The maintenance jobs on a real installation."""

from datetime import timedelta
from pathlib import Path

import pytest

from notify_pipeline.core.ledger import devices
from notify_pipeline.core.ledger.engine import utc_now
from notify_pipeline.core.vocabulary import Platform
from notify_pipeline.defs.maintenance import tidy
from tests.defs.conftest import World

SENSOR = "rebuild_when_the_delta_is_large"


def test_every_maintenance_job_succeeds_on_an_empty_installation(world: World) -> None:
    for job in ("rebuild_audience_base", "compact_lake", "tidy"):
        assert world.run(job).success


def test_a_new_base_is_asked_for_when_there_are_many_segments(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notify_pipeline.defs.maintenance.audience.MANY_SEGMENTS", 3)
    for number in range(3):
        registration = devices.Registration(f"token-{number}", Platform.ANDROID)
        assert world.tick(SENSOR).run_requests == []
        devices.register(world.ledger, world.tenant, registration, utc_now())
        world.land()
    assert len(world.tick(SENSOR).run_requests) == 1
    assert world.run("rebuild_audience_base").success
    assert world.tick(SENSOR).run_requests == []


def test_scratch_files_of_dead_processes_are_removed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = Path(world.lake.root) / "attempts" / ".file.parquet.abc.tmp"
    scratch.parent.mkdir(parents=True)
    scratch.touch()
    assert world.run("tidy").success
    assert scratch.exists(), "somebody may be writing it"
    monkeypatch.setattr(tidy, "SCRATCH_AGE", timedelta(0))
    assert world.run("tidy").success
    assert not scratch.exists()


def test_what_is_older_than_its_setting_goes(world: World) -> None:
    world.lake.write_bytes("quarantine/date=2026-01-01/hour=00/old.parquet", b"x")
    world.lake.write_bytes("quarantine/date=2999-01-01/hour=00/new.parquet", b"x")
    result = world.run("retention")
    assert result.success
    (output,) = (event.step_output_data for event in result.all_node_events if event.is_successful_output)
    assert output.metadata["went"].value["quarantine"]["files"] == 1
    assert [file.path for file in world.lake.list("quarantine")] == ["quarantine/date=2999-01-01/hour=00/new.parquet"]
