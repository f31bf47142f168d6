"""What the figures mean, case by case."""

from pathlib import Path

import pytest

from notify_pipeline.core.lake import Lake
from notify_pipeline.reports import reading_lists
from notify_pipeline.reports.reading_filters import ListFilter
from tests.reports.desk import Desk, passed
from tests.reports.worlds import World, seconds


@pytest.fixture
def desk(folder_lake: Lake, tmp_path: Path) -> Desk:
    """An empty lake's reports."""
    return Desk(folder_lake, tmp_path / "reports")


def test_nothing_is_a_version_too(desk: Desk) -> None:
    assert passed(desk.update())
    assert reading_lists.page(desk.reader, ListFilter(("t1",)), 10).rows == []
    assert not desk.knows("n1")


def test_a_plain_send(desk: Desk) -> None:
    world = World()
    world.request()
    world.audience(3)
    world.audience(2, "android")
    for who in ("a", "b", "c"):
        world.beacon(world.attempt(who, "accepted"), at={"a": 3, "b": 121, "c": 50}[who])
    world.attempt("d", "accepted", platform="android")
    world.attempt("e", "invalid_recipient", platform="android", code="UNREGISTERED")
    world.state("n1", "t1", "done", 2)
    world.put(desk.lake)
    assert passed(desk.update())
    report = desk.report()
    assert report["state"] == "done"
    assert report["finished_at"] == seconds(2)
    assert report["received_through"] == seconds(121)
    assert not report["settled"]
    assert (report["totals"]["audience"], report["totals"]["attempted"], report["totals"]["accepted"]) == (5, 5, 4)
    android, ios = report["platforms"]
    assert (ios["platform"], ios["provider"], ios["audience"], ios["accepted"], ios["received"]) == (
        "ios",
        "apns",
        3,
        3,
        3,
    )
    assert (ios["p50_s"], ios["p90_s"], ios["share_120s"]) == (50, pytest.approx(106.8), pytest.approx(2 / 3))
    assert (ios["first_accepted_at"], ios["last_accepted_at"]) == (seconds(1.25), seconds(1.25))
    assert (android["accepted"], android["invalid"], android["received"], android["p50_s"]) == (1, 1, 0, None)
    assert desk.query("SELECT platform, bucket_s, accepted, received FROM timeline ORDER BY ALL") == [
        ("android", 0, 1, 0),
        ("ios", 0, 3, 1),
        ("ios", 50, 0, 1),
        ("ios", 120, 0, 1),
    ]
    failures = desk.query("SELECT platform, outcome, provider_code, attempts, deliveries FROM failures")
    assert failures == [("android", "invalid_recipient", "UNREGISTERED", 1, 1)]


_FINAL = (
    (["transient", "accepted"], "accepted"),
    (["ambiguous", "accepted"], "accepted"),
    (["accepted", "transient"], "accepted"),
    (["ambiguous", "invalid_recipient"], "invalid"),
    (["ambiguous", "permanent"], "failed"),
    (["ambiguous", "transient"], "ambiguous"),
    (["ambiguous", "expired"], "ambiguous"),
    (["throttled", "transient"], "failed"),
    (["transient", "throttled"], "failed"),
    (["transient", "expired"], "failed"),
    (["expired"], "expired"),
    (["skipped"], "skipped"),
    (["dry_run"], "dry_run"),
)


def test_a_deliverys_final_outcome_decides(desk: Desk) -> None:
    world = World()
    for name, (outcomes, _) in enumerate(_FINAL):
        world.request(f"n{name}")
        world.audience(1, notification=f"n{name}")
        for number, outcome in enumerate(outcomes, 1):
            world.attempt("a", outcome, at=number, number=number, notification=f"n{name}")
    world.put(desk.lake)
    assert passed(desk.update())
    classes = ("accepted", "invalid", "failed", "ambiguous", "expired", "skipped", "dry_run")
    throttled = dict(desk.query("SELECT notification_id, throttled FROM notifications"))
    for name, (outcomes, expected) in enumerate(_FINAL):
        totals = desk.report(f"n{name}")["totals"]
        assert {each: totals[each] for each in classes if totals[each]} == {expected: 1}, outcomes
        assert totals["attempted"] == (expected in ("accepted", "invalid", "failed", "ambiguous")), outcomes
        assert throttled[f"n{name}"] == int(outcomes[-1] == "throttled"), outcomes


@pytest.mark.parametrize("outcome", ["ambiguous", "transient", "invalid_recipient"])
def test_a_beacon_proves_a_delivery(desk: Desk, outcome: str) -> None:
    world = World()
    world.request()
    world.audience(1)
    world.beacon(world.attempt("a", outcome))
    world.put(desk.lake)
    assert passed(desk.update())
    totals = desk.report()["totals"]
    assert (totals["attempted"], totals["accepted"], totals["received"]) == (1, 1, 1)
    assert totals["first_accepted_at"] == seconds(5)
    assert desk.query("SELECT accepted_by_beacon FROM notifications") == [(1,)]


