"""What a running system keeps in its home: the lock, run.json, the admin key, where its parts listen."""

import fcntl
import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from pydantic import SecretStr

from notify_pipeline.commands.up import home, stack
from notify_pipeline.core.settings import Settings

HOLDER = """
import sys, time
from pathlib import Path
from notify_pipeline.commands.up import home
with home.locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_one_system_per_home(tmp_path: Path) -> None:
    assert not home.is_running(tmp_path)
    with home.locked(tmp_path):
        assert home.is_running(tmp_path)
        with pytest.raises(home.HomeTakenError, match=f"process {os.getpid()}"), home.locked(tmp_path):
            pass
    assert not home.is_running(tmp_path)
    with home.locked(tmp_path):
        assert home.is_running(tmp_path)


def test_what_a_killed_system_left_is_waited_for(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    holder = os.open(tmp_path / "up.lock", os.O_RDWR)
    process.kill()
    process.wait()
    process.stdout.close()
    with home.locked(tmp_path):
        pass

    # Its guard holds the lock on, until the children are gone.
    fcntl.flock(holder, fcntl.LOCK_EX)
    (tmp_path / "up.lock").write_text(str(process.pid))
    threading.Timer(0.3, os.close, [holder]).start()
    with home.locked(tmp_path):
        assert home.is_running(tmp_path)


def test_run_json_is_private_and_whole(tmp_path: Path) -> None:
    assert home.read_run_file(tmp_path) is None
    home.write_run_file(tmp_path, {"http": "x"})
    home.write_run_file(tmp_path, {"http": "y"})
    assert home.read_run_file(tmp_path) == {"http": "y"}
    assert stat.S_IMODE((tmp_path / "run.json").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_the_admin_key_is_made_once_or_given(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    key, made = home.admin_key(settings)
    assert made
    assert home.admin_key(settings) == (key, False)
    given = settings.model_copy(update={"admin_key": SecretStr("given")})
    assert home.admin_key(given) == ("given", False)


def test_free_ports_and_fixed_ones(tmp_path: Path) -> None:
    free = Settings(home=tmp_path, http_port=0, dagster_port=0, sandbox_port=0, gateway_port=0, token_desk_port=0)
    where = stack.choose_addresses(free)
    assert where.sandbox is not None
    parts = (where.http, where.dagster, where.sandbox, where.gateway, where.token_desk)
    ports = {int(stack.port_of(url)) for url in parts}
    assert len(ports) == len(parts)
    assert min(ports) > 0
    fixed = stack.choose_addresses(free.model_copy(update={"http_port": 1234}))
    assert fixed.http == "http://127.0.0.1:1234"
    assert len(os.fsencode(where.code_socket)) < 108
    with socket.socket(socket.AF_UNIX) as probe:
        probe.bind(str(where.code_socket))


def test_the_sandbox_runs_only_where_something_has_no_credentials(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert settings.needs_sandbox
    push = settings.model_copy(update={"fcm_credentials": tmp_path, "apns_key": tmp_path})
    assert push.needs_sandbox
    others = {"smtp_url": "smtp://relay", "sms_provider": "sns", "vapid_subject": "mailto:ops@example.com"}
    assert not push.model_copy(update=others).needs_sandbox
    assert push.without_provider == ("e-mail", "SMS", "Web push")
    real = settings.model_copy(update={"provider_mode": "real"})
    assert not real.needs_sandbox and not real.has_provider
    assert real.model_copy(update={"smtp_url": "smtp://relay"}).has_provider
    assert stack.choose_addresses(real).sandbox is None


def test_children_get_where_everything_is_but_not_the_admin_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_ADMIN_KEY", "secret")
    settings = Settings(home=tmp_path, http_port=0, dagster_port=0, sandbox_port=0, gateway_port=0, token_desk_port=0)
    where = stack.choose_addresses(settings)
    env = stack.child_environment(settings, where, tmp_path / "dagster")
    assert env["NOTIFY_HOME"] == str(tmp_path)
    assert env["NOTIFY_SANDBOX_URL"] == where.sandbox
    assert where.http.endswith(env["NOTIFY_HTTP_PORT"])
    assert where.gateway.endswith(env["NOTIFY_GATEWAY_PORT"])
    assert where.token_desk.endswith(env["NOTIFY_TOKEN_DESK_PORT"])
    assert "secret" not in env.values()
    names = [spec.name for spec in stack.children(settings, where, env, tmp_path)]
    assert sorted(names) == [
        "code-server",
        "daemon",
        "gateway",
        "ingress",
        "lander",
        "sandbox",
        "token-desk",
        "webserver",
    ]
