"""A process of its own for tests: does all the work there is, and dies at the first move of a request, or right after.

It is told ``before``, ``after`` or ``never`` (see ``main``). ``before`` dies inside the
transaction of the first move that it makes, ``after`` once that is durable. It exits with 0 when no work is left.
"""

import os
import random
import signal
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import broadcasts, moves
from notify_pipeline.core.ledger.engine import Handler, Item, Ledger, Result
from notify_pipeline.core.records import Recipient
from notify_pipeline.core.vocabulary import Channel, Outcome
from notify_pipeline.delivery import broadcast
from notify_pipeline.delivery.drain import run_drain
from tests.delivery.fakes import FakeSender, context

SETTINGS = {
    "inline_limit": 20,
    "shard_min": 40,
    "chunk_size": 30,
    "lease_seconds": 0.6,
    "drain_idle_seconds": 1.0,
    # A life ends when nothing is due for a second: no retry waits that long, and none is the last one, however many
    # lives a delivery has gone through.
    "retry_attempts": 10_000,
    "retry_cap_s": 0.4,
}


def answer(recipient: Recipient, number: int) -> Outcome:
    if recipient.user_id == "refused":
        return Outcome.PERMANENT
    return random.choices([Outcome.ACCEPTED, Outcome.TRANSIENT], [85, 15])[0]


def die_at_a_move(when: str) -> None:
    """Arrange for this process to be killed around the first transaction in which a request moves."""
    made = threading.Event()
    record, write = moves.record, Ledger.write

    def record_and_die(conn: Connection, these: Sequence[moves.Move], now: datetime) -> None:
        record(conn, these, now)
        if these:
            if when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            made.set()

    def write_and_die(ledger: Ledger, handler: Handler[Item, Result], item: Item) -> Any:
        result = write(ledger, handler, item)
        if made.is_set():
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    moves.record = record_and_die
    Ledger.write = write_and_die


def main(when: str, folder: str, url: str) -> None:
    random.seed()  # forked: each would draw the same
    if when != "never":
        die_at_a_move(when)
    senders = [FakeSender(channel, answer) for channel in (Channel.FCM, Channel.APNS)]
    with Ledger.open(url) as ledger:
        ctx = context(ledger, Lake(f"{folder}/lake"), *senders, **SETTINGS)
        run_drain(ctx, threading.Event())
        for due in broadcasts.due(ledger, datetime.now(UTC)):
            for ref in broadcast.snapshot(ctx, due.request_id):
                broadcast.send_shard(ctx, due.request_id, ref.shard)
            broadcast.finish(ctx, due.request_id)
