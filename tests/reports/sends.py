"""Sends to follow: recipients, a drain that runs until one has ended, broadcasts, and a process that dies in one."""

import threading
from datetime import UTC, datetime
from typing import Any

from notify_pipeline.core.ledger import broadcasts, devices, requests, routing, shards
from notify_pipeline.core.ledger.chunk_rows import NewChunk
from notify_pipeline.core.ledger.devices import Registration
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.records import Recipient
from notify_pipeline.core.vocabulary import Channel, Outcome, Platform
from notify_pipeline.delivery import notifications, planning
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.delivery.drain import run_drain
from tests.delivery.fakes import TENANT, accept


def register(ledger: Ledger, token: str, platform: Platform = Platform.ANDROID, **more: Any) -> None:
    devices.register(ledger, TENANT, Registration(token, platform, **more), datetime.now(UTC))


def drained(ctx: DeliveryContext, request_id: str) -> None:
    """Run the drain until the request has ended."""

    def over() -> bool:
        request = requests.get(ctx.ledger, TENANT, request_id)
        return request is not None and request.state.is_final

    stop = threading.Event()
    thread = threading.Thread(target=lambda: run_drain(ctx, stop))
    thread.start()
    while not over():
        assert thread.is_alive()
        stop.wait(0.02)
    stop.set()
    thread.join()


def flaky(recipient: Recipient, number: int) -> Outcome:
    """Let a recipient's answers depend on its name: most at once, some after retries, some never."""
    kind = int(recipient.address[1:]) % 10
    if kind < 3:
        return Outcome.TRANSIENT if number <= kind else Outcome.ACCEPTED
    return {3: Outcome.TRANSIENT, 4: Outcome.INVALID_RECIPIENT, 5: Outcome.PERMANENT}.get(kind, Outcome.ACCEPTED)


def broadcast_of(ctx: DeliveryContext) -> str:
    """Accept a send to the topic and route it as a broadcast."""
    request_id = accept(ctx.ledger, topics=["t"])
    (claimed,) = routing.claim(ctx.ledger, "planner", datetime.now(UTC), 5, 10)
    rules = planning.Rules(frozenset(Channel), 0, ctx.delivery_secret, "plan")
    plan = planning.broadcast(notifications.parse(claimed), (), rules, datetime.now(UTC))
    assert routing.store(ctx.ledger, "planner", [plan], datetime.now(UTC)) == [True]
    return request_id


def hold(ctx: DeliveryContext, request_id: str, shard: int) -> None:
    """Intend the first chunk of a shard as a process that then dies."""
    now = datetime.now(UTC)
    shards.hold_shard(ctx.ledger, request_id, shard, "dead", now, 0.01)
    path = f"attempts/{now:date=%Y-%m-%d/hour=%H}/bc-{request_id}-{shard:05d}-000000.parquet"
    new = NewChunk(request_id, shard, 0, range(10), [1] * 10, round(now.timestamp() * 1e6), "dead", path)
    broadcasts.intend(ctx.ledger, "dead", new)
