"""What the tables beside the reports say: stages, hours, topics, usage."""

from datetime import date, timedelta
from pathlib import Path

import pytest

from notify_pipeline.core.lake import Lake
from tests.reports.desk import Desk, passed
from tests.reports.worlds import START, World, put, seconds


@pytest.fixture
def desk(folder_lake: Lake, tmp_path: Path) -> Desk:
    """An empty lake's reports."""
    return Desk(folder_lake, tmp_path / "reports")


def test_stages_follow_each_other_from_due_to_the_device(desk: Desk) -> None:
    world = World()
    world.request(send_at=seconds(100))
    world.audience(4)
    first = world.attempt("a", "transient", 101)
    world.attempt("a", "accepted", 103, 2)
    world.beacon(first, at=110)
    world.beacon(first, at=107)
    world.attempt("b", "accepted", 104)
    world.beacon(world.attempt("c", "ambiguous", 106), at=108)  # how long its provider took nobody knows
    world.attempt("d", "skipped", 100)
    world.put(desk.lake)
    assert passed(desk.update())
    rows = desk.query("SELECT stage, deliveries, p50_s, p90_s, p99_s, max_s FROM latencies ORDER BY min(max_s) OVER ()")
    assert {row[0]: row[1:] for row in rows} == {
        "queued": (3, 4.0, pytest.approx(5.6), pytest.approx(5.96), 6.0),
        "provider": (2, 1.25, pytest.approx(2.05), pytest.approx(2.23), 2.25),
        "device": (1, 3.75, 3.75, 3.75, 3.75),
        "total": (2, 7.5, pytest.approx(7.9), pytest.approx(7.99), 8.0),
    }


def test_clocks_that_disagree_take_no_time(desk: Desk) -> None:
    world = World()
    world.request(at=10)
    world.audience(1)
    delivery = world.attempt("a", "accepted", 9, answered_at=seconds(8))
    world.beacon(delivery, at=7)
    world.put(desk.lake)
    assert passed(desk.update())
    assert desk.query("SELECT stage, p50_s, p99_s, max_s FROM latencies ORDER BY ALL") == [
        (stage, 0, 0, 0) for stage in ("device", "provider", "queued", "total")
    ]


def test_the_share_within_120_s_is_of_those_that_can_report(desk: Desk) -> None:
    world = World()
    world.request()
    world.audience(2)
    world.beacon(world.attempt("a", "accepted"))
    world.attempt("b", "accepted")
    world.attempt("a@example.com", "accepted", platform="email")
    world.request("n2")
    world.attempt("b@example.com", "accepted", platform="email", notification="n2")
    world.put(desk.lake)
    assert passed(desk.update())
    assert desk.query("SELECT accepted, share_120s FROM notifications ORDER BY notification_id") == [
        (3, 0.5),
        (1, None),
    ]
    rows = desk.query("SELECT platform, share_120s FROM platform_reports ORDER BY ALL")
    assert rows == [("email", None), ("email", None), ("ios", 0.5)]


def test_a_channels_hours_add_up_over_notifications(desk: Desk) -> None:
    world = World()
    for name in ("n1", "n2"):
        world.request(name, at=3_000)
        world.audience(4, notification=name)
        world.attempt("a", "accepted", 3_500, notification=name, answered_at=seconds(3_500.008))
        world.attempt("b", "throttled", 3_599, notification=name, answered_at=seconds(3_599.1))
        world.attempt("b", "accepted", 3_601, 2, notification=name, answered_at=seconds(3_601.016))
        world.attempt("c", "ambiguous", 3_601, notification=name)
        world.attempt("d", "skipped", 3_601, 0, notification=name)
    world.put(desk.lake)
    world.put(desk.lake, "as a compaction leaves them")
    assert passed(desk.update())
    counts = "attempts, accepted, failed, throttled, invalid, ambiguous, answered"
    columns = f"channel, platform, provider, {counts}"
    assert desk.query(f"SELECT hour_at, {columns} FROM channel_hours ORDER BY ALL") == [
        (START, "apns", "ios", "apns", 4, 2, 2, 2, 0, 0, 4),
        (START + timedelta(hours=1), "apns", "ios", "apns", 4, 2, 0, 0, 0, 2, 2),
    ]
    early, late = desk.query("SELECT mean_s, p50_s, p90_s, p99_s, max_s FROM channel_hours ORDER BY hour_at")
    assert early == (pytest.approx(0.054), pytest.approx(0.008), 0.1, 0.1, 0.1)
    assert late == (pytest.approx(0.016), 0.016, 0.016, 0.016, 0.016)


