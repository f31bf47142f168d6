"""A process of its own for tests: a drain, or a broadcast's shards, on a channel that logs each call to a file.

Run as ``python -m tests.delivery.worker drain|broadcast|peak|wire|live <folder> <ledger url> [request id]``.
``peak`` sends the first shard to a channel that only accepts, and prints the process's peak memory in bytes.
``wire`` sends a broadcast through the installation's own channels to the sandbox whose address follows; ``live`` is a
drain with these, to the sandbox whose address takes the request id's place.
"""

import random
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from notify_pipeline.channels.base import Message, Report
from notify_pipeline.channels.registry import open_channels
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.records import Recipient
from notify_pipeline.core.vocabulary import Channel, Outcome
from notify_pipeline.delivery import broadcast
from notify_pipeline.delivery.drain import run_drain
from tests.delivery.fakes import FakeSender, context, result

SETTINGS = {
    "shard_min": 400,
    "chunk_size": 40,
    "lease_seconds": 1.2,
    "drain_idle_seconds": 2.5,
    "drain_batch": 64,
}


def answer(recipient: Recipient, number: int) -> Outcome:
    return random.choices([Outcome.ACCEPTED, Outcome.TRANSIENT, Outcome.PERMANENT], [90, 8, 2])[0]


WIRE = {"shard_min": 400, "chunk_size": 60, "chunks_in_flight": 3, "lease_seconds": 1.2, "retry_attempts": 8}


def wire(folder: str, url: str, request_id: str, sandbox_url: str) -> None:
    with Ledger.open(url) as ledger:
        ctx = context(ledger, Lake(f"{folder}/lake"), **WIRE, sandbox_url=sandbox_url)
        ctx = replace(ctx, open_channels=partial(open_channels, ctx.settings, ledger))
        refs = broadcast.snapshot(ctx, request_id)
        for _, together in groupby(sorted(refs, key=attrgetter("part")), key=attrgetter("part")):
            broadcast.send_shards(ctx, request_id, [ref.shard for ref in together])
        broadcast.finish(ctx, request_id)


LIVE = {"lease_seconds": 1.2, "retry_cap_s": 0.5, "retry_attempts": 10_000, "drain_idle_seconds": 60.0}


def live(folder: str, url: str, sandbox_url: str) -> None:
    with Ledger.open(url) as ledger:
        ctx = context(ledger, Lake(f"{folder}/lake"), **LIVE, sandbox_url=sandbox_url)
        run_drain(replace(ctx, open_channels=partial(open_channels, ctx.settings, ledger)), threading.Event())


def peak(folder: str, url: str, request_id: str) -> None:
    accepted = result(Outcome.ACCEPTED)

    class Accepting(FakeSender):
        async def send(
            self, message: Message, recipients: Sequence[Recipient], delivery_ids: Sequence[str], report: Report
        ) -> None:
            for index in range(len(recipients)):
                report(index, accepted)

    with Ledger.open(url) as ledger:
        ctx = context(ledger, Lake(f"{folder}/lake"), Accepting(Channel.FCM))
        assert broadcast.send_shard(ctx, request_id, 0).done
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(int(status["VmHWM"].split()[0]) * 1024)


def main(kind: str, folder: str, url: str, *request_ids: str) -> None:
    if kind == "peak":
        return peak(folder, url, *request_ids)
    if kind == "wire":
        return wire(folder, url, *request_ids)
    if kind == "live":
        return live(folder, url, *request_ids)
    senders = [
        FakeSender(channel, answer, log=Path(folder) / "calls.log", delay_s=0.0005)
        for channel in (Channel.FCM, Channel.APNS)
    ]
    with Ledger.open(url) as ledger:
        ctx = context(ledger, Lake(f"{folder}/lake"), *senders, **SETTINGS)
        if kind == "drain":
            run_drain(ctx, threading.Event())
            return
        for request_id in request_ids:
            for ref in broadcast.snapshot(ctx, request_id):
                broadcast.send_shard(ctx, request_id, ref.shard)
            broadcast.finish(ctx, request_id)


if __name__ == "__main__":
    main(*sys.argv[1:])
