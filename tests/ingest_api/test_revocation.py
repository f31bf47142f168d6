"""A key that was made bad is refused by every process of the ingress from its answer on."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import urllib3

from notify_pipeline.core.ledger import keys, tenants
from notify_pipeline.core.ledger.engine import Ledger, utc_now
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.vocabulary import KeyScope
from tests.ingest_api.server import Server, call
from tests.waiting import PATIENCE_S, wait_for

WORKERS = 3
ADMIN = "nak_admin"
CALLERS = 8
# Fresh connections after the answer; each worker gets many.
AFTER = 300


@pytest.fixture
def ledger(tmp_path: Path, ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    monkeypatch.setenv("NOTIFY_LEDGER_URL", ledger_url)
    with Ledger.open(Settings(home=tmp_path).ledger_dsn) as opened:
        keys.create_admin(opened, ADMIN, utc_now())
        yield opened


@pytest.fixture
def server(tmp_path: Path, ledger: Ledger) -> Iterator[Server]:
    running = Server(tmp_path, WORKERS, threads=4).start()
    yield running
    running.stop()


class Callers:
    """Threads that use a key without pause, each on a connection of its own."""

    def __init__(self, url: str, key: str, headers: dict[str, str]) -> None:
        self._url, self._headers = f"{url}/notifications?limit=1", {"Authorization": f"Bearer {key}", **headers}
        self._stop = threading.Event()
        # When each request began, and how it was answered.
        self.seen: list[tuple[float, int]] = []
        self._pool = ThreadPoolExecutor(CALLERS)
        self._running = [self._pool.submit(self._call) for _ in range(CALLERS)]

    def ask(self, pool: urllib3.PoolManager) -> None:
        begun = time.monotonic()
        answered = pool.request("GET", self._url, headers=self._headers)
        self.seen.append((begun, answered.status))

    def finish(self) -> None:
        self._stop.set()
        for running in self._running:
            running.result(PATIENCE_S)
        self._pool.shutdown()

    def _call(self) -> None:
        pool = urllib3.PoolManager(retries=False)
        while not self._stop.is_set():
            self.ask(pool)


def check_refusal(url: str, key: str, act: Callable[[], Any], bad: int, headers: dict[str, str] | None = None) -> None:
    """Check that a key in use everywhere is good until it is acted on, and refused from the answer on."""
    callers = Callers(url, key, headers or {})
    wait_for(lambda: len(callers.seen) > 50 * CALLERS)
    begun = time.monotonic()
    answered = act()
    ended = time.monotonic()
    for _ in range(AFTER):
        with urllib3.PoolManager(retries=False) as fresh:
            callers.ask(fresh)
    callers.finish()
    assert answered.status in (200, 201, 204), answered.data
    assert {status for at, status in callers.seen if at < begun - 1} <= {200}
    assert {status for at, status in callers.seen if at < ended} <= {200, bad}
    after = [status for at, status in callers.seen if at >= ended]
    assert len(after) > AFTER and set(after) == {bad}


def test_from_the_answer_on_no_process_takes_what_was_made_bad(server: Server, ledger: Ledger) -> None:
    product = tenants.create_product(ledger, "P", ["O"], utc_now())
    organization, url = product.organizations[0], server.url
    mine = f"/products/{product.tenant}"

    def new() -> keys.NewKey:
        return keys.create(ledger, product.tenant, KeyScope.SECRET, None, "test", utc_now())

    def admin(method: str, path: str, body: object = None) -> Callable[[], Any]:
        return lambda: call(url, method, path, ADMIN, body)

    key = new()
    check_refusal(url, key.plaintext, admin("DELETE", f"{mine}/keys/{key.key_id}"), 401)
    key = new()
    rotation = {"rotate": key.key_id, "overlap_s": 0}
    check_refusal(url, key.plaintext, admin("POST", f"{mine}/keys", rotation), 401)
    branch, acting = f"/organizations/{organization.tenant}", {"Notify-Organization": organization.tenant}
    check_refusal(url, product.secret_key, admin("PATCH", branch, {"active": False}), 404, acting)
    assert admin("PATCH", branch, {"active": True})().status == 200
    check_refusal(url, organization.secret_key, admin("PATCH", mine, {"active": False}), 401)
