"""A process of its own for tests: routes all events there are, and dies in or after a transaction that moves one.

It is told ``before``, ``after`` or ``never``, and of ``claim``, ``begin`` or ``settle`` (see ``main``). ``before``
dies inside the first such transaction, ``after`` once it is durable. It exits with 0 when no event waits.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Connection, select

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import event_claims, event_moves
from notify_pipeline.core.ledger.engine import Handler, Item, Ledger, Result
from notify_pipeline.core.ledger.event_tables import EVENTS
from notify_pipeline.delivery import event_router
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.delivery.enrichment.base import Again, Enriched, Findings, Found, Need, Stage
from tests.delivery.fakes import context

HANDLERS = {
    "claim": event_claims._claim,
    "begin": event_claims._change_held,
    "settle": event_moves._settle,
}


class LooksUp:
    """Fails the first time, and finds the second; and stops what it never has to find."""

    async def enrich(self, need: Need) -> Enriched:
        if need.attempt_no == 1:
            return Again(0.05, "not yet")
        return Found({route: {"who": Findings({"name": "Ada"})} for route in need.routes})


@asynccontextmanager
async def opened(ctx: DeliveryContext) -> AsyncIterator[Stage]:
    yield LooksUp()


def die(when: str, at: str) -> None:
    """Arrange for this process to be killed around the first transaction of a kind."""
    write = Ledger.write

    def write_and_die(ledger: Ledger, handler: Handler[Item, Result], item: Item) -> Any:
        if handler is not HANDLERS[at]:
            return write(ledger, handler, item)

        def handle_and_die(conn: Connection, items: Sequence[Item]) -> Any:
            handler(conn, items)
            os.kill(os.getpid(), signal.SIGKILL)

        result = write(ledger, handle_and_die if when == "before" else handler, item)
        os.kill(os.getpid(), signal.SIGKILL)
        return result

    Ledger.write = write_and_die  # type: ignore[method-assign]


async def route(ledger: Ledger, folder: str) -> None:
    closing = asyncio.Event()
    ctx = context(ledger, Lake(f"{folder}/lake"), lease_seconds=0.5)
    router = asyncio.create_task(event_router.run(ctx, closing))
    waiting = select(EVENTS.c.event_id).where(event_claims.WAITING).limit(1)
    while True:
        with ledger.read() as conn:
            if conn.execute(waiting).first() is None:
                break
        await asyncio.sleep(0.02)
    closing.set()
    await router


def main(when: str, at: str, folder: str, url: str) -> None:
    event_router._BATCH = 3
    event_router.open_stage = opened
    if when != "never":
        die(when, at)
    with Ledger.open(url) as ledger:
        asyncio.run(route(ledger, folder))
