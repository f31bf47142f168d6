"""A clock that remembers how far it was ahead of one that is never set, so that being set back is seen.

Belongs here: that, and when it is worth looking again for what was left behind. Does not belong here: mending it
(``core.ledger.set_back``).
"""

import threading
import time
from collections.abc import Callable
from datetime import datetime

# Whatever read the clock before it was set back has long been stored after this: calls of the ledger give up sooner.
_SETTLED_S = 60.0


class WatchedClock:
    """Tells the time of a clock that may be set, and whether it was set back since it was last told.

    Only times that somebody asked for matter: what nobody read was stored nowhere. So a clock that was ahead between
    two looks is noticed exactly if it did any harm. May be shared by threads.

    Args:
        clock: The clock.
        monotonic: One that is never set, seconds.
    """

    def __init__(self, clock: Callable[[], datetime], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._guard = threading.Lock()
        self._ahead = self._most_ahead = clock().timestamp() - monotonic()
        self._settled_at = monotonic() + _SETTLED_S
        self._look_at, self._wait_s = monotonic(), 0.0

    def __call__(self) -> datetime:
        """Return what the clock says."""
        # In one go: who is kept waiting between the two sees a clock that seems to be set back, at worst.
        now, steady = self._clock(), self._monotonic()
        with self._guard:
            self._ahead = now.timestamp() - steady
            self._most_ahead = max(self._most_ahead, self._ahead)
        return now

    def set_back_by(self, least_s: float) -> float:
        """Return by how many seconds the clock was set back since this was last asked; 0.0: by less than ``least_s``.

        From then on it is worth looking again for a while, see ``is_to_look``.
        """
        self()
        with self._guard:
            back = self._most_ahead - self._ahead
            if back < least_s:
                return 0.0
            self._most_ahead = self._ahead
            self._begin()
        return back

    def is_to_look(self, every_s: float) -> bool:
        """Say whether to look now for what was left behind.

        At first, after each time that the clock was set back, and then again and again, after waits that begin with
        ``every_s`` and double: until all is stored that read the clock before.
        """
        now = self._monotonic()
        with self._guard:
            if now < self._look_at:
                return False
            self._wait_s = 2 * self._wait_s or every_s
            # The last look comes when all is stored.
            self._look_at = now + self._wait_s if now < self._settled_at else float("inf")
        return True

    def _begin(self) -> None:
        now = self._monotonic()
        self._settled_at, self._look_at, self._wait_s = now + _SETTLED_S, now, 0.0
