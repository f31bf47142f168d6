"""Messages for users: numbers are cursors, whatever order transactions end in."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import user_messages
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.user_messages import INBOX, NOTIFICATION, NewMessage
from tests.waiting import PATIENCE_S, wait_for

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def new(
    message_id: str, user: str = "ann", tenant: str = "t", ttl_s: float = 60, kind: str = NOTIFICATION
) -> NewMessage:
    until = to_micros(NOW + timedelta(seconds=ttl_s))
    return NewMessage(tenant, user, message_id, kind, {"is": message_id}, until)


def ids(ledger: Ledger, cursor: int = 0, user: str = "ann", now: datetime = NOW) -> list[str]:
    return [row.payload for row in user_messages.since(ledger, "t", user, cursor, now)]


def test_each_user_s_messages_form_a_chain(ledger: Ledger) -> None:
    many = [new("a1"), new("b1", "bob"), new("a2"), new("c1", "ann", "other"), new("a3")]
    a1, b1, a2, c1, a3 = user_messages.store(ledger, many, NOW)
    assert (a1.previous, b1.previous, c1.previous) == (0, 0, 0)
    assert (a2.previous, a3.previous) == (a1.seq, a2.seq)
    (a4,) = user_messages.store(ledger, [new("a4")], NOW)
    assert a4.previous == a3.seq
    assert ids(ledger) == ['{"is":"a1"}', '{"is":"a2"}', '{"is":"a3"}', '{"is":"a4"}']
    assert ids(ledger, a2.seq) == ['{"is":"a3"}', '{"is":"a4"}']
    assert user_messages.latest(ledger, [("t", "ann"), ("t", "bob"), ("t", "eve")]) == {
        ("t", "ann"): a4.seq,
        ("t", "bob"): b1.seq,
    }


def test_a_message_is_stored_once(ledger: Ledger) -> None:
    first = user_messages.store(ledger, [new("a"), new("a")], NOW)
    assert first[0] == first[1]
    assert user_messages.store(ledger, [new("b"), new("a")], NOW)[1] == first[0]
    assert ids(ledger) == ['{"is":"a"}', '{"is":"b"}']


def test_expired_messages_are_not_read_and_then_forgotten(ledger: Ledger) -> None:
    user_messages.store(ledger, [new("short", ttl_s=1), new("long")], NOW)
    later = NOW + timedelta(seconds=1)
    assert ids(ledger, now=later) == ['{"is":"long"}']
    assert user_messages.tidy(ledger, later) == 1
    assert user_messages.tidy(ledger, later) == 0
    last = user_messages.last_number(ledger)
    user_messages.tidy(ledger, NOW + timedelta(days=1))
    assert user_messages.last_number(ledger) == 0
    (after,) = user_messages.store(ledger, [new("after")], NOW)
    assert after.seq > last  # a number is a cursor: none is used twice
    assert after.previous == 0


def test_numbers_are_committed_in_order_for_each_user(ledger: Ledger) -> None:
    """One transaction that is slow to commit keeps others of its user waiting, and nobody skips its number."""
    if ledger.is_sqlite:
        return  # one writer at a time
    added, go = threading.Event(), threading.Event()

    def slow(conn: Connection, items: Any) -> list[int]:
        (stored,) = user_messages.add(conn, items, NOW)
        added.set()
        assert go.wait(PATIENCE_S)
        return [stored.seq]

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ledger.write, slow, new("slow"))
        assert added.wait(PATIENCE_S)
        second = pool.submit(user_messages.store, ledger, [new("quick")], NOW)
        wait_for(lambda: _waits(ledger), what="the second waits for the first's commit")
        assert not second.done()
        go.set()
        (stored,) = second.result(PATIENCE_S)
        assert stored.previous == first.result(PATIENCE_S) < stored.seq


def _waits(ledger: Ledger) -> bool:
    with ledger.read() as conn:
        query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        return bool(conn.exec_driver_sql(query).scalar())


def test_many_writers_leave_one_chain(ledger: Ledger) -> None:
    users = ("ann", "bob", "cat")

    def write(n: int) -> None:
        user_messages.store(ledger, [new(f"{user}{n}", user) for user in users[n % 3 :] + users[: n % 3]], NOW)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(24)))
    for user in users:
        rows = user_messages.since(ledger, "t", user, 0, NOW)
        assert len(rows) == 24
        assert [row.previous for row in rows] == [0, *(row.seq for row in rows[:-1])]


def test_news_are_what_is_new_and_what_was_skipped(ledger: Ledger) -> None:
    one, two, three = user_messages.store(ledger, [new("1"), new("2", "cat", kind=INBOX), new("3", "bob")], NOW)
    assert [each.seq for each in user_messages.news(ledger, one.seq, (), 10)] == [two.seq, three.seq]
    found = user_messages.news(ledger, two.seq, [one.seq, 999], 10)
    assert [(each.seq, each.user_id, each.kind) for each in found] == [
        (one.seq, "ann", NOTIFICATION),
        (three.seq, "bob", NOTIFICATION),
    ]
    assert [row.seq for row in user_messages.numbered(ledger, [three.seq, one.seq, 999], NOW)] == [one.seq, three.seq]
