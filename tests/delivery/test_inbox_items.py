"""Sends that leave items in inboxes: before any delivery begins, once, at each user's time, to those who want them."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import audit, changing, inbox, policies, preferences, users
from notify_pipeline.core.ledger.engine import Ledger, utc_now
from notify_pipeline.core.ledger.inbox import InboxItem
from notify_pipeline.core.ledger.people_tables import INBOX, USER_MESSAGES
from notify_pipeline.core.records import Recipient
from notify_pipeline.core.vocabulary import Channel, Outcome, PolicyKind, RequestState
from notify_pipeline.delivery import broadcast
from notify_pipeline.delivery.context import DeliveryContext
from tests.delivery.fakes import TENANT, FakeSender, accept, context, land, rows_of
from tests.delivery.test_drain import drain_to_end, drain_until, found, register

CHANNELS = ["fcm", "inbox"]
DAY = timedelta(days=1)


@pytest.fixture
def ctx(ledger: Ledger, folder_lake: Lake, fcm: FakeSender, apns: FakeSender) -> DeliveryContext:
    return context(ledger, folder_lake, fcm, apns)


def items(ledger: Ledger, user: str, ahead: timedelta = timedelta(seconds=1)) -> list[InboxItem]:
    return list(inbox.page(ledger, TENANT, user, datetime.now(UTC) + ahead).items)


def inbox_rows(ctx: DeliveryContext) -> list[dict[str, Any]]:
    land(ctx.ledger, ctx.lake)
    return sorted(
        (row for row in rows_of(ctx.lake, "attempts") if row["channel"] == "inbox"), key=lambda row: row["recipient"]
    )


def test_an_item_is_there_before_any_delivery_begins(ctx: DeliveryContext, fcm: FakeSender) -> None:
    seen: list[int] = []

    def look(recipient: Recipient, number: int) -> Outcome:
        seen.append(len(items(ctx.ledger, str(recipient.user_id))))
        return Outcome.ACCEPTED

    fcm.answer = look
    register(ctx.ledger, "phone", user_id="u1")
    content = {"title": "T", "body": "B", "data": {"a": "b"}}
    request_id = accept(
        ctx.ledger, "n1", users=["u1", "stranger"], channels=CHANNELS, content=content, category="sport",
        overrides={"inbox": {"body": "longer", "image_url": "https://x/"}},
    )  # fmt: skip
    drain_to_end(ctx, request_id)
    assert seen == [1]
    (item,) = items(ctx.ledger, "u1")
    assert (item.notification_id, item.type, item.category, item.expires_at) == ("n1", "news", "sport", None)
    assert item.content == {"title": "T", "body": "longer", "image_url": "https://x/", "data": {"a": "b"}}
    assert len(items(ctx.ledger, "stranger")) == 1
    one, two = ({"audience": number, "pending": 0, "accepted": number} for number in (1, 2))
    assert found(ctx.ledger, request_id).counts == {"fcm": one, "inbox": two}
    (_, row) = inbox_rows(ctx)
    assert (row["outcome"], row["provider"], row["platform"], row["attempt_no"]) == ("accepted", "inbox", "inbox", 1)
    assert (row["recipient"], row["user_id"], row["provider_message_id"]) == ("u1", "u1", item.item_id)
    audiences = {(each["channel"], each["platform"]): each["recipients"] for each in rows_of(ctx.lake, "audiences")}
    assert audiences == {("fcm", "android"): 1, ("inbox", "inbox"): 2}


def test_a_send_to_inboxes_alone_is_done_once_they_have_it(ctx: DeliveryContext, fcm: FakeSender) -> None:
    register(ctx.ledger, "phone", user_id="u1")
    request_id = accept(ctx.ledger, users=["u1"], channels=["inbox"])
    drain_to_end(ctx, request_id)
    assert [entry.to_state for entry in audit.page(ctx.ledger, request_id)] == ["accepted", "routed", "done"]
    assert fcm.calls == [] and len(items(ctx.ledger, "u1")) == 1


def test_what_reaches_no_device_is_in_the_inbox_all_the_same(ctx: DeliveryContext) -> None:
    request_id = accept(ctx.ledger, users=["u1"], channels=["email", "inbox"])
    drain_to_end(ctx, request_id)
    assert found(ctx.ledger, request_id).state is RequestState.DONE
    assert len(items(ctx.ledger, "u1")) == 1


def test_a_dry_run_leaves_nothing(ctx: DeliveryContext) -> None:
    drain_to_end(ctx, accept(ctx.ledger, users=["u1"], channels=["inbox"], dry_run=True))
    assert items(ctx.ledger, "u1") == []
    assert [row["outcome"] for row in inbox_rows(ctx)] == ["dry_run"]


def test_who_wants_none_is_skipped_and_says_why(ctx: DeliveryContext) -> None:
    said = preferences.Change(TENANT, "user:u2", {("sport", Channel.INBOX.value): False}, "api", "k")
    preferences.change(ctx.ledger, said, utc_now())
    request_id = accept(ctx.ledger, users=["u1", "u2"], channels=["inbox"], category="sport")
    drain_to_end(ctx, request_id)
    assert (len(items(ctx.ledger, "u1")), items(ctx.ledger, "u2")) == (1, [])
    told = [(row["recipient"], row["outcome"], row["provider_code"]) for row in inbox_rows(ctx)]
    assert told == [("u1", "accepted", None), ("u2", "skipped", "unsubscribed")]
    assert all(row["consent"] for row in inbox_rows(ctx))
    assert found(ctx.ledger, request_id).counts == {
        "inbox": {"audience": 2, "pending": 0, "accepted": 1, "skipped": 1},
    }


def test_neither_quiet_hours_nor_caps_hold_an_item_back(ctx: DeliveryContext, fcm: FakeSender) -> None:
    policies.put(ctx.ledger, TENANT, PolicyKind.FREQUENCY_CAP, {"count": 1, "period_s": 60}, "k", utc_now())
    now = utc_now()
    night = {"from": f"{now - timedelta(hours=2):%H:%M}", "until": f"{now + timedelta(hours=2):%H:%M}"}
    register(ctx.ledger, "phone", user_id="u1")
    done = [accept(ctx.ledger, users=["u1"], channels=["inbox"]) for _ in range(3)]
    done += [accept(ctx.ledger, users=["u1"], channels=CHANNELS) for _ in range(2)]
    drain_to_end(ctx, *done)
    assert len(fcm.calls) == 1 and len(items(ctx.ledger, "u1")) == 5
    states = {tuple(entry.to_state for entry in audit.page(ctx.ledger, each)) for each in done[3:]}
    assert states == {("accepted", "routed", "sending", "done"), ("accepted", "routed", "done")}
    policies.put(ctx.ledger, TENANT, PolicyKind.QUIET_HOURS, {**night, "timezone": "UTC"}, "k", utc_now())
    drain_to_end(ctx, accept(ctx.ledger, users=["u1"], channels=["inbox"]))
    assert len(items(ctx.ledger, "u1")) == 6


def test_a_send_at_local_time_is_shown_at_each_user_s(ctx: DeliveryContext) -> None:
    users.put(ctx.ledger, TENANT, "tokyo", users.Profile(timezone="Asia/Tokyo"), "k", utc_now())
    users.put(ctx.ledger, TENANT, "york", users.Profile(timezone="America/New_York"), "k", utc_now())
    wall = (utc_now() + DAY).replace(tzinfo=None, microsecond=0)
    request_id = accept(
        ctx.ledger, users=["tokyo", "york"], channels=["inbox"], send_at_local=wall.isoformat(), ttl=60, ttl_s=200_000
    )
    drain_to_end(ctx, request_id)
    with ctx.ledger.read() as conn:
        stored = {row.user_id: row for row in conn.execute(select(INBOX))}
    tokyo = to_micros(wall.replace(tzinfo=UTC) - timedelta(hours=9))
    assert (stored["tokyo"].visible_at, stored["tokyo"].expires_at) == (tokyo, tokyo + 60_000_000)
    assert stored["york"].visible_at - tokyo in {hours * 3_600_000_000 for hours in (13, 14)}
    assert stored["tokyo"].announced_at is None and items(ctx.ledger, "tokyo") == []


def test_connected_clients_are_told_once_it_is_time(ctx: DeliveryContext) -> None:
    soon = (utc_now() + timedelta(seconds=1)).replace(tzinfo=None)
    accept(ctx.ledger, users=["u1"], channels=["inbox"], send_at_local=soon.isoformat())

    def told() -> bool:
        with ctx.ledger.read() as conn:
            return conn.execute(select(USER_MESSAGES)).first() is not None

    drain_until(ctx, told)
    assert len(items(ctx.ledger, "u1")) == 1


def test_nothing_is_left_of_a_send_that_is_cancelled(ctx: DeliveryContext) -> None:
    at = (utc_now() + timedelta(hours=1)).isoformat()
    accept(ctx.ledger, "n1", users=["u1"], channels=["inbox"], send_at=at)
    other = accept(ctx.ledger, users=["u2"], channels=["inbox"])
    assert changing.cancel(ctx.ledger, TENANT, "n1", "k", utc_now()) is not None
    drain_to_end(ctx, other)
    assert items(ctx.ledger, "u1", DAY) == []


def test_a_broadcast_s_items_come_with_its_shards(ctx: DeliveryContext, fcm: FakeSender) -> None:
    small = context(ctx.ledger, ctx.lake, fcm, inline_limit=2)
    for number in range(3):
        register(ctx.ledger, f"phone{number}", user_id=f"u{number}")
    body: dict[str, Any] = {"users": ["u0", "u1", "u2", "u3"], "channels": CHANNELS}
    request_id, doomed = accept(ctx.ledger, "n1", **body), accept(ctx.ledger, "n2", **body)
    drain_until(
        small, lambda: all(found(ctx.ledger, each).state is RequestState.ROUTED for each in (request_id, doomed))
    )
    assert items(ctx.ledger, "u0") == []
    assert changing.cancel(ctx.ledger, TENANT, "n2", "k", utc_now()) is not None
    refs = broadcast.snapshot(small, request_id)
    assert [(ref.channel, ref.recipients) for ref in refs] == [("fcm", 3)]
    assert [len(items(ctx.ledger, f"u{number}")) for number in range(5)] == [1, 1, 1, 1, 0]
    assert fcm.calls == []
    assert broadcast.snapshot(small, request_id) == refs
    broadcast.send_shards(small, request_id, [ref.shard for ref in refs], threading.Event())
    assert broadcast.finish(small, request_id) is RequestState.DONE
    three, four = ({"audience": number, "pending": 0, "accepted": number} for number in (3, 4))
    assert found(ctx.ledger, request_id).counts == {"fcm": three, "inbox": four}
    assert [row["recipient"] for row in inbox_rows(small)] == ["u0", "u1", "u2", "u3"]
