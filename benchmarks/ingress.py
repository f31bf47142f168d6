"""Durable accepts per second, as a ratio to a no-op Flask route on the same server under the same load.

Run ``python -m benchmarks.ingress``. Both applications run on granian with the same workers and threads; a process of
its own loads them over 32 keep-alive connections, in turns, so that a noisy machine disturbs both alike. Every accepted
id is looked up in the ledger afterwards. The last line is JSON.
"""

import argparse
import asyncio
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import orjson
import urllib3
from flask import Flask, Response, jsonify, request
from rich.console import Console
from rich.table import Table
from sqlalchemy import select

from ingest_api import worker
from notify_pipeline.core.ledger import tenants
from notify_pipeline.core.ledger.engine import Ledger, utc_now
from notify_pipeline.core.ledger.tables import REQUESTS
from notify_pipeline.core.settings import Settings

CONNECTIONS = 32
TARGET = 0.6
_ADMIN_KEY = "bench-admin-key"
_START_S = 30.0


def create_noop() -> Flask:
    """Return the application to compare with: reads a JSON body and answers JSON, as Flask's own tutorial does.

    Its process is prepared as ours is.
    """
    worker.prepare(Settings())
    app = Flask("noop")

    @app.post("/notifications")
    def accept() -> tuple[Response, int]:
        body = request.get_json()
        return jsonify(id=body["id"]), 202

    return app


@dataclass
class Load:
    """What one round of load gave."""

    accepted: list[str]
    seconds: float

    @property
    def rate(self) -> float:
        """Accepted requests per second."""
        return len(self.accepted) / self.seconds


