"""A clock that a test moves, and sends accepted by it as the ingress would."""

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from notify_pipeline.core.ids import new_id
from notify_pipeline.core.ledger import requests
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.requests import NewRequest
from tests.delivery.fakes import TENANT

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@dataclass
class Clock:
    """Time stands still until a test moves it; may be shared by threads."""

    now: datetime = NOON
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self) -> datetime:
        with self._guard:
            return self.now

    def advance(self, **delta: float) -> None:
        with self._guard:
            self.now += timedelta(**delta)

    def set(self, now: datetime) -> None:
        with self._guard:
            self.now = now


def accept_at(ledger: Ledger, now: datetime, *, ttl: int = 86_400, **body: Any) -> str:
    """Accept a send at a time of the test's, with the times that the ingress gives it."""
    due_at, expires_at = None, now + timedelta(seconds=ttl)
    if "send_at" in body:
        due_at = datetime.fromisoformat(body["send_at"])
        expires_at = max(due_at, now) + timedelta(seconds=ttl)
    if "send_at_local" in body:
        wall = datetime.fromisoformat(body["send_at_local"]).replace(tzinfo=UTC)
        due_at, expires_at = wall - timedelta(hours=14), max(wall + timedelta(hours=12), now) + timedelta(seconds=ttl)
    new = NewRequest(
        tenant=TENANT,
        notification_id=new_id(),
        body={"type": "news", "content": {"title": "Hello"}, "ttl": ttl, **body},
        accepted_at=now,
        expires_at=expires_at,
        due_at=due_at,
    )
    return requests.accept(ledger, new).request_id
