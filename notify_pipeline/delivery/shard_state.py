"""Which recipients of one shard are to be sent next: fresh, in flight, waiting for a retry, or finished.

Belongs here: the state machine over a shard's ordinals, and how many go at a time; no I/O. Does not belong here:
storing chunks (``core.ledger.broadcasts``), calling a channel (``chunk_sender``).

A recipient is its ordinal, the row number in the shard's file. A chunk is a set of ordinals with an attempt number
each; it is intended, then settled once. Everything here can be rebuilt from the settled chunks. Fresh recipients are
taken in the file's order, so that a chunk of nobody else is a range.
"""

import heapq
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from notify_pipeline.core.vocabulary import DeadLetterReason, Outcome
from notify_pipeline.delivery.attempts import RECORD_FAILED
from notify_pipeline.delivery.retry import MAY_DIE, Again, Final, GaveUp, RetryPolicy, Wishes

# Retries due within this long go together: they would come one by one, where only retries are left.
_TOGETHER_US = 50_000
# provider_code of a recipient whom quiet hours kept from being called: no policy decides, it is due when they end.
PUT_OFF = "not_processed:quiet_hours"
# A chunk that took less is followed by larger ones, one that took more by smaller ones.
_FAST_S, _SLOW_S = 0.5, 2.0
# The first chunk takes no more than some seconds even of a rate of a hundred per second.
_FIRST = 250


