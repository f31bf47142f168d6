"""The order of claims: priority, tenants in turn, due time; the same on both stores, and by index only."""

import itertools
import time
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, delete, event, insert

from notify_pipeline.core.ids import from_micros
from notify_pipeline.core.ledger import deliveries, routing
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.fair import RANKS, Wanted, rooms
from notify_pipeline.core.ledger.tables import DELIVERIES, REQUESTS
from tests.examples import examples

NOW = 1_800_000_000_000_000
AT = from_micros(NOW)
# (rank, tenant, microseconds until due)
Row = tuple[int, str, int]
_numbers = itertools.count()


def _request(row: Row) -> dict[str, Any]:
    rank, tenant, later = row
    unique = f"r{next(_numbers)}"
    times = {"accepted_at": NOW, "due_at": NOW + later, "expires_at": 2 * NOW, "updated_at": NOW}
    words = {"body_sha256": "", "body": "{}", "counts": "{}", "type": "test", "state": "accepted"}
    return {
        "request_id": unique, "notification_id": unique, "tenant": tenant, "priority_rank": rank, **times, **words
    }  # fmt: skip


def _delivery(row: Row) -> dict[str, Any]:
    rank, tenant, later = row
    words = {"request_id": "r", "channel": "fcm", "platform": "android", "address": "a", "recipient": "{}"}
    numbers = {"priority_rank": rank, "attempt_no": 0, "due_at": NOW + later}
    return {"delivery_id": f"d{next(_numbers)}", "tenant": tenant, "state": "waiting", **words, **numbers}


def _fill(conn: Connection, items: Sequence[Sequence[Row]]) -> list[None]:
    conn.execute(delete(DELIVERIES))
    conn.execute(delete(REQUESTS))
    for rows in items:
        conn.execute(insert(REQUESTS), [{**_request((0, "t", 10**15)), "request_id": "r"}])
        if rows:
            conn.execute(insert(REQUESTS), [_request(row) for row in rows])
            conn.execute(insert(DELIVERIES), [_delivery(row) for row in rows])
    return [None] * len(items)


def _model(rows: Sequence[Row], wanted: Wanted) -> list[Row]:
    """What a claim gives, said as simply as can be."""
    claimed: list[Row] = []
    for rank in range(RANKS):
        queues: dict[str, deque[Row]] = {}
        for row in sorted(row for row in rows if row[0] == rank and row[2] <= 0):
            queues.setdefault(row[1], deque()).append(row)
        last = wanted.turns.get(rank, "")
        line = deque([*sorted(t for t in queues if t > last), *sorted(t for t in queues if t <= last)])
        while line and len(claimed) < wanted.rooms[rank]:
            tenant = line.popleft()
            claimed.append(queues[tenant].popleft())
            if queues[tenant]:
                line.append(tenant)
    return claimed


_rows = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from("abcdefgh"), st.integers(-3_000_000, 1_000_000)), max_size=60
)
_wanted = st.builds(
    Wanted,
    rooms=st.builds(rooms, most=st.integers(1, 40), reserve=st.floats(0, 0.5), taken=st.integers(0, 30)),
    turns=st.dictionaries(st.integers(0, 2), st.sampled_from("abcdefghz")),
)


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=_rows, wanted=_wanted)
def test_claims_go_by_priority_then_round_the_tenants_then_by_due_time(
    ledger: Ledger, rows: list[Row], wanted: Wanted
) -> None:
    ledger.write(_fill, rows)
    expected = _model(rows, wanted)
    assert routing.is_due(ledger, AT, wanted) is deliveries.is_due(ledger, "fcm", AT, wanted) is bool(expected)
    requests = routing.claim(ledger, "me", AT, 5, wanted)
    assert [(row.priority.rank, row.tenant, _micros(row.due_at) - NOW) for row in requests] == expected
    claimed = deliveries.claim(ledger, "fcm", "me", AT, 5, wanted)
    assert [(each.priority_rank, each.tenant) for each in claimed] == [(rank, tenant) for rank, tenant, _ in expected]
    # What was claimed is not claimed again; everything that is due is claimed in the end, once.
    seen = [each.delivery_id for each in claimed]
    while more := deliveries.claim(ledger, "fcm", "me", AT, 5, 7):
        seen += [each.delivery_id for each in more]
    assert len(seen) == len(set(seen)) == sum(later <= 0 for _, _, later in rows)


@given(st.integers(1, 2_000), st.floats(0, 0.5), st.integers(0, 2_000), st.integers(1, 100))
def test_each_priority_leaves_room_to_those_above_it(most: int, reserve: float, taken: int, least: int) -> None:
    found = rooms(most, reserve, taken, least)
    assert list(found) == sorted(found, reverse=True)
    assert all(room == 0 or room >= least for room in found)
    assert found[0] == (most - taken if most - taken >= least else 0)
    if found[1]:
        assert found[0] - found[1] == int(most * reserve)


def _micros(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6)


