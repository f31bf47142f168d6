"""The delivery jobs on a real ledger and sandbox, and their sensors' transitions."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import orjson
import pytest
import requests as http
from dagster import DagsterRunStatus
from sqlalchemy import Connection, update

from notify_pipeline.core.ledger import broadcasts, devices, leases, shards, tenants
from notify_pipeline.core.ledger.engine import utc_now
from notify_pipeline.core.ledger.tables import SHARDS
from notify_pipeline.defs import lanes
from notify_pipeline.defs.delivery.drain_watch import LEASE
from notify_pipeline.defs.delivery.work import REQUEST_TAG
from tests.defs.conftest import TOPIC, World
from tests.waiting import PATIENCE_S

MakeWorld = Callable[..., World]


def pushes(url: str) -> list[dict[str, Any]]:
    lines = http.get(f"{url}/log?since=0", timeout=PATIENCE_S).content.splitlines()
    return [orjson.loads(line) for line in lines]


def pretend_run(world: World, job: str, status: DagsterRunStatus, **tags: str) -> dg.DagsterRun:
    run = world.instance.create_run_for_job(
        world.repository.get_job(job), tags=tags, status=DagsterRunStatus.NOT_STARTED
    )
    if status is not DagsterRunStatus.NOT_STARTED:
        event = {
            DagsterRunStatus.STARTED: dg.DagsterEventType.RUN_START,
            DagsterRunStatus.FAILURE: dg.DagsterEventType.RUN_FAILURE,
        }[status]
        world.instance.report_dagster_event(dg.DagsterEvent(event.value, job), run.run_id)
    return run


def metadata_of(result: dg.ExecuteInProcessResult, step: str) -> dict[str, Any]:
    (event,) = [e for e in result.events_for_node(step) if e.is_successful_output]
    return {name: value.value for name, value in event.step_output_data.metadata.items()}


def test_the_drain_sends_what_is_due_and_says_why_it_ended(make_world: MakeWorld, sandbox_url: str) -> None:
    world = make_world(sandbox_url=sandbox_url)
    world.register(2)
    request_id = world.send("one", users=["user-0", "user-1"])
    result = world.run("drain")
    assert result.success
    assert world.state(request_id) == "done"
    assert {push["channel"] for push in pushes(sandbox_url)} == {"fcm", "apns"}
    totals = metadata_of(result, "send_what_is_due")
    assert totals["stopped_reason"] == "idle"
    assert totals["outcomes"] == {"accepted": 2}
    assert leases.holder(world.ledger, LEASE, utc_now()) is None


def test_a_broadcast_sends_each_shard_once(make_world: MakeWorld, sandbox_url: str) -> None:
    world = make_world(sandbox_url=sandbox_url, inline_limit=4, shard_min=5)
    world.register(12)
    request_id = world.send("all", topics=[TOPIC])
    while world.state(request_id) == "accepted":  # a slow machine's drain may end before it has planned it
        assert world.run("drain").success
    (due,) = broadcasts.due(world.ledger, utc_now())
    assert due.request_id == request_id
    result = world.run("broadcast", tags={REQUEST_TAG: request_id})
    assert result.success
    assert world.state(request_id) == "done"
    recipients = [push["recipient"] for push in pushes(sandbox_url)]
    assert len(recipients) == len(set(recipients)) == 12
    assert len(shards.shards(world.ledger, request_id)) == 4  # two parts of both channels

    again = world.run("broadcast", tags={REQUEST_TAG: request_id})
    assert again.success, "a run too many changes nothing"
    assert len(pushes(sandbox_url)) == 12


def test_a_broadcast_run_that_names_no_request_or_an_unknown_one_fails_at_once(world: World) -> None:
    for tags in ({}, {REQUEST_TAG: "unknown"}):
        result = world.run("broadcast", tags=tags)
        assert not result.success
        assert not [event for event in result.all_events if event.is_step_up_for_retry]


def test_a_held_broadcast_is_waited_for(make_world: MakeWorld, sandbox_url: str) -> None:
    world = make_world(sandbox_url=sandbox_url, inline_limit=1, lease_seconds=1.0)
    world.register(4)
    request_id = world.send("all", topics=[TOPIC])
    while world.state(request_id) == "accepted":  # a slow machine's drain may lose its short lease before
        assert world.run("drain").success
    shards.hold_request(world.ledger, request_id, "somebody", utc_now(), 3.0)
    result = world.run("broadcast", tags={REQUEST_TAG: request_id})
    assert result.success
    assert [event for event in result.all_events if event.is_step_up_for_retry]
    assert len(pushes(sandbox_url)) == 4


def test_keeps_one_drain_alive(world: World) -> None:
    first = world.tick("keep_drain_alive")
    assert [request.run_key for request in first.run_requests] == ["drain:1"]
    assert first.cursor == "1"

    run = pretend_run(world, "drain", DagsterRunStatus.NOT_STARTED)
    assert world.tick("keep_drain_alive", first.cursor).run_requests == []

    world.instance.report_dagster_event(dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, "drain"), run.run_id)
    assert world.tick("keep_drain_alive", first.cursor).run_requests == []

    world.instance.report_run_failed(run)
    second = world.tick("keep_drain_alive", first.cursor)
    assert [request.run_key for request in second.run_requests] == ["drain:2"]


def test_a_drain_that_dagster_takes_for_alive_is_replaced_when_its_lease_is_gone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_run(world, "drain", DagsterRunStatus.STARTED)
    lease = leases.acquire(world.ledger, LEASE, "it", 300, utc_now())
    assert lease is not None
    monkeypatch.setattr("notify_pipeline.defs.delivery.drain_watch.WARM_UP", timedelta(0))
    assert world.tick("keep_drain_alive").run_requests == []
    leases.release(world.ledger, lease)
    assert len(world.tick("keep_drain_alive").run_requests) == 1


def test_tenants_take_turns_where_runs_are_few(make_world: MakeWorld, sandbox_url: str, tmp_path: Path) -> None:
    lane = {"key": lanes.TAG, "value": lanes.BROADCAST, "limit": 1}
    with dg.instance_for_test(
        overrides={"concurrency": {"runs": {"tag_concurrency_limits": [lane]}}}, temp_dir=str(tmp_path)
    ) as instance:
        one = replace(make_world(sandbox_url=sandbox_url, inline_limit=1), instance=instance)
        two = replace(one, tenant=tenants.create_product(one.ledger, "Two", (), utc_now()).tenant)
        sends = []
        for world, name in ((one, "first"), (one, "second"), (two, "third")):
            world.register(4)
            sends.append(world.send(name, topics=[TOPIC], priority="low"))
        assert one.run("drain").success

        launched = []
        for _ in sends:
            (request,) = one.tick("launch_broadcasts").run_requests
            launched.append(request.tags[REQUEST_TAG])
            run = pretend_run(one, "broadcast", DagsterRunStatus.STARTED, **request.tags)
            assert one.tick("launch_broadcasts").run_requests == [], "one at a time"
            shards.hold_request(one.ledger, request.tags[REQUEST_TAG], "somebody", utc_now(), 3600.0)
            instance.report_run_failed(run)
        assert launched == [sends[0], sends[2], sends[1]]


def test_launches_broadcasts_and_their_successors(make_world: MakeWorld, sandbox_url: str) -> None:
    world = make_world(sandbox_url=sandbox_url, inline_limit=1)
    assert world.tick("launch_broadcasts").run_requests == []
    world.register(4)
    low = world.send("low", topics=[TOPIC], priority="low")
    high = world.send("high", topics=[TOPIC], priority="high")
    assert world.run("drain").success

    first = world.tick("launch_broadcasts").run_requests
    assert [(r.run_key, r.tags[REQUEST_TAG], r.tags["dagster/priority"]) for r in first] == [
        (f"{high}:1", high, "10"),
        (f"{low}:1", low, "-10"),
    ]
    assert [r.tags[lanes.TAG] for r in first] == [lanes.BROADCAST_HIGH, lanes.BROADCAST]
    alive = pretend_run(world, "broadcast", DagsterRunStatus.STARTED, **first[0].tags)
    assert [r.run_key for r in world.tick("launch_broadcasts").run_requests] == [f"{low}:1"]

    world.instance.report_run_failed(alive)
    assert {r.run_key for r in world.tick("launch_broadcasts").run_requests} == {f"{high}:2", f"{low}:1"}

    shards.hold_request(world.ledger, high, "somebody", utc_now(), 3600.0)
    assert {r.run_key for r in world.tick("launch_broadcasts").run_requests} == {f"{low}:1"}


def test_a_broadcast_in_waves_is_run_again_for_each_and_ends_with_the_last(
    make_world: MakeWorld, sandbox_url: str
) -> None:
    world = make_world(sandbox_url=sandbox_url, inline_limit=1)
    world.register(4)
    request_id = world.send("waves", topics=[TOPIC], send_at_local=_wall(0))
    assert world.run("drain").success
    # Two devices' nine o'clock has come, the others' comes tomorrow.
    for number, zone in ((0, "UTC"), (1, "UTC"), (2, "Etc/GMT+2"), (3, "Etc/GMT+2")):
        device = devices.find_by_users(world.ledger, world.tenant, [f"user-{number}"])[0]
        registration = devices.Registration(device.token, device.platform, device.user_id, device.topics, timezone=zone)
        devices.register(world.ledger, world.tenant, registration, utc_now())
    world.land()
    (first,) = world.tick("launch_broadcasts").run_requests
    assert world.run("broadcast", tags=dict(first.tags)).success
    assert (world.state(request_id), len(pushes(sandbox_url))) == ("sending", 2)
    assert world.tick("launch_broadcasts").run_requests == []
    world.ledger.write(_move_waves, request_id)
    (second,) = world.tick("launch_broadcasts").run_requests
    assert second.run_key == f"{request_id}:2"
    assert world.run("broadcast", tags=dict(second.tags)).success
    assert (world.state(request_id), len(pushes(sandbox_url))) == ("done", 4)
    assert world.tick("launch_broadcasts").run_requests == []


def _wall(hours: float) -> str:
    return (utc_now() + timedelta(hours=hours)).replace(tzinfo=None, microsecond=0).isoformat()


def _move_waves(conn: Connection, request_ids: list[str]) -> list[None]:
    """Let time pass: what was due later is due now."""
    for request_id in request_ids:
        later = (SHARDS.c.request_id == request_id, SHARDS.c.due_at.isnot(None))
        conn.execute(update(SHARDS).where(*later).values(due_at=0))
    return [None] * len(request_ids)