class Server:
    """One application on granian, in its own process group."""

    def __init__(self, app: str, home: Path, workers: int, threads: int) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--factory", app, "--port", str(self.port)]
        command += ["--workers", str(workers), "--blocking-threads", str(threads), "--http", "1", "--no-ws"]
        command += ["--log-level", "error", "--workers-kill-timeout", "10"]
        env = {**os.environ, "NOTIFY_HOME": str(home)}
        self._process = subprocess.Popen(command, env=env)

    def wait(self, path: str) -> None:
        """Return once it answers."""
        deadline = time.monotonic() + _START_S
        pool = urllib3.PoolManager(retries=False)
        while True:
            try:
                pool.request("GET", f"http://127.0.0.1:{self.port}{path}")
                return
            except urllib3.exceptions.HTTPError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def stop(self) -> None:
        """Stop it as its supervisor would."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)


def _body(notification_id: str) -> bytes:
    return orjson.dumps(
        {
            "id": notification_id,
            "type": "news",
            "topics": ["breaking/uk"],
            "priority": "high",
            "content": {
                "title": "Parliament dissolved",
                "body": "A general election will be held in six weeks, the prime minister said.",
                "link": "https://example.com/politics/1",
                "image_url": "https://example.com/politics/1.jpg",
                "data": {"section": "politics"},
            },
        }
    )


def _encode(notification_id: str, key: str) -> bytes:
    body = _body(notification_id)
    head = (
        "POST /notifications HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {key}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Connection(asyncio.Protocol):
    """Sends the next prepared request as soon as the one before is answered."""

    def __init__(self, waiting: list[tuple[str, bytes]], accepted: list[str], done: asyncio.Event) -> None:
        self._waiting, self._accepted, self._done = waiting, accepted, done
        self._buffer = b""
        self._current = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        at = head.lower().index(b"content-length:") + 15
        length = int(head[at : head.find(b"\r", at) if b"\r" in head[at:] else None])
        if len(rest) < length:
            return
        if not head.startswith(b"HTTP/1.1 202"):
            raise SystemExit(f"not accepted: {head!r} {rest!r}")
        self._accepted.append(self._current)
        self._buffer = b""
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._done.set()

    def _next(self) -> None:
        if not self._waiting:
            self._transport.close()
            return
        self._current, raw = self._waiting.pop()
        self._transport.write(raw)  # type: ignore[attr-defined]


async def _drive(port: int, key: str, prefix: str, count: int) -> Load:
    waiting = [(f"{prefix}-{n}", _encode(f"{prefix}-{n}", key)) for n in range(count)]
    accepted: list[str] = []
    loop = asyncio.get_running_loop()
    events = [asyncio.Event() for _ in range(CONNECTIONS)]
    started = time.perf_counter()
    for event in events:
        await loop.create_connection(lambda e=event: _Connection(waiting, accepted, e), "127.0.0.1", port)
    await asyncio.gather(*(event.wait() for event in events))
    return Load(accepted, time.perf_counter() - started)


def _drive_process(port: int, key: str, prefix: str, count: int) -> Load:
    command = [sys.executable, "-m", "benchmarks.ingress", "--drive", str(port), key, prefix, str(count)]
    result = orjson.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return Load(result["accepted"], result["seconds"])


def _missing(ledger: Ledger, tenant: str, accepted: set[str]) -> int:
    query = select(REQUESTS.c.notification_id).where(REQUESTS.c.tenant == tenant)
    with ledger.read() as conn:
        return len(accepted - set(conn.execute(query).scalars()))


def run(rounds: int, count: int, workers: int, threads: int) -> int:
    """Measure, print, and return the exit code."""
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="bench-ingress-") as folder:
        home = Path(folder)
        with Ledger.open(Settings(home=home).ledger_dsn) as ledger:
            product = tenants.create_product(ledger, "bench", (), utc_now())
            noop = Server("benchmarks.ingress:create_noop", home / "noop", workers, threads)
            ours = Server("ingest_api.worker:create_app", home, workers, threads)
            try:
                noop.wait("/")
                ours.wait("/readyz")
                loads = _rounds(console, {"noop": noop.port, "ours": ours.port}, product.secret_key, rounds, count)
            finally:
                noop.stop()
                ours.stop()
            accepted = {name for load in loads["ours"] for name in load.accepted}
            missing = _missing(ledger, product.tenant, accepted)
    return _report(loads, len(accepted), missing)


def _rounds(console: Console, ports: dict[str, int], key: str, rounds: int, count: int) -> dict[str, list[Load]]:
    loads: dict[str, list[Load]] = {name: [] for name in ports}
    with console.status("warming up") as status:
        for number in range(-1, rounds):
            for name, port in ports.items():
                status.update(f"round {number + 1} of {rounds}: {name}")
                load = _drive_process(port, key, f"{name}-{number}", count)
                loads[name].append(load)
    # The first pair warmed both up; its ids are checked, its times are not used.
    return loads


def _report(loads: dict[str, list[Load]], accepted: int, missing: int) -> int:
    table = Table("round", "no-op /s", "durable accepts /s", "ratio", title=f"{CONNECTIONS} connections")
    pairs = list(zip(loads["noop"], loads["ours"], strict=True))[1:]
    for number, (noop, ours) in enumerate(pairs, 1):
        table.add_row(str(number), f"{noop.rate:,.0f}", f"{ours.rate:,.0f}", f"{ours.rate / noop.rate:.2f}")
    Console().print(table)
    ratio = statistics.median(ours.rate / noop.rate for noop, ours in pairs)
    result = {
        "ratio_to_noop": round(ratio, 3),
        "accepts_per_s": round(statistics.median(ours.rate for _, ours in pairs)),
        "noop_per_s": round(statistics.median(noop.rate for noop, _ in pairs)),
        "rounds": len(pairs),
        "target": TARGET,
        "accepted": accepted,
        "missing": missing,
    }
    print(orjson.dumps(result).decode())
    return 1 if missing else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=20_000, help="requests per round and application")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=16, help="granian's blocking threads per worker")
    parser.add_argument("--drive", nargs=4, metavar=("PORT", "KEY", "PREFIX", "COUNT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.drive:
        port, key, prefix, count = given.drive
        load = asyncio.run(_drive(int(port), key, prefix, int(count)))
        sys.stdout.buffer.write(orjson.dumps({"accepted": load.accepted, "seconds": load.seconds}))
        return 0
    return run(given.rounds, given.count, given.workers, given.threads)


if __name__ == "__main__":
    sys.exit(main())