def test_a_tenant_s_backlog_delays_another_by_one_claim_at_most(ledger: Ledger) -> None:
    ledger.write(_fill, [*((2, "big", -1_000_000 - n) for n in range(2_000)), (2, "small", 0)])
    claimed = deliveries.claim(ledger, "fcm", "me", AT, 5, 10)
    assert sorted(each.tenant for each in claimed) == ["big"] * 9 + ["small"]


def test_more_tenants_than_a_claim_has_room_for_take_turns(ledger: Ledger) -> None:
    names = [f"t{number:02d}" for number in range(25)]
    ledger.write(_fill, [(1, name, -number) for name in names for number in range(4)])
    turns: dict[int, str] = {}
    order = []
    for _ in range(5):
        claimed = deliveries.claim(ledger, "fcm", "me", AT, 5, Wanted((10, 10, 10), turns))
        turns.update((each.priority_rank, each.tenant) for each in claimed)
        order += [each.tenant for each in claimed]
    assert order == names * 2


def test_rows_that_another_transaction_has_locked_are_passed_over(postgres_url: str) -> None:
    with Ledger.open(postgres_url) as ledger:
        ledger.write(_fill, [(1, "a", -2), (1, "a", -1), (1, "b", 0)])
        with ledger._engine.connect() as other, other.begin():
            other.exec_driver_sql(f"SELECT 1 FROM deliveries WHERE due_at = {NOW - 2} FOR UPDATE")
            other.exec_driver_sql(f"SELECT 1 FROM requests WHERE due_at = {NOW} FOR UPDATE")
            claimed = deliveries.claim(ledger, "fcm", "me", AT, 5, 10)
            requests = routing.claim(ledger, "me", AT, 5, 10)
        assert [each.tenant for each in claimed] == ["a", "b"]
        assert [row.tenant for row in requests] == ["a", "a"]


def test_claims_read_no_more_of_the_queue_than_they_take(ledger: Ledger) -> None:
    """By index: tenants by seeks, their rows from the first that is due; what waits for later is not looked at."""
    waiting = [(rank, f"t{number % 5}", 3_600_000_000 + number) for number in range(3_000) for rank in (0, 2)]
    ledger.write(_fill, [*waiting, *((2, f"t{number % 5}", -number) for number in range(3_000))])
    statements = [
        (queue.tenants, {"lowest": 2}) if part == "tenants" else (queue.rows[ledger.url.get_backend_name()], rows)
        for queue in (deliveries._QUEUE, routing._WAITING)
        for part, rows in (("tenants", {}), ("rows", {"rank": 2, "share": 3, "tenants": _asked(ledger)}))
    ]
    for statement, bound in statements:
        _assert_by_index(ledger, statement, {**bound, "now": NOW, "channel": "fcm"})


def _asked(ledger: Ledger) -> Any:
    return '["t0","t1"]' if ledger.is_sqlite else ["t0", "t1"]


def _assert_by_index(ledger: Ledger, statement: Any, bound: Mapping[str, Any]) -> None:
    prefix = "EXPLAIN QUERY PLAN " if ledger.is_sqlite else "EXPLAIN (ANALYZE, TIMING OFF, FORMAT TEXT) "

    def explained(*args: Any) -> tuple[str, Any]:
        return prefix + args[2], args[3]

    with ledger._engine.connect() as conn:
        if not ledger.is_sqlite:
            conn.exec_driver_sql("ANALYZE deliveries")
            conn.exec_driver_sql("ANALYZE requests")
        names = {name: value for name, value in bound.items() if name in statement.compile(conn).params}
        event.listen(conn, "before_cursor_execute", explained, retval=True)
        lines = [str(row[-1]) for row in conn.execute(statement, names)]
    plan = "\n".join(lines)
    looked_at = [line for line in lines if " on deliveries" in line or " on requests" in line] or [
        line for line in lines if "SEARCH" in line or "SCAN deliveries" in line or "SCAN requests" in line
    ]
    assert looked_at, plan
    for line in looked_at:
        assert "ix_deliveries_unfinished" in line or "ix_requests_open" in line or "autoindex" in line, plan
        assert "SCAN" not in line and "Seq Scan" not in line, plan
        if not ledger.is_sqlite and "actual rows" in line:
            # What each visit of the index gave: no more than the rows of a share.
            assert float(line.split("actual rows=")[1].split()[0]) <= 3, plan
    assert "TEMP B-TREE" not in plan, plan


@pytest.mark.long
def test_a_thousand_tenants_with_backlogs_are_each_served_before_any_is_served_twice(ledger: Ledger) -> None:
    ledger.write(_fill, [(1, f"t{number % 1_000:04d}", -number) for number in range(50_000)])
    turns: dict[int, str] = {}
    seen: list[str] = []
    began = time.monotonic()
    for _ in range(4):
        claimed = deliveries.claim(ledger, "fcm", "me", AT, 5, Wanted((250, 250, 250), turns))
        turns.update((each.priority_rank, each.tenant) for each in claimed)
        seen += [each.tenant for each in claimed]
    print(f"{(time.monotonic() - began) / 4 * 1e3:.1f} ms per claim of 250")
    assert len(set(seen)) == len(seen) == 1_000
