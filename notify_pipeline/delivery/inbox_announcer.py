"""Telling connected clients of items that become visible as time passes, beside the drain's lanes.

Belongs here: looking for them. Does not belong here: what clients are told (``core.ledger.inbox_changing``), items that
are visible at once: they are told of as they are stored.
"""

import asyncio
import logging

from notify_pipeline.core.ledger import inbox_changing
from notify_pipeline.delivery.context import DeliveryContext

log = logging.getLogger(__name__)

# How much later clients are told, at most; looking is one read of an index that is mostly empty.
_LOOK_S = 1.0


async def run(ctx: DeliveryContext, closing: asyncio.Event) -> None:
    """Tell of them until ``closing``. What fails is tried again; the lanes never hear of it."""
    while not closing.is_set():
        try:
            told = await asyncio.to_thread(_announce, ctx)
        except Exception:
            log.exception("clients are not told of what became visible; it is tried again")
            told = 0
        if not told:
            await _pause(closing)


def _announce(ctx: DeliveryContext) -> int:
    now = ctx.clock()
    return inbox_changing.announce_due(ctx.ledger, now) if inbox_changing.due(ctx.ledger, now) else 0


async def _pause(closing: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(_LOOK_S):
            await closing.wait()
    except TimeoutError:
        return
