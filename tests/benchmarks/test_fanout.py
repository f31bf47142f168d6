"""The fan-out benchmark: every client has all its requests answered, and a ratio is one of rounds that both played."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import fanout
from benchmarks.fanout_clients.meter import Measurement
from benchmarks.fanout_clients.servers import Stage, sandbox
from benchmarks.fanout_clients.workload import APNS, FCM, Job


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    home: Path = tmp_path_factory.mktemp("sandbox")
    with sandbox(home, (0, 0), core=min(os.sched_getaffinity(0))) as found:
        yield found


@pytest.mark.parametrize(
    ("client", "shape"),
    [("ours", FCM), ("ours", APNS), ("pycurl", FCM), ("pycurl", APNS), ("firebase-admin", FCM), ("aioapns", APNS)],
)
def test_a_client_measures_what_was_answered(stage: Stage, client: str, shape: str) -> None:
    measurement = fanout.in_own_process(Job(client, shape, 60, 10, 16, stage.target))

    assert (measurement.requests, measurement.failed) == (60, 0)
    assert measurement.cpu_s > 0
    assert measurement.resident_bytes > 0


def test_refused_requests_are_counted_as_failed(stage: Stage) -> None:
    target = replace(stage.target, bearer="wrong")

    assert fanout.in_own_process(Job("ours", FCM, 60, 10, 16, target)).failed == 60


def _turn(cpu_us: float) -> Measurement:
    return Measurement(1_000_000, 0, 1.0, cpu_us, 0, 0)


def test_a_ratio_pairs_the_rounds_that_both_played() -> None:
    figures = {
        ("0ms", "ours", FCM): {0: _turn(4), 1: _turn(40), 2: _turn(6)},
        # Round 1 broke: had its neighbours moved up, the ratios would be others.
        ("0ms", "pycurl", FCM): {0: _turn(16), 2: _turn(12)},
    }

    ratios = fanout.ratios(figures)

    assert ratios["cpu_vs_pycurl_0ms"] == 0.375
    assert ratios["cpu_vs_pycurl_50ms"] is None
    assert ratios["cpu_vs_pycurl"] is None
    assert ratios["cpu_vs_aioapns_0ms"] is None


def test_a_ratio_is_that_of_the_worse_latency() -> None:
    figures = {
        (latency, name, FCM): {0: _turn(cpu_us)}
        for latency, ours, theirs in (("0ms", 4, 2), ("50ms", 9, 3))
        for name, cpu_us in (("ours", ours), ("h2load", theirs))
    }

    assert fanout.ratios(figures)["cpu_vs_h2load"] == 3
