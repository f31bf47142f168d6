"""Decides which broadcasts get a run. Pure: facts in, a decision out.

Belongs here: that rule. Does not belong here: Dagster (``broadcast``), what is due (``delivery.broadcast.due``).
"""

from collections.abc import Sequence
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


def next_number(runs: Sequence[BroadcastRun], lease_alive: bool, now: datetime) -> int | None:
    """The number of the run to launch now, counted from 1; None when none is due.

    Args:
        runs: The broadcast's runs so far.
        lease_alive: Whether some process works on it, whatever Dagster thinks.
        now: The time.
    """
    if lease_alive or any(run.ended_at is None for run in runs):
        return None
    ended = [run.ended_at for run in runs if run.ended_at is not None and run.failed]
    extra = max(0, len(ended) - _FREE_RELAUNCHES)
    if ended and now < max(ended) + min(extra * _DELAY_STEP, _MAX_DELAY):
        return None
    return len(runs) + 1
