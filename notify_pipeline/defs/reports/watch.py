"""Decides when the reports are built again. Pure: facts in, a decision out.

Belongs here: that rule. Does not belong here: Dagster (``sensor``), whether anything changed (``reports.build``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

# Under steady traffic the lake changes every second; a build costs a few seconds of a core.
PAUSE = timedelta(seconds=5)
# A broadcast uses all cores, and each build computes it anew from all of its attempts, ever more: building may take
# this share of the time while one is sent. The first comes early, when there is little to compute.
BROADCAST_SHARE = 0.05
FIRST_PAUSE = timedelta(seconds=5)
# How many it is sent to the ledger says meanwhile (``reports.reading_live``); of all else the figures move, too.
MAX_BROADCAST_PAUSE = timedelta(minutes=1)
# What devices report is seen by builds only: with a new log file it is to be in the report after this time.
PROMISE = timedelta(seconds=30)
# Of it passes before the file is read, and as much is left for a machine that does more than send.
BEFORE_BUILD = timedelta(seconds=14)
LEAST_PAUSE = timedelta(seconds=2)
# People wait for its figures when it is over.
END_PAUSE = timedelta(seconds=0.5)
# A candidate that fails a check fails it again until something changes; the store may just be away for a moment.
_MAX_PAUSE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Build:
    """An earlier run; ``ended_at`` is None while it is not finished, ``took`` without its waiting for a start."""

    ended_at: datetime | None
    failed: bool
    took: timedelta = timedelta()


def may_build(
    runs: Sequence[Build],
    now: datetime,
    *,
    sending_since: datetime | None = None,
    ended: bool = False,
    beacons: bool = False,
) -> bool:
    """Tell whether a build may begin now, if anything changed.

    Args:
        runs: The latest runs, newest first.
        now: The time.
        sending_since: When the oldest broadcast began that is being sent, None when none is. One that is sent within
            the first pause is built once, at its end.
        ended: Whether a broadcast ended since the last build, and all of it is in the lake.
        beacons: Whether a log file was read since the last build began.
    """
    if any(run.ended_at is None for run in runs):
        return False
    pause, moments = PAUSE, [run.ended_at for run in runs if run.ended_at is not None]
    if ended:
        pause = END_PAUSE
    elif sending_since is not None:
        pause = _pause_of_broadcast(runs, sending_since, beacons)
        moments.append(sending_since)
    failures = next((number for number, run in enumerate(runs) if not run.failed), len(runs))
    return not moments or now >= max(moments) + min(pause * (1 << failures), _MAX_PAUSE)


def _pause_of_broadcast(runs: Sequence[Build], sending_since: datetime, beacons: bool) -> timedelta:
    """How long to wait after the last build, and after the broadcast's beginning."""
    latest = runs[0] if runs else None
    if latest is None or latest.ended_at is None or latest.ended_at - latest.took < sending_since:
        return FIRST_PAUSE  # what a build took before says nothing about this broadcast's
    pause = min(max(FIRST_PAUSE, latest.took / BROADCAST_SHARE), MAX_BROADCAST_PAUSE)
    # At worst the file was read when a build had just begun, which takes its time, and then the next takes as long.
    return min(pause, max(LEAST_PAUSE, PROMISE - BEFORE_BUILD - 2 * latest.took)) if beacons else pause
