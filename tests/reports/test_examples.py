"""The example queries of docs/report-tables.md, as they are written, over a month that has something for each."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from notify_pipeline.core.lake import Lake
from notify_pipeline.reports.catalogue import TABLES
from tests.reports.desk import Desk, passed
from tests.reports.worlds import START, World, put, seconds

_PAGE = (Path(__file__).parents[2] / "docs" / "report-tables.md").read_text()
_QUERIES = re.findall(r"```sql\n(.*?)```", _PAGE, re.DOTALL)
_NOW = (datetime.now(UTC) - START).total_seconds()
_DAY = 86_400.0
_BUTTONS = '{"content":{"actions":[{"action":"read"},{"action":"later"}]}}'


def month() -> World:
    """Five sends of the last weeks: reach falls, codes rise, and the latest is still going on."""
    world = World()
    world.token("stays", "upsert", "upsert", at=_NOW - 21 * _DAY)
    world.token("dies", "upsert", "drop", at=_NOW - 4 * _DAY)
    world.token("leaves", "upsert", "delete", at=_NOW - 10 * _DAY)
    for number, days_ago in enumerate((20, 12, 9, 3, 0.1)):
        name, at = f"n{number}", _NOW - days_ago * _DAY
        world.request(name, at=at, topics=["uk", "sport"], body=_BUTTONS)
        for platform in ("ios", "android", "email"):
            world.audience(8, platform, name)
            for who in range(4):
                delivery = world.attempt(f"u{who}", "accepted", at + 30 + who, platform=platform, notification=name)
                if platform != "email" and who < 4 - min(number, 3):
                    world.beacon(delivery, at=at + 40 + 60 * who, notification=name)
                    world.beacon(delivery, "opened", at + 300, name)
                    world.beacon(delivery, "clicked", at + 301, name, "read" if who else "later")
            world.attempt("gone", "invalid_recipient", at + 30, 1, platform, name, code="UNREGISTERED")
            for again in range(number):
                world.attempt("busy", "throttled", at + 31 + again, 1 + again, platform, name, code="QUOTA")
            world.attempt("off", "skipped", at + 29, 0, platform, name, code="opted_out")
        world.beacon(world.attempt("lost", "ambiguous", at + 30, notification=name), at=at + 33, notification=name)
        if days_ago > 1:
            world.state(name, "t1", "done", at + 60)
    return world


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """The month's reports."""
    folder = tmp_path_factory.mktemp("examples")
    desk = Desk(Lake(str(folder / "lake")), folder / "reports")
    for table, rows in month().rows.items():
        put(desk.lake, table, rows, "all", seconds(_NOW))
    assert passed(desk.update())
    yield desk
    desk.reader.close()


@pytest.mark.parametrize("query", _QUERIES, ids=lambda query: " ".join(query.split())[:40])
def test_a_query_answers(desk: Desk, query: str) -> None:
    rows = desk.query(query)
    assert rows
    assert any(value is not None for value in rows[0])


def test_the_page_has_queries_and_every_table() -> None:
    assert len(_QUERIES) >= 15
    assert set(re.findall(r"^\| `(\w+)` \|", _PAGE, re.MULTILINE)) == {table.name for table in TABLES}
