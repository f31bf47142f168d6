"""kill -9 at random moments, again and again; then everybody has an end, and nobody was called twice unknowingly."""

import random
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import devices, letters, requests, routing
from notify_pipeline.core.ledger.devices import Registration
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.letters import Filter, Letter
from notify_pipeline.core.vocabulary import Channel, Platform
from notify_pipeline.delivery import notifications, planning
from tests.delivery.fakes import ATTEMPTS, TENANT, accept, context, land, rows_of
from tests.delivery.lakes import Landing, row
from tests.waiting import PATIENCE_S

ROUNDS = [pytest.param(3, id="short"), pytest.param(20, id="long", marks=[pytest.mark.long, pytest.mark.timeout(900)])]


class Crasher:
    """Starts the worker, kills it while it calls, and at the end lets it finish."""

    def __init__(self, folder: Path, url: str, *arguments: str) -> None:
        self.log = folder / "calls.log"
        self._command = [sys.executable, "-m", "tests.delivery.worker", arguments[0], str(folder), url, *arguments[1:]]
        self.killed = 0

    def calls(self) -> list[str]:
        # A line that a kill cut off was still a call.
        return self.log.read_text().splitlines() if self.log.exists() else []

    def kill_while_calling(self, over: Callable[[], bool]) -> None:
        before = len(self.calls())
        with subprocess.Popen(self._command) as worker:
            give_up = time.monotonic() + PATIENCE_S
            while len(self.calls()) == before and worker.poll() is None and not over():
                assert time.monotonic() < give_up, "the worker calls nobody"
                time.sleep(0.01)
            time.sleep(random.uniform(0, 0.25))
            self.killed += worker.poll() is None
            worker.kill()

    def finish(self) -> None:
        subprocess.run(self._command, check=True, timeout=PATIENCE_S)


def check(lake: Lake, calls: list[str], expected: set[str], dead: list[Letter]) -> int:
    """Compare the calls and the dead letters with the attempts; return how many attempts were ambiguous."""
    by_recipient: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for attempt in rows_of(lake, "attempts"):
        by_recipient[attempt["recipient"]].append(attempt)
    called = Counter(calls)
    assert set(called) <= expected
    assert set(by_recipient) == expected, "lost"
    for recipient, attempts in by_recipient.items():
        attempts.sort(key=lambda each: each["attempt_no"])
        assert [each["attempt_no"] for each in attempts] == list(range(1, len(attempts) + 1))
        assert len({each["delivery_id"] for each in attempts}) == 1
        # Twenty kills can use up the attempts of one that was claimed each time.
        exhausted = len(attempts) == ATTEMPTS
        assert attempts[-1]["outcome"] in ("accepted", "permanent", "transient", *(["ambiguous"] if exhausted else []))
        assert all(each["outcome"] in ("transient", "ambiguous") for each in attempts[:-1])
        # Each call is an attempt, and an attempt without a call is one that nobody knew the end of.
        unknown = sum(each["outcome"] == "ambiguous" for each in attempts)
        assert len(attempts) - unknown <= called[recipient] <= len(attempts)
    # One dead letter for each that ended otherwise than accepted, and none for anybody else.
    died = {each.address: (each.delivery_id, each.outcome, each.attempts) for each in dead}
    assert len(died) == len(dead)
    ends = {recipient: attempts[-1] for recipient, attempts in by_recipient.items()}
    assert died == {
        recipient: (end["delivery_id"], end["outcome"], end["attempt_no"])
        for recipient, end in ends.items()
        if end["outcome"] != "accepted"
    }
    return sum(each["outcome"] == "ambiguous" for attempts in by_recipient.values() for each in attempts)


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_drain_killed_at_random_moments_under_load(
    ledger: Ledger, ledger_url: str, tmp_path: Path, rounds: int
) -> None:
    lake = Lake(str(tmp_path / "lake"))
    recipients = {f"d{number}" for number in range(40 * rounds)}
    for token in sorted(recipients):
        platform = random.choice([Platform.ANDROID, Platform.IOS])
        devices.register(ledger, TENANT, Registration(token, platform, user_id=token), datetime.now(UTC))
    waiting = sorted(recipients)
    accepted: list[str] = []
    stop = threading.Event()

    def send() -> None:
        while waiting and not stop.is_set():
            users = [waiting.pop() for _ in range(min(len(waiting), random.randint(1, 4)))]
            accepted.append(accept(ledger, users=users))
            time.sleep(0.05)

    def over() -> bool:
        rows = [requests.get(ledger, TENANT, each) for each in accepted[-5:]]
        return not waiting and all(each is not None and each.state.is_final for each in rows)

    crasher = Crasher(tmp_path, ledger_url, "drain")
    load = threading.Thread(target=send)
    load.start()
    for _ in range(rounds):
        crasher.kill_while_calling(over)
    stop.set()
    load.join()
    accepted += [accept(ledger, users=[user]) for user in waiting]
    crasher.finish()
    assert crasher.killed >= rounds / 2
    assert all(
        found is not None and found.state.is_final for found in (requests.get(ledger, TENANT, i) for i in accepted)
    )
    land(ledger, lake)
    check(lake, crasher.calls(), recipients, letters.page(ledger, [TENANT], Filter(), 10_000).rows)


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_broadcast_killed_at_random_moments(ledger: Ledger, ledger_url: str, tmp_path: Path, rounds: int) -> None:
    lake = Lake(str(tmp_path / "lake"))
    recipients = {f"d{number:05d}" for number in range(400 * rounds)}
    Landing(lake, ledger).land(*(row(token, 1, ["t"]) for token in sorted(recipients)))
    request_id = accept(ledger, topics=["t"])
    ctx = context(ledger, lake)
    (claimed,) = routing.claim(ledger, "planner", datetime.now(UTC), 5, 1)
    rules = planning.Rules(frozenset(Channel), 0, ctx.delivery_secret, "plan")
    plan = planning.broadcast(notifications.parse(claimed), (), rules, datetime.now(UTC))
    assert routing.store(ledger, "planner", [plan], datetime.now(UTC)) == [True]

    def over() -> bool:
        found = requests.get(ledger, TENANT, request_id)
        return found is not None and found.state.is_final

    crasher = Crasher(tmp_path, ledger_url, "broadcast", request_id)
    for _ in range(rounds):
        crasher.kill_while_calling(over)
    crasher.finish()
    assert crasher.killed >= rounds / 2
    found = requests.get(ledger, TENANT, request_id)
    assert found is not None and found.state == "done"
    counts = found.counts["fcm"]
    assert counts["audience"] == len(recipients) and counts["pending"] == 0
    assert sum(number for name, number in counts.items() if name not in ("audience", "pending")) == len(recipients)
    assert check(lake, crasher.calls(), recipients, letters.page(ledger, [TENANT], Filter(), 10_000).rows) > 0
