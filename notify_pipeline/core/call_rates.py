"""How fast a key may call, over all processes and hosts: slots of time that are handed out in blocks.

Belongs here: the pure arithmetic. Does not belong here: where a key's row is kept (``core.ledger.key_rates``), who is
refused how (``ingest_api``), how fast we call providers (``core.rates``).

This is the generic cell rate algorithm (ITU-T I.371) with slots that can be handed out ahead. Slots lie 1/rate apart on
one time line; each is given to one caller in the whole installation, and is good for one request from ``reach`` before
its moment until its moment, where ``reach`` is (burst - 1)/rate. The requests of any window [a, b] then have slots in
[a, b + reach], of which there are at most rate x (b - a) + burst: however slots were dealt out in blocks, and however
many processes hold some. A slot that nobody used by its moment is lost, as a token bucket that is full gains nothing.
"""

from dataclasses import dataclass
from typing import NamedTuple

NANOS = 1_000_000_000
# A block should last about this long: ten ledger writes per second and process, and hardly a slot held idle.
BLOCK_S = 0.1
# No process holds more than this part of a burst: what one holds, the others wait for.
MOST_HELD = 8
# A row this far ahead of what any caller could have left was written by a clock that was wrong, or under other limits.
MAX_SKEW_S = 2.0


@dataclass(frozen=True, slots=True)
class CallRate:
    """How fast: ``per_s`` requests in the long run, ``burst`` at once."""

    per_s: float
    burst: int

    def __post_init__(self) -> None:
        if self.per_s <= 0 or self.burst < 1:
            raise ValueError("a rate must be above 0 and a burst at least 1")

    @property
    def spacing(self) -> int:
        """Nanoseconds between slots, rounded up: never faster than asked for."""
        return max(1, -int(-NANOS // self.per_s))

    @property
    def reach(self) -> int:
        """How many nanoseconds before its moment a slot may be used."""
        return (self.burst - 1) * self.spacing


class Block(NamedTuple):
    """Slots for one process: the moment of the first, nanoseconds since the epoch, and how many."""

    first: int
    slots: int


def draw(next_slot: int, rate: CallRate, now: int, wanted: int) -> tuple[int, Block]:
    """Hand out up to ``wanted`` slots that are good from now on.

    Args:
        next_slot: The first slot that nobody has; 0 for a key that never called.
        rate: How fast the key may call.
        now: Nanoseconds since the epoch.
        wanted: At least 1.

    Returns:
        The first slot that nobody has afterwards, and the block; a block without slots says with ``first`` when the
        next one becomes good.
    """
    last = now + rate.reach
    first = max(next_slot, now)
    if first > last + rate.spacing + round(MAX_SKEW_S * NANOS):
        # Nothing is good at once, but nobody waits for the wrong clock's hour to come either.
        first = last + rate.spacing
    count = min(wanted, (last - first) // rate.spacing + 1) if first <= last else 0
    if not count:
        return first, Block(first - rate.reach, 0)
    return first + count * rate.spacing, Block(first, count)


class Share:
    """One process's slots of one key. Not for two threads at once.

    It asks for as many as will last ``BLOCK_S``: twice as many when they were gone sooner, half as many when later.
    """

    __slots__ = ("_block", "_drawn_at", "_not_before", "_wanted", "rate")

    def __init__(self, rate: CallRate) -> None:
        self.rate = rate
        self._block = Block(0, 0)
        self._wanted = 1
        self._drawn_at = 0
        self._not_before = 0

    def take(self, now: int) -> bool:
        """Use a slot that is held, if there is a good one."""
        first, count = self._block
        if not count:
            return False
        lost = max(0, -((first - now) // self.rate.spacing)) if first < now else 0
        if lost:
            first, count = first + lost * self.rate.spacing, max(0, count - lost)
        # A clock that went back makes slots too early to use.
        if not count or now < first - self.rate.reach:
            self._block = Block(0, 0)
            return False
        self._block = Block(first + self.rate.spacing, count - 1)
        return True

    def wait(self, now: int) -> int:
        """Return for how many nanoseconds it is known that nobody gets a slot; 0: ask."""
        wait = self._not_before - now
        # Longer than the distance of two slots is never told: then a clock went back.
        return wait if 0 < wait <= self.rate.spacing + round(MAX_SKEW_S * NANOS) else 0

    @property
    def wanted(self) -> int:
        """How many slots to ask for."""
        return self._wanted

    def refill(self, block: Block, now: int) -> None:
        """Hold a block just drawn; one without slots says how long nobody gets any."""
        if not block.slots:
            self._not_before = block.first
            self._wanted = 1
            return
        lasted = now - self._drawn_at
        if 0 <= lasted < BLOCK_S * NANOS:
            self._wanted = min(2 * self._wanted, max(1, self.rate.burst // MOST_HELD))
        elif lasted > 2 * BLOCK_S * NANOS:
            self._wanted = max(1, self._wanted // 2)
        self._drawn_at = now
        self._block = block
