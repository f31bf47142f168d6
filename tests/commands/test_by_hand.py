"""The commands that do by hand what a running system does by itself."""

import gzip
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from typer.testing import CliRunner, Result

from notify_pipeline.cli import app
from notify_pipeline.commands import reports
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.partitions import partition
from notify_pipeline.core.receipt_log import receipt_line
from notify_pipeline.core.schemas import ATTEMPTS, REQUESTS
from notify_pipeline.reports import versions

HOUR = datetime(2026, 3, 1, 7, tzinfo=UTC)


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NOTIFY_HOME", str(tmp_path))
    return tmp_path


def notify(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_help_names_every_command() -> None:
    shown = notify("--help")
    assert shown.exit_code == 0
    for command in (
        "up",
        "status",
        "db",
        "sandbox",
        "lander",
        "receipts",
        "reports",
        "audience",
        "compact",
        "sql",
        "retention",
    ):
        assert command in shown.output


def test_an_unknown_command_is_refused() -> None:
    assert notify("upp").exit_code == 2


def test_db_upgrade_can_be_repeated(tmp_path: Path) -> None:
    assert "was: empty" in notify("db", "upgrade").output.replace("\n", "")
    assert notify("db", "upgrade").exit_code == 0
    assert (tmp_path / "ledger" / "ledger.db").exists()


def test_a_ledger_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_LEDGER_URL", "postgresql://user:secret@127.0.0.1:1/none")
    failed = notify("db", "upgrade")
    assert failed.exit_code == 1
    assert failed.stderr.startswith("error: ledger:")
    assert "secret" not in failed.output


def test_receipts_of_some_hours(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "fastly" / partition(HOUR) / "one.log.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(receipt_line("/notification/received", "nonsense", HOUR)))
    for parsed in ("1", "0"):
        done = notify("receipts", "process", "--from", "2026-03-01T06", "--until", "2026-03-01T09")
        assert done.exit_code == 0, done.output
        (row,) = [line for line in done.output.splitlines() if "2026-03-01 07:00" in line]
        assert [cell.strip() for cell in row.strip("│").split("│")][1:3] == ["1", parsed]
    assert notify("receipts", "process", "--from", "2026-03-02", "--until", "2026-03-01").exit_code == 1


def test_an_operator_sees_quarantine_and_takes_a_file_back(tmp_path: Path) -> None:
    name = f"fastly/{partition(HOUR)}/one.log.gz"
    path = tmp_path / "logs" / name
    path.parent.mkdir(parents=True)
    d = "0123456789" * 4
    good = f"notificationId=n&platform=ios&provider=apns&d={d}"
    lines = [receipt_line("/notification/received", query, HOUR) for query in (good, "nonsense")]
    path.write_bytes(gzip.compress(b"\n".join(lines)))
    hours = ("--from", "2026-03-01T06", "--until", "2026-03-01T09")
    notify("receipts", "process", *hours)
    seen = notify("receipts", "quarantine", *hours, "--show", "5").output
    assert "missing_field" in seen
    assert f"{name}:2:" in seen
    assert "missing_field" not in notify("receipts", "quarantine", *hours, "--source", "other").output
    assert "events are gone" in notify("receipts", "retract", name, "--why", "a test").output
    assert list((tmp_path / "lake" / "receipts").rglob("*.parquet")) == []
    notify("receipts", "process", *hours)
    assert list((tmp_path / "lake" / "receipts").rglob("*.parquet")) == []
    assert "read again" in notify("receipts", "restore", name).output
    assert len(list((tmp_path / "lake" / "receipts").rglob("*.parquet"))) == 1
    assert notify("receipts", "restore", name).exit_code == 1
    assert notify("receipts", "retract", "fastly/one.log").exit_code == 1


def test_an_operator_finds_beacons_that_belong_to_nothing(tmp_path: Path) -> None:
    assert "no report was built yet" in notify("receipts", "foreign").stderr
    lake = Lake(str(tmp_path / "lake"))
    ids = ["0123456789" * 4, "9876543210" * 4]
    attempt = {"tenant": "t", "notification_id": "mine", "delivery_id": ids[0], "outcome": "accepted", "sent_at": HOUR}
    request = {"tenant": "t", "request_id": "r", "notification_id": "mine", "accepted_at": HOUR, "body": "{}"}
    request |= {"type": "news", "priority": "high", "title": "", "dry_run": False, "topics": [], "expires_at": HOUR}
    for table, row in ((ATTEMPTS, attempt | {"channel": "apns", "platform": "ios"}), (REQUESTS, request)):
        lake.write(f"{table.name}/{partition(HOUR)}/a.parquet", pa.Table.from_pylist([row], schema=table.schema))
    for source, name in (("fastly", "mine"), ("cdn-eu", "mine"), ("cdn-eu", "forged")):
        path = tmp_path / "logs" / source / partition(HOUR) / f"{name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        d = ids[source != "fastly"]
        query = f"notificationId={name}&platform=ios&provider=apns&d={d}"
        path.write_bytes(receipt_line("/notification/received", query, HOUR))
    notify("receipts", "process", "--from", "2026-03-01T06", "--until", "2026-03-01T09")
    assert notify("reports", "build").exit_code == 0
    seen = notify("receipts", "foreign", "--from", "2026-03-01T06", "--until", "2026-03-01T09").output
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in seen.splitlines() if "cdn-eu" in line]
    assert rows == [
        ["cdn-eu", "unknown_notification", "forged", "1", "1"],
        ["cdn-eu", "unknown_delivery", "mine", "1", "1"],
    ]
    assert "fastly" not in seen


def test_an_unknown_log_format_is_refused_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_LOG_FORMATS", '{"cdn-eu": "cloudfrond"}')
    refused = notify("receipts", "process", "--from", "2026-03-01")
    assert refused.exit_code == 1
    assert "NOTIFY_LOG_FORMATS_CDN-EU" in refused.stderr


def test_reports_are_built_once_and_rebuilt_on_demand(tmp_path: Path) -> None:
    assert "version 1 is current" in notify("reports", "build").output
    assert "nothing changed" in notify("reports", "build").output
    assert notify("reports", "rebuild").exit_code == 0


def test_a_second_builder_waits_and_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "_WAIT_S", 0.3)
    with versions.writer(tmp_path / "reports"):
        refused = notify("reports", "build")
    assert refused.exit_code == 1
    assert "another process" in refused.stderr


def test_maintenance_by_hand() -> None:
    assert notify("compact").exit_code == 0
    assert notify("audience", "rebuild").exit_code == 0


def test_retention_shows_what_would_go_and_then_lets_it_go(tmp_path: Path) -> None:
    old = tmp_path / "lake" / "quarantine" / "date=2026-01-01" / "hour=00" / "x.parquet"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"x")
    shown = notify("retention", "--dry-run")
    assert "quarantine" in shown.output and old.exists()
    assert notify("retention").exit_code == 0
    assert not old.exists()
    assert "nothing went" in notify("retention").output
