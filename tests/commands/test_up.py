"""``notify up`` as a whole, once: files, answers, a second start refused, a dead child restarted, a clean stop."""

import os
import signal
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from notify_pipeline.commands.up import home as home_files
from notify_pipeline.sandbox.tokens import fcm_token
from tests.e2e.system import of_this_home
from tests.waiting import PATIENCE_S, wait_for


def environment(home: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NOTIFY_")}
    ports = {f"NOTIFY_{name}_PORT": "0" for name in ("HTTP", "DAGSTER", "SANDBOX", "GATEWAY", "TOKEN_DESK")}
    return {**inherited, **ports, "NOTIFY_HOME": str(home)}


def notify(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "notify_pipeline.cli", *arguments]
    return subprocess.run(command, env=environment(home), capture_output=True, text=True, timeout=PATIENCE_S)


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
        content: bytes = answer.read()
        return content


def call(url: str, key: str, **body: str) -> dict[str, Any]:
    """POST what there is; GET without anything."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, orjson.dumps(body) if body else None, headers)
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        found: dict[str, Any] = orjson.loads(answer.read())
        return found


def start(home: Path) -> "subprocess.Popen[bytes]":
    """Start a system and wait until it says that it is ready; its output goes to a file beside its home."""
    (home / "run.json").unlink(missing_ok=True)
    command = [sys.executable, "-m", "notify_pipeline.cli", "up"]
    with (home.parent / "output").open("ab") as output:
        process = subprocess.Popen(command, env=environment(home), stdout=output, stderr=output)
    wait_for(lambda: (home / "run.json").exists() or process.poll() is not None)
    assert process.poll() is None, (home.parent / "output").read_text()
    return process


@pytest.fixture
def system(tmp_path: Path) -> Iterator[tuple[Path, "subprocess.Popen[bytes]"]]:
    process = start(tmp_path / "home")
    yield tmp_path / "home", process
    process.terminate()
    process.wait(PATIENCE_S)


def test_a_whole_system(system: tuple[Path, "subprocess.Popen[bytes]"], tmp_path: Path) -> None:
    home, process = system
    run = orjson.loads((home / "run.json").read_bytes())
    assert set(run) == {"http", "gateway", "dagster", "sandbox", "admin_key"}
    for private in ("run.json", "admin-key"):
        assert stat.S_IMODE((home / private).stat().st_mode) == 0o600

    get(f"{run['http']}/healthz")
    assert orjson.loads(get(f"{run['dagster']}/server_info"))["dagster_webserver_version"]
    assert "fcm_url" in orjson.loads(get(run["sandbox"]))

    key = call(f"{run['http']}/products", run["admin_key"], name="product")["secret_key"]
    for token, is_valid in ((fcm_token("good"), True), ("no-token", False)):
        call(f"{run['http']}/devices", key, token=token, platform="web")
        assert call(f"{run['http']}/devices/{token}", key)["is_valid"] is is_valid

    shown = notify(home, "status")
    assert shown.returncode == 0
    assert run["http"] in shown.stdout
    assert run["admin_key"] not in shown.stdout

    second = notify(home, "up")
    assert second.returncode == 1
    assert "already runs" in second.stderr
    assert len(second.stderr.strip().splitlines()) == 1

    state = orjson.loads((home / "processes" / "state.json").read_bytes())
    os.kill(state["lander"]["pid"], signal.SIGKILL)
    wait_for(
        lambda: (
            orjson.loads((home / "processes" / "state.json").read_bytes())["lander"]["pid"]
            not in (None, state["lander"]["pid"])
        ),
    )
    process.terminate()
    assert process.wait(PATIENCE_S) == 0
    assert not (home / "run.json").exists()
    assert of_this_home(home) == []
    assert not home_files.is_running(home)
    printed = (tmp_path / "output").read_text()
    assert printed.count(run["admin_key"]) == 1
    assert "lander died (signal 9); starting it again" in printed
    assert "had to be killed" not in printed
    assert "pushes leave through our own HTTP/2 transport (NOTIFY_TRANSPORT=wire)" in printed


def test_nothing_runs_here(tmp_path: Path) -> None:
    shown = notify(tmp_path, "status")
    assert shown.returncode == 1
    assert "nothing runs" in shown.stdout


def test_a_bad_setting_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "notify_pipeline.cli", "up"]
    env = {**environment(tmp_path), "NOTIFY_HTTP_PORT": "many"}
    failed = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE_S)
    assert failed.returncode == 1
    assert failed.stderr.strip().startswith("error: NOTIFY_HTTP_PORT:")
    assert "Traceback" not in failed.stderr


def test_real_providers_without_credentials_are_refused_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "notify_pipeline.cli", "up"]
    env = {**environment(tmp_path), "NOTIFY_PROVIDER_MODE": "real"}
    failed = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE_S)
    assert failed.returncode == 1
    assert "no channel has credentials" in failed.stderr
