"""Lists, sums and details as the API and the dashboard ask for them."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notify_pipeline.core.lake import Lake
from notify_pipeline.reports import reading_details, reading_lists, reading_totals
from notify_pipeline.reports.build import publish
from notify_pipeline.reports.reading_filters import ListFilter
from notify_pipeline.reports.reading_lists import Page, Sort
from notify_pipeline.reports.reading_rows import COUNTS
from notify_pipeline.reports.versions import writer
from tests.reports.desk import Desk
from tests.reports.worlds import START, World, seconds

_HOUR = 3_600
_COUNT = 40
_OUTCOMES = ("accepted", "accepted", "accepted", "permanent", "invalid_recipient")
BOTH = ("t1", "t2")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Forty notifications of two tenants over three days, some at the same moment, with whatever became of them."""
    folder: Path = tmp_path_factory.mktemp("lists")
    made = Desk(Lake(f"{folder}/lake"), folder / "reports")
    world, draws = World(), random.Random(7)
    for number in range(_COUNT):
        _add(world, draws, f"n{number:02d}", BOTH[number % 2], draws.randrange(24) * 3 * _HOUR)
    world.put(made.lake)
    made.publish()
    yield made
    made.reader.close()


def _add(world: World, draws: random.Random, name: str, tenant: str, at: float) -> None:
    topics = draws.choice([["uk"], ["uk", "sport"], ["uk/london"]])
    kind, title = draws.choice(["news", "sport"]), f"{draws.choice(['Élan', 'Straße', 'match'])} {name}"
    world.request(name, tenant, at, type=kind, title=title, topics=topics, dry_run=draws.random() < 0.1)
    for platform in draws.choice([["ios"], ["android"], ["ios", "web"], []]):
        size = draws.randint(1, 4)
        world.audience(size, platform, name, tenant)
        for who in range(size):
            outcome = draws.choice(_OUTCOMES)
            attempt = world.attempt(
                f"{platform}{who}", outcome, at + 1, platform=platform, notification=name, tenant=tenant, code="x"
            )
            if outcome == "accepted" and draws.random() < 0.7:
                world.beacon(attempt, at=at + draws.choice([2.5, 60, 500]), notification=name)
    if draws.random() < 0.5:
        world.state(name, tenant, "done", at + 600)


def every(desk: Desk, where: ListFilter, sort: Sort = Sort.NEWEST, limit: int = 500) -> list[dict[str, Any]]:
    """Return all rows of a list, by its pages."""
    found: list[dict[str, Any]] = []
    after = None
    while True:
        page = reading_lists.page(desk.reader, where, limit, sort, after)
        assert len(page.rows) <= limit
        found += page.rows
        if (after := page.following) is None:
            return found


def _names(rows: list[dict[str, Any]]) -> list[str]:
    return [row["notification_id"] for row in rows]


_FILTERS = st.builds(
    ListFilter,
    tenants=st.sampled_from([BOTH, ("t1",), ("t2",), ("t3",)]),
    since=st.none() | st.integers(-2, 80).map(lambda hours: START + timedelta(hours=hours)),
    until=st.none() | st.integers(-2, 80).map(lambda hours: START + timedelta(hours=hours)),
    type=st.none() | st.sampled_from(["news", "none"]),
    platform=st.none() | st.sampled_from(["ios", "web"]),
    channel=st.none() | st.sampled_from(["fcm", "apns"]),
    topic=st.none() | st.sampled_from(["uk", "uk/london"]),
    state=st.none() | st.sampled_from(["done", "accepted"]),
    title=st.none() | st.sampled_from(["éLAN", "N1", "%", ""]),
    include_dry_run=st.booleans(),
)


def _fits(row: dict[str, Any], where: ListFilter) -> bool:
    """Tell the same of a row of the whole list."""
    named = [p for p in row["platforms"] if where.platform in (None, p["platform"])]
    both = [p for p in named if where.channel in (None, p["channel"])]
    return (
        row["tenant"] in where.tenants
        and (where.since is None or row["accepted_at"] >= where.since)
        and (where.until is None or row["accepted_at"] < where.until)
        and (where.type is None or row["type"] == where.type)
        and (not where.is_of_platforms or bool(both))
        and (where.topic is None or where.topic in row["topics"])
        and (where.state is None or row["state"] == where.state)
        and (where.title is None or where.title.lower() in row["title"].lower())
        and (where.include_dry_run or not row["is_dry_run"])
    )