def test_repeated_beacons_are_hits_and_foreign_ones_are_apart(desk: Desk) -> None:
    world = World()
    world.request()
    world.request("n2")
    world.audience(2)
    known = world.attempt("a", "accepted")
    skipped = world.attempt("b", "skipped", code="opted_out")
    for at in (9, 7, 8):
        world.beacon(known, at=at)
    world.beacon(known, "opened", 20)
    world.beacon(known, "opened", 30)
    world.beacon("0" * 40)
    world.beacon(skipped)
    world.beacon(known, notification="n2")
    world.beacon(known, notification="nobody's")
    world.put(desk.lake)
    assert passed(desk.update())
    totals = desk.report()["totals"]
    assert (totals["received"], totals["hits"], totals["opened"], totals["clicked"]) == (1, 3, 1, 0)
    assert totals["p50_s"] == 7
    assert desk.report("n2")["totals"]["received"] == 0
    assert desk.query("SELECT foreign_deliveries, foreign_hits FROM build") == [(4, 4)]


def test_recipients_nobody_knows_and_channels_nobody_configured(desk: Desk) -> None:
    world = World()
    world.request()
    world.audience(2, None)
    world.audience(1, "android")
    world.attempt("x", "skipped", platform=None, code="unregistered", number=0)
    world.attempt("y", "skipped", platform=None, code="unregistered", number=0)
    world.attempt("z", "skipped", platform="android", code="channel_not_configured", number=0)
    world.put(desk.lake)
    assert passed(desk.update())
    rows = [(p["platform"], p["provider"], p["audience"], p["skipped"]) for p in desk.report()["platforms"]]
    assert rows == [("android", "fcm", 1, 1), ("unknown", "none", 2, 2)]


def test_an_audience_that_has_not_landed_is_what_is_known(desk: Desk) -> None:
    world = World()
    world.request()
    world.attempt("a", "accepted")
    world.put(desk.lake)
    assert passed(desk.update())
    assert desk.report()["totals"]["audience"] == 1
    later = World()
    later.audience(5)
    later.put(desk.lake, "later")
    assert passed(desk.update())
    assert desk.report()["totals"]["audience"] == 5


def test_two_providers_of_a_platform_share_its_audience(desk: Desk) -> None:
    world = World()
    world.request()
    world.audience(5)
    world.attempt("a", "accepted")
    world.attempt("b", "accepted", provider="apns2")
    world.put(desk.lake)
    assert passed(desk.update())
    rows = [(p["provider"], p["audience"], p["accepted"]) for p in desk.report()["platforms"]]
    assert rows == [("apns", 4, 1), ("apns2", 1, 1)]


def test_tenants_with_the_same_notification_id_stay_apart(desk: Desk) -> None:
    world = World()
    for tenant in ("t1", "t2"):
        world.request(tenant=tenant)
        world.audience(1, tenant=tenant)
        delivery = world.attempt("same device", "accepted", tenant=tenant)
    world.beacon(delivery)
    world.put(desk.lake)
    assert passed(desk.update())
    assert [desk.report(tenant=tenant)["totals"]["received"] for tenant in ("t1", "t2")] == [0, 1]


def test_a_scheduled_send_is_measured_from_its_time(desk: Desk) -> None:
    world = World()
    world.request(send_at=seconds(100))
    world.audience(1)
    world.beacon(world.attempt("a", "accepted", at=101), at=104)
    world.put(desk.lake)
    assert passed(desk.update())
    assert desk.report()["totals"]["p50_s"] == 4


def test_clocks_that_disagree_give_no_negative_times(desk: Desk) -> None:
    world = World()
    world.request()
    world.audience(1)
    world.beacon(world.attempt("a", "accepted"), at=-0.4)
    world.put(desk.lake)
    assert passed(desk.update())
    assert desk.report()["totals"]["p50_s"] == 0


def test_a_report_settles_when_logs_are_read_far_enough(desk: Desk) -> None:
    world = World()
    for name in ("n1", "n2"):
        world.request(name)
        world.audience(1, notification=name)
        world.attempt("a", "accepted", notification=name)
    world.state("n1", "t1", "done", 3)
    world.beacon("f" * 40, at=3_602, notification="somebody's")
    world.put(desk.lake)
    desk.publish()
    assert (desk.report("n1")["settled"], desk.report("n2")["settled"]) == (False, False)
    later = World()
    later.beacon("e" * 40, at=3_603, notification="somebody's")
    later.put(desk.lake, "later")
    desk.publish()
    assert (desk.report("n1")["settled"], desk.report("n2")["settled"]) == (True, False)
    assert desk.query("SELECT recomputed FROM build") == [(1,)]


def test_final_states_win_over_clocks(desk: Desk) -> None:
    world = World()
    world.request()
    world.state("n1", "t1", "done", 1)
    world.state("n1", "t1", "sending", 2)
    world.put(desk.lake)
    desk.publish()
    assert desk.report()["state"] == "done"
