"""A running system at work, and kill -9 of every kind of process under load.

Nothing is lost, and nobody gets two without an ambiguous attempt.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from notify_pipeline.commands.demo import traffic, truth
from notify_pipeline.commands.demo.reconcile import Sent, lost
from notify_pipeline.commands.demo.system import RunningSystem
from notify_pipeline.commands.demo.traffic import Api
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.partitions import partition
from notify_pipeline.core.receipt_log import receipt_line
from tests.e2e.load import Load
from tests.e2e.product_team import first_week
from tests.e2e.system import Process, processes
from tests.waiting import wait_for

DEVICES = traffic.devices(1_200)
# Small pieces and a slow provider, so that a kill finds every process in the middle of its work.
SETTINGS = {
    "NOTIFY_INLINE_LIMIT": "100",
    "NOTIFY_SHARD_MIN": "150",
    "NOTIFY_SHARD_MAX": "300",
    "NOTIFY_CHUNK_SIZE": "50",
    "NOTIFY_MAX_IN_FLIGHT": "16",
    "NOTIFY_CALLBACK_ALLOW_PRIVATE": "true",
}
FAULTS = {"fcm": {"latency_ms": 60, "latency_jitter_ms": 60}, "apns": {"latency_ms": 60, "latency_jitter_ms": 60}}
# So slow that a broadcast takes many times as long as figures may stand still.
SLOW = {"latency_ms": 1_000, "latency_jitter_ms": 0}
# A drain that is killed as soon as it is back leaves minutes of work for the one that lives.
CAUGHT_UP_S = 300.0


def _drain(process: Process) -> bool:
    return process.comm == "notify-drain"


def _lander(process: Process) -> bool:
    return "notify_pipeline.cli lander" in process.command


def _ingress_worker(process: Process) -> bool:
    return "granian" in process.parent and "resource_tracker" not in process.command


def _shard(process: Process) -> bool:
    return process.comm == "notify-shard"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    with RunningSystem(tmp_path_factory.mktemp("crashes") / "home", **SETTINGS) as running:
        running.wait_until_ready()
        Api(running.addresses["sandbox"]).expect(200, "PUT", "/faults", FAULTS)
        yield running


@pytest.fixture(scope="module")
def tenant(system: RunningSystem) -> Api:
    product = system.api(system.addresses["admin_key"]).expect(201, "POST", "/products", {"name": "Crashes"})
    api = system.api(product["secret_key"])
    traffic.register_all(api, DEVICES, lambda: None)
    return api


def _find(system: RunningSystem, kind: Callable[[Process], bool]) -> list[Process]:
    return [process for process in processes(system.pid) if kind(process)]


def _kill_one(system: RunningSystem, kind: Callable[[Process], bool]) -> None:
    """Kill one process of a kind at a random moment, and wait until a new one has taken its place."""
    before = wait_for(lambda: _find(system, kind), what=f"a process to kill ({kind.__name__})")
    time.sleep(random.uniform(0.0, 1.5))
    assert random.choice(before).kill()
    known = {process.pid for process in before}
    wait_for(lambda: [p for p in _find(system, kind) if p.pid not in known], what=f"a successor ({kind.__name__})")


def test_runs_begin_warm(system: RunningSystem) -> None:
    (drain, *_) = wait_for(lambda: _find(system, _drain), what="a drain run")
    assert drain.parent_comm == "notify-forks"


def test_a_product_team_s_first_week(system: RunningSystem) -> None:
    try:
        first_week(system)
    finally:
        Api(system.addresses["sandbox"]).expect(200, "PUT", "/faults", FAULTS)


def test_while_a_broadcast_is_sent_its_figures_move_and_a_log_file_is_reported(
    system: RunningSystem, tenant: Api
) -> None:
    sandbox = Api(system.addresses["sandbox"])
    request = tenant.expect(202, "POST", "/notifications", traffic.single_body("clicked-1", DEVICES[0].user_id))
    done = lambda: tenant.expect(200, "GET", request["status_url"])["state"] == "done"  # noqa: E731
    wait_for(done, what="a send to be done")
    (recipient, *_) = tenant.expect(200, "GET", f"/requests/{request['request_id']}/recipients")["items"]
    sandbox.expect(200, "PUT", "/faults", {"fcm": SLOW, "apns": SLOW})
    try:
        tenant.expect(202, "POST", "/notifications", traffic.broadcast_body("moving-1"))
        seen = _accepted_on_the_way(tenant, "moving-1", 3)
        assert seen == sorted(seen)
        now = datetime.now(UTC)
        query = f"notificationId=clicked-1&platform=android&provider=fcm&d={recipient['delivery_id']}"
        folder = system.home / "logs" / "fastly" / partition(now)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "late.log").write_bytes(receipt_line("/notification/clicked", query, now) + b"\n")
        clicked = lambda: tenant.expect(200, "GET", "/reports/clicked-1")["totals"]["clicked"] == 1  # noqa: E731
        wait_for(clicked, what="the log file in the report")
    finally:
        sandbox.expect(200, "PUT", "/faults", FAULTS)
    _check(system, tenant, [Sent("moving-1", Counter(device.platform for device in DEVICES))])


def _accepted_on_the_way(tenant: Api, notification_id: str, count: int) -> list[int]:
    """Wait for so many figures between none and all; each is the ledger's."""
    seen: list[int] = []

    def moved() -> bool:
        answer = tenant.call("GET", f"/reports/{notification_id}")
        report = answer.body if answer.status == 200 else None
        if report and 0 < report["totals"]["accepted"] < len(DEVICES) and report["totals"]["accepted"] not in seen:
            assert report["figures_from"] == "ledger"
            seen.append(report["totals"]["accepted"])
        return len(seen) >= count

    wait_for(moved, what="figures on the way")
    return seen


