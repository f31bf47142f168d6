"""The token desk as the ingress meets it: its HTTP, its process, and the sandbox's FCM behind it."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import orjson
import pytest
import requests
from aiohttp.test_utils import TestClient, TestServer

from ingest_api.token_desk import TokenDesk
from notify_pipeline.channels.registry import open_channel
from notify_pipeline.commands.up import probes
from notify_pipeline.core import token_desk
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.token_desk import UNKNOWN, TokenState
from notify_pipeline.core.vocabulary import Channel, Platform
from notify_pipeline.delivery.token_desk.desk import Desk
from notify_pipeline.delivery.token_desk.server import app
from notify_pipeline.sandbox.tokens import fcm_token
from tests.channels.harness import utc_now
from tests.sandboxes import running_sandbox
from tests.waiting import PATIENCE_S, wait_for

GOOD, DEAD, ODD = fcm_token("good"), fcm_token("dead"), "no-token"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Where a sandbox is, whose FCM knows of one dead token."""
    mine = Settings(home=tmp_path_factory.mktemp("home"))
    with running_sandbox(mine) as url:
        requests.put(f"{url}/faults", json={"fcm": {"dead": [DEAD]}}, timeout=PATIENCE_S).raise_for_status()
        yield mine.model_copy(update={"sandbox_url": url})


def log_of(settings: Settings) -> list[dict[str, object]]:
    lines = requests.get(f"{settings.sandbox_url}/log?since=0", timeout=PATIENCE_S).text.splitlines()
    return [orjson.loads(line) for line in lines]


@pytest.mark.parametrize("transport", ["wire", "library"])
def test_the_sandbox_s_fcm_tells_good_tokens_from_bad_ones(
    transport: str, settings: Settings, sqlite_ledger: Ledger
) -> None:
    before = len(log_of(settings))

    async def main() -> list[TokenState]:
        desk = Desk(10.0, utc_now)
        changes = {"transport": transport}
        async with open_channel(Channel.FCM, settings.model_copy(update=changes), sqlite_ledger) as desk.sender:
            return [
                await desk.check(platform, token)
                for platform in (Platform.ANDROID, Platform.WEB)
                for token in (GOOD, DEAD, ODD, "a b")
            ]

    found = [
        TokenState(True),
        *(TokenState(False, code) for code in ("UNREGISTERED", "INVALID_ARGUMENT", "bad_address")),
    ]
    assert asyncio.run(main()) == found * 2
    asked = log_of(settings)[before:]
    assert [line["recipient"] for line in asked] == [GOOD, DEAD, ODD], "what was just found out is not asked again"
    assert all(line["dry_run"] for line in asked)
    assert requests.get(f"{settings.sandbox_url}/devices/log?since=0", timeout=PATIENCE_S).text == ""


def test_a_channel_that_the_settings_leave_out_is_not_opened(tmp_path: Path, sqlite_ledger: Ledger) -> None:
    async def main() -> None:
        real = Settings(home=tmp_path, provider_mode="real")
        async with open_channel(Channel.FCM, real, sqlite_ledger) as sender:
            assert sender is None

    asyncio.run(main())


def test_only_questions_of_ours_are_answered() -> None:
    async def main() -> None:
        ready = asyncio.Event()
        async with TestClient(TestServer(app(Desk(1.0, utc_now), "proof", ready))) as client:
            question = token_desk.question(Platform.WEB, GOOD)
            for header in (
                {},
                {"Authorization": "Bearer wrong"},
                {"Authorization": "proof"},
                {"Authorization": "Bearer é"},
            ):
                assert (await client.post("/check", data=question, headers=header)).status == 401
            ours = {"Authorization": "Bearer proof"}
            for body in (
                b"",
                b"[]",
                b"{",
                b'{"platform": "fax", "token": "t"}',
                b'{"platform": [], "token": "t"}',
                b"{}",
            ):
                assert (await client.post("/check", data=body, headers=ours)).status == 400
            assert (await client.post("/check", data=b"x" * 40_000, headers=ours)).status == 413
            answered = await client.post("/check", data=question, headers=ours)
            assert token_desk.read_answer(await answered.read()) == TokenState(None, "not_open")
            assert (await client.get("/readyz")).status == 503
            ready.set()
            assert (await client.get("/readyz")).status == 200

    asyncio.run(main())


@contextmanager
def running(settings: Settings, ledger: Ledger, port: int, output: Path) -> "Iterator[subprocess.Popen[bytes]]":
    env = {name: value for name, value in os.environ.items() if not name.startswith("NOTIFY_")}
    env |= {
        "NOTIFY_HOME": str(settings.home),
        "NOTIFY_LEDGER_URL": ledger.url.render_as_string(hide_password=False),
        "NOTIFY_SANDBOX_URL": settings.sandbox_url or "",
        "NOTIFY_TOKEN_DESK_PORT": str(port),
    }
    with output.open("ab") as file:
        command = [sys.executable, "-m", "notify_pipeline.delivery.token_desk"]
        process = subprocess.Popen(command, env=env, stdout=file, stderr=file)
    try:
        ready = probes.http_answers(f"http://127.0.0.1:{port}/readyz")
        wait_for(lambda: ready() or process.poll() is not None, what="the token desk answers")
        assert process.poll() is None, output.read_text()
        yield process
    finally:
        process.kill()
        process.wait(PATIENCE_S)


def test_the_process_survives_a_kill_and_ends_when_told(
    settings: Settings, sqlite_ledger: Ledger, tmp_path: Path
) -> None:
    output = tmp_path / "desk.log"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    clock = [0.0]
    with (
        closing(TokenDesk(url, lambda: token_desk.bearer(sqlite_ledger), 10.0, 4, lambda: clock[0])) as ours,
        closing(TokenDesk(url, lambda: "wrong", 10.0, 4)) as stranger,
    ):
        with running(settings, sqlite_ledger, port, output):
            assert ours.check(Platform.WEB, GOOD) == TokenState(True)
            assert ours.check(Platform.WEB, DEAD) == TokenState(False, "UNREGISTERED")
            assert stranger.check(Platform.WEB, GOOD) == UNKNOWN
        assert ours.check(Platform.WEB, GOOD) == UNKNOWN
        clock[0] += 60
        with running(settings, sqlite_ledger, port, output) as process:
            assert ours.check(Platform.WEB, GOOD) == TokenState(True)
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
    logged = output.read_text()
    assert "stopping" in logged
    assert "Traceback" not in logged
    assert GOOD[:30] not in logged and DEAD[:30] not in logged
