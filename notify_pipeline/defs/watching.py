"""Lets a sensor wait for its reason, instead of looking once and being asked again five seconds later.

Belongs here: how long one tick may go on looking, and what ends it early. Does not belong here: what sensors look for.

Dagster's sensor loop begins a tick every five seconds, hard-coded: a send would wait for two and a half seconds on
average before anything happens. Only the code server that `notify up` starts lets ticks wait, because it can end them
when it stops (``notify_pipeline.defs.code_server``); anywhere else a tick looks once.
"""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# A tick that is still going on when the next one is due costs that one its turn. To be recorded, it needs a tenth of a
# second; on a busy machine most of one.
TICK_S = 4.0
# A look that costs much is repeated less often, so that waiting takes at most this share of a core.
_SHARE = 0.05


class Patience:
    """How long ticks may wait in this process. They begin with none."""

    def __init__(self) -> None:
        self._tick_s = 0.0
        self._over = threading.Event()

    def begin(self, tick_s: float = TICK_S) -> None:
        """Let each tick go on looking for so many seconds."""
        self._tick_s = tick_s

    def end(self) -> None:
        """End every tick that waits, and let none wait any more."""
        self._over.set()

    def wait_for(self, look: Callable[[], T | None], every_s: float) -> T | None:
        """Look until there is something, the tick's time is up, or the process stops.

        Args:
            look: Returns what it found, None when there is nothing (yet).
            every_s: The least pause between two looks, in seconds.

        Returns:
            What was found, None if nothing was.
        """
        deadline = time.monotonic() + self._tick_s
        while True:
            began = time.monotonic()
            found = look()
            pause = max(every_s, (time.monotonic() - began) / _SHARE)
            if found is not None or time.monotonic() + pause > deadline or self._over.wait(pause):
                return found


patience = Patience()
