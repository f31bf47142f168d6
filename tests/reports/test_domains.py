"""A domain's messages: the ledger's counts beside what the reports know of them."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest
from sqlalchemy import Connection, update

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import domain_messages, requests
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.requests import NewRequest, RequestRow
from notify_pipeline.core.ledger.tables import REQUESTS
from notify_pipeline.reports import versions
from notify_pipeline.reports.build import is_stale
from notify_pipeline.reports.reading_domains import NOTHING, Reported, of_message, of_messages
from notify_pipeline.reports.versions import current, manifest_path
from tests.reports.desk import Desk, passed
from tests.reports.worlds import World, put, seconds

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


def test_clicks_count_by_the_actions_that_a_message_has(ledger: Ledger, desk: Desk) -> None:
    world = World()
    body = orjson.dumps(
        {
            "content": {"actions": [{"action": "read"}, {"action": "later"}]},
            "overrides": {"webpush": {"actions": [{"action": "other"}]}},
        }
    ).decode()
    for tenant in ("t1", "t2"):
        world.request("m1", tenant, domain=DOMAIN, body=body if tenant == "t1" else "{}")
    first, second, third = (world.attempt(who, "accepted", platform="web", notification="m1") for who in "abc")
    skipped = world.attempt("d", "skipped", platform="web", notification="m1")
    theirs = world.attempt("a", "accepted", platform="web", notification="m1", tenant="t2")
    clicks = [(first, "read"), (first, "read"), (first, "later"), (second, "read"), (third, "forged"), (third, None)]
    for delivery, action in [*clicks, (third, "other"), (skipped, "read"), (theirs, "read")]:
        world.beacon(delivery, "clicked", notification="m1", action=action)
    # A file of receipts, and one of requests, from before there were actions and domains.
    world.request("old")
    world.put(desk.lake)
    path = put(desk.lake, "receipts", [dict(world.rows["receipts"][0], event="received")], "old")
    desk.lake.write(path, desk.lake.read(path).drop_columns(["action"]))
    assert passed(desk.update())
    found = "SELECT tenant, notification_id, domain, platform, action, clicked, hits FROM actions ORDER BY action"
    assert desk.query(found) == [
        ("t1", "m1", DOMAIN, "web", "later", 1, 1),
        ("t1", "m1", DOMAIN, "web", "other", 1, 1),
        ("t1", "m1", DOMAIN, "web", "read", 2, 3),
    ]
    accept(ledger, "m1", seconds(0), {})
    reported = of_message(desk.reader, one(ledger, "m1")).reported
    assert (reported.received, reported.clicked) == (1, 3)
    assert reported.action_clicks == {"later": 1, "other": 1, "read": 2}


def test_what_a_domain_consumed_is_what_providers_accepted_second_by_second(desk: Desk) -> None:
    world = World()
    world.request("m1", domain=DOMAIN)
    world.request("elsewhere")
    web = {"platform": "web", "notification": "m1"}
    world.attempt("a", "accepted", 1.5, **web)
    world.attempt("b", "transient", 1, **web)
    world.attempt("b", "accepted", 3, 2, **web)
    world.attempt("b", "accepted", 9, 3, **web)  # again, by a process that came back: it counts once, at its first
    world.beacon(world.attempt("c", "ambiguous", 1, **web), notification="m1")
    world.attempt("d", "permanent", 1, **web)
    world.attempt("e", "dry_run", 1, **web)
    world.attempt("a", "accepted", 1, platform="web", notification="elsewhere")
    world.put(desk.lake)
    assert passed(desk.update())
    found = "SELECT domain, notification_id, epoch(second_at - TIMESTAMPTZ '2026-11-21 06:00Z'), accepted FROM consumed"
    assert desk.query(f"{found} ORDER BY ALL") == [(DOMAIN, "m1", 1, 1), (DOMAIN, "m1", 3, 1)]
    late = World()
    late.attempt("f", "accepted", 3.5, **web)
    late.attempt("b", "accepted", 2, 1, **web)
    late.put(desk.lake, "late")
    assert passed(desk.update())
    assert desk.query(f"{found} ORDER BY ALL") == [(DOMAIN, "m1", n, 1) for n in (1, 2, 3)]


def test_a_version_from_before_domains_serves_until_the_next_which_is_built_whole(ledger: Ledger, desk: Desk) -> None:
    accept(ledger, "m1", seconds(0), {"webpush": {"audience": 1, "accepted": 1}})
    world = World()
    world.request("m1", domain=DOMAIN)
    world.beacon(world.attempt("a", "accepted", platform="web", notification="m1"), notification="m1")
    world.put(desk.lake)
    desk.publish()
    version = current(desk.root)
    assert version is not None
    # As it was: one file for each version, without what has been added since.
    path = desk.root / "versions" / "0000000001.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"ATTACH '{desk.root / version.segments[0].file}' AS segment (READ_ONLY)")
        connection.execute("CREATE SCHEMA facts; CREATE TABLE build AS SELECT 1 AS version, now() AS built_at")
        connection.execute(
            "CREATE TABLE facts.notifications AS SELECT * EXCLUDE (domain) FROM segment.facts.notifications"
        )
    manifest_path(desk.root, 1).unlink()
    versions._remembered.cache_clear()
    assert is_stale(desk.lake, desk.root, desk.settings)
    figures = of_message(desk.reader, one(ledger, "m1"))
    assert figures.reported == Reported(received=1)
    candidate = desk.build()
    assert (candidate.based_on, candidate.number) == (None, 2)
    candidate.discard()
    assert passed(desk.update())
    assert not path.exists()
    assert desk.query("SELECT count(*) FROM consumed") == [(1,)]


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


def test_a_page_has_bodies_without_their_visitors_whatever_texts_look_like(ledger: Ledger) -> None:
    mark = ',"visitors":[ ]} ,"template":{ é'
    content = {"title": mark, "body": "b", "data": {"visitors": "[", "a": mark}}
    plain = {"type": "push-contacts", "domain": DOMAIN, "content": content, "send_at": "2026-11-21T10:00:00Z"}
    visitors = [{"visitor_guid": f"v{number}", "fields": {"visitors": mark}} for number in range(3)]
    templated = plain | {"template": {"name": "t", "fields": {"a": 1, "visitors": [mark], "z": {"visitors": []}}}}
    for number, body in enumerate((plain, plain | {"visitors": visitors}, templated)):
        at = seconds(number)
        requests.accept(ledger, NewRequest("t1", f"m{number}", body, at, at + timedelta(days=1)))
    page = domain_messages.page(ledger, "t1", DOMAIN, None, None, 10)
    assert [row.body for row in page.rows] == [templated, plain, plain]
    assert one(ledger, "m1").body["visitors"] == visitors


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
