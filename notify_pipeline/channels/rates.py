"""The gate that everything sent with one provider credential passes: its rate limit, and the pauses it is asked for.

Belongs here: waiting for tokens of the shared bucket, and knowing how long a pause lasts. Does not belong here: the
bucket's arithmetic (``core.rates``), its row (``core.ledger.rates``), which answer asks for a pause (``fcm``,
``apns``).

A process takes tokens in slices of up to a fifth of a second, so that the ledger is asked some ten times per second and
not per request. A pause holds in the process that was asked for it from that moment on, whatever becomes of the ledger;
through the ledger it reaches the others, at their next slice, or where there is no limit, at the next look at the row,
which comes every quarter of a second while something is being sent and while a pause lasts.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Protocol

from notify_pipeline.channels.base import Clock
from notify_pipeline.channels.stock import Pace, Stock
from notify_pipeline.core import rates
from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import rates as rows
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.rates import Taken
from notify_pipeline.core.rates import Limits, State
from notify_pipeline.core.turnstile import Turnstile
from notify_pipeline.core.vocabulary import Priority

log = logging.getLogger(__name__)

# A pause this short is waited for: to report the recipients and have them planned anew would take as long.
SHORT_PAUSE_S = 1.0
# What one visit to the ledger asks for, at most.
SLICE_S = 0.2
# An idle sender asks for at least this share of a slice, so that it need not come back for each message.
_LEAST_SHARE = 0.05
# How often a bucket that gave less than was wanted is asked again, and how often a row is looked at for pauses.
_SHORT_EVERY_S = 0.1
_LOOK_EVERY_S = 0.25
# A pause that ends by less than this later than the one in force is not written to the ledger: the answers to requests
# in flight together all ask for the same pause.
_SAME_PAUSE_S = 0.25
# "Retry-After: 0" is no pause, but still a spike: long enough for the ramp to begin.
_LEAST_PAUSE_S = 0.1


class Bucket(Protocol):
    """Where the tokens of one credential come from."""

    async def take(self, limits: Limits, now: int, wanted: int, rank: int) -> Taken:
        """See ``core.ledger.rates.take``."""
        ...

    async def hold(self, now: int, until: int, pace: float) -> State:
        """See ``core.ledger.rates.hold``."""
        ...

    async def read(self) -> State | None:
        """See ``core.ledger.rates.read``."""
        ...


class SharedBucket:
    """A bucket in the ledger: one for all processes."""

    def __init__(self, ledger: Ledger, name: str) -> None:
        """Args: ledger: the ledger. name: the credential's, for example ``fcm:my-project``."""
        self._ledger = ledger
        self._name = name

    async def take(self, limits: Limits, now: int, wanted: int, rank: int) -> Taken:
        """See ``Bucket``."""
        return await asyncio.to_thread(rows.take, self._ledger, self._name, limits, now, wanted, rank)

    async def hold(self, now: int, until: int, pace: float) -> State:
        """See ``Bucket``."""
        return await asyncio.to_thread(rows.hold, self._ledger, self._name, now, until, pace)

    async def read(self) -> State | None:
        """See ``Bucket``."""
        return await asyncio.to_thread(rows.read, self._ledger, self._name)


