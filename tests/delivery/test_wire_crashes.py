"""kill -9 of a process that sends through the real transport to real HTTP/2 servers; then three records must agree.

What the ledger says of chunks, what the attempts in the lake say of recipients, and what the servers wrote down.
"""

import random
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests as http

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import chunks, requests, shards
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.settings import Settings
from notify_pipeline.delivery import attempts
from notify_pipeline.delivery.shard_file import open_shard
from tests.delivery.fakes import TENANT, context, rows_of
from tests.delivery.lakes import Landing, row
from tests.delivery.test_broadcast import routed
from tests.delivery.worker import WIRE
from tests.sandboxes import running_sandbox
from tests.waiting import PATIENCE_S

ROUNDS = [pytest.param(2, id="short"), pytest.param(20, id="long", marks=[pytest.mark.long, pytest.mark.timeout(900)])]
PER_ROUND = 600
# A tenth of all requests goes wrong in every way that a server has; throttling would only slow the test down.
FAULTS = {"unavailable": 0.04, "reset": 0.03, "reset_after_processing": 0.02, "internal": 0.01, "latency_ms": 20}


@dataclass(frozen=True)
class Truth:
    """What the providers' stand-ins saw of each recipient: requests in all, and those that they processed."""

    url: str

    def lines(self) -> list[dict[str, Any]]:
        return [
            orjson.loads(line) for line in http.get(f"{self.url}/log?since=0", timeout=PATIENCE_S).content.splitlines()
        ]

    def requests(self) -> int:
        stats: int = http.get(f"{self.url}/log?since=0", timeout=PATIENCE_S).content.count(b"\n")
        return stats

    def processed(self) -> Counter[str]:
        return Counter(line["recipient"] for line in self.lines() if line["processed"])


@pytest.fixture
def truth(tmp_path: Path) -> Iterator[Truth]:
    with running_sandbox(Settings(home=tmp_path / "sandbox")) as url:
        answer = http.put(f"{url}/faults", json={"seed": 7, "fcm": FAULTS, "apns": FAULTS}, timeout=PATIENCE_S)
        assert answer.status_code == 200, answer.text
        yield Truth(url)


def kill_while_sending(command: list[str], truth: Truth) -> bool:
    """Start a worker, and kill it at some moment after it has begun to send; False when it ended before."""
    before = truth.requests()
    with subprocess.Popen(command) as worker:
        give_up = time.monotonic() + PATIENCE_S
        while truth.requests() == before and worker.poll() is None:
            assert time.monotonic() < give_up, "the worker sends nothing"
            time.sleep(0.02)
        time.sleep(random.uniform(0, 0.3))
        alive = worker.poll() is None
        worker.kill()
    return alive


def abandoned_chunks(ledger: Ledger, lake: Lake, request_id: str) -> tuple[set[tuple[str, int]], int]:
    """Return (recipient, attempt) of all chunks that the ledger calls ambiguous, and how many such chunks there are."""
    found: set[tuple[str, int]] = set()
    number = 0
    for shard in shards.shards(ledger, request_id):
        with open_shard(lake, shard.path) as file:
            for chunk in chunks.newest_first(ledger, request_id, shard.shard):
                assert chunk.state in ("recorded", "ambiguous")
                if chunk.state == "ambiguous":
                    number += 1
                    recipients = file.take(chunk.ordinals)["recipient"].to_pylist()
                    found.update(zip(recipients, chunk.attempts, strict=True))
    return found, number


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_broadcast_over_the_wire_killed_at_random_moments(
    sqlite_ledger: Ledger, sqlite_url: str, tmp_path: Path, truth: Truth, rounds: int
) -> None:
    lake = Lake(str(tmp_path / "lake"))
    platforms = {f"{n:064x}": ("ios", "android")[n % 2] for n in range(PER_ROUND * rounds)}
    Landing(lake, sqlite_ledger).land(*(row(token, 1, ["t"], platform=name) for token, name in platforms.items()))
    request_id = routed(context(sqlite_ledger, lake), topics=["t"])
    command = [sys.executable, "-m", "tests.delivery.worker", "wire", str(tmp_path), sqlite_url, request_id, truth.url]
    kills = sum(kill_while_sending(command, truth) for _ in range(rounds))
    subprocess.run(command, check=True, timeout=300)

    assert kills >= rounds / 2
    found = requests.get(sqlite_ledger, TENANT, request_id)
    assert found is not None and found.state == "done"
    by_recipient: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for attempt in rows_of(lake, "attempts"):
        by_recipient[attempt["recipient"]].append(attempt)
    assert set(by_recipient) == set(platforms), "lost, or invented"
    finals = Counter(check(mine) for mine in by_recipient.values())
    counted: Counter[str] = Counter()
    for counts in found.counts.values():
        counted.update({name: number for name, number in counts.items() if name not in ("audience", "pending")})
    assert counted == finals and sum(finals.values()) == len(platforms)

    expected, number = abandoned_chunks(sqlite_ledger, lake, request_id)
    unknown = [a for mine in by_recipient.values() for a in mine if a["provider_code"] == attempts.ABANDONED]
    assert sorted((a["recipient"], a["attempt_no"]) for a in unknown) == sorted(expected)
    assert number <= kills * int(WIRE["chunks_in_flight"]) * 2  # of each channel

    processed = truth.processed()
    for recipient, mine in by_recipient.items():
        accepted = sum(a["outcome"] == "accepted" for a in mine)
        ambiguous = sum(a["outcome"] == "ambiguous" for a in mine)
        assert accepted <= processed[recipient] <= accepted + ambiguous


def check(mine: list[dict[str, Any]]) -> str:
    """Check that one recipient's attempts follow one another; return the final outcome."""
    mine.sort(key=lambda each: each["attempt_no"])
    assert [each["attempt_no"] for each in mine] == list(range(1, len(mine) + 1))
    assert len({each["delivery_id"] for each in mine}) == 1
    assert all(each["outcome"] in ("transient", "ambiguous") for each in mine[:-1])
    return str(mine[-1]["outcome"])
