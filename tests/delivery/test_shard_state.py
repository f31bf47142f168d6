"""The shard's state machine against random outcomes, random retries and restarts at any point."""

import tracemalloc
from array import array
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from notify_pipeline.core.vocabulary import Outcome
from notify_pipeline.delivery.retry import GaveUp, RetryPolicy, Wishes
from notify_pipeline.delivery.shard_state import Chunk, ChunkPace, Settled, ShardState, settle
from tests.examples import examples

ATTEMPTS = 4
POLICY = RetryPolicy(ATTEMPTS, base_s=0.001, cap_s=0.01, draw=lambda: 0.5)
WISHES = Wishes(expires_at=10**15)


class ShardMachine(RuleBasedStateMachine):
    """Takes, settles and crashes in any order; the "ledger" is what survives a crash."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.in_flight: list[Chunk] = []
        self.ledger: dict[int, tuple[Chunk, Settled]] = {}
        self.intended: dict[int, Chunk] = {}
        self.calls: Counter[tuple[int, int]] = Counter()

    @initialize(recipients=st.integers(0, 40))
    def begin(self, recipients: int) -> None:
        self.recipients = recipients
        self.state = ShardState(recipients)

    @rule(limit=st.integers(1, 7))
    def take(self, limit: int) -> None:
        due = self.state.next_due
        chunk = self.state.take(self.now, limit)
        if chunk is None:
            assert not self.state.has_fresh
            assert due is None or due > self.now
            return
        assert 0 < len(chunk.ordinals) <= limit
        assert chunk.number not in self.intended
        assert list(chunk.ordinals) == sorted(set(chunk.ordinals))
        self.intended[chunk.number] = chunk
        self.in_flight.append(chunk)
        self.calls.update(zip(chunk.ordinals, chunk.attempts, strict=True))

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def end_one(self, data: st.DataObject) -> None:
        chunk = self.in_flight.pop(data.draw(st.integers(0, len(self.in_flight) - 1)))
        outcomes = data.draw(
            st.lists(st.sampled_from(Outcome), min_size=len(chunk.ordinals), max_size=len(chunk.ordinals))
        )
        settled = self._record(chunk, outcomes)
        self.state.settled(chunk, settled)

    @rule(wait=st.integers(1, 200_000))
    def wait(self, wait: int) -> None:
        self.now += wait

    @rule()
    def crash_and_resume(self) -> None:
        self.in_flight = []
        for number, chunk in self.intended.items():
            if number not in self.ledger:
                self._record(chunk, [Outcome.AMBIGUOUS] * len(chunk.ordinals))
        self.state = ShardState(self.recipients)
        newest_first = sorted(self.ledger.items(), reverse=True)
        self.state.restore((chunk, settled.retries) for _, (chunk, settled) in newest_first)

    def _record(self, chunk: Chunk, outcomes: list[Outcome]) -> Settled:
        settled = settle(chunk, outcomes, [None] * len(outcomes), POLICY, WISHES, self.now)
        self.ledger[chunk.number] = (chunk, settled)
        return settled

    @invariant()
    def nobody_is_called_twice_for_one_attempt(self) -> None:
        assert all(n == 1 for n in self.calls.values())

    @invariant()
    def attempts_follow_each_other(self) -> None:
        for ordinal, attempt in self.calls:
            assert attempt == 1 or (ordinal, attempt - 1) in self.calls
            assert attempt <= ATTEMPTS

    @invariant()
    def finished_means_everybody_ended_once(self) -> None:
        if not hasattr(self, "state"):
            return
        ended = sum(sum(settled.counts.values()) for _, settled in self.ledger.values())
        assert ended <= self.recipients
        assert self.state.is_finished == (ended == self.recipients)

    def teardown(self) -> None:
        if not hasattr(self, "state"):
            return
        self.crash_and_resume()
        for _ in range(self.recipients * ATTEMPTS + 1):
            self.now += 100_000
            chunk = self.state.take(self.now, 5)
            if chunk is None:
                break
            self.intended[chunk.number] = chunk
            self.state.settled(chunk, self._record(chunk, [Outcome.ACCEPTED] * len(chunk.ordinals)))
        assert self.state.is_finished


TestShardMachine = ShardMachine.TestCase
TestShardMachine.settings = settings(max_examples=examples(60), stateful_step_count=30, deadline=None)


@given(st.lists(st.sampled_from(Outcome), min_size=1, max_size=30))
def test_every_recipient_is_either_counted_or_retried(outcomes: list[Outcome]) -> None:
    chunk = Chunk(0, range(len(outcomes)), [1] * len(outcomes))
    settled = settle(chunk, outcomes, [None] * len(outcomes), POLICY, WISHES, 0)
    assert sum(settled.counts.values()) + len(settled.retries) == len(outcomes)
    assert {o for o, _ in settled.retries} == {i for i, o in enumerate(outcomes) if o.is_retryable}
    assert settled.gave_up == {}


def test_giving_up_is_counted_with_its_reason() -> None:
    chunk = Chunk(0, [5, 6], [ATTEMPTS, 1])
    settled = settle(chunk, [Outcome.TRANSIENT, Outcome.THROTTLED], [None, 1e9], POLICY, WISHES, 0)
    assert settled.counts == {Outcome.TRANSIENT: 1, Outcome.THROTTLED: 1}
    assert settled.gave_up == {GaveUp.ATTEMPTS: 1, GaveUp.EXPIRES: 1}


def test_due_retries_go_before_fresh_recipients() -> None:
    state = ShardState(10)
    first = state.take(0, 2)
    assert first is not None
    state.settled(first, Settled(retries=[(0, 110_000), (1, 10_000)]))
    assert state.next_due == 50_000
    assert state.take(49_999, 0) is None
    second = state.take(50_000, 3)
    assert second is not None
    assert (list(second.ordinals), list(second.attempts)) == ([1, 2, 3], [2, 1, 1])


def test_a_retry_is_never_early_and_at_most_a_twentieth_of_a_second_late() -> None:
    for due_at in (1, 49_999, 50_000, 50_001, 123_456):
        state = ShardState(1)
        first = state.take(0, 1)
        assert first is not None
        state.settled(first, Settled(retries=[(0, due_at)]))
        assert state.next_due is not None and due_at <= state.next_due < due_at + 50_000


def test_fresh_recipients_are_taken_as_ranges_around_what_a_crash_left() -> None:
    state = ShardState(10)
    state.restore([(Chunk(1, range(3, 6), [1, 1, 1]), ())])
    taken = [state.take(0, 4) for _ in range(3)]
    assert [chunk and chunk.ordinals for chunk in taken] == [range(3), range(6, 10), None]


def test_a_million_recipients_are_restored_without_a_number_for_each() -> None:
    size, chunks = 1_000_000, 200
    each = size // chunks
    attempts = array("H", [1]) * each
    tracemalloc.start()
    try:
        state = ShardState(size)
        state.restore((Chunk(n, range(n * each, n * each + each), attempts), ()) for n in reversed(range(chunks)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert state.is_finished
    assert peak < 3 * size  # two bytes for each, and one chunk's worth


@pytest.mark.parametrize("recipients", [0, 1])
def test_an_empty_shard_is_finished(recipients: int) -> None:
    assert ShardState(recipients).is_finished == (recipients == 0)


@given(most=st.integers(1, 10_000), per_second=st.floats(0.1, 1e6))
def test_chunks_come_to_take_about_a_second_within_their_bounds(most: int, per_second: float) -> None:
    pace = ChunkPace(most)
    sizes = []
    for _ in range(40):
        assert 1 <= pace.size <= most
        sizes.append(pace.size)
        pace.took(pace.size, pace.size / per_second)
    last = sizes[-1]
    assert last == sizes[-2], "it does not come to rest"
    assert last == most or last / per_second >= 0.5
    assert last <= max(1, most // 20) or last / per_second <= 2.0


def test_a_small_chunk_of_retries_does_not_say_that_the_provider_is_fast() -> None:
    pace = ChunkPace(1_000)
    pace.took(3, 0.01)
    assert pace.size == 200
