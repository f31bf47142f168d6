"""How many long answers a process sends at once, and how many of them to one tenant.

Belongs here: counting them. Does not belong here: what they are.
"""

import threading
from collections import Counter


class Turns:
    """Turns for what keeps a thread for long. May be shared by threads."""

    def __init__(self, at_once: int) -> None:
        """Allow so many at once; no tenant has more than half of them, or one, so that others find a turn."""
        self._left = at_once
        self._each = max(1, at_once // 2)
        self._taken: Counter[str] = Counter()
        # A turn may be given back by the collector, in the middle of anything that this thread does here.
        self._guard = threading.RLock()

    def take(self, tenant: str) -> bool:
        """Take a turn; tell whether there was one."""
        with self._guard:
            if self._left == 0 or self._taken[tenant] >= self._each:
                return False
            self._left -= 1
            self._taken[tenant] += 1
            return True

    def give_back(self, tenant: str) -> None:
        """Give a turn back that was taken."""
        with self._guard:
            self._left += 1
            self._taken[tenant] -= 1
            if self._taken[tenant] == 0:
                del self._taken[tenant]
