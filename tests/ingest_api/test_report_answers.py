"""Reports over HTTP: orders, pages, moments, validators, encodings, comparisons and files."""

import csv
import gzip
import io
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ingest_api.reports.models import ComparisonShown, FailurePage, LatencyPage, ReportPage, TimelinePage
from notify_pipeline.reports import reading_downloads
from notify_pipeline.reports.reading_formats import Format
from tests.ingest_api.conftest import House, build, copied, fields_of, send
from tests.ingest_api.furnished import publish_lake
from tests.reports.worlds import World

_HOUR = 3_600
_ZIPPED = {"Accept-Encoding": "gzip"}
_DAYS = 3


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Iterator[House]:
    """Six notifications over two days, one of an organization; then a version in which one was received more often."""
    for made in build(copied(migrated, tmp_path_factory.mktemp("answers"))):
        world = World()
        for number in range(6):
            _add(world, made, number)
        world.request("=cmd()", made.mine.tenant, 40 * _HOUR, title='+1, "quoted"\nand a line', topics=["a", "b"])
        world.request("theirs", made.other.tenant, 1)
        world.put(made.services.lake)
        publish_lake(made.services.settings, made.clock() + timedelta(days=_DAYS))
        later = World()
        later.rows["receipts"] = []
        attempt = world.rows["attempts"][0]
        later.beacon(attempt["delivery_id"], at=900, notification="n-0")
        later.put(made.services.lake, "later")
        publish_lake(made.services.settings, made.clock() + timedelta(days=_DAYS, hours=1))
        yield made


def _add(world: World, house: House, number: int) -> None:
    name, at = f"n-{number}", number * 6 * _HOUR
    tenant = house.mine.organizations[0].tenant if number == 5 else house.mine.tenant
    world.request(name, tenant, at, type="sport" if number % 2 else "news")
    for platform in ("android", "ios")[: 1 + number % 2]:
        world.audience(number + 1, platform, name, tenant)
        for who in range(number + 1):
            outcome, code = ("permanent", "Gone") if who == 1 else ("accepted", None)
            made = world.attempt(f"{who}", outcome, at + 1, 1, platform, name, tenant, code)
            if who > 1:
                world.beacon(made, at=at + who * 10, notification=name)
    world.state(name, tenant, "done", at + 100)


def _names(found: dict[str, Any]) -> list[str]:
    return [item["notification_id"] for item in found["items"]]


def test_lists_are_in_the_order_asked_for(house: House) -> None:
    found = house.secret.ok("GET", "/reports?sort=-audience&limit=3&include_totals=true")
    ReportPage.model_validate(found)
    assert _names(found) == ["n-3", "n-4", "n-1"]  # 8, 5, and the later of 4 and 4
    rest = house.secret.ok("GET", f"/reports?sort=-audience&cursor={found['next_cursor']}")
    assert _names(rest) == ["n-2", "n-0", "=cmd()"]
    assert rest["next_cursor"] is None
    sums = found["totals"]
    assert (sums["notifications"], sums["audience"], sums["failed"]) == (6, 21, 6)
    assert house.secret.ok("GET", "/reports?limit=1")["totals"] is None


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("topic=a", ["=cmd()"]),
        ("q=QUOTED", ["=cmd()"]),
        ("state=accepted", ["=cmd()"]),
        ("channel=apns", ["n-3", "n-1"]),
        ("include_organizations=true&type=sport", ["n-5", "n-3", "n-1"]),
    ],
)
def test_lists_are_filtered(house: House, query: str, expected: list[str]) -> None:
    assert _names(house.secret.ok("GET", f"/reports?{query}")) == expected


def test_a_product_asks_for_an_organization(house: House) -> None:
    branch = house.mine.organizations[0]
    assert _names(house.secret.ok("GET", f"/reports?organization={branch.tenant}")) == ["n-5"]
    assert house.secret.ok("GET", f"/reports/n-5?organization={branch.tenant}")["tenant"] == branch.tenant
    assert house.secret.call("GET", "/reports/n-5").status_code == 404
    assert _names(house.api(branch.secret_key).ok("GET", "/reports")) == ["n-5"]
    for asked in (house.other.tenant, "0" * 32):
        assert fields_of(house.secret.call("GET", f"/reports?organization={asked}")) == {"organization"}
    both = house.secret.call("GET", f"/reports?organization={branch.tenant}&include_organizations=true")
    assert (both.status_code, fields_of(both)) == (422, {"organization"})


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [
        ("as_of=2026-11-22", 404, "as_of"),
        ("cursor=abc", 422, "cursor"),
        ("sort=title", 422, "sort"),
        ("sort=-", 422, "sort"),
        ("from=2026-11-22&until=2026-11-21", 422, "until"),
        ("limit=501", 422, "limit"),
        ("q=", 422, "q"),
    ],
)
def test_what_is_wrong_is_named(house: House, query: str, status: int, field: str) -> None:
    answered = house.secret.call("GET", f"/reports?{query}")
    assert (answered.status_code, fields_of(answered)) == (status, {field})


