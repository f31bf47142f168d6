"""The gateway's process: killed and started again, and told to stop."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from notify_pipeline.commands.up import probes
from notify_pipeline.core import user_tokens
from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import connections, tenants, user_messages
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.user_messages import INBOX, NewMessage
from tests.ingest_api.gateway.running import received, utc_now
from tests.waiting import PATIENCE_S, wait_for


def start(ledger: Ledger, port: int, output: Path) -> "subprocess.Popen[bytes]":
    env = {name: value for name, value in os.environ.items() if not name.startswith("NOTIFY_")}
    env |= {
        "NOTIFY_LEDGER_URL": ledger.url.render_as_string(hide_password=False),
        "NOTIFY_GATEWAY_PORT": str(port),
        "NOTIFY_GATEWAY_NAME": "g1",
    }
    with output.open("ab") as file:
        process = subprocess.Popen([sys.executable, "-m", "ingest_api.gateway"], env=env, stdout=file, stderr=file)
    ready = probes.http_answers(f"http://127.0.0.1:{port}/readyz")
    wait_for(lambda: ready() or process.poll() is not None, what="the gateway answers")
    assert process.poll() is None, output.read_text()
    return process


def test_it_survives_a_kill_and_ends_when_told(sqlite_ledger: Ledger, tmp_path: Path) -> None:
    ledger, output = sqlite_ledger, tmp_path / "gateway.log"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    tenant = tenants.create_product(ledger, "product", (), utc_now()).tenant
    token = user_tokens.mint(ledger.secret(user_tokens.SECRET), tenant, "ann", utc_now())
    url = f"ws://127.0.0.1:{port}/ws?token={token}"

    def rows() -> list[str]:
        found = connections.of_users(ledger, [(tenant, "ann")], utc_now()).get((tenant, "ann"), [])
        return [held.connection_id for held in found]

    async def first(process: "subprocess.Popen[bytes]") -> dict[str, object]:
        async with connect(url) as client:
            hello = await received(client)
            assert rows() == [hello["connection_id"]]
            process.kill()
            with pytest.raises(ConnectionClosed):
                await client.recv()
        return hello

    async def second(process: "subprocess.Popen[bytes]") -> None:
        async with connect(f"{url}&cursor={hello['cursor']}") as client:
            again = await received(client)
            assert rows() == [again["connection_id"]]
            assert (await received(client))["id"] == "missed"
            process.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed) as caught:
                await client.recv()
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1001

    process = start(ledger, port, output)
    hello = asyncio.run(first(process))
    process.wait(PATIENCE_S)
    message = NewMessage(tenant, "ann", "m", INBOX, {"id": "missed"}, to_micros(utc_now()) + 60_000_000)
    user_messages.store(ledger, [message], utc_now())
    process = start(ledger, port, output)
    asyncio.run(second(process))
    assert process.wait(PATIENCE_S) == 0
    assert rows() == []
    logged = output.read_text()
    assert "1 connections of this gateway's former life are forgotten" in logged
    assert token not in logged
