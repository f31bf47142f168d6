"""Holding callers to their limits, in one ingress process.

Belongs here: refusing a key that calls too fast, and sends that are too large. Does not belong here: the arithmetic
(``core.call_rates``), what is counted in a transaction (``core.ledger.usage``).
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

import orjson

from ingest_api.errors import ApiError, FieldError
from notify_pipeline.core.call_rates import NANOS, Block, CallRate, Share
from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger.keys import KeyInfo
from notify_pipeline.core.ledger.limits import Limits, LimitsBook
from notify_pipeline.core.ledger.usage import QuotaExceeded

# Far more keys than call within a second; beyond it what they hold is forgotten, which costs some of their slots.
MOST_SHARES = 4_096
Draw = Callable[[str, CallRate, int, int], Block]


class _Held:
    """A key's share in this process, and the threads that wait for more of it."""

    __slots__ = ("_counting", "guard", "share", "waiting")

    def __init__(self, rate: CallRate) -> None:
        self.share = Share(rate)
        self.guard = threading.Lock()
        self.waiting = 0
        self._counting = threading.Lock()

    def count(self, change: int) -> None:
        with self._counting:
            self.waiting += change


class RateKeeper:
    """Lets each key call as fast as its tenant's limits allow. Used from any thread."""

    def __init__(self, book: LimitsBook, draw: Draw, clock: Callable[[], datetime]) -> None:
        self._book = book
        self._draw = draw
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self._guard = threading.Lock()

    def check(self, key: KeyInfo) -> None:
        """Use one request of a key; admin keys have no limit.

        Raises:
            ApiError: 429 when it calls too fast.
        """
        if key.tenant is None or (rate := self._book.of(key.tenant).rate) is None:
            return
        wait = self._take(self._of(key.key_id, rate), key.key_id)
        if wait:
            raise rate_limited(wait)

    def _of(self, key_id: str, rate: CallRate) -> _Held:
        held = self._held.get(key_id)
        if held is None or held.share.rate != rate:
            with self._guard:
                if len(self._held) >= MOST_SHARES:
                    self._held.clear()
                held = self._held[key_id] = _Held(rate)
        return held

    def _take(self, held: _Held, key_id: str) -> int:
        """Return 0, or for how many nanoseconds to wait."""
        held.count(1)
        try:
            # Whoever waits here is served from the block that the one before it draws.
            with held.guard:
                share, now = held.share, to_micros(self._clock()) * 1_000
                if share.take(now):
                    return 0
                if wait := share.wait(now):
                    return wait
                block = self._draw(key_id, share.rate, now, max(share.wanted, held.waiting))
                share.refill(block, now)
                return 0 if share.take(now) else max(1, block.first - now)
        finally:
            held.count(-1)


def rate_limited(wait_ns: int) -> ApiError:
    """Return the 429 of a key that calls too fast."""
    wait_s = -(-wait_ns // NANOS)
    message = "The key calls faster than its limit; GET /limits shows it."
    return ApiError(429, "rate_limited", message, headers={"Retry-After": str(max(1, wait_s))})


def quota_exceeded(error: QuotaExceeded, now: datetime) -> ApiError:
    """Return the 429 of a tenant whose day's quota is used up."""
    wait_s = -(-(to_micros(error.resets_at) - to_micros(now)) // 1_000_000)
    message = f"{error.name} is {error.limit}, and that many were used today (UTC); GET /usage shows it."
    return ApiError(429, "quota_exceeded", message, headers={"Retry-After": str(max(1, wait_s))})


def faults(limits: Limits, body: Mapping[str, Any]) -> Iterator[FieldError]:
    """Yield what is larger in a send, as it will be stored, than its tenant's limits allow."""
    most = limits.max_content_bytes
    if most is not None:
        size = len(orjson.dumps([body.get("content", {}), *body.get("overrides", {}).values()]))
        # Only the brackets and commas between the parts are ours.
        size -= 2 + len(body.get("overrides", {}))
        if size > most:
            yield FieldError("content", f"must not have more than {most} bytes as JSON; it has {size}")
    if limits.max_audience is not None:
        for kind in ("users", "devices", "emails", "phones", "visitors"):
            if len(body.get(kind, ())) > limits.max_audience:
                yield FieldError(kind, f"must not have more than {limits.max_audience} entries")