def test_a_cursor_is_good_for_the_order_it_is_of(house: House) -> None:
    cursor = house.secret.ok("GET", "/reports?sort=audience&limit=1")["next_cursor"]
    answered = house.secret.call("GET", f"/reports?sort=-audience&cursor={cursor}")
    assert (answered.status_code, fields_of(answered)) == (422, {"cursor"})


def test_as_of_answers_as_then(house: House) -> None:
    now = house.secret.ok("GET", "/reports/n-0")
    first = f"{house.clock() + timedelta(days=_DAYS, minutes=1):%Y-%m-%dT%H:%M:%SZ}"
    then = house.secret.ok("GET", f"/reports/n-0?as_of={first}")
    assert (then["totals"]["received"], now["totals"]["received"]) == (0, 1)
    assert house.secret.ok("GET", "/reports/n-0?as_of=2999-01-01")["totals"] == now["totals"]
    assert house.secret.ok("GET", f"/reports?as_of={first}")["version"] == 1
    page = house.secret.ok("GET", f"/reports?as_of={first}&limit=2")
    assert house.secret.ok("GET", f"/reports?limit=2&cursor={page['next_cursor']}")["version"] == 1


def test_details_are_paged(house: House) -> None:
    whole = house.secret.ok("GET", "/reports/n-3/timeline")
    TimelinePage.model_validate(whole)
    assert [(b["bucket_s"], b["platform"], b["accepted"], b["received"]) for b in whole["items"]] == [
        (0, "android", 3, 0),
        (0, "ios", 3, 0),
        (20, "android", 0, 1),
        (20, "ios", 0, 1),
        (30, "android", 0, 1),
        (30, "ios", 0, 1),
    ]
    found, query = [], "limit=4"
    for _ in range(2):
        page = house.secret.ok("GET", f"/reports/n-3/timeline?{query}")
        found += page["items"]
        query = f"limit=4&cursor={page['next_cursor']}"
    assert (found, page["next_cursor"]) == (whole["items"], None)
    coarse = house.secret.ok("GET", "/reports/n-3/timeline?step_s=60")["items"]
    assert [(b["bucket_s"], b["accepted"], b["received"]) for b in coarse] == [(0, 3, 2), (0, 3, 2)]
    assert fields_of(house.secret.call("GET", "/reports/n-3/timeline?step_s=15")) == {"step_s"}
    failures = house.secret.ok("GET", "/reports/n-3/failures")
    FailurePage.model_validate(failures)
    assert [(f["platform"], f["outcome"], f["provider_code"], f["deliveries"]) for f in failures["items"]] == [
        ("android", "permanent", "Gone", 1),
        ("ios", "permanent", "Gone", 1),
    ]
    latencies = house.secret.ok("GET", "/reports/n-3/latencies")
    LatencyPage.model_validate(latencies)
    assert [each["stage"] for each in latencies["items"]][:4] == ["queued", "provider", "device", "total"]


def test_two_sends_side_by_side(house: House) -> None:
    found = house.secret.ok("GET", "/reports/n-3/comparison?with=n-2")
    ComparisonShown.model_validate(found)
    assert found["totals"]["audience"] == {"first": 8, "other": 3, "difference": -5, "ratio": 3 / 8}
    assert found["totals"]["received_rate"]["other"] == 0.5
    ios = next(each["figures"] for each in found["platforms"] if each["platform"] == "ios")
    assert ios["accepted"] == {"first": 3, "other": 0, "difference": -3, "ratio": 0}
    assert ios["p50_s"]["other"] is None
    assert {each["code"] for each in found["caveats"]} >= {
        "different_audience",
        "different_platforms",
        "different_type",
    }
    same = house.secret.ok("GET", "/reports/n-3/comparison?with=n-3")
    assert all(each["difference"] in (0, None) for each in same["totals"].values())
    assert fields_of(house.secret.call("GET", "/reports/n-3/comparison?with=none")) == {"with"}
    assert fields_of(house.secret.call("GET", "/reports/n-3/comparison")) == {"with"}


