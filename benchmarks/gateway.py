"""The WebSocket gateway: what idle connections weigh, and how long a message to many of them takes.

One gateway process as ``notify up`` runs it, on SQLite. First ``--idle`` clients connect and stay: the process's
resident memory then, and how many connections it took per second. Then ``--fanout`` of them are sent a notification
each by the channel as the drain has it (stored, looked up, signed, posted), from another process than the gateway: the
time from the beginning of the send until the last client has its message, and the processor time of both processes,
which tells how long it takes where nothing else runs. Clients and whoever sends share a process and take turns.
At last what a single post costs whoever makes it, with our own client and with boto3.

    python -m benchmarks.gateway [--idle 2000] [--fanout 1000] [--rounds 5] [--posts 300]
"""

import argparse
import asyncio
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from yarl import URL

from notify_pipeline.channels.opening import Around
from notify_pipeline.channels.websocket.carrier import open_websocket
from notify_pipeline.channels.websocket.posting import AwsPoster, OwnPoster
from notify_pipeline.core import gateway, user_tokens
from notify_pipeline.core.ids import DeliveryIds, new_id
from notify_pipeline.core.ledger import connections, tenants
from notify_pipeline.core.ledger.connections import FOREIGN, Held
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.user_messages import Stored
from notify_pipeline.core.records import Audience, Content, Notification, Recipient
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.vocabulary import Outcome, Platform

# Handshakes under way at once.
_CONNECTING = 100
_READY_S = 30.0


def now() -> datetime:
    """The real clock."""
    return datetime.now(UTC)