class Gate:
    """Lets requests of one credential through. Belongs to one event loop.

    Attributes:
        pauses: How many pauses began or grew so far; whoever draws many requests looks at it between two of them.
    """

    def __init__(
        self, bucket: Bucket, limits: Limits, clock: Clock, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            bucket: Where tokens come from.
            limits: The credential's limits.
            clock: Tells the time that processes share.
            monotonic: Tells seconds that pass, whatever happens to the clock.
        """
        self._bucket = bucket
        self._limits = limits
        self._clock = clock
        self._monotonic = monotonic
        # One visits the bucket at a time: the highest priority of those that wait.
        self._turn = Turnstile((1,) * len(Priority))
        self._state: State | None = None  # the bucket as last seen
        self._free_until = 0.0  # no tokens are counted before; monotonic, like all below
        self._held_until = 0.0
        self._stocks = [Stock() for _ in Priority]
        self._pace = Pace()
        self._writes: set[asyncio.Task[None]] = set()
        self._watch: asyncio.Task[None] | None = None
        self.pauses = 0

    @property
    def held_for_s(self) -> float:
        """Seconds for which nothing is let through, because the provider asked for a pause; 0.0 when open."""
        return max(0.0, self._held_until - self._monotonic()) if self._held_until else 0.0

    async def look(self) -> None:
        """Learn of a pause that another process was asked for."""
        pauses = self.pauses
        state = await self._bucket.read()
        if state is not None:
            self._learn(state)
        free = pauses == self.pauses and rates.is_free(state, self._limits, self._now())
        self._free_until = self._monotonic() + _LOOK_EVERY_S if free else 0.0

    async def take(self, wanted: int, rank: int = 0) -> int:
        """Wait until something may be sent, and say how much.

        Args:
            wanted: At least 1.
            rank: The priority's: where tokens are scarce, others wait for the highest.

        Returns:
            Between 1 and ``wanted``; 0 when a pause lasts longer than ``SHORT_PAUSE_S``.

        Raises:
            LedgerError: The bucket cannot be had.
        """
        now = self._monotonic()
        if now < self._free_until:
            self._pace.count(wanted, now)
            return wanted
        while True:
            async with self._turn.passed(rank, ""):
                held_s = self.held_for_s
                if held_s > SHORT_PAUSE_S:
                    return 0
                if held_s > 0:
                    wait_s = held_s
                elif granted := self._granted(wanted, rank):
                    return granted
                elif (wait_s := self._stocks[rank].ask_at - self._monotonic()) <= 0:
                    await self._ask(wanted, rank)
                    if granted := self._granted(wanted, rank):
                        return granted
            # Not in there: who comes meanwhile may have what this one has not.
            await asyncio.sleep(max(0.0, wait_s))

    def hold(self, seconds: float) -> None:
        """Let nothing through for so long, here at once and elsewhere as soon as the ledger says so."""
        now = self._monotonic()
        until = now + min(max(seconds, _LEAST_PAUSE_S), rates.MAX_HOLD_S)
        if until <= self._held_until:
            return
        is_new = until > self._held_until + _SAME_PAUSE_S
        self._begin(until)
        if is_new:
            write = asyncio.create_task(self._write(until - now, self._pace.per_s(now)))
            self._writes.add(write)
            write.add_done_callback(self._writes.discard)

    async def aclose(self) -> None:
        """Wait for what is still to be written."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        if self._writes:
            await asyncio.wait(self._writes)

    def _now(self) -> int:
        return to_micros(self._clock())

    def _begin(self, until: float) -> None:
        self._held_until = until
        self._free_until = 0.0
        for stock in self._stocks:
            stock.tokens = 0
        self.pauses += 1
        if self._watch is None:
            self._watch = asyncio.create_task(self._look_on())

    def _learn(self, state: State) -> None:
        self._state = state
        until = self._monotonic() + (state.held_until - self._now()) / 1e6
        if until > max(self._held_until, self._monotonic()) + _SAME_PAUSE_S:
            log.warning("another process was asked to pause for %.1f s", until - self._monotonic())
            self._begin(until)

    def _granted(self, wanted: int, rank: int) -> int:
        now = self._monotonic()
        granted = wanted if now < self._free_until else 0
        # What was taken for lower priorities will do, as those left some; not what was taken for higher ones.
        for stock in reversed(self._stocks[rank:]):
            granted += stock.draw(wanted - granted, now)
        self._pace.count(granted, now)
        return granted

    async def _ask(self, wanted: int, rank: int) -> None:
        """Visit the bucket once; what it gives is in stock afterwards."""
        if self._writes:
            await asyncio.wait(self._writes)  # the row must know of our own pause first
        if self._limits.per_minute is None:
            await self.look()
            if self._free_until or self.held_for_s:
                return
        stock = self._stocks[rank]
        pauses, now = self.pauses, self._now()
        slice_ = max(1, round(rates.rate_at(self._state or rates.fresh(now), self._limits, now) * SLICE_S))
        asked = min(slice_, max(wanted, 2 * stock.spent, round(slice_ * _LEAST_SHARE)))
        taken = await self._bucket.take(self._limits, now, asked, rank)
        self._learn(taken.state)
        if pauses != self.pauses:
            return  # a pause began meanwhile: these tokens are of before
        at = self._monotonic()
        stock.fill(taken.granted, at)
        if taken.granted < asked:
            stock.ask_at = at + min(max(taken.wait_s, _SHORT_EVERY_S), _LOOK_EVERY_S)

    async def _look_on(self) -> None:
        """While a pause lasts, learn whether it grew, so that nobody starts anything when it seems over."""
        try:
            while (held_s := self.held_for_s) > 0:
                await asyncio.sleep(min(held_s, _LOOK_EVERY_S))
                if state := await self._bucket.read():
                    self._learn(state)
        except Exception:  # noqa: BLE001 - the pause itself stands; takes will meet the same trouble and say so
            log.exception("cannot see whether a pause was prolonged")
        finally:
            self._watch = None

    async def _write(self, seconds: float, pace: float) -> None:
        """Tell the other processes of a pause."""
        now = self._now()
        try:
            self._state = await self._bucket.hold(now, now + round(seconds * 1e6), pace)
        except Exception:  # noqa: BLE001 - the pause stands here; takes will meet the same trouble and say so
            log.exception("other processes do not learn of a pause of %.1f s", seconds)
