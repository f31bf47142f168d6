"""The token bucket: what it grants over any stretch of time, whatever the clock does."""

import random
from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from notify_pipeline.core import rates
from notify_pipeline.core.rates import BURST_S, IDLE_S, MAX_HOLD_S, RAMP_FLOOR, RAMP_S, Limits, State

SECOND = 1_000_000
START = 1_790_000_000 * SECOND
NO_LIMIT = Limits(None)


@dataclass(frozen=True)
class Step:
    after: int  # microseconds since the step before
    wanted: int = 1
    hold_s: float | None = None
    rank: int = 0


steps = st.lists(
    st.builds(
        Step,
        st.one_of(st.integers(0, 2 * SECOND), st.integers(0, 200 * SECOND)),
        st.integers(1, 10_000),
        st.one_of(st.none(), st.none(), st.none(), st.floats(0.01, 100)),
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=40,
)
limits = st.one_of(st.just(NO_LIMIT), st.integers(1, 6_000_000).map(lambda n: Limits(float(n))))


def whole(state: State, limits: Limits) -> float:
    return state.pace if limits.per_minute is None else limits.per_minute / 60


@given(steps, limits)
def test_no_stretch_of_time_gets_more_than_its_rate_and_one_burst(taken: list[Step], limits: Limits) -> None:
    state, now = rates.fresh(START), START
    grants: list[tuple[int, int]] = []  # when there was something to count
    for step in taken:
        now += step.after
        if step.hold_s is not None:
            state = rates.hold(state, now, now + round(step.hold_s * SECOND))
        free = rates.is_free(state, limits, now)
        state, granted, wait_s = rates.take(state, limits, now, step.wanted, step.rank)
        assert 0 <= granted <= step.wanted
        assert (granted == 0) == (wait_s > 0)
        if free:
            assert granted == step.wanted
            grants.clear()
        else:
            grants.append((now, granted))
        if now < state.held_until:
            assert granted == 0
    per_s = whole(state, limits)
    for first in range(len(grants)):
        total = 0
        for at, granted in grants[first:]:
            total += granted
            allowed = per_s * (at - grants[first][0]) / SECOND + max(1.0, per_s * BURST_S)
            assert total <= allowed * (1 + 1e-9)


@given(st.integers(1, 6_000_000), st.floats(0.5, 100), st.integers(0, 70 * SECOND))
def test_after_a_pause_the_rate_rises_from_a_tenth(per_minute: int, held_s: float, after: int) -> None:
    limits = Limits(float(per_minute))
    state = State(5.0, START, START - 100 * SECOND)
    until = START + round(held_s * SECOND)
    state = rates.hold(state, START, until)
    assert rates.take(state, limits, until - 1, 10)[1] == 0
    share = RAMP_FLOOR + (1 - RAMP_FLOOR) * min(after / SECOND / RAMP_S, 1)
    assert rates.rate_at(state, limits, until + after) == pytest.approx(per_minute / 60 * share)


@pytest.mark.parametrize(("limits", "per_s"), [(Limits(600_000.0), 10_000.0), (NO_LIMIT, 4_000.0)])
def test_everything_that_the_ramp_allows_is_granted_and_no_more(limits: Limits, per_s: float) -> None:
    until = START + 10 * SECOND
    state, total = rates.hold(rates.fresh(START), START, until, pace=4_000.0), 0
    for tick in range(599):  # every 100 ms of the minute after the pause
        now = until + (tick + 1) * SECOND // 10
        state, granted, _ = rates.take(state, limits, now, 1_000_000)
        total += granted
        ramp_allows = rates.rate_at(state, limits, now) / 10
        assert granted <= ramp_allows + 1, "nothing was kept for a burst"
        elapsed = (tick + 1) / 10
        allowed = per_s * (RAMP_FLOOR * elapsed + (1 - RAMP_FLOOR) * elapsed**2 / (2 * RAMP_S))
        assert allowed - 2 <= total <= allowed + 1


def test_a_credential_without_a_limit_is_free_again_after_the_ramp() -> None:
    assert rates.is_free(None, NO_LIMIT, START)
    state = rates.hold(rates.fresh(START), START, START + SECOND)
    assert not rates.is_free(state, NO_LIMIT, START + 2 * SECOND)
    over = START + SECOND + round(RAMP_S * SECOND)
    assert rates.is_free(state, NO_LIMIT, over)
    assert rates.take(state, NO_LIMIT, over, 123_456)[1] == 123_456


def test_idleness_begins_the_ramp_anew() -> None:
    limits = Limits(60_000.0)
    state = State(0.0, START, START - 100 * SECOND)
    awake = START + round(IDLE_S * SECOND) - 1
    assert rates.take(state, limits, awake, 10_000)[1] == 500, "half a second's worth"
    asleep = START + round(IDLE_S * SECOND)
    state, granted, _ = rates.take(state, limits, asleep, 10_000)
    assert granted == 50, "a tenth of that"
    assert rates.rate_at(state, limits, asleep) == pytest.approx(100.0)


@given(st.integers(1, 600_000), steps)
@example(1, [Step(0, 10_000)])
def test_whoever_waits_as_told_gets_something(per_minute: int, taken: list[Step]) -> None:
    limits = Limits(float(per_minute))
    state, now = rates.fresh(START), START
    for step in taken:
        now += step.after
        if step.hold_s is not None:
            state = rates.hold(state, now, now + round(step.hold_s * SECOND))
        state, granted, wait_s = rates.take(state, limits, now, step.wanted, step.rank)
        waits = 0
        while not granted:
            waits += 1
            # One for the pause, one for the token, one for rounding; and while the ramp rises, so does what is kept.
            assert waits <= (8 if step.rank else 3)
            now += round(wait_s * SECOND) + 1
            state, granted, wait_s = rates.take(state, limits, now, step.wanted, step.rank)


@given(st.integers(-400 * 86_400, 400 * 86_400), st.floats(1, 100), st.booleans())
def test_a_clock_that_jumps_mints_one_burst_at_most_and_blocks_for_no_longer_than_before(
    jump_s: int, held_s: float, held: bool
) -> None:
    limits = Limits(60_000.0)
    state, _, _ = rates.take(State(0.0, START, START - 100 * SECOND), limits, START + SECOND, 10_000)
    now, longest_s = START + SECOND, rates.MAX_SKEW_S + 1
    if held:
        state = rates.hold(state, now, now + round(held_s * SECOND))
        longest_s += held_s
    now += jump_s * SECOND
    state, granted, _ = rates.take(state, limits, now, 1_000_000)
    assert granted <= 500
    state, granted, _ = rates.take(state, limits, now, 1_000_000)
    assert granted == 0, "nothing is minted twice"
    _, granted, _ = rates.take(state, limits, now + round(longest_s * SECOND), 1)
    assert granted == 1


def test_hosts_whose_clocks_disagree_share_one_rate() -> None:
    limits = Limits(60_000.0)
    state, total = State(0.0, START, START - 100 * SECOND), 0
    for tick in range(1, 101):  # ten seconds; every other take comes from a host that is 1.5 s behind
        now = START + tick * SECOND // 10 - (tick % 2) * 1_500_000
        state, granted, _ = rates.take(state, limits, now, 1_000_000)
        total += granted
    assert total <= 1_000 * 10 + 500


def test_pauses_are_joined_and_none_is_longer_than_the_longest() -> None:
    state = rates.hold(rates.fresh(START), START, START + 60 * SECOND)
    assert rates.hold(state, START, START + SECOND) == state, "a shorter one changes nothing"
    state = rates.hold(state, START, START + 10**9 * SECOND)
    assert state.held_until == START + round(MAX_HOLD_S * SECOND)
    assert rates.hold(rates.fresh(START), START, START) == rates.fresh(START), "no pause at all"


def test_the_pace_before_a_pause_is_what_the_ramp_leads_to() -> None:
    state = rates.hold(rates.fresh(START), START, START + SECOND, pace=7_000.0)
    assert state.pace == 7_000.0
    again = rates.hold(state, START + 5 * SECOND, START + 6 * SECOND, pace=800.0)
    assert again.pace == 7_000.0, "within the ramp the pace says nothing new"
    later = rates.hold(state, START + 500 * SECOND, START + 501 * SECOND, pace=800.0)
    assert later.pace == rates.STARTING_PER_S


def test_what_can_never_grant_is_refused() -> None:
    with pytest.raises(ValueError, match="limit"):
        Limits(0.0)
    with pytest.raises(ValueError, match="at least one"):
        rates.take(rates.fresh(START), NO_LIMIT, START, 0)


@given(st.integers(120, 6_000_000), st.integers(0, 2), st.integers(0, 2))
def test_what_lower_priorities_leave_is_there_for_higher_ones(per_minute: int, lower: int, seconds: int) -> None:
    """Whatever somebody below takes, a higher one finds the difference."""
    limits, now = Limits(float(per_minute)), START + (1 + seconds) * SECOND  # not while all are equal
    state = State(per_minute / 60 * BURST_S, now, START - 100 * SECOND)
    after, _, _ = rates.take(state, limits, now, 10_000_000, lower)
    for higher in range(lower):
        _, granted, _ = rates.take(after, limits, now, 10_000_000, higher)
        kept = [rates.kept_from(rank, per_minute / 60, now) for rank in (lower, higher)]
        assert granted >= int(kept[0] - kept[1])


@pytest.mark.parametrize("ranks", [(0, 1), (0, 2), (1, 2)])
@pytest.mark.parametrize("per_minute", [600.0, 6_000.0, 600_000.0])
def test_scarce_tokens_go_to_the_higher_priority_and_the_lower_one_does_not_starve(
    ranks: tuple[int, int], per_minute: float
) -> None:
    """Both want all they can get, and come about every tenth of a second, for four minutes past the ramp."""
    limits, state = Limits(per_minute), State(0.0, START, START - 100 * SECOND)
    got, drawn = dict.fromkeys(ranks, 0), random.Random(1)
    visits = [(START + round((n + drawn.random()) * SECOND / 10), rank) for rank in ranks for n in range(2_400)]
    for now, rank in sorted(visits):
        state, granted, _ = rates.take(state, limits, now, 10_000_000, rank)
        got[rank] += granted
    whole = per_minute / 60 * 240
    assert sum(got.values()) >= whole * 0.95, "nothing is lost"
    assert got[ranks[0]] >= whole * 0.9
    assert got[ranks[1]] >= whole * 0.01


@pytest.mark.parametrize("rank", [1, 2])
def test_alone_a_lower_priority_gets_the_whole_rate(rank: int) -> None:
    limits, state, total = Limits(60_000.0), State(0.0, START, START - 100 * SECOND), 0
    for tick in range(600):
        state, granted, _ = rates.take(state, limits, START + tick * SECOND // 10, 10_000_000, rank)
        total += granted
    assert total >= 60_000 * 0.98
