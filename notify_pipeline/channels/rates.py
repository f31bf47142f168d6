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
from notify_pipeline.core import rates
from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import rates as rows
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.rates import Taken
from notify_pipeline.core.rates import Limits, State

log = logging.getLogger(__name__)

# A pause this short is waited for: to report the recipients and have them planned anew would take as long.
SHORT_PAUSE_S = 1.0
# What one visit to the ledger asks for, at most.
SLICE_S = 0.2
# Tokens not spent by then are forgotten: spent much later, they would come on top of the rate then.
_STOCK_S = 0.25
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
# Over how long the pace before a pause is measured.
_PACE_S = 1.0


class Bucket(Protocol):
    """Where the tokens of one credential come from."""

    async def take(self, limits: Limits, now: int, wanted: int) -> Taken:
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

    async def take(self, limits: Limits, now: int, wanted: int) -> Taken:
        """See ``Bucket``."""
        return await asyncio.to_thread(rows.take, self._ledger, self._name, limits, now, wanted)

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
        self._turn = asyncio.Lock()
        self._state: State | None = None  # the bucket as last seen
        self._free_until = 0.0  # no tokens are counted before; monotonic, like all below
        self._held_until = 0.0
        self._stock = 0
        self._stock_until = 0.0
        self._spent = 0  # since the last visit to the bucket
        self._ask_at = 0.0
        self._pace = _Pace()
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

    async def take(self, wanted: int) -> int:
        """Wait until something may be sent, and say how much.

        Args:
            wanted: At least 1.

        Returns:
            Between 1 and ``wanted``; 0 when a pause lasts longer than ``SHORT_PAUSE_S``.

        Raises:
            LedgerError: The bucket cannot be had.
        """
        now = self._monotonic()
        if now < self._free_until:
            self._pace.count(wanted, now)
            return wanted
        async with self._turn:
            while True:
                held_s = self.held_for_s
                if held_s > SHORT_PAUSE_S:
                    return 0
                if held_s > 0:
                    await asyncio.sleep(held_s)
                elif granted := self._granted(wanted):
                    return granted
                else:
                    await self._ask(wanted)

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
        self._stock = 0
        self.pauses += 1
        if self._watch is None:
            self._watch = asyncio.create_task(self._look_on())

    def _learn(self, state: State) -> None:
        self._state = state
        until = self._monotonic() + (state.held_until - self._now()) / 1e6
        if until > max(self._held_until, self._monotonic()) + _SAME_PAUSE_S:
            log.warning("another process was asked to pause for %.1f s", until - self._monotonic())
            self._begin(until)

    def _granted(self, wanted: int) -> int:
        now = self._monotonic()
        if now < self._free_until:
            granted = wanted
        else:
            granted = min(wanted, self._stock) if now < self._stock_until else 0
            self._stock -= granted
            self._spent += granted
        self._pace.count(granted, now)
        return granted

    async def _ask(self, wanted: int) -> None:
        """Visit the bucket once; what it gives is in stock afterwards."""
        if self._writes:
            await asyncio.wait(self._writes)  # the row must know of our own pause first
        if self._limits.per_minute is None:
            await self.look()
            if self._free_until or self.held_for_s:
                return
        await asyncio.sleep(max(0.0, self._ask_at - self._monotonic()))
        pauses, now = self.pauses, self._now()
        slice_ = max(1, round(rates.rate_at(self._state or rates.fresh(now), self._limits, now) * SLICE_S))
        asked = min(slice_, max(wanted, 2 * self._spent, round(slice_ * _LEAST_SHARE)))
        taken = await self._bucket.take(self._limits, now, asked)
        self._learn(taken.state)
        if pauses != self.pauses:
            return  # a pause began meanwhile: these tokens are of before
        self._stock, self._spent = taken.granted, 0
        at = self._monotonic()
        self._stock_until = at + _STOCK_S
        if taken.granted < asked:
            self._ask_at = at + min(max(taken.wait_s, _SHORT_EVERY_S), _LOOK_EVERY_S)

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


class _Pace:
    """How many requests per second there were lately: over the second that is running or the one before."""

    def __init__(self) -> None:
        self._since = 0.0
        self._count = 0
        self._before = 0.0

    def count(self, number: int, now: float) -> None:
        """Take note of requests let through at a moment."""
        if now - self._since >= _PACE_S:
            self._before = self._count / (now - self._since)
            self._since, self._count = now, 0
        self._count += number

    def per_s(self, now: float) -> float:
        """Return the larger of both."""
        return max(self._before, self._count / max(_PACE_S, now - self._since))
