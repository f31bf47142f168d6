"""How fast keys may call: never faster than asked over any window, and no slower than asked either."""

from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notify_pipeline.core import call_rates
from notify_pipeline.core.call_rates import MAX_SKEW_S, NANOS, CallRate, Share

START = 1_790_000_000 * NANOS
rates = st.builds(CallRate, st.sampled_from([0.1, 0.5, 3.0, 10.0, 77.7, 1_000.0, 20_000.0]), st.integers(1, 400))


@dataclass
class Installation:
    """Processes with a share each of one key, and the row that they draw from."""

    rate: CallRate
    processes: int

    def __post_init__(self) -> None:
        self.next_slot = 0
        self.writes = 0
        self.shares = [Share(self.rate) for _ in range(self.processes)]

    def ask(self, process: int, now: int) -> int:
        """Return 0 where the request is let through, or the wait."""
        share = self.shares[process]
        if share.take(now):
            return 0
        if wait := share.wait(now):
            return wait
        self.next_slot, block = call_rates.draw(self.next_slot, self.rate, now, share.wanted)
        self.writes += 1
        share.refill(block, now)
        return 0 if share.take(now) else max(1, block.first - now)


def _most_in_any_window(rate: CallRate, passed: list[int]) -> None:
    # It is enough to look at windows that begin and end with a request.
    for i, begin in enumerate(passed):
        for j in range(i, len(passed)):
            assert j - i + 1 <= rate.per_s * (passed[j] - begin) / NANOS + rate.burst + 1e-6


# Gaps in units of the slots' distance, from bursts to idleness.
gaps = st.one_of(st.just(0.0), st.floats(0.0, 0.5), st.floats(0.0, 3.0), st.floats(0.0, 500.0))


@settings(max_examples=100, deadline=None)
@given(rates, st.lists(st.tuples(st.integers(0, 2), gaps), max_size=80))
def test_no_window_holds_more_than_rate_and_burst_allow(rate: CallRate, asked: list[tuple[int, float]]) -> None:
    house, now, passed = Installation(rate, 3), START, []
    for process, gap in asked:
        now += round(gap * rate.spacing)
        if not house.ask(process, now):
            passed.append(now)
    _most_in_any_window(rate, passed)


@settings(max_examples=100, deadline=None)
@given(rates, st.lists(gaps, max_size=80))
def test_a_process_alone_is_let_through_as_a_token_bucket_would(rate: CallRate, asked: list[float]) -> None:
    """Of what the bucket with one token less lets through, nothing is refused: blocks cost nothing."""
    house, now, tokens = Installation(rate, 1), START, float(rate.burst)
    for gap in asked:
        now += round(gap * rate.spacing)
        tokens = min(float(rate.burst), tokens + gap)
        if tokens >= 2:  # one to use, and one for where the slots happen to lie
            assert house.ask(0, now) == 0
            tokens -= 1


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.sampled_from([20.0, 500.0, 5_000.0]), st.integers(0, 2**32))
def test_nobody_starves_below_the_rate(processes: int, per_s: float, seed: int) -> None:
    """Requests at four fifths of the rate, in any order over the processes, are never refused."""
    rate, random = CallRate(per_s, round(2 * per_s)), Random(seed)
    house, now = Installation(rate, processes), START
    for _ in range(1_000):
        now += round(rate.spacing / 0.8 * random.uniform(0.5, 1.5))
        assert house.ask(random.randrange(processes), now) == 0


def test_a_fast_key_costs_a_few_writes_a_second() -> None:
    house, seconds = Installation(CallRate(2_000.0, 2_000), 4), 20
    for n in range(1_600 * seconds):
        assert house.ask(n % 4, START + n * NANOS // 1_600) == 0
    assert house.writes / seconds <= 4 * 25


@settings(max_examples=100, deadline=None)
@given(rates, st.integers(1, 3), st.lists(st.integers(0, 2), min_size=1, max_size=50))
def test_whoever_waits_as_told_gets_through(rate: CallRate, processes: int, asked: list[int]) -> None:
    house, now = Installation(rate, processes), START
    for who in asked:
        tries = 0
        while wait := house.ask(who % processes, now):
            now += wait
            tries += 1
            assert tries <= 2


@given(rates, st.integers(-400 * 86_400, 400 * 86_400))
def test_a_clock_that_jumps_blocks_nobody_for_long(rate: CallRate, jump_s: int) -> None:
    house, now = Installation(rate, 1), START
    for _ in range(3):
        house.ask(0, now)
    now += jump_s * NANOS
    house.ask(0, now)
    now += rate.reach + 2 * rate.spacing + round((MAX_SKEW_S + 1) * NANOS)
    assert house.ask(0, now) == 0


def test_a_lower_limit_holds_at_once() -> None:
    next_slot, block = call_rates.draw(0, CallRate(10.0, 1_000), START, 1_000)
    assert block.slots == 1_000
    lower = CallRate(10.0, 5)
    next_slot, block = call_rates.draw(next_slot, lower, START, 1)
    assert block.slots == 0
    assert block.first - START <= NANOS, "and nobody waits for what the higher one gave"
    _, block = call_rates.draw(next_slot, lower, block.first, 5)
    assert block.slots == 1


def test_what_can_never_let_anything_through_is_refused() -> None:
    for per_s, burst in ((0.0, 1), (1.0, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            CallRate(per_s, burst)
