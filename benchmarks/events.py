"""How fast events are routed, beside accepting the same sends directly: ``python -m benchmarks.events [--events N]``.

Belongs here: that measurement. Does not belong here: posting over HTTP (``ingress``), delivering (``fanout``).

Both sides store the same sends, 256 to a transaction, on one SQLite ledger (or ``--url``). The router reads the event,
holds it against ten routes of which one matches by a condition, renders a text, and stores event, send and audit.
"""

import argparse
import asyncio
import tempfile
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from notify_pipeline.core.ids import new_id
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import event_claims, events, routes
from notify_pipeline.core.ledger.accepting import NewRequest, accept_many
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.event_tables import EVENTS
from notify_pipeline.core.ledger.events import NewEvent
from notify_pipeline.core.settings import Settings
from notify_pipeline.delivery import event_router
from notify_pipeline.delivery.context import DeliveryContext

BATCH = 256
TENANTS = 4


def main() -> None:
    """Measure, and print events per second, sends per second and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--url", default="")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Ledger.open(asked.url or f"sqlite:///{folder}/ledger.db") as ledger:
        direct = _accept_directly(ledger, asked.events)
        posted = _post(ledger, asked.events)
        routed = asyncio.run(_route(ledger, folder, asked.events))
    print(f"accepted directly {direct:,.0f}/s · events posted {posted:,.0f}/s · events routed {routed:,.0f}/s")
    print(f"a send by way of an event costs {direct / posted + direct / routed:.1f} times as much as a send")


def _accept_directly(ledger: Ledger, number: int) -> float:
    now = datetime.now(UTC)
    body = {"type": "order.paid", "users": ["ada"], "content": {"title": "Order 7"}}
    began = time.perf_counter()
    for _ in range(0, number, BATCH):
        accept_many(ledger, [NewRequest("t0", new_id(), body, now, now + timedelta(days=1)) for _ in range(BATCH)])
    return number / (time.perf_counter() - began)


def _post(ledger: Ledger, number: int) -> float:
    now = datetime.now(UTC)
    for tenant in range(TENANTS):
        for name in range(10):
            match = {"source": "shop", "type": "order.*", "when": f"detail.kind == '{name}'"}
            rule = {"match": match, "content": {"title": "Order {{ detail.order }}"}}
            routes.put(ledger, f"t{tenant}", f"r{name}", rule, "k", now)
    began = time.perf_counter()
    for start in range(0, number, BATCH):
        made = [_event(n, now) for n in range(start, min(start + BATCH, number))]
        events.accept_many(ledger, made)
    return number / (time.perf_counter() - began)


def _event(number: int, now: datetime) -> NewEvent:
    detail = {"order": number, "kind": str(number % 10)}
    return NewEvent(f"t{number % TENANTS}", "shop", "order.paid", detail, now, recipients={"users": ["ada"]})


async def _route(ledger: Ledger, folder: str, number: int) -> float:
    @asynccontextmanager
    async def no_channels():  # type: ignore[no-untyped-def]
        yield {}

    ctx = DeliveryContext(Settings(), ledger, Lake(f"{folder}/lake"), no_channels, "benchmark")
    closing, waiting = asyncio.Event(), select(EVENTS.c.event_id).where(event_claims.WAITING).limit(1)
    began = time.perf_counter()
    router = asyncio.create_task(event_router.run(ctx, closing))
    while True:
        with ledger.read() as conn:
            if conn.execute(waiting).first() is None:
                break
        await asyncio.sleep(0.05)
    took = time.perf_counter() - began
    closing.set()
    await router
    return number / took


if __name__ == "__main__":
    main()
