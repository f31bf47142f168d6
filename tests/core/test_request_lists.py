"""Lists of requests and of audit entries: every filter, page by page, on both stores."""

import itertools
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, insert, text
from sqlalchemy.exc import DBAPIError

from notify_pipeline.core.ids import new_id, to_micros
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import audit, request_lists, requests, walks
from notify_pipeline.core.ledger.audit import AuditFilter
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.request_lists import RequestFilter
from notify_pipeline.core.ledger.tables import REQUESTS
from notify_pipeline.core.ledger.walks import Walked
from notify_pipeline.core.vocabulary import Channel, Priority, RequestState
from tests.delivery.fakes import land, rows_of

NOW = datetime(2026, 11, 21, 10, tzinfo=UTC)
TENANTS = ("t1", "t2", "t3")


def rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Return requests of every kind, several to a moment."""
    draw = random.Random(seed)
    return [
        {
            "request_id": new_id(),
            "tenant": draw.choice(TENANTS),
            "notification_id": f"n{n}",
            "body_sha256": "",
            "body": "{}",
            "type": draw.choice(["news", "sport", "news", "news"]) if n % 97 else "rare",
            "priority_rank": draw.randrange(3),
            "state": str(draw.choice(list(RequestState))),
            "category": draw.choice([None, "politics", "x"]),
            "accepted_at": to_micros(NOW) + n // 3,
            "due_at": 0,
            "expires_at": 0,
            "updated_at": 0,
            "counts": draw.choice(['{"fcm":{"audience":1}}', "{}", '{"apns":{"audience":2},"fcm":{}}']),
        }
        for n in range(count)
    ]


def put(ledger: Ledger, found: Sequence[dict[str, Any]]) -> None:
    def handler(conn: Connection, items: Any) -> list[None]:
        for item in items:
            conn.execute(insert(REQUESTS), item)
        return [None] * len(items)

    ledger.write(handler, found)


def fits(row: dict[str, Any], where: RequestFilter) -> bool:
    asked = [
        where.state is None or row["state"] == where.state,
        where.type is None or row["type"] == where.type,
        where.category is None or row["category"] == where.category,
        where.priority is None or row["priority_rank"] == where.priority.rank,
        where.channel is None or f'"{where.channel}"' in row["counts"],
        where.since is None or row["accepted_at"] >= to_micros(where.since),
        where.until is None or row["accepted_at"] < to_micros(where.until),
    ]
    return all(asked)


def paged(page: Callable[[Any], tuple[Sequence[Any], Any]]) -> list[Any]:
    """Return the items of all pages."""
    found: list[Any] = []
    after = None
    while True:
        items, after = page(after)
        found += items
        if after is None:
            return found


FILTERS = [
    RequestFilter(),
    *(RequestFilter(state=state) for state in RequestState),
    *(RequestFilter(state=state, type="sport", channel=Channel.APNS) for state in RequestState),
    RequestFilter(type="rare"),
    RequestFilter(type="nothing"),
    RequestFilter(category="politics", priority=Priority.LOW),
    RequestFilter(channel=Channel.APNS),
    RequestFilter(channel=Channel.SMS),
    RequestFilter(since=NOW + timedelta(microseconds=40), until=NOW + timedelta(microseconds=90)),
    RequestFilter(type="news", since=NOW + timedelta(microseconds=40)),
    RequestFilter(state=RequestState.FAILED, until=NOW + timedelta(microseconds=90)),
    RequestFilter(state=RequestState.ACCEPTED, since=NOW + timedelta(microseconds=90)),
]


@pytest.mark.parametrize(("most_rows", "most_open"), [(10_000, 2_000), (40, 3)])
def test_pages_hold_all_that_fits_once_and_in_order(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, most_rows: int, most_open: int
) -> None:
    monkeypatch.setattr(walks, "MOST_ROWS", most_rows)
    monkeypatch.setattr(request_lists, "_MOST_OPEN", most_open)
    there = rows(200, 7)
    put(ledger, there)
    for where, whose in itertools.product(FILTERS, [("t1",), TENANTS]):

        def page(after: Any, where: RequestFilter = where, whose: Sequence[str] = whose) -> tuple[list[str], Any]:
            got = request_lists.page(ledger, whose, where, 20, after)
            assert len(got.rows) <= 20
            return [row.request_id for row in got.rows], got.following

        mine = [row for row in there if row["tenant"] in whose and fits(row, where)]
        expected = sorted(mine, key=lambda row: (row["accepted_at"], row["request_id"]), reverse=True)
        assert paged(page) == [row["request_id"] for row in expected], where


def test_new_requests_do_not_move_the_pages_that_follow(ledger: Ledger) -> None:
    put(ledger, rows(30, 1))
    first = request_lists.page(ledger, TENANTS, RequestFilter(), 10)
    late = [row | {"accepted_at": row["accepted_at"] + 1_000, "notification_id": new_id()} for row in rows(30, 2)]
    put(ledger, late)
    rest = paged(
        lambda after: (
            (got := request_lists.page(ledger, TENANTS, RequestFilter(), 10, after or first.following)).rows,
            got.following,
        )
    )
    ids = [row.request_id for row in (*first.rows, *rest)]
    assert len(set(ids)) == 30
    assert not {row["request_id"] for row in late} & set(ids)


_KEYS = st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abc")), unique=True)


@given(st.lists(st.tuples(_KEYS, st.integers(0, 8)), min_size=1, max_size=3), st.integers(1, 5), st.booleans())
def test_merged_walks_that_stopped_miss_nothing(
    tenants: list[tuple[list[tuple[int, str]], int]], limit: int, newest_first: bool
) -> None:
    # Each tenant has its own moments, as ids are unique.
    lists = [[(at * 3 + n, name) for at, name in keys] for n, (keys, _) in enumerate(tenants)]

    def walked(keys: list[tuple[int, str]], most: int, after: Any) -> Walked:
        beyond = sorted(keys, reverse=newest_first)
        if after is not None:
            beyond = [key for key in beyond if (key < after if newest_first else key > after)]
        looked = beyond[: most + 1]
        # Every other key fits; the walk stops after ``most + 1`` rows.
        fitting = [key for key in looked if key[0] % 2][: limit + 1]
        whole = len(looked) == len(beyond) or len(fitting) > limit
        return Walked(fitting, None if whole else looked[-1])

    def page(after: Any) -> tuple[list[Any], Any]:
        walks_ = [walked(keys, most, after) for keys, (_, most) in zip(lists, tenants, strict=True)]
        return walks.merge(walks_, newest_first, limit)

    expected = sorted((key for keys in lists for key in keys if key[0] % 2), reverse=newest_first)
    assert paged(page) == expected


def entries(ledger: Ledger) -> list[audit.Entry]:
    draw = random.Random(3)
    made = [
        audit.Entry(
            draw.choice(["request.accepted", "key.created", "tenant.renamed"]),
            draw.choice(["admin", "k1", "k2"]),
            to_micros(NOW) + n // 2,
            tenant=draw.choice([*TENANTS, None]),
            request_id=f"r{n % 5}" if n % 3 else None,
        )
        for n in range(120)
    ]

    def handler(conn: Connection, items: Any) -> list[None]:
        audit.write(conn, items[0], NOW)
        return [None]

    ledger.write(handler, made)
    return made


@pytest.mark.parametrize("most_rows", [10_000, 9])
@pytest.mark.parametrize("newest_first", [True, False])
def test_the_audit_is_listed_by_tenant_and_time(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, most_rows: int, newest_first: bool
) -> None:
    monkeypatch.setattr(walks, "MOST_ROWS", most_rows)
    made = entries(ledger)
    later, until = NOW + timedelta(microseconds=20), NOW + timedelta(microseconds=50)
    filters = [
        AuditFilter(),
        AuditFilter(event="key.created"),
        AuditFilter(actor="k2", since=later),
        AuditFilter(request_id="r2", until=until),
        AuditFilter(event="nothing"),
        AuditFilter(since=later, until=until),
    ]
    for where, whose in itertools.product(filters, [("t1",), TENANTS, None]):

        def page(after: Any, where: AuditFilter = where, whose: Any = whose) -> tuple[list[audit.AuditRow], Any]:
            return audit.timeline(ledger, whose, where, 6, after, newest_first)

        got = paged(page)
        asked = {name: getattr(where, name) for name in ("event", "actor", "request_id") if getattr(where, name)}
        expected = [
            entry
            for entry in made
            if (whose is None or entry.tenant in whose)
            and all(getattr(entry, name) == value for name, value in asked.items())
            and (where.since is None or entry.at >= to_micros(where.since))
            and (where.until is None or entry.at < to_micros(where.until))
        ]
        assert len({row.audit_id for row in got}) == len(got) == len(expected)
        assert [to_micros(row.at) for row in got] == sorted((e.at for e in expected), reverse=newest_first)


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit", "TRUNCATE audit"])
def test_the_audit_is_append_only(ledger: Ledger, statement: str) -> None:
    entries(ledger)
    if ledger.is_sqlite and statement.startswith("TRUNCATE"):
        statement = "DELETE FROM audit WHERE actor = 'k1'"

    def handler(conn: Connection, items: Any) -> list[None]:
        conn.execute(text(statement))
        return [None]

    before = audit.timeline(ledger, None, AuditFilter(), 500)
    with pytest.raises(DBAPIError, match="audit rows are never changed"):
        ledger.write(handler, None)
    assert audit.timeline(ledger, None, AuditFilter(), 500) == before


def test_every_entry_lands(ledger: Ledger, folder_lake: Lake) -> None:
    entries(ledger)
    land(ledger, folder_lake)
    rows, _ = audit.timeline(ledger, None, AuditFilter(), 500)
    landed = {row["audit_id"]: row for row in rows_of(folder_lake, "audit")}
    assert set(landed) == {row.audit_id for row in rows}
    for row in rows:
        assert {name: landed[row.audit_id][name] for name in ("event", "actor", "tenant", "request_id", "at")} == {
            name: getattr(row, name) for name in ("event", "actor", "tenant", "request_id", "at")
        }


def test_times_are_those_of_the_moves(ledger: Ledger) -> None:
    new = requests.NewRequest("t1", "n", {"type": "news"}, NOW, NOW + timedelta(hours=1))
    request_id = requests.accept(ledger, new).request_id
    path = (RequestState.ACCEPTED, RequestState.ROUTED, RequestState.SENDING, RequestState.FAILED)

    def handler(conn: Connection, items: Any) -> list[None]:
        for n, (before, after) in enumerate(itertools.pairwise(path), 1):
            requests.move(conn, request_id, (before,), after, now=NOW + timedelta(seconds=n), actor="test")
        return [None]

    assert request_lists.times(ledger, [request_id])[request_id] == request_lists.Times()
    ledger.write(handler, None)
    at = [NOW + timedelta(seconds=n) for n in (1, 2, 3)]
    assert request_lists.times(ledger, [request_id])[request_id] == request_lists.Times(*at)
