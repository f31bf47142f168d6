"""A domain's messages: the ledger's counts beside what the reports know of them."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Connection, update

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import domain_messages, requests
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.requests import NewRequest, RequestRow
from notify_pipeline.core.ledger.tables import REQUESTS
from notify_pipeline.reports.reading_domains import NOTHING, Reported, of_message, of_messages
from tests.reports.desk import Desk, passed
from tests.reports.worlds import World, seconds

DOMAIN, OTHER = "example.com", "example.org"
Counts = dict[str, dict[str, int]]


@pytest.fixture
def desk(folder_lake: Lake, tmp_path: Path) -> Desk:
    return Desk(folder_lake, tmp_path / "reports")


def accept(
    ledger: Ledger, message: str, at: datetime, counts: Counts, domain: str | None = DOMAIN, tenant: str = "t1"
) -> None:
    """Accept a message, and let its recipients have ended so."""
    audience = {"topics": ["news"]} if domain is None else {"domain": domain}
    body = {"type": "push-contacts", "content": {"title": "Hello"}, **audience}
    new = NewRequest(tenant, message, body, at, at + timedelta(days=1))
    ledger.write(_set_counts, (requests.accept(ledger, new).request_id, orjson.dumps(counts).decode()))


def _set_counts(conn: Connection, items: Any) -> list[None]:
    for request_id, counts in items:
        conn.execute(update(REQUESTS).where(REQUESTS.c.request_id == request_id).values(counts=counts))
    return [None for _ in items]


def one(ledger: Ledger, message: str, domain: str = DOMAIN) -> RequestRow:
    found = domain_messages.get(ledger, "t1", domain, message)
    assert found is not None
    return found


def test_a_messages_figures_are_the_ledgers_and_the_browsers(ledger: Ledger, desk: Desk) -> None:
    counts = {
        "fcm": {"audience": 7, "pending": 1, "accepted": 3, "invalid_recipient": 1, "ambiguous": 1, "skipped": 1},
        "webpush": {"audience": 2, "pending": 0, "accepted": 1, "expired": 1},
    }
    accept(ledger, "m1", seconds(0), counts)
    figures = of_message(desk.reader, one(ledger, "m1"))
    assert (figures.sent, figures.delivered, figures.not_delivered, figures.pending) == (8, 4, 4, 1)
    assert (figures.reported, figures.received_through) == (NOTHING, None)

    world = World()
    world.request("m1", domain=DOMAIN)
    for number in range(3):
        world.beacon(world.attempt(f"w{number}", "accepted", platform="web", notification="m1"), notification="m1")
    unsure = world.attempt("w3", "ambiguous", platform="web", notification="m1")
    world.beacon(unsure, notification="m1", at=6)
    world.beacon(unsure, "clicked", notification="m1", at=9)
    world.put(desk.lake)
    assert passed(desk.update())
    figures = of_message(desk.reader, one(ledger, "m1"))
    # What the provider never confirmed stays so; that its browser has it all the same is said beside it.
    assert (figures.sent, figures.delivered, figures.not_delivered) == (8, 4, 4)
    assert figures.reported == Reported(accepted_by_beacon=1, received=4, clicked=1)
    assert figures.received_through == seconds(9)


def test_a_dry_run_is_sent_to_nobody(ledger: Ledger, desk: Desk) -> None:
    accept(ledger, "m1", seconds(0), {"fcm": {"audience": 5, "pending": 0, "dry_run": 5}})
    figures = of_message(desk.reader, one(ledger, "m1"))
    assert (figures.sent, figures.delivered, figures.not_delivered, figures.pending) == (0, 0, 0, 0)


def test_messages_are_found_by_domain_and_time_page_by_page(ledger: Ledger, desk: Desk) -> None:
    for number in range(7):
        # Two of one moment are told apart by their ids.
        accept(ledger, f"m{number}", seconds(number // 2), {"fcm": {"audience": 1, "accepted": number}})
    accept(ledger, "other", seconds(1), {}, domain=OTHER)
    accept(ledger, "none", seconds(1), {}, domain=None)
    accept(ledger, "foreign", seconds(1), {}, tenant="t2")
    found: list[RequestRow] = []
    after = None
    while True:
        page = domain_messages.page(ledger, "t1", DOMAIN, seconds(0), seconds(3), 2, after)
        found += page.rows
        after = page.following
        if after is None:
            break
    assert [row.notification_id for row in found] == [f"m{number}" for number in (5, 4, 3, 2, 1, 0)]
    assert [figures.delivered for figures in of_messages(desk.reader, found)] == [5, 4, 3, 2, 1, 0]
    assert of_messages(desk.reader, []) == []
    assert domain_messages.get(ledger, "t1", DOMAIN, "other") is None
    assert domain_messages.get(ledger, "t2", DOMAIN, "m1") is None


def test_counts_are_added_up_by_day_within_a_range(ledger: Ledger) -> None:
    alike = {"fcm": {"audience": 3, "pending": 0, "accepted": 2, "permanent": 1}}
    for number in range(4):
        accept(ledger, f"m{number}", seconds(number), alike)
    accept(ledger, "odd", seconds(5), {"webpush": {"audience": 2, "pending": 1, "expired": 1}})
    accept(ledger, "next", seconds(86_400), alike)
    accept(ledger, "other", seconds(1), alike, domain=OTHER)
    with ledger.read() as conn:
        first, second = domain_messages.by_day(conn, "t1", DOMAIN, seconds(1), seconds(100_000))
        assert domain_messages.by_day(conn, "t2", DOMAIN, seconds(1), seconds(100_000)) == []
    assert second.day == first.day + 1
    assert (first.messages, first.counts.delivered, first.counts.not_delivered) == (4, 6, 4)
    assert (first.counts.pending, first.counts.sent) == (1, 10)
    assert (second.messages, second.counts.sent) == (1, 3)
