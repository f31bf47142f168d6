"""Decides when the next drain run is due. Pure: facts in, a decision out.

Belongs here: that rule. Does not belong here: Dagster (``drain``), what a drain run does (``delivery.drain``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

# The drain's lease, as delivery.drain names it (a test compares; importing that would load the channels).
LEASE = "drain"
# A run that is marked as started takes the lease within a second or two, on a loaded machine within some more. A run
# without the lease after this long is dead, or hangs.
WARM_UP = timedelta(seconds=10)
# A drain that cannot even start (no provider, no ledger) is tried again ever more slowly. Three may be accidents.
FREE_FAILURES = 3
FAILURE_STEP = timedelta(seconds=5)
MAX_PAUSE = timedelta(seconds=30)
# The sensor looks every 5 s, and a run takes 3 to 5 s until it waits for the lease: launched this long before its
# predecessor's time is up, it takes over without a gap.
HAND_OVER = timedelta(seconds=15)


@dataclass(frozen=True, slots=True)
class DrainRun:
    """A run that Dagster takes for alive; ``started_at`` is None while it waits for its start."""

    started_at: datetime | None


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to launch, and why (not)."""

    launch: bool
    reason: str


def pause_after(failures: Sequence[datetime]) -> timedelta:
    """How long to wait after the last of so many runs that failed in a row.

    Args:
        failures: When each ended, of those that ended since the last run that did well.
    """
    return min(max(0, len(failures) - FREE_FAILURES) * FAILURE_STEP, MAX_PAUSE)


def decide(
    runs: Sequence[DrainRun],
    lease_held: bool,
    drain_seconds: float,
    now: datetime,
    failures: Sequence[datetime] = (),
) -> Decision:
    """Tell whether to launch a drain run.

    Dagster's word that a run is alive counts only while it waits, or is young, or the ledger's lease is held: a process
    that was killed cannot say so, and who marks its run as failed may have died with it.

    Args:
        runs: The runs that Dagster takes for alive.
        lease_held: Whether any process holds the drain's lease now.
        drain_seconds: How long a drain run lasts.
        now: The time.
        failures: When runs ended that failed, of the latest ones, up to the first that did not.

    Returns:
        The decision.
    """
    if any(run.started_at is None for run in runs):
        return Decision(False, "a drain run is about to start")
    started = [run.started_at for run in runs if run.started_at is not None]
    if not started and failures and now < max(failures) + pause_after(failures):
        return Decision(False, f"{len(failures)} drain runs failed one after another; waiting a while")
    if not started:
        return Decision(True, "no drain run is alive")
    age = now - max(started)
    if not lease_held:
        if age < WARM_UP:
            return Decision(False, "a drain run is warming up")
        return Decision(True, f"the drain run of {age.total_seconds():.0f} s ago holds no lease: it died or hangs")
    length = timedelta(seconds=drain_seconds)
    if age > length - min(HAND_OVER, length / 2):
        return Decision(True, "the drain run's time is nearly up: its successor warms up")
    return Decision(False, "a drain run is alive")