_PATHS = ["/reports", "/reports/n-3", "/reports/n-3/failures", "/reports/n-3/comparison?with=n-2", "/reports.csv"]


@pytest.mark.parametrize("path", _PATHS)
def test_who_has_the_answer_is_told_so_without_a_query(
    house: House, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = house.secret.call("GET", path)
    tag = first.headers["ETag"]
    assert tag.startswith('W/"')
    assert {"Authorization", "Accept-Encoding"} <= set(first.headers["Vary"].split(", "))
    assert house.secret.call("GET", path, headers={"If-None-Match": '"other"'}).status_code == 200
    stranger = house.api(house.mine.organizations[0].secret_key)
    assert stranger.call("GET", path, headers={"If-None-Match": tag}).status_code != 304
    monkeypatch.setattr(house.services.reports, "cursor", None)
    monkeypatch.setattr(house.services.reports, "cursor_of", None)
    for header in (tag, f'"x", {tag}', "*"):
        known = house.secret.call("GET", path, headers={"If-None-Match": header})
        assert (known.status_code, known.data, known.headers["ETag"]) == (304, b"", tag)
        assert "Content-Type" not in known.headers


def test_a_send_under_way_changes_the_validator(house: House) -> None:
    house.secret.ok("POST", "/notifications", send(id="under-way", topics=["x"]))
    shown = house.secret.call("GET", "/reports/under-way")
    assert (shown.status_code, shown.json and shown.json["figures_from"]) == (200, "ledger")
    before = house.secret.call("GET", "/reports").headers["ETag"]
    house.secret.ok("DELETE", "/notifications/under-way")
    assert house.secret.call("GET", "/reports").headers["ETag"] != before
    again = house.secret.call("GET", "/reports/under-way", headers={"If-None-Match": shown.headers["ETag"]})
    assert again.status_code == 200
    assert again.json is not None and again.json["state"] == "cancelled"


@pytest.mark.parametrize("path", ["/reports", "/reports.csv", "/reports/n-3/failures.ndjson"])
def test_answers_are_packed_for_who_wants_that(house: House, path: str) -> None:
    plain, packed = house.secret.call("GET", path), house.secret.call("GET", path, headers=_ZIPPED)
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.data) == plain.data
    refused = house.secret.call("GET", path, headers={"Accept-Encoding": "gzip;q=0"})
    assert "Content-Encoding" not in refused.headers
    head = house.secret.call("HEAD", path)
    assert (head.status_code, head.data, head.headers["ETag"]) == (200, b"", plain.headers["ETag"])


def test_parquet_is_packed_as_it_is(house: House) -> None:
    assert "Content-Encoding" not in house.secret.call("GET", "/reports.parquet", headers=_ZIPPED).headers


def _read(house: House, path: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]], pl.DataFrame]:
    """Return the same file in three forms, and check what its headers say."""
    found: dict[str, bytes] = {}
    stem, _, query = path.partition("?")
    for form in Format:
        answered = house.secret.call("GET", f"{stem}.{form}?{query}")
        assert answered.status_code == 200, answered.text
        assert answered.headers["Content-Type"] == form.content_type
        name = stem.rpartition("/")[2]
        assert answered.headers["Content-Disposition"] == f'attachment; filename="{name}.{form}"'
        found[form] = answered.data
    lines = [json.loads(line) for line in found["ndjson"].decode().splitlines()]
    cells = list(csv.DictReader(io.StringIO(found["csv"].decode(), newline="")))
    frame = pl.read_parquet(io.BytesIO(found["parquet"]))
    assert len(lines) == len(cells) == frame.height == int(answered.headers["Notify-Rows"])
    return lines, cells, frame


def test_a_list_as_a_file_is_the_list(house: House) -> None:
    lines, cells, frame = _read(house, "/reports?include_organizations=true")
    whole = house.secret.ok("GET", "/reports?include_organizations=true")["items"]
    assert [line["notification_id"] for line in lines] == _names({"items": whole}) == frame["notification_id"].to_list()
    assert [line["accepted_at"][:19] for line in lines] == [item["accepted_at"][:19] for item in whole]
    assert frame["accepted_at"].dtype == pl.Datetime("us", "UTC")
    assert frame["topics"].to_list() == [line["topics"] for line in lines] == [item["topics"] for item in whole]
    for name in ("audience", "received", "p50_s", "share_120s"):
        assert [line[name] for line in lines] == [item["totals"][name] for item in whole] == frame[name].to_list()
        assert [float(cell[name]) if cell[name] else None for cell in cells] == [line[name] for line in lines]
    assert list(cells[0]) == list(lines[0]) == frame.columns


