"""What a gate keeps count of between two visits to its bucket: tokens in stock, and the pace.

Belongs here: that counting. Does not belong here: visits, waiting and pauses (``rates``).
"""

from dataclasses import dataclass

# Tokens not spent by then are forgotten: spent much later, they would come on top of the rate then.
STOCK_S = 0.25
# Over how long the pace before a pause is measured.
PACE_S = 1.0


@dataclass(slots=True)
class Stock:
    """Tokens that were taken for one priority. Monotonic seconds.

    Attributes:
        tokens: How many are left.
        until: When they are forgotten.
        spent: How many were spent since the last visit.
        ask_at: No visit before.
    """

    tokens: int = 0
    until: float = 0.0
    spent: int = 0
    ask_at: float = 0.0

    def fill(self, tokens: int, now: float) -> None:
        """Put in what a visit gave."""
        self.tokens, self.spent, self.until = tokens, 0, now + STOCK_S

    def draw(self, wanted: int, now: float) -> int:
        """Take out as much as is wanted and there is."""
        drawn = min(wanted, self.tokens) if now < self.until else 0
        self.tokens -= drawn
        self.spent += drawn
        return drawn


class Pace:
    """How many requests per second there were lately: over the second that is running or the one before."""

    def __init__(self) -> None:
        self._since = 0.0
        self._count = 0
        self._before = 0.0

    def count(self, number: int, now: float) -> None:
        """Take note of requests let through at a moment."""
        if now - self._since >= PACE_S:
            self._before = self._count / (now - self._since)
            self._since, self._count = now, 0
        self._count += number

    def per_s(self, now: float) -> float:
        """Return the larger of both."""
        return max(self._before, self._count / max(PACE_S, now - self._since))
