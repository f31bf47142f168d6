"""Which recipients of one shard are to be sent next: fresh, in flight, waiting for a retry, or finished.

Belongs here: the state machine over a shard's ordinals, without any I/O. Does not belong here: storing chunks
(``core.ledger.broadcasts``), calling a channel (``shard``).

A recipient is its ordinal, the row number in the shard's file. A chunk is a set of ordinals with an attempt number
each; it is intended, then settled once. Everything here can be rebuilt from the settled chunks.
"""

import heapq
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from notify_pipeline.core.vocabulary import Outcome
from notify_pipeline.delivery.retry import Again, GaveUp, RetryPolicy, Wishes


@dataclass(frozen=True, slots=True)
class Chunk:
    """Recipients to be sent together: which, and the number of the attempt that this is for each."""

    number: int
    ordinals: Sequence[int]
    attempts: Sequence[int]


@dataclass(slots=True)
class Settled:
    """What a chunk's outcomes mean.

    Attributes:
        counts: Recipients that are finished now, by their final outcome.
        retries: (ordinal, due at) of those that will be attempted again, microseconds since the epoch.
        gave_up: How many finished although their outcome alone would have allowed another attempt, by reason.
    """

    counts: dict[Outcome, int] = field(default_factory=dict)
    retries: list[tuple[int, int]] = field(default_factory=list)
    gave_up: dict[GaveUp, int] = field(default_factory=dict)


class ShardState:
    """The recipients of a shard and what has become of them.

    Args:
        recipients: How many rows the shard has.
    """

    __slots__ = ("_attempts", "_due", "_fresh", "_in_flight", "_next_chunk", "recipients")

    def __init__(self, recipients: int) -> None:
        self.recipients = recipients
        # Attempts begun per ordinal; 0 is fresh. Two bytes each, so a shard of 50,000 costs 100 kB.
        self._attempts = array("H", bytes(2 * recipients))
        self._fresh = 0
        self._due: list[tuple[int, int]] = []
        self._in_flight = 0
        self._next_chunk = 0

    def restore(self, chunks: Iterable[tuple[Chunk, Sequence[tuple[int, int]]]]) -> None:
        """Rebuild from settled chunks and the retries that each decided, in the order of their numbers."""
        waiting: dict[int, int] = {}
        for chunk, retries in chunks:
            for ordinal, attempt in zip(chunk.ordinals, chunk.attempts, strict=True):
                self._attempts[ordinal] = attempt
                waiting.pop(ordinal, None)
            waiting.update(retries)
            self._next_chunk = max(self._next_chunk, chunk.number + 1)
        self._due = [(due_at, ordinal) for ordinal, due_at in waiting.items()]
        heapq.heapify(self._due)
        self._skip()

    @property
    def is_finished(self) -> bool:
        """True when every recipient has its final outcome."""
        return self._fresh >= self.recipients and not self._due and not self._in_flight

    @property
    def has_fresh(self) -> bool:
        """True while some recipient was never attempted."""
        return self._fresh < self.recipients

    @property
    def next_due(self) -> int | None:
        """When the earliest retry is due."""
        return self._due[0][0] if self._due else None

    def take(self, now: int, limit: int) -> Chunk | None:
        """Take the next recipients: retries that are due, then fresh ones; None when none may be sent now."""
        ordinals: list[int] = []
        while self._due and self._due[0][0] <= now and len(ordinals) < limit:
            ordinals.append(heapq.heappop(self._due)[1])
        while len(ordinals) < limit and self._fresh < self.recipients:
            ordinals.append(self._fresh)
            self._fresh += 1
            self._skip()
        if not ordinals:
            return None
        for ordinal in ordinals:
            self._attempts[ordinal] += 1
        chunk = Chunk(self._next_chunk, ordinals, [self._attempts[ordinal] for ordinal in ordinals])
        self._next_chunk += 1
        self._in_flight += len(ordinals)
        return chunk

    def settled(self, chunk: Chunk, settled: Settled) -> None:
        """Take note of a chunk's end, once it is recorded."""
        for ordinal, due_at in settled.retries:
            heapq.heappush(self._due, (due_at, ordinal))
        self._in_flight -= len(chunk.ordinals)

    def _skip(self) -> None:
        while self._fresh < self.recipients and self._attempts[self._fresh]:
            self._fresh += 1


def settle(
    chunk: Chunk,
    outcomes: Sequence[tuple[Outcome, float | None]],
    policy: RetryPolicy,
    wishes: Wishes,
    now: int,
) -> Settled:
    """Decide what the outcomes of a chunk mean.

    Args:
        chunk: The chunk.
        outcomes: Outcome and the provider's Retry-After (seconds) of each of its recipients, in the chunk's order.
        policy: When to retry.
        wishes: What the send asks for.
        now: Microseconds since the epoch.
    """
    result = Settled()
    counts = result.counts
    for index, (outcome, retry_after_s) in enumerate(outcomes):
        if outcome.is_retryable:
            decision = policy.after(outcome, chunk.attempts[index], now, wishes, retry_after_s)
            if isinstance(decision, Again):
                result.retries.append((chunk.ordinals[index], decision.due_at))
                continue
            if decision.reason is not None:
                result.gave_up[decision.reason] = result.gave_up.get(decision.reason, 0) + 1
        counts[outcome] = counts.get(outcome, 0) + 1
    return result