def test_topics_and_tenants_add_up_by_the_day_of_acceptance(desk: Desk) -> None:
    world = World()
    world.request("n1", topics=["uk", "sport"])
    world.request("n2", at=17 * 3_600, topics=["uk"])
    world.request("n3", at=18 * 3_600, topics=["uk"])
    world.request("n4", dry_run=True)
    for name in ("n1", "n2", "n3"):
        world.audience(2, notification=name)
        delivery = world.attempt("a", "accepted", notification=name)
        world.beacon(delivery, notification=name)
        world.beacon(delivery, "opened", notification=name)
    world.attempt("a", "dry_run", notification="n4")
    world.put(desk.lake)
    assert passed(desk.update())
    first, second = date(2026, 11, 21), date(2026, 11, 22)
    assert desk.query("FROM topic_reach ORDER BY ALL") == [
        ("t1", first, "sport", 1, 2, 1, 1, 1, 0),
        ("t1", first, "uk", 2, 4, 2, 2, 2, 0),
        ("t1", second, "uk", 1, 2, 1, 1, 1, 0),
    ]
    columns = "day, channel, platform, notifications, audience, attempted, accepted, dry_run, received"
    assert desk.query(f"SELECT {columns} FROM tenant_usage ORDER BY ALL") == [
        (first, "apns", "ios", 3, 5, 2, 2, 1, 2),
        (second, "apns", "ios", 1, 2, 1, 1, 0, 1),
    ]


def test_tokens_come_change_go_and_come_back(desk: Desk) -> None:
    world = World()
    world.token("a", "upsert", "upsert", "drop", "upsert")
    world.token("b", "upsert", "delete")
    world.token("c", "upsert", platform="android", at=3 * 86_400)
    world.token("a", "upsert", tenant="t2")
    world.put(desk.lake)
    assert passed(desk.update())
    first, second, third, fourth = (START.date() + timedelta(days=number) for number in range(4))
    churn = "SELECT day, platform, registered, refreshed, unregistered, dropped, net, active FROM token_churn"
    expected = [
        (first, "ios", 2, 0, 0, 0, 2, 2),
        (second, "ios", 0, 1, 1, 0, -1, 1),
        (third, "ios", 0, 0, 0, 1, -1, 0),
        (fourth, "android", 1, 0, 0, 0, 1, 1),
        (fourth, "ios", 1, 0, 0, 0, 1, 1),
    ]
    assert desk.query(f"{churn} WHERE tenant = 't1' ORDER BY day, platform") == expected
    assert desk.query(f"{churn} WHERE tenant = 't2'") == [(first, "ios", 1, 0, 0, 0, 1, 1)]
    # A compaction leaves the same rows twice for a while.
    world.put(desk.lake, "compacted")
    assert passed(desk.update())
    assert desk.query(f"{churn} WHERE tenant = 't1' ORDER BY day, platform") == expected


def test_rows_from_before_they_said_what_was_before(desk: Desk) -> None:
    world = World()
    world.token("a", "upsert", "upsert", "delete")
    path = put(desk.lake, "registrations", world.rows["registrations"], "old")
    desk.lake.write(path, desk.lake.read(path).drop_columns(["previous"]))
    later = World()
    later.token("b", "upsert")
    later.put(desk.lake, "new")
    assert passed(desk.update())
    query = "SELECT registered, refreshed, unregistered, active FROM token_churn ORDER BY day"
    assert desk.query(query) == [(2, 0, 0, 2), (0, 1, 0, 2), (0, 0, 1, 1)]
