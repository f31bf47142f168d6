"""A channel that answers as a test says, and a delivery context around it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from notify_pipeline.channels.base import ChannelSender, ContentRejected, Message, Report
from notify_pipeline.core.ids import new_id
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.lander import Lander
from notify_pipeline.core.ledger import requests
from notify_pipeline.core.ledger.engine import Ledger, utc_now
from notify_pipeline.core.ledger.requests import NewRequest
from notify_pipeline.core.records import AttemptResult, Notification, Recipient
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.vocabulary import Channel, Outcome, Platform
from notify_pipeline.delivery.context import DeliveryContext

TENANT = "t1"
# Fewer than by default, so that tests come to the end of them soon.
ATTEMPTS = 6
Answer = Callable[[Recipient, int], AttemptResult | Outcome]


def result(outcome: Outcome, code: str | None = None, **more: Any) -> AttemptResult:
    now = time.time_ns() // 1000
    answered = None if outcome is Outcome.AMBIGUOUS else now + 1
    return AttemptResult(outcome, code, now, answered, **more)


@dataclass
class FakeSender:
    """Logs each call to a list (and a file), then answers. ``answer`` gets the recipient and the call's number."""

    name: Channel
    answer: Answer = lambda recipient, number: Outcome.ACCEPTED
    log: Path | None = None
    delay_s: float = 0.0
    provider: str = "fake"
    held_for_s: float = 0.0
    rejects: str | None = None
    calls: list[tuple[str, str, float]] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    prepared: int = 0

    def prepare(self, notification: Notification, platform: Platform) -> Message:
        self.prepared += 1
        if self.rejects is not None:
            raise ContentRejected(self.rejects, "a test wants it")
        return Message(notification, platform)

    async def send(
        self, message: Message, recipients: Sequence[Recipient], delivery_ids: Sequence[str], report: Report
    ) -> None:
        for index, (recipient, delivery_id) in enumerate(zip(recipients, delivery_ids, strict=True)):
            self.calls.append((recipient.address, delivery_id, time.time()))
            number = self.numbers[delivery_id] = self.numbers.get(delivery_id, 0) + 1
            if self.log is not None:
                with self.log.open("a") as file:
                    file.write(f"{recipient.address}\n")
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            answer = self.answer(recipient, number)
            report(index, answer if isinstance(answer, AttemptResult) else result(answer, f"fake_{answer}"))

    async def aclose(self) -> None:
        return None


def open_fakes(
    *senders: ChannelSender,
) -> Callable[[], AbstractAsyncContextManager[Mapping[Channel, ChannelSender]]]:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Mapping[Channel, ChannelSender]]:
        yield {sender.name: sender for sender in senders}

    return opened


def context(
    ledger: Ledger, lake: Lake, *senders: ChannelSender, clock: Any = utc_now, **settings: Any
) -> DeliveryContext:
    quick = {
        "retry_attempts": ATTEMPTS,
        # Whose subject a takeover is sets a short one: a machine that stands still must not lose another's lease.
        "lease_seconds": 60.0,
        "poll_seconds": 0.01,
        "retry_base_s": 0.02,
        "landing_wait_s": 2.0,
    }
    return DeliveryContext(
        settings=Settings(**{**quick, **settings}),
        ledger=ledger,
        lake=lake,
        open_channels=open_fakes(*senders),
        run_id=f"run-{new_id()[-6:]}",
        clock=clock,
    )


def accept(ledger: Ledger, notification_id: str = "", ttl_s: float = 3600, **body: Any) -> str:
    now = datetime.now(UTC)
    expires_at = (body.get("send_at") and datetime.fromisoformat(body["send_at"]) or now) + timedelta(seconds=ttl_s)
    new = NewRequest(
        tenant=TENANT,
        notification_id=notification_id or new_id(),
        body={"type": "news", "content": {"title": "Hello"}, **body},
        accepted_at=now,
        expires_at=expires_at,
        due_at=datetime.fromisoformat(body["send_at"]) if "send_at" in body else None,
    )
    return requests.accept(ledger, new).request_id


def land(ledger: Ledger, lake: Lake) -> None:
    lander = Lander(ledger, lake, utc_now)
    for _ in range(100):
        if not lander.run_once().landed:
            break
    lander.release()


def rows_of(lake: Lake, table: str) -> list[dict[str, Any]]:
    files = [file.path for file in lake.list(table)]
    return pa.concat_tables(lake.read(path) for path in files).to_pylist() if files else []