ROUNDS = pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=[pytest.mark.long, pytest.mark.timeout(3600)])])


@ROUNDS
@pytest.mark.parametrize("kind", [_ingress_worker, _lander, _drain], ids=lambda kind: kind.__name__.strip("_"))
def test_a_killed_process_loses_and_doubles_nothing(
    system: RunningSystem, tenant: Api, kind: Callable[[Process], bool], rounds: int
) -> None:
    prefix = f"{kind.__name__}-{rounds}"
    with Load(tenant, DEVICES, prefix) as load:
        for _ in range(rounds):
            _kill_one(system, kind)
        time.sleep(1.0)
    assert load.refused == []
    assert len(load.accepted) > rounds
    per_user = Counter((device.user_id, device.platform) for device in DEVICES)
    platforms = {platform for _, platform in per_user}
    sent = [Sent(n, {p: per_user[user, p] for p in platforms}) for n, user in load.accepted.items()]
    _check(system, tenant, sent)


@ROUNDS
def test_a_killed_broadcast_step_loses_and_doubles_nothing(system: RunningSystem, tenant: Api, rounds: int) -> None:
    audience = Counter(device.platform for device in DEVICES)
    sent = []
    for number in range(rounds):
        notification_id = f"broadcast-{rounds}-{number}"
        tenant.expect(202, "POST", "/notifications", traffic.broadcast_body(notification_id))
        sent.append(Sent(notification_id, audience))
        steps = wait_for(lambda: _find(system, _shard), what="a broadcast step")
        time.sleep(random.uniform(0.0, 1.5))
        random.choice(steps).kill()
    _check(system, tenant, sent)


def _check(system: RunningSystem, tenant: Api, sent: list[Sent]) -> None:
    for one in sent:
        path = f"/notifications/{one.notification_id}"
        wait_for(
            lambda path=path: tenant.expect(200, "GET", path)["state"] == "done", CAUGHT_UP_S, f"{path} to be done"
        )
    wanted = {one.notification_id for one in sent}
    lake = system.home / "lake"
    wait_for(lambda: wanted <= _landed(lake), what="the requests in the lake")
    rows = pl.scan_parquet(lake / "requests/**/*.parquet", hive_partitioning=True).select("notification_id").collect()
    assert rows.filter(pl.col("notification_id").is_in(wanted))["notification_id"].is_duplicated().sum() == 0
    wait_for(lambda: _undelivered(lake, sent) == 0, what="every outcome in the lake")
    seen = truth.provider_truth(Api(system.addresses["sandbox"]).lines("/log?since=0"))
    mine = {key: value for key, value in seen.items() if key[0] in wanted}
    assert lost(sent, mine) == 0
    assert truth.unexplained_duplicates(mine, truth.attempts(Lake(str(lake)))) == 0


def _landed(lake: Path) -> set[str]:
    return set(pl.scan_parquet(lake / "requests/**/*.parquet").select("notification_id").collect()["notification_id"])


def _undelivered(lake: Path, sent: list[Sent]) -> int:
    wanted = {one.notification_id: sum(one.audience.values()) for one in sent}
    accepted = truth.attempts(Lake(str(lake))).filter(pl.col("outcome") == "accepted").unique(["delivery_id"])
    counts = dict(accepted.group_by("notification_id").len().iter_rows())
    return sum(max(0, audience - counts.get(n, 0)) for n, audience in wanted.items())
