"""Promises that need real processes: one effect per id, nothing accepted is lost, whatever dies."""

import gzip
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest
import urllib3
from sqlalchemy import func, select

from notify_pipeline.core.ids import DeliveryIds
from notify_pipeline.core.ledger import tenants
from notify_pipeline.core.ledger.engine import Ledger, utc_now
from notify_pipeline.core.ledger.outbox_tables import OUTBOX
from notify_pipeline.core.ledger.tables import AUDIT, REQUESTS
from notify_pipeline.core.settings import Settings
from tests.ingest_api.conftest import registration, send
from tests.ingest_api.server import Server, call
from tests.waiting import PATIENCE_S, wait_for

SAME = 64


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def ledger(home: Path) -> Iterator[Ledger]:
    with Ledger.open(Settings(home=home).ledger_dsn) as opened:
        yield opened


@pytest.fixture
def key(ledger: Ledger) -> str:
    return tenants.create_product(ledger, "product", (), utc_now()).secret_key


@pytest.fixture
def server(home: Path, key: str) -> Iterator[Server]:
    running = Server(home).start()
    yield running
    running.stop()


def at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run the work that often in as many threads, beginning together."""
    barrier = threading.Barrier(count)

    def one(n: int) -> Any:
        barrier.wait(PATIENCE_S)
        return work(n)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def counted(ledger: Ledger, notification_id: str) -> tuple[int, int, int]:
    """Return how many requests, audit rows and lake rows there are of a notification."""
    with ledger.read() as conn:
        stored = conn.execute(
            select(func.count()).select_from(REQUESTS).where(REQUESTS.c.notification_id == notification_id)
        ).scalar_one()
        audited = conn.execute(
            select(func.count()).select_from(AUDIT).where(AUDIT.c.notification_id == notification_id)
        ).scalar_one()
        rows = conn.execute(select(OUTBOX.c.rows).where(OUTBOX.c.lake_table == "requests")).scalars()
        outbox = sum(row["notification_id"] == notification_id for text in rows for row in orjson.loads(text))
    return stored, audited, outbox


def test_64_concurrent_posts_of_one_id_have_one_effect(server: Server, ledger: Ledger, key: str) -> None:
    pool = urllib3.PoolManager(maxsize=SAME, retries=False)

    def post(_: int) -> Any:
        return call(server.url, "POST", "/notifications", key, send(), pool)

    answers = at_once(SAME, post)
    assert {a.status for a in answers} == {202}
    bodies = [orjson.loads(a.data) for a in answers]
    assert Counter(b.pop("duplicate") for b in bodies) == {False: 1, True: SAME - 1}
    assert all(b == bodies[0] for b in bodies)
    replayed = [a.headers.get("Idempotent-Replayed") for a in answers]
    assert Counter(replayed) == {None: 1, "true": SAME - 1}
    assert counted(ledger, "n-1") == (1, 1, 1)

    server.kill()
    server.start()
    again = at_once(SAME, post)
    assert {a.status for a in again} == {202}
    assert {orjson.loads(a.data).pop("duplicate") for a in again} == {True}
    assert all({**orjson.loads(a.data), "duplicate": None} == {**bodies[0], "duplicate": None} for a in again)
    assert counted(ledger, "n-1") == (1, 1, 1)


def test_of_concurrent_posts_with_other_bodies_one_wins(server: Server, ledger: Ledger, key: str) -> None:
    def post(n: int) -> int:
        return call(server.url, "POST", "/notifications", key, send(type=f"type-{n % 4}")).status

    statuses = Counter(at_once(32, post))
    assert statuses == {202: 8, 409: 24}
    assert counted(ledger, "n-1") == (1, 1, 1)


def _pound(server: Server, key: str, stop: threading.Event, name: str) -> tuple[dict[str, str], int]:
    """Post sends with new ids until told to stop; return the accepted ids with their request ids, and the failures."""
    accepted: dict[str, str] = {}
    failed = 0
    pool = urllib3.PoolManager(retries=False)
    for n in range(100_000):
        if stop.is_set():
            break
        notification_id = f"{name}-{n}"
        try:
            answered = call(server.url, "POST", "/notifications", key, send(id=notification_id), pool)
        except urllib3.exceptions.HTTPError:
            failed += 1
            continue
        assert answered.status == 202, answered.data
        accepted[notification_id] = orjson.loads(answered.data)["request_id"]
    return accepted, failed


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.long)])
def test_kill_9_of_workers_under_load_loses_nothing_accepted(
    server: Server, ledger: Ledger, key: str, kills: int
) -> None:
    rng = random.Random(11)
    stop = threading.Event()
    with ThreadPoolExecutor(8) as pool:
        loads = [pool.submit(_pound, server, key, stop, f"t{n}") for n in range(8)]
        for number in range(kills):
            time.sleep(rng.uniform(0.2, 0.8))
            server.kill_worker(number)
        time.sleep(0.5)
        stop.set()
        results = [load.result() for load in loads]
    accepted = {n: r for found, _ in results for n, r in found.items()}
    assert len(accepted) > 100
    with ledger.read() as conn:
        stored = dict(conn.execute(select(REQUESTS.c.notification_id, REQUESTS.c.request_id)).tuples().all())
    assert accepted.items() <= stored.items()
    server.wait()
    # Whoever got no answer asks again, and learns what became of the first try.
    for notification_id in list(stored.keys() - accepted.keys())[:20]:
        answered = orjson.loads(call(server.url, "POST", "/notifications", key, send(id=notification_id)).data)
        assert (answered["duplicate"], answered["request_id"]) == (True, stored[notification_id])


def test_kill_9_under_receipts_loses_and_doubles_none(server: Server, ledger: Ledger, home: Path, key: str) -> None:
    ids = DeliveryIds(ledger.secret("delivery"), "t", "n-1", "fcm")
    stop = threading.Event()

    def pound(name: int) -> list[str]:
        logged = []
        pool = urllib3.PoolManager(retries=False)
        for n in range(100_000):
            if stop.is_set():
                break
            d = ids.of(f"{name}-{n}")
            query = f"/notification/received?notificationId=n-1&platform=android&provider=fcm&d={d}"
            try:
                answered = call(server.url, "GET", query, pool=pool)
            except urllib3.exceptions.HTTPError:
                continue
            assert answered.status == 204
            logged.append(d)
        return logged

    with ThreadPoolExecutor(8) as pool:
        loads = [pool.submit(pound, n) for n in range(8)]
        for number in range(3):
            time.sleep(0.5)
            server.kill_worker(number)
        stop.set()
        answered = {d for load in loads for d in load.result()}
    server.stop()
    server.start()
    lines: Counter[str] = Counter()
    deadline = time.monotonic() + PATIENCE_S
    while not answered <= set(lines) and time.monotonic() < deadline:
        time.sleep(0.2)
        lines = Counter(
            orjson.loads(line)["querystring"].rpartition("=")[2]
            for path in (home / "logs").rglob("*.log.gz")
            for line in gzip.decompress(path.read_bytes()).splitlines()
        )
    assert len(answered) > 100
    assert answered <= set(lines)
    assert max(lines.values()) == 1


def test_a_clean_stop_delivers_the_logs_and_ends_well(home: Path, key: str, ledger: Ledger) -> None:
    running = Server(home).start()
    d = DeliveryIds(ledger.secret("delivery"), "t", "n-1", "fcm").of("x")
    query = f"/notification/opened?notificationId=n-1&platform=ios&provider=apns&d={d}"
    assert call(running.url, "GET", query).status == 204
    assert running.stop() == 0
    assert len(list((home / "logs").rglob("*.log.gz"))) == 1
    assert list((home / "ingress" / "receipts").glob("*.log")) == []


def test_each_worker_keeps_to_a_core_of_its_own(server: Server) -> None:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("one core only")

    def held() -> list[set[int]]:
        return sorted((os.sched_getaffinity(pid) for pid in server.workers()), key=min)

    # A worker takes its core when it builds its application: the first one answers before the second has done so.
    wait_for(lambda: held() == [{cores[0]}, {cores[1]}])
    # The successor of a killed worker takes its place.
    server.kill_worker(0)
    wait_for(lambda: held() == [{cores[0]}, {cores[1]}])


def test_awkward_requests_over_a_real_connection(server: Server, key: str) -> None:
    pool = urllib3.PoolManager(retries=False)
    url = server.url
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    chunked = pool.request("POST", url + "/devices", body=iter([orjson.dumps(registration())]), headers=headers)
    assert (chunked.status, orjson.loads(chunked.data)["token"]) == (201, "dGhl:APA91b")
    assert call(url, "GET", "/devices/dGhl%3AAPA91b", key).status == 200
    assert call(url, "GET", "/devices/a%2Fb", key).status == 404
    assert call(url, "GET", "/devices/a%00b", key).status == 422
    assert call(url, "GET", "/devices/%ff", key).status == 422
    big = b'{"a":"' + b"x" * 5_000_000 + b'"}'
    assert pool.request("POST", url + "/devices", body=big, headers=headers).status == 413
    assert pool.request("POST", url + "/devices", body=iter([big]), headers=headers).status == 413
    # ... and the server is as well as before.
    assert call(url, "POST", "/notifications", key, send()).status == 202
