"""Hours of logs brought into the lake, in a folder and on S3."""

import hashlib
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.partitions import partition
from notify_pipeline.receipts import hours as hours_module
from notify_pipeline.receipts import retractions, side_by_side
from notify_pipeline.receipts.hours import process_hour
from notify_pipeline.receipts.logs import Logs, discover
from notify_pipeline.receipts.results import unread
from tests.receipts.samples import HOUR, line, log, query

NOW = HOUR + timedelta(minutes=30)


@pytest.fixture
def raw_logs(lake_root: str, lake_endpoint: str | None) -> Lake:
    """Where logs are put."""
    return Lake(f"{lake_root}-logs", lake_endpoint)


@pytest.fixture
def logs(raw_logs: Lake) -> Logs:
    """The same, as the receipts see it."""
    return Logs(raw_logs.root, raw_logs.s3_endpoint_url)


def put(raw_logs: Lake, name: str, content: bytes, hours: int = 0, source: str = "fastly") -> str:
    """Put a log file and return its path."""
    path = f"{source}/{partition(HOUR + timedelta(hours=hours))}/{name}"
    raw_logs.write_bytes(path, content)
    return path


def contents(lake: Lake) -> dict[str, str]:
    """Return every file of the lake by its digest."""
    return {file.path: hashlib.sha256(lake.read_bytes(file.path)).hexdigest() for file in lake.list(suffix="")}


def receipts(lake: Lake) -> list[str]:
    """Return the notification ids of all receipts, sorted."""
    return sorted(n for file in lake.list("receipts") for n in lake.read(file.path)["notification_id"].to_pylist())


def test_an_hour_of_several_sources(lake: Lake, logs: Logs, raw_logs: Lake) -> None:
    assert process_hour(lake, logs, NOW).files == 0
    put(raw_logs, "a.gz", log(line(query("a")), line(query("b")), b"garbage", line(event="/x")))
    put(raw_logs, "b.log", log(line(query("c")), compress=False), source="ingress")
    put(raw_logs, "other-hour.gz", log(line(query("d"))), hours=1)
    report = process_hour(lake, logs, NOW)
    assert (report.hour, report.files, report.parsed, report.removed) == (HOUR, 2, 2, 0)
    assert (report.lines, report.events, report.other, report.quarantined) == (5, 3, 1, 1)
    assert report.reasons == {"broken_json": 1}
    assert receipts(lake) == ["a", "b", "c"]
    assert {file.path.rpartition("/")[0] for file in lake.list("receipts")} == {f"receipts/{partition(HOUR)}"}
    [quarantined] = lake.list("quarantine")
    assert lake.read(quarantined.path).to_pylist() == [
        {
            "source_file": f"fastly/{partition(HOUR)}/a.gz",
            "line_no": 3,
            "reason": "broken_json",
            "raw": "garbage",
            "at": HOUR,
        }
    ]


