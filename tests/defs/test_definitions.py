"""The definitions as Dagster loads them, its instance file, and the launcher's word on runs."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher.base import WorkerStatus
from dagster._grpc.types import GetCurrentRunsResult

from notify_pipeline.commands.up.home import prepare_dagster_home
from notify_pipeline.core.settings import Settings
from notify_pipeline.definitions import build_defs
from notify_pipeline.defs import lanes
from notify_pipeline.defs.launcher import LocalRunLauncher
from notify_pipeline.reports.catalogue import TABLES
from tests.waiting import PATIENCE_S


def test_dagster_validates_them(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dagster", "definitions", "validate", "-m", "notify_pipeline.definitions"]
    env = {**os.environ, "NOTIFY_HOME": str(tmp_path)}
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "ledger").exists(), "loading definitions opens nothing"


def test_every_job_has_a_lane_and_every_sensor_and_schedule_runs_from_the_start() -> None:
    repository = build_defs(Settings()).get_repository_def()
    limits = {lanes.DRAIN, lanes.BROADCAST, lanes.BROADCAST_HIGH, lanes.RECEIPTS, lanes.REPORTS, lanes.MAINTENANCE}
    jobs = [job for job in repository.get_all_jobs() if not job.name.startswith("__")]
    assert {job.run_tags.get(lanes.TAG, job.tags.get(lanes.TAG)) for job in jobs} <= limits
    assert all(sensor.default_status is dg.DefaultSensorStatus.RUNNING for sensor in repository.sensor_defs)
    assert all(schedule.default_status is dg.DefaultScheduleStatus.RUNNING for schedule in repository.schedule_defs)


def test_the_catalogue_shows_report_tables_with_their_columns_and_where_they_come_from() -> None:
    graph = build_defs(Settings()).get_repository_def().asset_graph
    for table in TABLES:
        node = graph.get(dg.AssetKey(["reports", table.name]))
        columns = node.metadata["dagster/column_schema"].columns
        assert [(each.name, each.type, each.description) for each in columns] == [
            (each.name, each.type, each.comment) for each in table.columns
        ]
        above = graph.get_ancestor_asset_keys(node.key)
        assert {dg.AssetKey(["lake", "attempts"]), dg.AssetKey("receipts"), dg.AssetKey("published_report")} <= above


def test_the_instance_file_loads_and_its_lanes_fit_the_limit_of_all(tmp_path: Path) -> None:
    home = prepare_dagster_home(Settings(home=tmp_path))
    with dg.DagsterInstance.from_config(str(home)) as instance:
        config = instance.get_concurrency_config().run_queue_config
        assert config is not None
        assert sum(limit["limit"] for limit in config.tag_concurrency_limits) <= config.max_concurrent_runs
        assert {limit["value"] for limit in config.tag_concurrency_limits} >= {lanes.DRAIN, lanes.REPORTS}
        assert lanes.limits(instance)[lanes.BROADCAST_HIGH] == lanes.limits(instance)[lanes.BROADCAST] == 2
        assert isinstance(instance.run_launcher, LocalRunLauncher)
        assert instance.run_monitoring_enabled
        assert instance.run_coordinator.dequeue_interval_seconds == 1


def test_postgresql_for_dagster_is_a_setting(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, dagster_storage_url="postgresql+psycopg2://u:secret@h/d")
    text = (prepare_dagster_home(settings) / "dagster.yaml").read_text()
    assert "env: NOTIFY_DAGSTER_STORAGE_URL" in text
    assert "secret" not in text


class Client:
    """Stands in for the gRPC client of a code server."""

    def __init__(self, answer: list[str] | Exception) -> None:
        self.answer = answer

    def get_current_runs(self) -> str:
        if isinstance(self.answer, Exception):
            raise self.answer
        return dg.serialize_value(GetCurrentRunsResult(current_runs=self.answer, serializable_error_info=None))


RUN = dg.DagsterRun("drain")


@pytest.mark.parametrize(
    ("client", "status"),
    [
        pytest.param(Client([RUN.run_id]), WorkerStatus.RUNNING, id="its server runs it"),
        pytest.param(Client(["another"]), WorkerStatus.NOT_FOUND, id="its server does not"),
        pytest.param(
            Client(DagsterUserCodeUnreachableError("gRPC Error code: UNAVAILABLE")), WorkerStatus.NOT_FOUND, id="gone"
        ),
        pytest.param(
            Client(DagsterUserCodeUnreachableError("gRPC Error code: DEADLINE_EXCEEDED")),
            WorkerStatus.RUNNING,
            id="busy",
        ),
        pytest.param(None, WorkerStatus.RUNNING, id="nobody knows"),
    ],
)
def test_whether_a_run_lives(client: Any, status: WorkerStatus, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = LocalRunLauncher()
    monkeypatch.setattr(launcher, "_get_grpc_client_for_termination", lambda run_id: client)
    assert launcher.supports_check_run_worker_health
    assert launcher.check_run_worker_health(RUN).status is status
