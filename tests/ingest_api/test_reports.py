"""Reports over HTTP, from a published version."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

import notify_pipeline.reports.reading as reading
from ingest_api.reports.models import ReportPage, ReportShown
from notify_pipeline.core.sql import sql_text
from notify_pipeline.reports.reading import MEASURES
from notify_pipeline.reports.versions import publish
from tests.ingest_api.conftest import House

START = datetime(2026, 11, 20, 22, 0, tzinfo=UTC)


def _measures(accepted: int) -> dict[str, Any]:
    return {
        **dict.fromkeys(MEASURES, 0),
        "audience": accepted + 1,
        "attempted": accepted,
        "accepted": accepted,
        "first_accepted_at": START,
        "last_accepted_at": None,
        "p50_s": 0.5,
        "p90_s": 1.25,
        "p99_s": None,
        "share_120s": 1.0,
    }


def _notification(tenant: str, number: int, **changes: Any) -> dict[str, Any]:
    return {
        "tenant": tenant,
        "notification_id": f"n-{number}",
        "request_id": f"{number:032x}",
        "type": "news" if number % 2 else "sport",
        "category": None,
        "priority": "high",
        "title": "T",
        "topics": ["breaking/uk"],
        "is_dry_run": False,
        "state": "done",
        "accepted_at": START + timedelta(hours=number),
        "finished_at": None,
        "received_through": None,
        "settled": False,
        **_measures(number),
        **changes,
    }


def _insert(db: duckdb.DuckDBPyConnection, table: str, row: dict[str, Any]) -> None:
    marks = ", ".join("?" for _ in row)
    db.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", list(row.values()))


@pytest.fixture
def published(house: House, tmp_path: Path) -> House:
    """Six notifications of ours, one a dry run, and one of another tenant with the same id."""
    candidate = tmp_path / "candidate.duckdb"
    with duckdb.connect(str(candidate)) as db:
        db.execute(sql_text(reading.__file__, "tables.sql"))
        for number in range(6):
            row = _notification(house.mine.tenant, number, is_dry_run=number == 5)
            _insert(db, "notifications", row)
            for platform, provider in (("android", "fcm"), ("ios", "apns"))[: 1 + number % 2]:
                names = ("tenant", "notification_id", "accepted_at")
                shared = {name: row[name] for name in names}
                _insert(
                    db, "platform_reports", {**shared, "platform": platform, "provider": provider, **_measures(number)}
                )
        _insert(db, "notifications", _notification(house.other.tenant, 1, type="theirs"))
    publish(house.services.settings.reports, candidate, house.clock(), keep=2)
    return house


def ids(house: House, query: str) -> list[str]:
    return [item["notification_id"] for item in house.secret.ok("GET", f"/reports?{query}")["items"]]


def test_a_report_has_totals_and_platforms(published: House) -> None:
    report = published.secret.ok("GET", "/reports/n-3")
    ReportShown.model_validate(report)
    assert report["accepted_at"] == "2026-11-21T01:00:00Z"
    assert report["totals"]["accepted"] == 3
    assert report["totals"]["p50_s"] == 0.5
    assert [(p["platform"], p["provider"], p["accepted"]) for p in report["platforms"]] == [
        ("android", "fcm", 3),
        ("ios", "apns", 3),
    ]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [4, 3, 2, 1, 0]),
        ("include_dry_run=true", [5, 4, 3, 2, 1, 0]),
        ("from=2026-11-21", [4, 3, 2]),
        ("until=2026-11-21", [1, 0]),
        ("from=2026-11-20&until=2026-11-20", []),
        ("from=2026-11-21T01:00:00Z&until=2026-11-21T03:30:00%2B01:00", [4, 3]),
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
    assert house.secret.ok("GET", "/reports") == {"items": [], "next_cursor": None}
    assert house.secret.call("GET", "/reports/n-1").status_code == 404


def test_another_tenants_report_is_not_there(published: House) -> None:
    assert published.stranger.ok("GET", "/reports/n-1")["type"] == "theirs"
    assert published.stranger.call("GET", "/reports/n-2").status_code == 404
    assert [item["type"] for item in published.stranger.ok("GET", "/reports")["items"]] == ["theirs"]
