"""Decides which broadcasts get a run. Pure: facts in, a decision out.

Belongs here: that rule. Does not belong here: Dagster (``broadcast``), what is due (``delivery.broadcast.due``).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

# Runs die with their machine, or are killed; the first few successors follow at once.
_FREE_RELAUNCHES = 5
# After that something may be wrong for good; each further one waits longer, up to a minute. It goes on until the
# request expires: what was accepted is not given up.
_DELAY_STEP = timedelta(seconds=5)
_MAX_DELAY = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class BroadcastRun:
    """An earlier run of one broadcast; ``ended_at`` is None while Dagster takes it for alive.

    One that did well leaves shards that are due later; the run for these is its successor, not its replacement.
    """

    ended_at: datetime | None
    failed: bool = True


@dataclass(frozen=True, slots=True)
class Waiting:
    """A broadcast without a run; ``lane`` is where its run would queue."""

    request_id: str
    tenant: str
    rank: int
    lane: str


@dataclass(frozen=True, slots=True)
class Running:
    """A run that Dagster takes for alive, or that was just asked for."""

    tenant: str
    lane: str


def next_in_turn(
    waiting: Sequence[Waiting], running: Sequence[Running], latest: Sequence[str], limits: Mapping[str, int]
) -> Waiting | None:
    """The broadcast to launch next; None while every lane that one waits for is full.

    Dagster's queue knows no tenants, so nothing is put into it that could not start at once. The highest priority comes
    first; then the tenant with the fewest runs under way, so that no tenant gets a second one while another waits; then
    the one whose latest run is longest ago; then the order given.

    Args:
        waiting: Those without a run, longest due first.
        running: What is under way.
        latest: The tenants of the latest runs, newest first.
        limits: How many runs a lane takes.
    """
    filled = Counter(run.lane for run in running)
    under_way = Counter((run.lane, run.tenant) for run in running)
    ages = {tenant: age for age, tenant in reversed(list(enumerate(latest)))}
    startable = [each for each in waiting if each.lane not in limits or filled[each.lane] < limits[each.lane]]

    def turn(each: Waiting) -> tuple[int, int, int]:
        return each.rank, under_way[each.lane, each.tenant], -ages.get(each.tenant, len(latest))

    return min(startable, key=turn, default=None)


def next_number(runs: Sequence[BroadcastRun], now: datetime) -> int | None:
    """The number of the run to launch now, counted from 1; None when none is due.

    Args:
        runs: The runs so far of a broadcast that no process works on.
        now: The time.
    """
    if any(run.ended_at is None for run in runs):
        return None
    ended = [run.ended_at for run in runs if run.ended_at is not None and run.failed]
    extra = max(0, len(ended) - _FREE_RELAUNCHES)
    if ended and now < max(ended) + min(extra * _DELAY_STEP, _MAX_DELAY):
        return None
    return len(runs) + 1
