"""A sandbox that is killed or stopped comes back with its logs, keys and addresses."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from notify_pipeline.core.settings import Settings
from notify_pipeline.sandbox.server import run
from notify_pipeline.sandbox.tokens import fcm_token
from tests.sandbox.client import Peer, beacon_url, fcm_message
from tests.sandbox.conftest import Start
from tests.sandbox.test_cdn import beacons_in, parsed
from tests.waiting import PATIENCE_S

MAIN = """
import sys
from pathlib import Path
from notify_pipeline.core.settings import Settings
from notify_pipeline.sandbox.server import run
run(Settings(home=Path(sys.argv[1]), sandbox_port=0, sandbox_cdn_flush_s=float(sys.argv[2])))
"""


@contextmanager
def process(home: Path, flush_s: float = 3600) -> Iterator[tuple[Peer, "subprocess.Popen[bytes]"]]:
    with subprocess.Popen([sys.executable, "-c", MAIN, str(home), str(flush_s)], stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            yield Peer(orjson.loads(child.stdout.readline())), child
        finally:
            if child.poll() is None:
                child.kill()


def send(peer: Peer, name: str) -> None:
    message = fcm_message(fcm_token(name), d=f"d-{name}")
    message["data"]["receipt"] = beacon_url(peer.addresses["receipt_url"], f"d-{name}")
    with peer.fcm() as client:
        answer = client.post(peer.fcm_path, peer.fcm_headers, orjson.dumps({"message": message}))
    assert answer.status == 200


def test_every_answered_request_survives_kill_9(tmp_path: Path) -> None:
    answered: list[str] = []
    for round_ in range(3):
        with process(tmp_path) as (peer, child):
            killer = threading.Timer(0.15 + 0.1 * round_, os.kill, (child.pid, signal.SIGKILL))
            killer.start()
            try:
                for n in range(100_000):
                    name = f"{round_}-{n}"
                    send(peer, name)
                    answered.append(f"d-{name}")
            except (OSError, AssertionError, ValueError):
                killer.join()
            assert child.wait(PATIENCE_S) == -signal.SIGKILL
    with process(tmp_path) as (peer, child):
        lines = peer.lines("/log")
        assert [line["n"] for line in lines] == list(range(1, len(lines) + 1))
        logged = [line["d"] for line in lines]
        assert len(logged) == len(set(logged))
        assert set(answered) <= set(logged)
        # At most the one request under way at each kill was logged and not answered.
        assert len(set(logged) - set(answered)) <= 3
        child.terminate()
        assert child.wait(PATIENCE_S) == 0


def test_beacons_that_were_answered_reach_a_file_across_kill_9(tmp_path: Path) -> None:
    with process(tmp_path) as (peer, child):
        for n in range(20):
            send(peer, str(n))
        peer.settle()
        assert beacons_in(tmp_path / "logs") == []
        child.kill()
    with process(tmp_path) as (peer, child):
        assert peer.get("/stats")["cdn"]["recovered"] == 20
        truth = [line["querystring"] for line in peer.lines("/cdn/log")]
        assert len(truth) == 20
        child.terminate()
        assert child.wait(PATIENCE_S) == 0
    assert sorted(beacons_in(tmp_path / "logs")) == sorted(truth)
    with process(tmp_path) as (peer, child):
        assert peer.get("/stats")["cdn"]["recovered"] == 0


def test_addresses_keys_and_access_tokens_outlive_a_restart(tmp_path: Path, start: Start) -> None:
    with start(tmp_path) as first:
        headers = first.fcm_headers
        ca = Path(first.addresses["ca"]).read_bytes()
    with start(tmp_path) as second:
        assert second.addresses == first.addresses
        assert Path(second.addresses["ca"]).read_bytes() == ca
        with second.fcm() as client:
            body = orjson.dumps({"message": fcm_message(fcm_token("x"))})
            assert client.post(second.fcm_path, headers, body).status == 200


def test_a_taken_port_is_an_error_that_names_itself(tmp_path: Path, start: Start) -> None:
    with start(tmp_path / "a") as peer:
        port = int(peer.url.rpartition(":")[2])
        with pytest.raises(OSError, match=str(port)):
            run(Settings(home=tmp_path / "b", sandbox_port=port), threading.Event())


def test_two_systems_run_side_by_side(tmp_path: Path, start: Start) -> None:
    with start(tmp_path / "a") as first, start(tmp_path / "b") as second:
        send(first, "one")
        assert len(first.lines("/log")) == 1
        assert second.lines("/log") == []


def test_it_writes_below_its_home_and_the_log_root_only(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with process(home) as (peer, child):
        send(peer, "one")
        child.send_signal(signal.SIGINT)
        assert child.wait(PATIENCE_S) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert sorted(path.name for path in home.iterdir()) == ["logs", "sandbox"]
    secrets = [p for p in (home / "sandbox" / "keys").iterdir() if b"PRIVATE KEY" in p.read_bytes()]
    assert len(secrets) == 5
    assert {path.stat().st_mode & 0o077 for path in secrets} == {0}
    # A clean stop writes what devices called for.
    assert len(parsed(home / "logs")) == 1
