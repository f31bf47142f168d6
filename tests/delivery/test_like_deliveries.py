"""A like reaches its look's owner on every channel, though all providers are down when it comes and a drain is killed.

Through the real channels, to the sandbox's real servers.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests as http
from sqlalchemy import select

from notify_pipeline.core.ledger import devices, event_rows, inbox, likes, looks, preferences, requests, users
from notify_pipeline.core.ledger.devices import Registration
from notify_pipeline.core.ledger.engine import Ledger, utc_now
from notify_pipeline.core.ledger.likes import Liked, NewLike
from notify_pipeline.core.ledger.looks import NewLook
from notify_pipeline.core.ledger.tables import REQUESTS
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.vocabulary import EventState, Platform, RequestState
from notify_pipeline.sandbox.tokens import fcm_token
from tests.delivery.fakes import TENANT
from tests.sandboxes import running_sandbox
from tests.waiting import PATIENCE_S, wait_for

# Two owners with every address; the second wants no SMS and no pushes of likes.
ADDRESSES = {
    "ann": ("ann@example.com", "+447700900123", fcm_token("ann")),
    "cat": ("cat@example.com", "+447700900124", fcm_token("cat")),
}
REFUSED = {("likes", "sms"): False, ("likes", "fcm"): False}
DOWN = {"unavailable": 1.0}
PROVIDERS = ("fcm", "apns", "email", "sms")


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[str]:
    with running_sandbox(Settings(home=tmp_path / "sandbox")) as url:
        yield url


@contextmanager
def drain(tmp_path: Path, url: str, sandbox: str) -> Iterator[None]:
    """A drain in a process of its own, which is killed at the end."""
    command = [sys.executable, "-m", "tests.delivery.worker", "live", str(tmp_path), url, sandbox]
    with subprocess.Popen(command) as worker:
        try:
            yield
        finally:
            worker.kill()


def seen(sandbox: str) -> list[dict[str, Any]]:
    """Return what the providers' stand-ins have seen."""
    lines = http.get(f"{sandbox}/log?since=0", timeout=PATIENCE_S).content.splitlines()
    return [orjson.loads(line) for line in lines]


def processed(sandbox: str) -> list[tuple[str, str]]:
    return sorted((line["channel"], line["recipient"]) for line in seen(sandbox) if line["processed"])


def state(ledger: Ledger, liked: Liked) -> EventState:
    event = event_rows.get(ledger, [TENANT], liked.event_id or "")
    assert event is not None
    return event.state


def give(ledger: Ledger) -> None:
    """Let there be the owners, each with a look by their own name."""
    now = utc_now() - timedelta(seconds=5)
    for owner, (email, phone, token) in ADDRESSES.items():
        devices.register(ledger, TENANT, Registration(token, Platform.ANDROID, user_id=owner), now)
        users.put(ledger, TENANT, owner, users.Profile(email, phone), "k", now)
        looks.put(ledger, NewLook(TENANT, owner, owner, "https://example.com/7.jpg", "https://example.com/7"), "k", now)
    preferences.change(ledger, preferences.Change(TENANT, "user:cat", REFUSED, "api", "k"), now)


def test_likes_outlive_their_drain_and_every_provider_and_each_channel_is_the_owner_s_choice(
    ledger: Ledger, ledger_url: str, tmp_path: Path, sandbox: str
) -> None:
    give(ledger)
    down = http.put(f"{sandbox}/faults", json=dict.fromkeys(PROVIDERS, DOWN), timeout=PATIENCE_S)
    assert down.status_code == 200, down.text
    liked = {owner: likes.like(ledger, NewLike(TENANT, owner, "bob", "k", utc_now())) for owner in ADDRESSES}
    for owner, each in liked.items():
        (item,) = inbox.page(ledger, TENANT, owner, utc_now()).items
        assert item.notification_id == each.notification_id
    with drain(tmp_path, ledger_url, sandbox):
        wait_for(lambda: {line["channel"] for line in seen(sandbox)} >= {"fcm", "email", "sms"})
    assert {state(ledger, each) for each in liked.values()} == {EventState.ROUTED}
    assert processed(sandbox) == []
    http.put(f"{sandbox}/faults", json={}, timeout=PATIENCE_S)
    with drain(tmp_path, ledger_url, sandbox):
        wait_for(lambda: all(_done(ledger, each) for each in liked.values()))
    email, phone, token = ADDRESSES["ann"]
    assert processed(sandbox) == [("email", email), ("email", "cat@example.com"), ("fcm", token), ("sms", phone)]
    assert [len(inbox.page(ledger, TENANT, owner, utc_now()).items) for owner in ADDRESSES] == [1, 1]
    with ledger.read() as conn:
        sent = set(conn.execute(select(REQUESTS.c.notification_id)).scalars())
    assert sent == {each.notification_id for each in liked.values()}


def _done(ledger: Ledger, liked: Liked) -> bool:
    found = requests.get_by_notification(ledger, TENANT, liked.notification_id or "")
    return found is not None and found.state is RequestState.DONE
