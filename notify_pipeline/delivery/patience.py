"""Waiting out a store that does not take what is known: whoever forgot it would send to people again.

Belongs here: that wait. Does not belong here: what is stored (``core.ledger``, the lake), what is done when it is over,
what no store takes at any time (``recording``).
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from notify_pipeline.core.ledger.leases import LeaseLost
from notify_pipeline.delivery.recording import is_passing

log = logging.getLogger(__name__)

Result = TypeVar("Result")
# A database that is started anew answers within seconds; more often would only fill the log.
PAUSE_S: Final = 0.5


async def patiently(
    store: Callable[[], Awaitable[Result]], for_s: float, what: str, is_ending: Callable[[], bool]
) -> Result:
    """Store something, again and again where the store is away.

    Args:
        store: Does it; once more must change nothing where it was done although it failed.
        for_s: How long to go on trying once whoever calls has to end, seconds.
        what: For the log.
        is_ending: Tells whether it has to. Until then there is no end: this memory is all that knows what was done.

    Raises:
        LeaseLost: As ``store`` does, at once: it is somebody else's.
        Exception: What another try would not change, at once; or the last failure, when time is up.
    """
    give_up = float("inf")
    while True:
        try:
            return await store()
        except Exception as error:
            if isinstance(error, LeaseLost) or not is_passing(error):
                raise
            if is_ending():
                give_up = min(give_up, time.monotonic() + for_s)
            if time.monotonic() >= give_up:
                raise
            log.exception("%s: not stored; trying again", what)
        await asyncio.sleep(PAUSE_S)
