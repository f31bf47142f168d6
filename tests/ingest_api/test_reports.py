"""Reports over HTTP, from a version built from a lake."""

from datetime import timedelta

import pytest

from ingest_api.reports.models import ReportPage, ReportShown
from notify_pipeline.reports.build import build_candidate, publish
from tests.ingest_api.conftest import House
from tests.reports.worlds import World

HOUR = 3_600


@pytest.fixture
def published(house: House) -> House:
    """Six notifications of ours from 06:00 on, six hours apart, one a dry run, and one of another tenant."""
    world = World()
    for number in range(6):
        name, tenant, at = f"n-{number}", house.mine.tenant, number * 6 * HOUR
        kind = "news" if number % 2 else "sport"
        world.request(name, tenant, at, type=kind, dry_run=number == 5)
        for platform in ("android", "ios")[: 1 + number % 2]:
            world.audience(3, platform, name, tenant)
            for who in range(3):
                made = world.attempt(
                    f"{platform}-{who}", "accepted", at + 1, platform=platform, notification=name, tenant=tenant
                )
                if who < 2:
                    world.beacon(made, at=at + 1.5, notification=name)
    world.request("n-1", house.other.tenant, type="theirs")
    world.put(house.services.lake)
    settings = house.services.settings
    now = house.clock() + timedelta(days=3)
    candidate = build_candidate(house.services.lake, settings.reports, settings, now)
    publish(candidate, settings, now)
    return house


def ids(house: House, query: str) -> list[str]:
    return [item["notification_id"] for item in house.secret.ok("GET", f"/reports?{query}")["items"]]


def test_a_report_has_totals_and_platforms(published: House) -> None:
    report = published.secret.ok("GET", "/reports/n-3")
    ReportShown.model_validate(report)
    assert report["accepted_at"] == "2026-11-22T00:00:00Z"
    assert (report["totals"]["audience"], report["totals"]["accepted"], report["totals"]["received"]) == (6, 6, 4)
    assert report["totals"]["p50_s"] == 1.5
    assert [(p["platform"], p["provider"], p["accepted"], p["received"]) for p in report["platforms"]] == [
        ("android", "fcm", 3, 2),
        ("ios", "apns", 3, 2),
    ]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [4, 3, 2, 1, 0]),
        ("include_dry_run=true", [5, 4, 3, 2, 1, 0]),
        ("from=2026-11-22", [4, 3]),
        ("until=2026-11-22", [2, 1, 0]),
        ("from=2026-11-21&until=2026-11-21", []),
        ("from=2026-11-21T12:00:00Z&until=2026-11-22T01:00:00%2B01:00", [2, 1]),
        ("type=sport", [4, 2, 0]),
        ("platform=ios", [3, 1]),
        ("type=sport&platform=ios", []),
    ],
)
def test_lists_are_filtered(published: House, query: str, expected: list[int]) -> None:
    assert ids(published, query) == [f"n-{n}" for n in expected]


def test_a_platform_filter_shows_that_platform_only(published: House) -> None:
    page = published.secret.ok("GET", "/reports?platform=ios")
    assert {p["platform"] for item in page["items"] for p in item["platforms"]} == {"ios"}


def test_lists_are_paged(published: House) -> None:
    found: list[str] = []
    query = "limit=2"
    for _ in range(3):
        page = published.secret.ok("GET", f"/reports?{query}")
        ReportPage.model_validate(page)
        found += [item["notification_id"] for item in page["items"]]
        query = f"limit=2&cursor={page['next_cursor']}"
    assert page["next_cursor"] is None
    assert found == [f"n-{n}" for n in (4, 3, 2, 1, 0)]


def test_before_any_version_there_is_nothing(house: House) -> None:
    nothing = {"items": [], "totals": None, "next_cursor": None, "version": None, "published_at": None}
    assert house.secret.ok("GET", "/reports") == nothing
    assert house.secret.call("GET", "/reports/n-1").status_code == 404


def test_another_tenants_report_is_not_there(published: House) -> None:
    assert published.stranger.ok("GET", "/reports/n-1")["type"] == "theirs"
    assert published.stranger.call("GET", "/reports/n-2").status_code == 404
    assert [item["type"] for item in published.stranger.ok("GET", "/reports")["items"]] == ["theirs"]
