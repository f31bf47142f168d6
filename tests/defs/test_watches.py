"""The rules that decide when a drain or a broadcast gets a run: every transition, as plain facts."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notify_pipeline.commands.up import command
from notify_pipeline.defs.delivery import drain_watch
from notify_pipeline.defs.delivery.broadcast_watch import BroadcastRun, Running, Waiting, next_in_turn, next_number
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
    ("runs", "number"),
    [
        pytest.param([], 1, id="new"),
        pytest.param([ALIVE], None, id="between two steps"),
        pytest.param([ENDED], 2, id="died"),
        pytest.param([ENDED, ALIVE], None, id="its successor runs"),
        pytest.param([ENDED] * 5, 6, id="the fifth successor follows at once"),
        pytest.param([ENDED] * 6, None, id="later ones wait"),
        pytest.param([BroadcastRun(ago(5))] * 6, 7, id="... 5 s more each"),
        pytest.param([BroadcastRun(ago(59))] * 100, None, id="... up to a minute"),
        pytest.param([BroadcastRun(ago(60))] * 100, 101, id="... and never give up"),
        pytest.param([WELL] * 50, 51, id="runs that did well are followed at once, by the next wave's"),
        pytest.param([*[ENDED] * 6, *[WELL] * 50], None, id="... but for those that failed"),
        pytest.param([*[WELL] * 50, *[ENDED] * 5], 56, id="... of which the fifth has its successor at once"),
    ],
)
def test_broadcast(runs: list[BroadcastRun], number: int | None) -> None:
    assert next_number(runs, NOW) == number


def turn(waiting: str, running: str = "", latest: str = "", **limits: int) -> str | None:
    """Whose turn it is, in short: ``a2`` is tenant a's at rank 2, in the lane ``high`` for rank 0 and else ``low``."""
    words = [Waiting(f"{n}", word[0], int(word[1]), _lane(word)) for n, word in enumerate(waiting.split())]
    under_way = [Running(word[0], _lane(word)) for word in running.split()]
    found = next_in_turn(words, under_way, list(latest), limits)
    return None if found is None else f"{found.tenant}{found.rank}"


def _lane(word: str) -> str:
    return "low" if int(word[1]) else "high"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(turn(""), None, id="nobody waits"),
        pytest.param(turn("a2 b1 c0"), "c0", id="the highest priority"),
        pytest.param(turn("a2 b0", "c1 d2", low=2, high=2), "b0", id="which has a lane of its own"),
        pytest.param(turn("a2 b1", "c1 d2", low=2, high=2), None, id="a full lane takes no more"),
        pytest.param(turn("a1 b2", "a1", low=2), "a1", id="priority comes before turns"),
        pytest.param(turn("a1 b1", "a1", low=2), "b1", id="no second one while another tenant waits"),
        pytest.param(turn("a1", "a1", low=2), "a1", id="a second one while nobody waits"),
        pytest.param(turn("a1 b1 c1", "", "ab"), "c1", id="who never had one"),
        pytest.param(turn("a1 b1", "", "ab"), "b1", id="whose latest is longest ago"),
        pytest.param(turn("a1 b1", "", "aab"), "b1", id="by the latest only"),
        pytest.param(turn("b1 a1", "", ""), "b1", id="else longest due"),
    ],
)
def test_which_broadcast_is_next(found: str | None, expected: str | None) -> None:
    assert found == expected


@given(st.lists(st.sampled_from("abc"), max_size=12))
def test_tenants_with_broadcasts_waiting_are_served_in_turn(tenants: list[str]) -> None:
    """One slot: of any tenants that all wait, none is served again before each of the others was."""
    waiting = [Waiting(str(number), tenant, 1, "low") for number, tenant in enumerate(sorted(tenants))]
    served: list[str] = []
    while (each := next_in_turn(waiting, [], served, {"low": 1})) is not None:
        still = {other.tenant for other in waiting}
        since = served[: served.index(each.tenant)] if each.tenant in served else served
        assert still - {each.tenant} <= set(since) or each.tenant not in served
        waiting.remove(each)
        served.insert(0, each.tenant)
    assert sorted(served) == sorted(tenants)


def test_the_lease_is_the_one_that_the_drain_takes() -> None:
    assert drain_watch.LEASE == command.DRAIN_LEASE == drain.LEASE
