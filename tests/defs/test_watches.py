"""The rules that decide when a drain or a broadcast gets a run: every transition, as plain facts."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notify_pipeline.commands.up import command
from notify_pipeline.defs.delivery import drain_watch
from notify_pipeline.defs.delivery.broadcast_watch import BroadcastRun, next_number
from notify_pipeline.defs.delivery.drain_watch import DrainRun, decide
from notify_pipeline.delivery import drain

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
WAITING = DrainRun(None)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def started(seconds: float) -> DrainRun:
    return DrainRun(ago(seconds))


@pytest.mark.parametrize(
    ("runs", "lease_held", "launch"),
    [
        pytest.param([], False, True, id="none: launch"),
        pytest.param([], True, True, id="killed a moment ago, its lease still counts: launch, it waits for the lease"),
        pytest.param([WAITING], False, False, id="one is about to start"),
        pytest.param([WAITING, started(900)], False, False, id="the successor of a dead one is about to start"),
        pytest.param([started(3)], False, False, id="warming up"),
        pytest.param([started(30)], True, False, id="alive"),
        pytest.param([started(30)], False, True, id="dead or hanging, whatever Dagster says"),
        pytest.param([started(590)], True, True, id="nearly over: its successor warms up"),
        pytest.param([started(5), started(590)], True, False, id="the successor waits for the lease"),
        pytest.param([started(5), started(590)], False, False, id="the successor is about to take the lease"),
        pytest.param([started(40), started(700)], False, True, id="both dead"),
    ],
)
def test_drain(runs: list[DrainRun], lease_held: bool, launch: bool) -> None:
    assert decide(runs, lease_held, 600, NOW).launch is launch


def test_drains_that_fail_one_after_another_are_tried_ever_more_slowly() -> None:
    def launch(count: int, seconds: float) -> bool:
        return decide([], False, 600, NOW, [ago(seconds)] * count).launch

    assert launch(3, 0)
    assert not launch(4, 4)
    assert launch(4, 5)
    assert not launch(100, 29)
    assert launch(100, 30)


def test_a_short_drain_has_its_successor_warm_for_half_its_time_at_most() -> None:
    assert not decide([started(4)], True, 10, NOW).launch
    assert decide([started(6)], True, 10, NOW).launch


@given(st.lists(st.one_of(st.none(), st.floats(0, 10_000)), max_size=5), st.booleans(), st.floats(1, 10_000))
def test_never_a_second_one_while_one_waits_to_start(ages: list[float | None], held: bool, length: float) -> None:
    runs = [DrainRun(None if age is None else ago(age)) for age in ages]
    if None in ages:
        assert not decide(runs, held, length, NOW).launch


ENDED = BroadcastRun(ago(1))
WELL = BroadcastRun(ago(0), failed=False)
ALIVE = BroadcastRun(None)


@pytest.mark.parametrize(
    ("runs", "lease_alive", "number"),
    [
        pytest.param([], False, 1, id="new"),
        pytest.param([], True, None, id="somebody works on it outside of Dagster"),
        pytest.param([ALIVE], False, None, id="between two steps"),
        pytest.param([ENDED], True, None, id="killed a moment ago: its lease still counts"),
        pytest.param([ENDED], False, 2, id="died"),
        pytest.param([ENDED, ALIVE], False, None, id="its successor runs"),
        pytest.param([ENDED] * 5, False, 6, id="the fifth successor follows at once"),
        pytest.param([ENDED] * 6, False, None, id="later ones wait"),
        pytest.param([BroadcastRun(ago(5))] * 6, False, 7, id="... 5 s more each"),
        pytest.param([BroadcastRun(ago(59))] * 100, False, None, id="... up to a minute"),
        pytest.param([BroadcastRun(ago(60))] * 100, False, 101, id="... and never give up"),
        pytest.param([WELL] * 50, False, 51, id="runs that did well are followed at once, by the next wave's"),
        pytest.param([*[ENDED] * 6, *[WELL] * 50], False, None, id="... but for those that failed"),
        pytest.param([*[WELL] * 50, *[ENDED] * 5], False, 56, id="... of which the fifth has its successor at once"),
    ],
)
def test_broadcast(runs: list[BroadcastRun], lease_alive: bool, number: int | None) -> None:
    assert next_number(runs, lease_alive, NOW) == number


def test_the_lease_is_the_one_that_the_drain_takes() -> None:
    assert drain_watch.LEASE == command.DRAIN_LEASE == drain.LEASE