def test_doing_it_again_gives_the_same_bytes(
    lake: Lake, logs: Logs, raw_logs: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(4):
        put(raw_logs, f"{n}.gz", log(*(line(query(f"n{n}", str(i))) for i in range(50)), b"\xff", b""))
    process_hour(lake, logs, NOW)
    before = contents(lake)
    assert len(before) == 4 + 4 + 1, "of each file, and what is counted"
    assert process_hour(lake, logs, NOW).parsed == 0
    assert contents(lake) == before
    assert process_hour(lake, logs, NOW, reparse=True).parsed == 4
    assert contents(lake) == before
    lake.delete(before)
    process_hour(lake, logs, NOW, at_once=1)
    assert contents(lake) == before
    lake.delete(before)
    monkeypatch.setattr(side_by_side, "MUCH", 0)
    process_hour(lake, logs, NOW, at_once=2)
    assert contents(lake) == before, "also where other processes parse them"


def test_a_replaced_file_replaces_its_result(lake: Lake, logs: Logs, raw_logs: Lake) -> None:
    put(raw_logs, "a.gz", log(line(query("wrong")), b"garbage"))
    put(raw_logs, "b.gz", log(line(query("kept"))))
    process_hour(lake, logs, NOW)
    put(raw_logs, "a.gz", log(line(query("right one"))))
    report = process_hour(lake, logs, NOW)
    assert (report.parsed, report.removed) == (1, 1)
    assert receipts(lake) == ["kept", "right one"]
    assert lake.list("quarantine") == []


def test_a_file_that_disappears_keeps_its_result(lake: Lake, logs: Logs, raw_logs: Lake) -> None:
    path = put(raw_logs, "a.gz", log(line(query("a"))))
    process_hour(lake, logs, NOW)
    raw_logs.delete([path])
    assert process_hour(lake, logs, NOW).removed == 0
    assert receipts(lake) == ["a"]


def test_a_file_without_events_is_parsed_once(lake: Lake, logs: Logs, raw_logs: Lake) -> None:
    put(raw_logs, "a.gz", log(line(event="/x")))
    assert process_hour(lake, logs, NOW).parsed == 1
    assert process_hour(lake, logs, NOW).parsed == 0


def test_a_file_that_cannot_be_read_keeps_no_other_waiting(
    lake: Lake, logs: Logs, raw_logs: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abcdef":
        put(raw_logs, f"{name}.gz", log(line(query(name))))
    read = logs.read

    def refusing(path: str) -> bytes:
        if path.endswith("/a.gz"):
            raise PermissionError(path)
        return read(path)

    with monkeypatch.context() as patch, pytest.raises(PermissionError):
        patch.setattr(logs, "read", refusing)
        process_hour(lake, logs, NOW, at_once=1)
    assert receipts(lake) == list("bcdef")
    assert process_hour(lake, logs, NOW).parsed == 1


def test_a_crash_before_the_receipts_leaves_the_file_to_do(
    lake: Lake, logs: Logs, raw_logs: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(raw_logs, "a.gz", log(line(query("a")), b"garbage"))
    write = lake.write_bytes

    def dying(path: str, content: bytes) -> None:
        if path.startswith("receipts/"):
            raise OSError("the disk is gone")
        write(path, content)

    monkeypatch.setattr(lake, "write_bytes", dying)
    with pytest.raises(OSError, match="the disk is gone"):
        process_hour(lake, logs, NOW)
    monkeypatch.undo()
    assert process_hour(lake, logs, NOW).parsed == 1
    assert receipts(lake) == ["a"]
    assert len(lake.list("quarantine")) == 1


def test_a_file_that_is_taken_back_leaves_nothing_until_it_is_restored(lake: Lake, logs: Logs, raw_logs: Lake) -> None:
    path = put(raw_logs, "a.gz", log(line(query("wrong")), b"garbage"))
    put(raw_logs, "b.gz", log(line(query("kept"))))
    process_hour(lake, logs, NOW)
    retractions.retract(lake, path, NOW, "a test's")
    assert process_hour(lake, logs, NOW).removed == 1
    assert (receipts(lake), lake.list("quarantine")) == (["kept"], [])
    put(raw_logs, "a.gz", log(line(query("wrong again"))))
    report = process_hour(lake, logs, NOW)
    assert (report.parsed, report.total.events) == (0, 1)
    assert unread(lake, NOW, logs.files(NOW)) == []
    assert retractions.restore(lake, path)
    assert not retractions.restore(lake, path)
    assert [file.path for file in unread(lake, NOW, logs.files(NOW))] == [path]
    process_hour(lake, logs, NOW)
    assert receipts(lake) == ["kept", "wrong again"]


@pytest.mark.parametrize("change", ["replaced", "retracted"])
def test_a_file_that_changes_while_it_is_read_is_not_counted_twice(
    folder_lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    raw_logs, logs = Lake(str(tmp_path / "logs")), Logs(str(tmp_path / "logs"))
    path = put(raw_logs, "a.gz", log(line(query("first"))))
    store = folder_lake.write_bytes

    def slow(to: str, content: bytes) -> None:
        if to.startswith("receipts/"):  # before it is stored, another process has seen to the change
            monkeypatch.undo()
            if change == "replaced":
                put(raw_logs, "a.gz", log(line(query("second"))))
            else:
                retractions.retract(folder_lake, path, NOW, "")
            process_hour(folder_lake, logs, NOW)
        store(to, content)

    monkeypatch.setattr(folder_lake, "write_bytes", slow)
    process_hour(folder_lake, logs, NOW)
    assert receipts(folder_lake) == (["second"] if change == "replaced" else [])


def test_the_hours_numbers_are_of_all_its_files(folder_lake: Lake, tmp_path: Path) -> None:
    lake, raw_logs, logs = folder_lake, Lake(str(tmp_path / "logs")), Logs(str(tmp_path / "logs"))
    first = log(line(query("a")), b"garbage", line(event="/x"))
    put(raw_logs, "a.gz", first)
    process_hour(lake, logs, NOW)
    second = log(line(query("b"), at=HOUR + timedelta(minutes=9)), b"more", b"\xff")
    put(raw_logs, "b.gz", second)
    report = process_hour(lake, logs, NOW)
    total = report.total
    assert (report.parsed, total.files, total.size) == (1, 2, len(first) + len(second))
    assert (total.lines, total.events, total.other, total.quarantined) == (6, 2, 1, 3)
    assert total.reasons == {"bad_utf8": 1, "broken_json": 2}
    assert total.latest == HOUR + timedelta(minutes=9)
    lake.delete([file.path for file in lake.list("log_counts", suffix="")])
    assert process_hour(lake, logs, NOW).total == total, "read again from the notes of the results"


def test_changed_hours_are_found(logs: Logs, raw_logs: Lake) -> None:
    found = discover(logs, None, NOW)
    assert found.hours == []
    put(raw_logs, "a.gz", b"1")
    put(raw_logs, "b.gz", b"2", hours=-1)
    put(raw_logs, "notes.txt", b"x", source="fastly/date=tomorrow")
    found = discover(logs, found.cursor, NOW)
    assert found.hours == [HOUR - timedelta(hours=1), HOUR]
    found = discover(logs, found.cursor, NOW)
    assert found.hours == []
    put(raw_logs, "c.gz", b"3", hours=-1, source="other")
    found = discover(logs, found.cursor, NOW)
    assert found.hours == [HOUR - timedelta(hours=1)]
    put(raw_logs, "a.gz", b"another")
    found = discover(logs, found.cursor, NOW)
    assert found.hours == [HOUR]
    assert discover(logs, found.cursor, NOW).hours == []


def test_old_hours_are_not_listed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw_logs, logs = Lake(str(tmp_path)), Logs(str(tmp_path))
    for hours in range(50):
        put(raw_logs, "a.gz", b"1", hours=-hours)
        folder = tmp_path / "fastly" / partition(HOUR - timedelta(hours=hours))
        os.utime(folder, (HOUR.timestamp() - 3600 * hours,) * 2)
    found = discover(logs, None, NOW)
    assert len(found.hours) == 50
    listed: list[object] = []
    files: Callable[..., object] = logs.files
    monkeypatch.setattr(logs, "files", lambda hour: listed.append(hour) or files(hour))
    assert discover(logs, found.cursor, NOW).hours == []
    assert len(listed) == 3


def test_nothing_here_knows_how_to_send() -> None:
    modules = Path(hours_module.__file__).parent.glob("*.py")
    assert not any(
        word in path.read_text() for path in modules for word in ("delivery.", "channels", "httpx", "import requests")
    )