def test_spreadsheets_get_no_formulas(house: House) -> None:
    lines, cells, _ = _read(house, "/reports?q=quoted")
    (line,), (cell,) = lines, cells
    assert (line["notification_id"], cell["notification_id"]) == ("=cmd()", "'=cmd()")
    assert cell["title"] == "'" + line["title"] == '\'+1, "quoted"\nand a line'
    assert json.loads(cell["topics"]) == ["a", "b"]


def test_files_of_platforms_and_of_what_stands_behind_a_report(house: House) -> None:
    lines, _, _ = _read(house, "/reports?rows=platforms&sort=accepted_at&channel=apns")
    assert [(line["notification_id"], line["platform"], line["audience"]) for line in lines] == [
        ("n-1", "ios", 2),
        ("n-3", "ios", 4),
    ]
    for table in ("timeline", "failures", "latencies"):
        lines, _, _ = _read(house, f"/reports/n-3/{table}")
        shown = house.secret.ok("GET", f"/reports/n-3/{table}")["items"]
        moments = {"first_at", "last_at"}
        assert [{k: v for k, v in each.items() if k not in moments} for each in lines] == [
            {k: v for k, v in each.items() if k not in moments} for each in shown
        ]
    platforms, _, _ = _read(house, "/reports/n-3/platforms")
    assert [each["platform"] for each in platforms] == ["android", "ios"]
    empty, _, frame = _read(house, "/reports?type=none")
    assert (empty, frame.schema["audience"]) == ([], pl.Int64)


def test_a_file_is_put_together_from_parts(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {form: house.secret.call("GET", f"/reports.{form}").data for form in (Format.CSV, Format.NDJSON)}
    monkeypatch.setattr(reading_downloads, "_PART", 1)
    for form, data in wanted.items():
        assert house.secret.call("GET", f"/reports.{form}").data == data


@pytest.mark.parametrize("form", Format)
def test_a_file_that_breaks_off_is_not_taken_for_a_whole_one(
    house: House, form: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers end such an answer as they end others, so that its bytes have to tell."""
    monkeypatch.setattr(reading_downloads, "_PART", 1)
    real, calls = reading_downloads._query, iter(range(100))

    def failing(*given: Any) -> str:
        return (
            real(*given)
            if next(calls) < 2
            else "SELECT error('a disk that fails') WHERE $since < $until AND len($tenants) > 0"
        )

    monkeypatch.setattr(reading_downloads, "_query", failing)
    for headers in ({}, _ZIPPED):
        broken = house.secret.call("GET", f"/reports.{form}", headers=headers, buffered=False)
        data = b""
        with pytest.raises(Exception, match="a disk that fails"):
            for piece in broken.response:
                data += piece
        with pytest.raises((EOFError, pl.exceptions.PolarsError, json.JSONDecodeError)):
            _parse(gzip.decompress(data) if headers and form is not Format.PARQUET else data, form)
        calls = iter(range(100))
    assert house.services.downloads.take("anybody")
    house.services.downloads.give_back("anybody")


def _parse(data: bytes, form: Format) -> None:
    if form is Format.PARQUET:
        pl.read_parquet(io.BytesIO(data))
    elif form is Format.CSV:
        pl.read_csv(data)
    else:
        for line in data.decode().splitlines():
            json.loads(line)


def test_downloads_leave_threads_and_turns_to_others(house: House) -> None:
    turns = house.services.downloads
    mine = 0
    while turns.take(house.mine.tenant):
        mine += 1
    busy = house.secret.call("GET", "/reports.csv")
    assert (busy.status_code, busy.json and busy.json["error"]["code"]) == (503, "downloads_busy")
    assert busy.headers["Retry-After"]
    others = 0
    while turns.take(f"tenant-{others}"):
        others += 1
    assert others >= mine > 0
    assert mine + others < house.services.settings.http_threads
    for _ in range(mine):
        turns.give_back(house.mine.tenant)
    for number in range(others):
        turns.give_back(f"tenant-{number}")
    for _ in range(mine + others + 1):
        assert house.secret.call("GET", "/reports.csv").status_code == 200
