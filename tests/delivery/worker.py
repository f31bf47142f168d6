"""A process that the crash tests kill: a drain, or a broadcast's shards, on a channel that logs each call to a file.

Run as ``python -m tests.delivery.worker drain|broadcast <folder> <ledger url> [request id]``.
"""

import random
import sys
import threading
from pathlib import Path

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.records import Recipient
from notify_pipeline.core.vocabulary import Channel, Outcome
from notify_pipeline.delivery import broadcast
from notify_pipeline.delivery.drain import run_drain
from tests.delivery.fakes import FakeSender, context

SETTINGS = {
    "shard_min": 400,
    "chunk_size": 40,
    "lease_seconds": 1.2,
    "drain_idle_seconds": 2.5,
    "drain_batch": 64,
}


def answer(recipient: Recipient, number: int) -> Outcome:
    return random.choices([Outcome.ACCEPTED, Outcome.TRANSIENT, Outcome.PERMANENT], [90, 8, 2])[0]


def main(kind: str, folder: str, url: str, *request_ids: str) -> None:
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
