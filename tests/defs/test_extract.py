"""Extracts in Dagster: written for a day, for a range in one run, and asked for again when due."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from notify_pipeline.defs.reports.extract import JOB
from notify_pipeline.reports import extracts
from tests.defs.conftest import World
from tests.reports.desk import Desk
from tests.reports.worlds import START
from tests.reports.worlds import World as Sends


def requests(world: World, schedule: str, at: datetime) -> list[dg.RunRequest]:
    """Evaluate a schedule."""
    context = dg.build_schedule_context(
        world.instance, scheduled_execution_time=at, resources=world.resources, repository_def=world.repository
    )
    return list(world.repository.get_schedule_def(schedule).evaluate_tick(context).run_requests or [])


def test_days_are_extracted_nightly_and_when_due(world: World) -> None:
    for number in range(2):
        sends = Sends()
        sends.request(f"n{number}", at=(number - 40) * 86_400)
        sends.put(world.lake, f"day-{number}")
    Desk(world.lake, world.settings.reports).publish()
    soon = START - timedelta(days=38)
    (nightly,) = requests(world, "extract_nightly", soon)
    assert nightly.partition_key == "2026-10-13"
    (due,) = requests(world, "extract_what_changed", soon)
    run = world.run(JOB, tags={**due.tags, "dagster/schedule_name": "extract_what_changed"})
    assert run.success
    seen = {event.partition: event.materialization.metadata for event in run.get_asset_materialization_events()}
    assert set(seen) == {"2026-10-12", "2026-10-13"}
    assert seen["2026-10-13"]["notifications"].value == 1
    assert requests(world, "extract_what_changed", soon) == []
    assert world.run(JOB, partition_key="2026-10-14").success
    assert len(world.lake.list("extracts")) == 6
    assert sorted(extracts.written(world.lake)) == [datetime(2026, 10, day, tzinfo=UTC).date() for day in (12, 13, 14)]
