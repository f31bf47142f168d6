"""One bucket for several processes, on both stores."""

import subprocess
import sys
import time

import pytest

from notify_pipeline.core.ledger import rates
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.rates import BURST_S, Limits
from tests.waiting import PATIENCE_S

NAME = "fcm:project"
SECOND = 1_000_000
NOW = 1_790_000_000 * SECOND


def test_a_bucket_is_kept(ledger: Ledger) -> None:
    limits = Limits(60_000.0)
    assert rates.read(ledger, NAME) is None
    assert rates.take(ledger, NAME, limits, NOW, 10).granted == 0, "it begins empty"
    later = rates.take(ledger, NAME, limits, NOW + SECOND // 2, 10)
    assert later.granted == 10
    assert rates.read(ledger, NAME) == later.state
    assert rates.take(ledger, "fcm:other", limits, NOW, 10).granted == 0, "a credential has its own"


def test_a_pause_is_seen_by_whoever_takes_next(ledger: Ledger, ledger_url: str) -> None:
    limits = Limits(60_000.0)
    rates.take(ledger, NAME, limits, NOW, 10)
    with Ledger.open(ledger_url) as other:
        held = rates.hold(other, NAME, NOW, NOW + 30 * SECOND, pace=50.0)
    assert held.held_until == NOW + 30 * SECOND
    taken = rates.take(ledger, NAME, limits, NOW + 10 * SECOND, 10)
    assert (taken.granted, taken.wait_s) == (0, 20.0)


def test_what_makes_no_sense_fails_alone(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="at least one"):
        rates.take(ledger, NAME, Limits(1.0), NOW, 0)
    assert rates.take(ledger, NAME, Limits(None), NOW, 7).granted == 7


_TAKER = """
import sys, time
from notify_pipeline.core.ledger import rates
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.rates import Limits

url = sys.argv[1]
limits, first, last, total = Limits(600_000.0), 0, 0, 0
with Ledger.open(url) as ledger:
    until = time.time() + 0.8
    while time.time() < until:
        now = time.time_ns() // 1000
        taken = rates.take(ledger, "fcm:project", limits, now, 200)
        if taken.granted:
            first, last = first or now, now
            total += taken.granted
        time.sleep(0.02)
print(first, last, total)
"""


def test_processes_together_keep_to_one_limit(ledger: Ledger, ledger_url: str) -> None:
    """Two real processes take all they get; the clock is the machine's, so what they got is held to what it showed."""
    # Past the ramp, as after a minute of work.
    now = time.time_ns() // 1000
    rates.hold(ledger, NAME, now - 200 * SECOND, now - 100 * SECOND, pace=0.0)
    rates.take(ledger, NAME, Limits(600_000.0), now - 41 * SECOND, 1)
    command = [sys.executable, "-c", _TAKER, ledger_url]
    takers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    parts = [[int(part) for part in taker.communicate(timeout=PATIENCE_S)[0].split()] for taker in takers]
    assert [taker.returncode for taker in takers] == [0, 0]
    assert all(total > 0 for _, _, total in parts), "neither starves"
    lasted_s = (max(last for _, last, _ in parts) - min(first for first, _, _ in parts)) / SECOND
    assert sum(total for _, _, total in parts) <= 10_000 * (lasted_s + BURST_S)
