"""What the broadcast engine itself costs per recipient: ``python -m benchmarks.engine [recipients …]``.

A topic's audience is snapshot and its shards are sent in one fresh process per size, on channels that accept at once:
no provider, no transport, no Dagster. CPU is this process's, all threads; memory is its peak over what it had after
its imports. The last line is JSON, a list with one object per size: ``recipients``, ``shards``, ``files`` (of
attempts), and per recipient ``snapshot_us`` and ``send_us`` of CPU; ``seconds``, ``peak_mib_over_base``, and
``restore_ms``, what resuming after the last chunk costs.
"""

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from rich.console import Console

from benchmarks import audience
from notify_pipeline.channels.base import ChannelSender, Message, Report
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import requests, routing
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.requests import NewRequest
from notify_pipeline.core.records import AttemptResult, Notification, Recipient
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.vocabulary import Channel, Outcome, Platform
from notify_pipeline.delivery import broadcast, notifications, planning
from notify_pipeline.delivery.audience import rebuild_base
from notify_pipeline.delivery.context import DeliveryContext

SIZES = (50_000, 200_000)
_TOPIC = "everybody"


class Accepting:
    """A channel whose provider accepts at once and costs next to nothing."""

    provider = "none"
    held_for_s = 0.0

    def __init__(self, name: Channel) -> None:
        """Args: name: the channel."""
        self.name = name

    def prepare(self, notification: Notification, platform: Platform) -> Message:
        """See ``ChannelSender``."""
        return Message(notification, platform)

    async def send(
        self, message: Message, recipients: Sequence[Recipient], delivery_ids: Sequence[str], report: Report
    ) -> None:
        """See ``ChannelSender``: touches what a real one reads of each recipient."""
        now = time.time_ns() // 1_000
        accepted = AttemptResult(
            Outcome.ACCEPTED, None, now, now, "projects/bench/messages/0:1500415314455276%31bd1c96"
        )
        for index, (recipient, _) in enumerate(zip(recipients, delivery_ids, strict=True)):
            assert recipient.address  # noqa: S101 - read, as a sender would
            report(index, accepted)

    async def aclose(self) -> None:
        """See ``ChannelSender``."""


@asynccontextmanager
async def _open() -> AsyncIterator[Mapping[Channel, ChannelSender]]:
    yield {channel: Accepting(channel) for channel in (Channel.FCM, Channel.APNS)}


def seed(folder: str, recipients: int) -> None:
    """Land devices with one topic."""
    audience.TOPICS = {_TOPIC: audience.DEVICES}
    with Ledger.open(f"sqlite:///{folder}/ledger.db") as ledger:
        lake = Lake(f"{folder}/lake")
        for first in range(0, recipients, audience.PIECE):
            count = min(audience.PIECE, recipients - first)
            audience.land(lake, ledger, audience.registrations(first, count, 1, random.Random(first)))
        rebuild_base(lake, ledger, datetime.now(UTC))


def _routed(ctx: DeliveryContext) -> str:
    now = datetime.now(UTC)
    body = {"type": "news", "content": {"title": "Hello"}, "topics": [_TOPIC]}
    expires = now + timedelta(hours=1)
    new = NewRequest(
        tenant=audience.TENANT, notification_id="n", body=body, accepted_at=now, expires_at=expires, due_at=None
    )
    request_id = requests.accept(ctx.ledger, new).request_id
    (claimed,) = routing.claim(ctx.ledger, "bench", now, 5, 1)
    rules = planning.Rules(frozenset(Channel), 0, ctx.delivery_secret, "bench")
    routing.store(ctx.ledger, "bench", [planning.broadcast(notifications.parse(claimed), (), rules, now)], now)
    return request_id


def measure(folder: str) -> dict[str, Any]:
    """Snapshot and send in this process."""
    with Ledger.open(f"sqlite:///{folder}/ledger.db") as ledger:
        ctx = DeliveryContext(Settings(), ledger, Lake(f"{folder}/lake"), _open, "bench")
        request_id = _routed(ctx)
        base, began, cpu = audience.peak_kib(), time.perf_counter(), time.process_time()
        shards = broadcast.snapshot(ctx, request_id)
        snapshot = time.process_time() - cpu
        after = audience.peak_kib()
        for part in range(max(shard.part for shard in shards) + 1):
            broadcast.send_shards(ctx, request_id, [shard.shard for shard in shards if shard.part == part])
        send = time.process_time() - cpu - snapshot
        recipients = sum(shard.recipients for shard in shards)
        return {
            "recipients": recipients,
            "shards": len(shards),
            "files": len(ctx.lake.list("attempts")),
            "snapshot_us": round(snapshot / recipients * 1e6, 2),
            "send_us": round(send / recipients * 1e6, 2),
            "seconds": round(time.perf_counter() - began, 2),
            "snapshot_mib_over_base": (after - base) // 1024,
            "peak_mib_over_base": (audience.peak_kib() - base) // 1024,
        }


def main(sizes: Sequence[int]) -> None:
    """Measure each size in a process of its own."""
    console, answers = Console(stderr=True), []
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="bench-engine-") as folder:
            seed(folder, size)
            command = [sys.executable, "-m", "benchmarks.engine", "in", folder]
            found = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
            answers.append(orjson.loads(found))
            console.print(answers[-1])
    print(orjson.dumps(answers).decode())


if __name__ == "__main__":
    if sys.argv[1:2] == ["in"]:
        print(orjson.dumps(measure(sys.argv[2])).decode())
    else:
        main([int(size) for size in sys.argv[1:]] or SIZES)
