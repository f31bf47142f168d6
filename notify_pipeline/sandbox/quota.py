"""A quota of requests per window, as providers count them.

Belongs here: counting. Does not belong here: the answer to a request beyond it.
"""

import math
from datetime import datetime, timedelta


class Quota:
    """Counts requests; a window begins with the first request after the last one."""

    def __init__(self) -> None:
        self._ends: datetime | None = None
        self._taken = 0

    def back_in(self, quota: int, window_s: float, now: datetime) -> int:
        """Count a request; return 0 when the quota has room for it, else the whole seconds until it has again."""
        if self._ends is None or now >= self._ends:
            self._ends, self._taken = now + timedelta(seconds=window_s), 0
        if self._taken < quota:
            self._taken += 1
            return 0
        return max(1, math.ceil((self._ends - now).total_seconds()))
