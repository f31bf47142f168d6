"""Waiting out a store that does not take what is known: whoever forgot it would send to people again.

Belongs here: that wait. Does not belong here: what is stored (``core.ledger``, the lake), what is done when it is over.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from notify_pipeline.core.ledger.leases import LeaseLost

log = logging.getLogger(__name__)

Result = TypeVar("Result")
# A database that is started anew answers within seconds; more often would only fill the log.
PAUSE_S: Final = 0.5


async def patiently(store: Callable[[], Awaitable[Result]], for_s: float, what: str) -> Result:
    """Store something, again and again where the store fails.

    Args:
        store: Does it; once more must change nothing where it was done although it failed.
        for_s: How long to try, seconds. While the store is away nobody else can take anything over either.
        what: For the log.

    Raises:
        LeaseLost: As ``store`` does, at once: it is somebody else's.
        Exception: The last failure, when time is up.
    """
    give_up = time.monotonic() + for_s
    while True:
        try:
            return await store()
        except LeaseLost:
            raise
        except Exception:
            if time.monotonic() >= give_up:
                raise
            log.exception("%s: not stored; trying again", what)
        await asyncio.sleep(PAUSE_S)