@given(where=_FILTERS, sort=st.sampled_from(Sort), limit=st.integers(1, 45))
@settings(max_examples=60, deadline=None)
def test_pages_of_any_filter_in_any_order_are_the_sorted_whole(
    desk: Desk, where: ListFilter, sort: Sort, limit: int
) -> None:
    whole = every(desk, ListFilter(BOTH, include_dry_run=True))
    assert len(whole) == _COUNT
    wanted = [row for row in whole if _fits(row, where)]

    def position(row: dict[str, Any]) -> tuple[Any, ...]:
        figure = row["accepted_at"].timestamp() if sort.is_by_time else row["totals"][sort.column]
        absent = float("-inf") if sort.is_descending else float("inf")
        at_last = (row["accepted_at"], row["tenant"], row["notification_id"])
        return (absent if figure is None else figure, *at_last)

    wanted.sort(key=position, reverse=sort.is_descending)
    assert _names(every(desk, where, sort, limit)) == _names(wanted)


@given(where=_FILTERS)
@settings(max_examples=30, deadline=None)
def test_sums_are_those_of_the_whole_list(desk: Desk, where: ListFilter) -> None:
    rows = every(desk, where)
    figures = [p for row in rows for p in row["platforms"]] if where.is_of_platforms else [r["totals"] for r in rows]
    found = reading_totals.totals(desk.reader, where)
    assert found["notifications"] == len(rows)
    assert {name: found[name] for name in COUNTS} == {name: sum(f[name] for f in figures) for name in COUNTS}
    within = sum((f["share_120s"] or 0) * f["accepted"] for f in figures)
    accepted = sum(f["accepted"] for f in figures)
    assert found["share_120s"] == (pytest.approx(within / accepted) if accepted else None)
    days = reading_totals.daily(desk.reader, where)
    assert [day["day"] for day in days] == sorted({row["accepted_at"].date() for row in rows})
    for name in ("notifications", *COUNTS):
        assert sum(day[name] for day in days) == found[name]


def test_a_list_stays_on_the_version_it_was_begun_on(tmp_path: Path) -> None:
    desk = Desk(Lake(f"{tmp_path}/lake"), tmp_path / "reports")
    world, draws = World(), random.Random(3)
    for number in range(6):
        _add(world, draws, f"n{number}", "t1", number * 60)
    world.put(desk.lake)
    _publish(desk)
    where = ListFilter(("t1",), include_dry_run=True)
    begun = {sort: reading_lists.page(desk.reader, where, 2, sort) for sort in Sort}
    whole = {sort: _names(every(desk, where, sort)) for sort in Sort}

    later = World()
    _add(later, draws, "n9", "t1", 600)
    for number in range(6):  # audiences grow, so that the order by them is another one
        later.audience(9 - number, "android", f"n{number}", "t1")
    later.put(desk.lake, "later")
    _publish(desk)
    assert "n9" in _names(every(desk, where))
    for sort, first in begun.items():
        assert _names(_rest(desk, where, first)) == whole[sort]


def _publish(desk: Desk) -> None:
    """Publish as of now: lists tell versions by when they were published."""
    with writer(desk.root):
        candidate = desk.build()
        publish(candidate, desk.settings, datetime.now(UTC))


def _rest(desk: Desk, where: ListFilter, first: Page) -> list[dict[str, Any]]:
    found, after = list(first.rows), first.following
    while after is not None:
        page = reading_lists.page(desk.reader, where, 2, after=after)
        assert page.version is not None and first.version is not None
        assert page.version.number == first.version.number
        found, after = found + page.rows, page.following
    return found


def test_details_are_of_one_notification_of_one_tenant(desk: Desk) -> None:
    for row in every(desk, ListFilter(BOTH, include_dry_run=True)):
        tenant, name = row["tenant"], row["notification_id"]
        assert reading_details.one(desk.reader, tenant, name) == row
        buckets = reading_details.timeline(desk.reader, tenant, name)
        failed = reading_details.failures(desk.reader, tenant, name)
        assert buckets is not None and failed is not None
        assert sum(bucket["received"] for bucket in buckets) == row["totals"]["received"]
        assert sum(code["deliveries"] for code in failed) == row["totals"]["failed"] + row["totals"]["invalid"]
        other = "t2" if tenant == "t1" else "t1"
        assert reading_details.one(desk.reader, other, name) is None
        assert reading_details.timeline(desk.reader, other, name) is None
        assert reading_details.latencies(desk.reader, other, name) is None
    assert not desk.knows("n' OR 1=1 --")


def test_before_the_first_version_there_is_nothing(tmp_path: Path) -> None:
    desk = Desk(Lake(f"{tmp_path}/lake"), tmp_path / "reports")
    assert reading_lists.page(desk.reader, ListFilter(("t1",)), 5) == Page(None, [], None)
    assert reading_totals.totals(desk.reader, ListFilter(("t1",)))["audience"] == 0
    assert reading_totals.daily(desk.reader, ListFilter(("t1",), since=seconds(0))) == []
    assert reading_details.failures(desk.reader, "t1", "n1") is None
