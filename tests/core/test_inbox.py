"""Inboxes: one item per user and notification, shown while it is to be, and every change told to connected clients."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, func, select

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import inbox, inbox_changing
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.inbox import Added, InboxItem, NewItem
from notify_pipeline.core.ledger.people_tables import INBOX, USER_MESSAGES
from tests.examples import examples

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def _add(conn: Connection, items: Sequence[tuple[Sequence[NewItem], datetime]]) -> list[list[Added]]:
    return [inbox.add(conn, new, now) for new, now in items]


def new(notification: str, user: str = "u", tenant: str = "t", **more: Any) -> NewItem:
    return NewItem(tenant, user, notification, "news", {"title": notification}, **more)


def add(ledger: Ledger, *items: NewItem, now: datetime = NOW) -> list[Added]:
    return ledger.write(_add, (items, now))


def titles(ledger: Ledger, now: datetime = NOW, **more: Any) -> list[str]:
    return [item.content["title"] for item in inbox.page(ledger, "t", "u", now, **more).items]


def told(ledger: Ledger, user: str = "u") -> list[dict[str, Any]]:
    query = select(USER_MESSAGES).where(USER_MESSAGES.c.user_id == user).order_by(USER_MESSAGES.c.seq)
    with ledger.read() as conn:
        rows = conn.execute(query).all()
    assert {row.kind for row in rows} <= {"inbox"}
    return [orjson.loads(row.payload) for row in rows]


def test_a_user_has_one_item_of_a_notification(ledger: Ledger) -> None:
    first = add(ledger, new("n1"), new("n1"), new("n1", user="v"), new("n1", tenant="other"))
    assert [each.is_new for each in first] == [True, True, True, True]
    assert first[0] == first[1] and len({each.item_id for each in first}) == 3
    again = add(ledger, new("n1"), new("n2"), now=NOW + SECOND)
    assert again[0] == Added(first[0].item_id, False) and again[1].is_new
    assert titles(ledger, NOW + SECOND) == ["n2", "n1"]
    assert [(said["type"], said["unread_count"]) for said in told(ledger, "v")] == [("inbox.added", 1)]
    assert inbox_changing.remove(ledger, "t", "u", first[0].item_id, NOW)
    assert add(ledger, new("n1"))[0] == Added(first[0].item_id, False)
    assert titles(ledger, NOW + SECOND) == ["n2"]


def test_what_is_said_of_an_item_is_the_item(ledger: Ledger) -> None:
    content = {"title": "T", "body": None, "link": "https://x", "data": {"a": "b"}}
    item = NewItem("t", "u", "n", "news", content, "sport", "r", expires_at=to_micros(NOW + SECOND))
    (added,) = add(ledger, item)
    (shown,) = inbox.page(ledger, "t", "u", NOW).items
    said = {"title": "T", "link": "https://x", "data": {"a": "b"}}
    assert shown == InboxItem(added.item_id, "u", "n", "news", "sport", said, NOW, NOW + SECOND, None)
    (message,) = told(ledger)
    assert message["item"] == {
        "item_id": added.item_id,
        "notification_id": "n",
        "type": "news",
        "category": "sport",
        "content": {
            "title": "T",
            "body": None,
            "link": "https://x",
            "image_url": None,
            "icon_url": None,
            "actions": [],
            "data": {"a": "b"},
        },
        "visible_at": "2026-11-21T12:00:00Z",
        "expires_at": "2026-11-21T12:00:01Z",
        "read_at": None,
    }


def test_items_are_shown_from_their_time_on_until_they_expire(ledger: Ledger) -> None:
    later, end = to_micros(NOW + SECOND), to_micros(NOW + 2 * SECOND)
    add(ledger, new("later", visible_at=later), new("now"), new("short", expires_at=later))
    add(ledger, new("both", visible_at=later, expires_at=end))
    assert set(titles(ledger)) == {"now", "short"} and inbox.count_unread(ledger, "t", "u", NOW) == 2
    assert set(titles(ledger, NOW + SECOND)) == {"now", "later", "both"}
    # Sorted by when they became visible, not by when they were added.
    assert titles(ledger, NOW + 2 * SECOND) == ["later", "now"]
    assert len(told(ledger)) == 2


def test_clients_are_told_of_an_item_once_it_is_visible(ledger: Ledger) -> None:
    later, end = to_micros(NOW + SECOND), to_micros(NOW + 2 * SECOND)
    (_, gone, *_) = add(ledger, new("a", visible_at=later), new("gone", visible_at=later))
    add(ledger, new("lapsed", visible_at=later, expires_at=end), new("b", visible_at=end + 1))
    assert not inbox_changing.due(ledger, NOW) and inbox_changing.announce_due(ledger, NOW) == 0
    at = NOW + 2 * SECOND
    assert inbox_changing.remove(ledger, "t", "u", gone.item_id, NOW + SECOND)
    assert inbox_changing.due(ledger, at) and inbox_changing.announce_due(ledger, at) == 3
    assert not inbox_changing.due(ledger, at) and inbox_changing.announce_due(ledger, at) == 0
    added = [said for said in told(ledger) if said["type"] == "inbox.added"]
    assert [(said["item"]["content"]["title"], said["unread_count"]) for said in added] == [("a", 1)]
    # Nor does it go away again when a clock is set back.
    assert "a" in titles(ledger, NOW)


def test_an_item_is_read_once(ledger: Ledger) -> None:
    (first, _) = add(ledger, new("n1"), new("n2"))
    changed = inbox_changing.read(ledger, "t", "u", first.item_id, NOW + SECOND)
    assert changed is not None and changed.item is not None
    assert (changed.number, changed.unread_count, changed.item.read_at) == (1, 1, NOW + SECOND)
    again = inbox_changing.read(ledger, "t", "u", first.item_id, NOW + 2 * SECOND)
    assert again is not None and (again.number, again.unread_count, again.item) == (0, 1, changed.item)
    assert [said["type"] for said in told(ledger)] == ["inbox.added", "inbox.added", "inbox.read"]
    assert told(ledger)[-1]["unread_count"] == 1
    assert titles(ledger, unread=True) == ["n2"] and titles(ledger, unread=False) == ["n1"]


def test_all_up_to_one_are_read(ledger: Ledger) -> None:
    ids = [add(ledger, new(f"n{number}"), now=NOW + number * SECOND)[0].item_id for number in range(4)]
    at = NOW + 4 * SECOND
    changed = inbox_changing.read_all(ledger, "t", "u", ids[1], at)
    assert (changed.number, changed.unread_count) == (2, 2)
    assert inbox_changing.read_all(ledger, "t", "u", ids[1], at).number == 0
    changed = inbox_changing.read_all(ledger, "t", "u", None, at)
    assert (changed.number, changed.unread_count) == (2, 0)
    said = [(each["through"], each["unread_count"]) for each in told(ledger) if each["type"] == "inbox.read_all"]
    assert said == [(ids[1], 2), (ids[3], 0)]
    assert inbox_changing.read_all(ledger, "t", "nobody", None, at) == inbox_changing.Changed(0, 0)


def test_nobody_changes_what_is_not_in_their_inbox(ledger: Ledger) -> None:
    (mine, hidden) = add(ledger, new("n1"), new("n2", visible_at=to_micros(NOW + SECOND)))
    for tenant, user in (("t", "v"), ("other", "u")):
        assert inbox_changing.read(ledger, tenant, user, mine.item_id, NOW) is None
        assert not inbox_changing.remove(ledger, tenant, user, mine.item_id, NOW)
        assert inbox_changing.read_all(ledger, tenant, user, None, NOW).number == 0
    assert inbox_changing.read(ledger, "t", "u", hidden.item_id, NOW) is None
    assert inbox_changing.remove(ledger, "t", "u", mine.item_id, NOW)
    assert not inbox_changing.remove(ledger, "t", "u", mine.item_id, NOW)
    assert told(ledger)[-1] == {"type": "inbox.deleted", "item_id": mine.item_id, "unread_count": 0}


def test_pages_follow_each_other(ledger: Ledger) -> None:
    add(ledger, *(new(f"n{number}", category="even" if number % 2 == 0 else None) for number in range(25)))
    found: list[str] = []
    before = None
    while page := inbox.page(ledger, "t", "u", NOW, limit=10, before=before).items:
        assert len(page) <= 10
        found += [item.item_id for item in page]
        before = page[-1].item_id
    assert found == sorted(found, reverse=True) and len(set(found)) == 25
    assert len(titles(ledger, category="even")) == 13


def test_many_users_are_told_their_own_counts(ledger: Ledger) -> None:
    users = [f"u{number}" for number in range(1_500)]
    add(ledger, new("before", user="u7"))
    assert len(add(ledger, *(new("n", user=user) for user in users))) == 1_500
    assert told(ledger, "u7")[-1]["unread_count"] == 2
    assert told(ledger, "u1499")[-1]["unread_count"] == 1


def test_counts_hold_what_others_add_at_the_same_time(ledger: Ledger) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: add(ledger, new(f"n{number}")), range(40)))
    assert sorted(said["unread_count"] for said in told(ledger)) == list(range(1, 41))


def test_old_items_are_forgotten(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_changing, "_PIECE", 2)
    add(ledger, *(new(f"old{number}") for number in range(5)))
    add(ledger, new("new"), now=NOW + SECOND)
    assert inbox_changing.forget(ledger, NOW + SECOND) == 5
    assert titles(ledger, NOW + SECOND) == ["new"]


def test_counting_reads_the_index_alone(sqlite_ledger: Ledger) -> None:
    with sqlite_ledger.read() as conn:
        where = [*inbox.shown("t", "u", to_micros(NOW)), INBOX.c.read_at.is_(None)]
        query = select(func.count()).select_from(INBOX).where(*where)
        sql = str(query.compile(conn.engine, compile_kwargs={"literal_binds": True}))
        plan = " ".join(row[-1] for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}"))
    assert "COVERING INDEX ix_inbox_unread" in plan


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "later", "read", "read_all", "remove", "tick"]), st.integers(0, 5)), max_size=25
)


@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_whatever_happens_clients_know_the_inbox(sqlite_ledger: Ledger, steps: list[tuple[str, int]]) -> None:
    """Whoever follows what is said has the same unread items as whoever asks."""
    with sqlite_ledger.read() as conn:
        tenant = f"t{conn.execute(select(func.count()).select_from(INBOX)).scalar_one()}-{id(steps)}"
    now = NOW
    ids: dict[int, str] = {}
    for step, number in steps:
        now += SECOND
        if step in ("add", "later"):
            visible = to_micros(now + 3 * SECOND) if step == "later" else None
            item = NewItem(tenant, "u", f"n{number}", "news", {"title": "x"}, visible_at=visible)
            ids[number] = add(sqlite_ledger, item, now=now)[0].item_id
        elif step == "tick":
            now += 3 * SECOND
        elif step == "read_all":
            inbox_changing.read_all(sqlite_ledger, tenant, "u", ids.get(number), now)
        elif number in ids:
            change = inbox_changing.read if step == "read" else inbox_changing.remove
            change(sqlite_ledger, tenant, "u", ids[number], now)
        inbox_changing.announce_due(sqlite_ledger, now)
    unread = _followed(sqlite_ledger, tenant)
    page = inbox.page(sqlite_ledger, tenant, "u", now, unread=True)
    assert {item.item_id for item in page.items} == unread
    assert page.unread_count == len(unread)


def _followed(ledger: Ledger, tenant: str) -> set[str]:
    query = select(USER_MESSAGES.c.payload).where(USER_MESSAGES.c.tenant == tenant).order_by(USER_MESSAGES.c.seq)
    unread: set[str] = set()
    with ledger.read() as conn:
        said = [orjson.loads(payload) for payload in conn.execute(query).scalars()]
    for each in said:
        if each["type"] == "inbox.added":
            # One that became visible and was read before anybody was told of it.
            if each["item"]["read_at"] is None:
                unread.add(each["item"]["item_id"])
        elif each["type"] == "inbox.read_all":
            unread = {item for item in unread if item > each["through"]}
        else:
            unread.discard(each["item_id"])
        assert each["unread_count"] >= 0
    if said:
        assert said[-1]["unread_count"] == len(unread)
    return unread