class Bench:
    """A gateway process, and what this process needs to speak to it."""

    def __init__(self, home: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.settings = Settings(home=home, gateway_port=self.port)
        self.ledger = Ledger.open(self.settings.ledger_dsn)
        self.tenant = tenants.create_product(self.ledger, "bench", (), now()).tenant
        self.secret = self.ledger.secret(user_tokens.SECRET)
        env = {**os.environ, "NOTIFY_HOME": str(home), "NOTIFY_GATEWAY_PORT": str(self.port)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ingest_api.gateway"], env=env, stdout=subprocess.DEVNULL
        )

    def rss_mb(self) -> float:
        """Resident memory of the gateway, MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1_000

    def cpu_s(self) -> float:
        """Processor seconds of the gateway so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def ready(self, session: aiohttp.ClientSession) -> None:
        """Wait until the gateway answers."""
        async with asyncio.timeout(_READY_S):
            while True:
                try:
                    async with session.get(f"http://127.0.0.1:{self.port}/readyz"):
                        return
                except aiohttp.ClientError:
                    await asyncio.sleep(0.05)

    def url(self, user: str) -> URL:
        """Where a user connects."""
        token = user_tokens.mint(self.secret, self.tenant, user, now())
        return URL(f"ws://127.0.0.1:{self.port}/ws?token={token}", encoded=True)

    def notification(self) -> Notification:
        """A send of its own."""
        name, at = new_id(), now()
        content = Content("Parliament dissolved", "An election will be held.", "https://news.example/1")
        return Notification(
            self.tenant, name, name, "news", Audience(users=("all",)), content, at, at + timedelta(hours=1)
        )


Clients = Sequence[aiohttp.ClientWebSocketResponse]


@asynccontextmanager
async def connected(bench: Bench, session: aiohttp.ClientSession, count: int) -> AsyncIterator[tuple[Clients, float]]:
    """Connect so many users, each greeted; also give the seconds that it took."""
    room = asyncio.Semaphore(_CONNECTING)

    async def one(number: int) -> aiohttp.ClientWebSocketResponse:
        async with room:
            client = await session.ws_connect(bench.url(f"user-{number}"), compress=0)
            assert orjson.loads((await client.receive()).data)["type"] == "hello"
            return client

    began = time.perf_counter()
    clients = await asyncio.gather(*(one(number) for number in range(count)))
    yield clients, time.perf_counter() - began
    await asyncio.gather(*(client.close() for client in clients))


async def fan_out(bench: Bench, sender: Any, clients: Clients) -> tuple[float, float]:
    """Send to the first users; return the seconds until the last of them has it, and both processes' of their cores."""
    sent = bench.notification()
    users = [f"user-{number}" for number in range(len(clients))]
    ids = DeliveryIds(b"s" * 32, sent.tenant, sent.notification_id, "websocket").of_all(users)
    outcomes: list[Outcome] = []

    async def send() -> None:
        message = sender.prepare(sent, Platform.WEBSOCKET)
        recipients = [Recipient(user, Platform.WEBSOCKET, user) for user in users]
        await sender.send(message, recipients, ids, lambda _, result: outcomes.append(result.outcome))

    async def receive(client: aiohttp.ClientWebSocketResponse) -> None:
        assert orjson.loads((await client.receive()).data)["notificationId"] == sent.notification_id

    cpu, began = bench.cpu_s() + time.process_time(), time.perf_counter()
    await asyncio.gather(send(), *(receive(client) for client in clients))
    took, used = time.perf_counter() - began, bench.cpu_s() + time.process_time() - cpu
    assert outcomes == [Outcome.ACCEPTED] * len(clients)
    return took, used


async def post_us(bench: Bench, poster: OwnPoster | AwsPoster, held: Held, client: Any, posts: int) -> float:
    """Return this process's processor microseconds per post, 16 at a time."""
    room = asyncio.Semaphore(16)

    async def one() -> None:
        async with room:
            assert await poster.post(held, '{"type": "bench"}', Stored(0, 0)) == 200

    async def drain() -> None:
        for _ in range(posts + 1):
            await client.receive()

    receiving = asyncio.create_task(drain())
    await one()  # the first one makes the client
    began = time.process_time()
    await asyncio.gather(*(one() for _ in range(posts)))
    took = time.process_time() - began
    await receiving
    return 1e6 * took / posts


async def measure(bench: Bench, idle: int, fanout: int, rounds: int, posts: int) -> dict[str, object]:
    """Run all of it."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await bench.ready(session)
        empty_mb = bench.rss_mb()
        async with connected(bench, session, idle) as (clients, connect_s):
            rss_mb = bench.rss_mb()
            print(f"{idle} connections in {connect_s:.1f} s: {rss_mb:.0f} MB", flush=True)
            cpu, began = bench.cpu_s(), time.perf_counter()
            await asyncio.sleep(5)
            idle_cpu = (bench.cpu_s() - cpu) / (time.perf_counter() - began)
            sender = await open_websocket(Around(bench.settings, bench.ledger, now, "https://receipts.example", None))
            took = []
            for _ in range(rounds):
                took.append(await fan_out(bench, sender, clients[:fanout]))
                print(f"{fanout} clients have it after {took[-1][0]:.3f} s", flush=True)
            assert sender is not None
            await sender.aclose()
            signed = gateway.credentials(bench.settings, bench.ledger)
            os.environ |= {"AWS_ACCESS_KEY_ID": signed.access_key, "AWS_SECRET_ACCESS_KEY": signed.secret_key}
            (held,) = connections.of_users(bench.ledger, [(bench.tenant, "user-0")], now())[bench.tenant, "user-0"]
            own, aws = OwnPoster(signed, now, 10.0), AwsPoster(10.0)
            own_us = await post_us(bench, own, held, clients[0], posts)
            aws_us = await post_us(bench, aws, held._replace(gateway=FOREIGN), clients[0], posts)
            await own.aclose()
            await aws.aclose()
    return {
        "idle": idle,
        "rss_mb": round(rss_mb, 1),
        "kb_per_connection": round(1_000 * (rss_mb - empty_mb) / idle, 1),
        "connects_per_s": round(idle / connect_s),
        "idle_cpu_share": round(idle_cpu, 3),
        "fanout": fanout,
        "fanout_s": round(statistics.median(seconds for seconds, _ in took), 3),
        "fanout_worst_s": round(max(took)[0], 3),
        "fanout_cpu_s": round(statistics.median(used for _, used in took), 3),
        "post_us": round(own_us),
        "boto3_post_us": round(aws_us),
        "ratio": round(aws_us / own_us, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("idle", 2_000), ("fanout", 1_000), ("rounds", 5), ("posts", 300)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="bench-gateway-") as home:
        bench = Bench(Path(home))
        try:
            result = asyncio.run(measure(bench, asked.idle, min(asked.fanout, asked.idle), asked.rounds, asked.posts))
        finally:
            bench.process.terminate()
            bench.process.wait(30)
            bench.ledger.close()
    print(orjson.dumps(result).decode())


if __name__ == "__main__":
    main()
