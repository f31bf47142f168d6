"""The CDN: beacons, log files in Fastly's form, disorder, and the truth beside them."""

import gzip
import re
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests

from notify_pipeline.core.lake import Lake
from tests.sandbox.client import Peer, beacon_url
from tests.sandbox.conftest import Start
from tests.waiting import PATIENCE_S


def raw_lines(logs: Path) -> list[bytes]:
    texts = [gzip.decompress(path.read_bytes()) for path in sorted(logs.rglob("*.log.gz"))]
    return [line for text in texts for line in text.removesuffix(b"\n").split(b"\n")]


def parsed(logs: Path) -> list[dict[str, Any]]:
    found = []
    for line in raw_lines(logs):
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(record, dict):
            found.append(record)
    return found


def beacons_in(logs: Path) -> list[str]:
    """The query strings of every line that a careful reader would count."""
    lines = [r for r in parsed(logs) if r["event"].startswith("/notification/") and "querystring" in r]
    return [r["querystring"] for r in lines if "notificationId=" in r["querystring"]]


def flush(peer: Peer) -> int:
    answer = requests.post(peer.url + "/cdn/flush", timeout=PATIENCE_S)
    assert answer.status_code == 200
    return int(answer.json()["files"])


def call(peer: Peer, count: int) -> None:
    with requests.Session() as session:
        for n in range(count):
            assert session.get(beacon_url(peer.url, f"d{n}")).status_code == 204


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("event", ["received", "opened", "clicked"])
def test_a_beacon_becomes_one_log_line(sandbox: Peer, tmp_path: Path, method: str, event: str) -> None:
    query = "notificationId=n%2F1&platform=ios&provider=apns&d=abc"
    url = f"{sandbox.url}/notification/{event}?{query}"
    answer = requests.request(method, url, headers={"user-agent": 'Phone "1"'}, timeout=PATIENCE_S)
    assert (answer.status_code, answer.content) == (204, b"")
    (truth,) = sandbox.lines("/cdn/log")
    at = truth.pop("time")
    assert truth == {
        "n": 1,
        "event": event,
        "notification_id": "n/1",
        "platform": "ios",
        "provider": "apns",
        "d": "abc",
        "querystring": query,
        "user_agent": 'Phone "1"',
        "client_ip": "127.0.0.0",
    }
    assert flush(sandbox) == 1
    (path,) = (tmp_path / "logs").rglob("*.gz")
    folder = path.parent.relative_to(tmp_path / "logs").as_posix()
    assert folder == f"fastly/date={at[:10]}/hour={at[11:13]}"
    (line,) = parsed(tmp_path / "logs")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["datetime"])
    assert line["datetime"][:-1] == at[:23]
    assert (line["event"], line["querystring"]) == (f"/notification/{event}", query)
    assert (line["status"], line["client_ip"], line["user_agent"]) == (204, "127.0.0.0", 'Phone "1"')
    assert "pop" in line


def test_files_come_by_themselves_and_are_never_seen_torn(tmp_path: Path, start: Start) -> None:
    with start(tmp_path, flush_s=0.05) as peer:
        call(peer, 30)
        logs = tmp_path / "logs"
        peer.wait_for("all lines", lambda: len(raw_lines(logs)) == 30 if logs.exists() else False)
        assert peer.get("/stats")["cdn"]["pending"] == 0
    assert len(beacons_in(logs)) == 30


def test_nothing_to_write_writes_no_file(sandbox: Peer, tmp_path: Path) -> None:
    assert flush(sandbox) == 0
    assert not (tmp_path / "logs").exists() or not list((tmp_path / "logs").rglob("*.gz"))


def test_disorder_adds_and_delays_but_loses_nothing(tmp_path: Path, start: Start) -> None:
    with start(tmp_path, flush_s=0.05) as peer:
        peer.faults(seed=4, cdn={"late": 0.3, "repeated": 0.2, "garbage": 0.6, "other_paths": 0.2})
        # Enough garbage that each of its eleven kinds is surely among it.
        call(peer, 300)
        truth = [line["querystring"] for line in peer.lines("/cdn/log")]
        flush(peer)
        stats = peer.get("/stats")["cdn"]
        assert stats["pending"] == 0
        assert stats["late"] > 30
        logs = tmp_path / "logs"
        counted = Counter(beacons_in(logs))
        assert set(counted) == set(truth)
        assert Counter(counted.values()).keys() == {1, 2}
        assert any(not r["event"].startswith("/notification/received") for r in parsed(logs))
        lines = raw_lines(logs)
        assert len(lines) == stats["lines"]
        assert any(b"\x00" in line for line in lines)
        assert any(not _is_utf8(line) for line in lines)
        assert len(lines) > len(parsed(logs)) > len(truth)


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_a_late_line_is_in_a_later_file(sandbox: Peer, tmp_path: Path, start: Start) -> None:
    with start(tmp_path / "late", flush_s=0.05) as peer:
        peer.faults(cdn={"late": 1})
        call(peer, 20)
        logs = tmp_path / "late" / "logs"
        peer.wait_for("all lines", lambda: logs.exists() and len(raw_lines(logs)) == 20)
        assert peer.get("/stats")["cdn"]["late"] == 20


def test_an_unwritable_log_root_is_reported_and_tried_again(sandbox: Peer, tmp_path: Path) -> None:
    call(sandbox, 3)
    (tmp_path / "logs").write_text("a file where the folder should be")
    answer = requests.post(sandbox.url + "/cdn/flush", timeout=PATIENCE_S)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "logs_unwritable")
    assert sandbox.get("/stats")["cdn"]["failed_flushes"] == 1
    assert sandbox.get("/stats")["cdn"]["pending"] == 3
    (tmp_path / "logs").unlink()
    assert flush(sandbox) == 1
    assert len(beacons_in(tmp_path / "logs")) == 3


def test_log_files_go_to_s3_as_well(tmp_path: Path, start: Start, s3_root: str, s3_server: str) -> None:
    with start(tmp_path, logs_root=s3_root, s3_endpoint_url=s3_server) as peer:
        assert peer.addresses["logs_root"] == s3_root
        call(peer, 3)
        assert flush(peer) == 1
        call(peer, 2)
    logs = Lake(s3_root, s3_server)
    files = logs.list("fastly", ".log.gz")
    lines = [gzip.decompress(logs.read_bytes(file.path)).splitlines() for file in files]
    assert sorted(len(found) for found in lines) == [2, 3]
    assert not (tmp_path / "logs").exists()


def test_odd_beacons_are_logged_as_they_came(sandbox: Peer, tmp_path: Path) -> None:
    for query in ("", "?", "?d=1&d=2", "?notificationId=%FF%00&x", "?" + "a" * 5000):
        assert requests.get(f"{sandbox.url}/notification/received{query}", timeout=PATIENCE_S).status_code == 204
    assert [line["d"] for line in sandbox.lines("/cdn/log")] == [None, None, "1", None, None]
    flush(sandbox)
    assert len(parsed(tmp_path / "logs")) == 5


def test_other_paths_and_methods_are_no_beacons(sandbox: Peer) -> None:
    assert requests.get(sandbox.url + "/notification/seen", timeout=PATIENCE_S).status_code == 404
    assert requests.get(sandbox.url + "/notification/", timeout=PATIENCE_S).status_code == 404
    assert requests.delete(sandbox.url + "/notification/received", timeout=PATIENCE_S).status_code == 405
    assert sandbox.lines("/cdn/log") == []