@dataclass(frozen=True, slots=True)
class Chunk:
    """Recipients to be sent together: which (ascending), and the number of the attempt that this is for each."""

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
        dead: (position in the chunk, why) of dead letters.
    """

    counts: dict[Outcome, int] = field(default_factory=dict)
    retries: list[tuple[int, int]] = field(default_factory=list)
    gave_up: dict[GaveUp, int] = field(default_factory=dict)
    dead: list[tuple[int, DeadLetterReason]] = field(default_factory=list)


class ShardState:
    """The recipients of a shard and what has become of them.

    It holds two bytes per recipient, and four more for each that waits for a retry.

    Args:
        recipients: How many rows the shard has.
    """

    __slots__ = ("_attempts", "_due", "_fresh", "_in_flight", "_next_chunk", "_times", "recipients")

    def __init__(self, recipients: int) -> None:
        self.recipients = recipients
        # Attempts begun per ordinal; 0 is fresh.
        self._attempts = array("H", [0]) * recipients
        self._fresh = 0
        # Ordinals that wait for a retry, by when they are due in units of _TOGETHER_US; and those times as a heap.
        self._due: dict[int, array[int]] = {}
        self._times: list[int] = []
        self._in_flight = 0
        self._next_chunk = 0

    def restore(self, newest_first: Iterable[tuple[Chunk, Sequence[tuple[int, int]]]]) -> None:
        """Rebuild from settled chunks and the retries that each decided, from the highest number down.

        In that order the first chunk that names a recipient is its last one, and only the retry that it decided counts.
        """
        for chunk, retries in newest_first:
            self._next_chunk = max(self._next_chunk, chunk.number + 1)
            for ordinal, due_at in retries:
                if not self._attempts[ordinal]:
                    self._wait(ordinal, due_at)
            self._begun(chunk)
        self._skip()

    def _begun(self, chunk: Chunk) -> None:
        ordinals, attempts = chunk.ordinals, self._attempts
        if isinstance(ordinals, range) and not any(attempts[ordinals.start : ordinals.stop]):
            attempts[ordinals.start : ordinals.stop] = array("H", chunk.attempts)
            return
        for ordinal, attempt in zip(ordinals, chunk.attempts, strict=True):
            attempts[ordinal] = attempts[ordinal] or attempt

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
        return self._times[0] * _TOGETHER_US if self._times else None

    def take(self, now: int, limit: int) -> Chunk | None:
        """Take the next recipients: retries that are due, then fresh ones; None when none may be sent now."""
        due = self._take_due(now, limit)
        fresh = self._take_fresh(limit - len(due))
        if not due and not fresh:
            return None
        ordinals: Sequence[int] = fresh
        if due:
            ordinals = array("I", sorted([*due, *fresh]))
            for ordinal in ordinals:
                self._attempts[ordinal] += 1
            attempts = array("H", (self._attempts[ordinal] for ordinal in ordinals))
        else:
            attempts = self._attempts[fresh.start : fresh.stop] = array("H", [1]) * len(fresh)
        chunk = Chunk(self._next_chunk, ordinals, attempts)
        self._next_chunk += 1
        self._in_flight += len(ordinals)
        return chunk

    def _take_due(self, now: int, limit: int) -> "array[int]":
        taken = array("I")
        while self._times and self._times[0] * _TOGETHER_US <= now and len(taken) < limit:
            waiting = self._due[self._times[0]]
            cut = max(0, len(waiting) - (limit - len(taken)))
            taken += waiting[cut:]
            del waiting[cut:]
            if not waiting:
                del self._due[heapq.heappop(self._times)]
        return taken

    def _take_fresh(self, limit: int) -> range:
        """Take the next fresh recipients, as far as they follow one another."""
        start, end = self._fresh, min(self._fresh + limit, self.recipients)
        if any(self._attempts[start:end]):  # a crash can leave holes
            end = next(ordinal for ordinal in range(start, end) if self._attempts[ordinal])
        self._fresh = end
        self._skip()
        return range(start, end)

    def settled(self, chunk: Chunk, settled: Settled) -> None:
        """Take note of a chunk's end, once it is recorded."""
        for ordinal, due_at in settled.retries:
            self._wait(ordinal, due_at)
        self._in_flight -= len(chunk.ordinals)

    def set_back(self, by_us: int) -> None:
        """Have retries as much sooner as the clock was set back: what they wait for is time that passes."""
        steps = by_us // _TOGETHER_US
        self._due = {time - steps: waiting for time, waiting in self._due.items()}
        self._times = [time - steps for time in self._times]

    def _wait(self, ordinal: int, due_at: int) -> None:
        time = -(-due_at // _TOGETHER_US)  # rounded up: never before it is due
        if time not in self._due:
            self._due[time] = array("I")
            heapq.heappush(self._times, time)
        self._due[time].append(ordinal)

    def _skip(self) -> None:
        while self._fresh < self.recipients and self._attempts[self._fresh]:
            self._fresh += 1


class ChunkPace:
    """How large the next chunk should be, so that a chunk takes about a second at any provider's speed.

    A process that dies leaves whole chunks ambiguous, and one that is told to stop ends those under way: neither may
    grow with a provider's slowness; nor may the time between two figures of a report, which moves with each chunk. It
    begins small, because nobody knows yet how fast the provider is: after a rest the rate of one with a limit is a
    tenth of it.

    Args:
        most: The largest chunk.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._least = max(1, most // 20)
        self.size = max(1, min(most // 5, _FIRST))

    def took(self, recipients: int, seconds: float) -> None:
        """Take note of how long it took to send a chunk of this size."""
        if seconds > _SLOW_S:
            self.size = max(self._least, min(self.size, recipients // 2))
        elif seconds < _FAST_S and recipients >= self.size:
            self.size = min(self._most, 2 * recipients)


def settle(
    chunk: Chunk,
    outcomes: Sequence[Outcome],
    waits: Sequence[float | None],
    policy: RetryPolicy,
    wishes: Wishes,
    now: int,
    codes: Sequence[str | None] = (),
) -> Settled:
    """Decide what the outcomes of a chunk mean.

    Args:
        chunk: The chunk.
        outcomes: The outcome of each of its recipients, in the chunk's order.
        waits: The provider's Retry-After of each, seconds.
        policy: When to retry.
        wishes: What the send asks for.
        now: Microseconds since the epoch.
        codes: The provider's word for each outcome, or ours.
    """
    counts = Counter(outcomes)
    result = Settled(counts)
    if MAY_DIE.isdisjoint(counts):
        return result
    for index, outcome in enumerate(outcomes):
        if outcome not in MAY_DIE:
            continue
        wait_s, attempt_no = waits[index], chunk.attempts[index]
        ours = _decided(codes[index], now, wait_s) if codes else None
        decision = ours or policy.after(outcome, attempt_no, now, wishes, wait_s)
        if isinstance(decision, Again):
            result.retries.append((chunk.ordinals[index], decision.due_at))
            counts[outcome] -= 1
            continue
        if decision.reason is not None:
            result.gave_up[decision.reason] = result.gave_up.get(decision.reason, 0) + 1
        if (why := decision.died_of(outcome, attempt_no)) is not None:
            result.dead.append((index, why))
    result.counts = {outcome: number for outcome, number in counts.items() if number}
    return result


def final(outcomes: Sequence[Outcome]) -> Settled:
    """Return what a chunk means of which no more can be recorded than its outcomes: nobody of it is sent to again."""
    counts = Counter(outcomes)
    return Settled(counts, gave_up={GaveUp.RECORD_FAILED: sum(counts[outcome] for outcome in MAY_DIE)})


def _decided(code: str | None, now: int, wait_s: float | None) -> Again | Final | None:
    """Return what follows where no policy is asked."""
    if code == PUT_OFF:
        return Again(now + round((wait_s or 0.0) * 1e6))
    return Final(GaveUp.RECORD_FAILED) if code == RECORD_FAILED else None
