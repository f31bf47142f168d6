"""What the broadcast engine itself costs per recipient: ``python -m benchmarks.engine [recipients …] [dying=0.1]``.

A topic's audience is snapshot and its parts are sent, each in a process of its own as under Dagster, one after another,
on channels that answer at once: no provider, no transport, no Dagster. ``dying`` is the share of recipients that is
refused for good, each of whom leaves a dead letter; nobody by default. CPU is the process's, all threads; memory is its
peak over what it had after its imports. The last line is JSON, a list with one object per size: ``recipients``,
``shards``, ``files`` (of attempts); CPU per recipient in ``snapshot_us`` and ``send_us``; seconds and peak memory of
the snapshot and of each part.
"""

import gc
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
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

SIZES = (50_000, 200_000, 1_000_000)
_TOPIC = "everybody"


class Answering:
    """A channel whose provider answers at once and costs next to nothing."""

    provider = "none"
    held_for_s = 0.0

    def __init__(self, name: Channel, dying: float) -> None:
        """Args: name: the channel. dying: the share that is refused."""
        self.name = name
        self._every = round(1 / dying) if dying else 0

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
        refused = AttemptResult(Outcome.PERMANENT, "INVALID_ARGUMENT", now, now)
        every = self._every or len(recipients) + 1
        for index, (recipient, _) in enumerate(zip(recipients, delivery_ids, strict=True), 1):
            assert recipient.address  # noqa: S101 - read, as a sender would
            report(index - 1, accepted if index % every else refused)

    async def aclose(self) -> None:
        """See ``ChannelSender``."""


@asynccontextmanager
async def _open(dying: float) -> AsyncIterator[Mapping[Channel, ChannelSender]]:
    yield {channel: Answering(channel, dying) for channel in (Channel.FCM, Channel.APNS)}


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


def measure(folder: str, request_id: str, dying: float, part: int | None) -> dict[str, Any]:
    """Snapshot (no part), or send a part, in this process."""
    with Ledger.open(f"sqlite:///{folder}/ledger.db") as ledger:
        ctx = DeliveryContext(Settings(), ledger, Lake(f"{folder}/lake"), partial(_open, dying), "bench")
        gc.freeze()  # as the steps' processes do
        base, began, cpu = audience.peak_kib(), time.perf_counter(), time.process_time()
        found: dict[str, Any] = {}
        if part is None:
            refs = broadcast.snapshot(ctx, request_id)
            found["parts"] = 1 + max(ref.part for ref in refs)
            found["shards"], found["recipients"] = len(refs), sum(ref.recipients for ref in refs)
        else:
            mine = [ref.shard for ref in broadcast.snapshot(ctx, request_id) if ref.part == part]
            broadcast.send_shards(ctx, request_id, mine)
        return found | {
            "cpu_s": time.process_time() - cpu,
            "seconds": time.perf_counter() - began,
            "peak_mib": (audience.peak_kib() - base) / 1024,
        }


def in_process(*arguments: str) -> dict[str, Any]:
    """Measure in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.engine", "in", *arguments]
    found: dict[str, Any] = orjson.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def run(folder: str, dying: float) -> dict[str, Any]:
    """Send one broadcast, its parts one after another."""
    with Ledger.open(f"sqlite:///{folder}/ledger.db") as ledger:
        lake = Lake(f"{folder}/lake")
        request_id = _routed(DeliveryContext(Settings(), ledger, lake, partial(_open, dying), "bench"))
        first = in_process(folder, request_id, str(dying))
        parts = [in_process(folder, request_id, str(dying), str(part)) for part in range(first["parts"])]
        recipients = first["recipients"]
        return {
            "recipients": recipients,
            "shards": first["shards"],
            "files": len(lake.list("attempts")),
            "snapshot_us": round(first["cpu_s"] / recipients * 1e6, 2),
            "send_us": round(sum(part["cpu_s"] for part in parts) / recipients * 1e6, 2),
            "snapshot_s": round(first["seconds"], 2),
            "send_s": [round(part["seconds"], 2) for part in parts],
            "snapshot_peak_mib": round(first["peak_mib"]),
            "send_peak_mib": [round(part["peak_mib"]) for part in parts],
        }


def main(sizes: Sequence[int], dying: float) -> None:
    """Measure each size in a process of its own."""
    console, answers = Console(stderr=True), []
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="bench-engine-") as folder:
            seed(folder, size)
            answers.append(run(folder, dying))
            console.print(answers[-1])
    print(orjson.dumps(answers).decode())


if __name__ == "__main__":
    if sys.argv[1:2] == ["in"]:
        folder, request_id, dying, *part = sys.argv[2:]
        print(orjson.dumps(measure(folder, request_id, float(dying), int(part[0]) if part else None)).decode())
    else:
        shares = [float(each.removeprefix("dying=")) for each in sys.argv[1:] if each.startswith("dying=")]
        main([int(size) for size in sys.argv[1:] if "=" not in size] or SIZES, *shares or [0.0])
