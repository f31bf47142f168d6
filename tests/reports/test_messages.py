"""A user's history: what was sent to whom it was then, newest first, and nobody else's."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from notify_pipeline.core.compaction import compact
from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import audit
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.request_lists import RequestFilter
from notify_pipeline.core.records import AttemptResult, Recipient
from notify_pipeline.core.schemas import ATTEMPTS
from notify_pipeline.core.vocabulary import Channel, Outcome, Platform
from notify_pipeline.delivery import broadcast
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.reports import reading_messages
from notify_pipeline.reports.reading_messages import Asked, Message
from tests.delivery.fakes import TENANT, FakeSender, accept, context, land
from tests.reports.sends import broadcast_of, drained, flaky, register


def history(ctx: DeliveryContext, user_id: str, limit: int = 2, **more: Any) -> list[Message]:
    """Return a user's messages by pages."""
    found: list[Message] = []
    after = None
    while True:
        page = reading_messages.page(ctx.ledger, ctx.lake, Asked(TENANT, user_id, **more), limit, after, 0.2)
        assert page.complete
        found += page.rows
        if page.following is None:
            return found
        after = page.following


def told(messages: list[Message]) -> list[tuple[str, str, str | None]]:
    return [(each.request.request_id, each.last["recipient"], each.outcome) for each in messages]


def test_a_token_that_changes_hands_takes_no_history_with_it(small: DeliveryContext) -> None:
    register(small.ledger, "phone", user_id="u1")
    register(small.ledger, "tablet", Platform.IOS, user_id="u1")
    first = accept(small.ledger, users=["u1"])
    drained(small, first)
    register(small.ledger, "phone", user_id="u2")
    second = accept(small.ledger, devices=["phone"])
    drained(small, second)
    third = accept(small.ledger, users=["u1", "u2"], channels=["apns"])
    drained(small, third)
    land(small.ledger, small.lake)
    assert told(history(small, "u2")) == [(second, "phone", "accepted")]
    mine = told(history(small, "u1"))
    assert mine[0] == (third, "tablet", "accepted")
    assert set(mine[1:]) == {(first, "phone", "accepted"), (first, "tablet", "accepted")}
    assert told(history(small, "u1", channel=Channel.FCM)) == [(first, "phone", "accepted")]
    assert history(small, "u3") == []
    assert reading_messages.page(small.ledger, small.lake, Asked("t2", "u1"), 10, None, 0.2).rows == []
    at = history(small, "u1")[0].first["sent_at"]
    assert told(history(small, "u1", since=at)) == mine[:1]
    assert told(history(small, "u1", until=at)) == mine[1:]
    late = datetime.now(UTC) + timedelta(hours=2)
    compact(small.ledger, small.lake, ATTEMPTS, timedelta(minutes=5), late)
    assert told(history(small, "u1")) == mine


def test_an_address_has_a_history_whoever_it_belonged_to(small: DeliveryContext) -> None:
    register(small.ledger, "page", Platform.WEB, user_id="u1")
    register(small.ledger, "other", Platform.WEB)
    first = accept(small.ledger, devices=["page", "other"])
    drained(small, first)
    register(small.ledger, "page", Platform.WEB, user_id="u2")
    second = accept(small.ledger, devices=["page"])
    drained(small, second)
    land(small.ledger, small.lake)

    def of(tenant: str, *addresses: str) -> list[tuple[str, str, str | None]]:
        asked = Asked(tenant, addresses=addresses)
        return told(list(reading_messages.page(small.ledger, small.lake, asked, 10, None, 0.2).rows))

    assert of(TENANT, "page", "gone") == [(second, "page", "accepted"), (first, "page", "accepted")]
    assert of(TENANT, "other") == [(first, "other", "accepted")]
    assert of(TENANT, "gone") == of("t2", "page") == []


def test_each_delivery_is_there_once_with_its_last_attempt(small: DeliveryContext, fcm: FakeSender) -> None:
    fcm.answer = flaky
    for n in range(6):
        register(small.ledger, f"a{n:03d}", user_id="u")
    ids = [accept(small.ledger, users=["u"]) for _ in range(3)]
    for request_id in ids:
        drained(small, request_id)
    land(small.ledger, small.lake)
    messages = history(small, "u", limit=4)
    assert len({each.last["delivery_id"] for each in messages}) == len(messages) == 18
    assert [each.position for each in messages] == sorted((each.position for each in messages), reverse=True)
    most = small.settings.retry_attempts
    assert {each.last["attempt_no"] for each in messages if each.last["recipient"] == "a003"} == {most}
    asked = Asked(TENANT, "u")
    found: list[str] = []
    after = None
    while True:
        rows, after = reading_messages.requests_page(small.ledger, small.lake, asked, RequestFilter(), 1, after, 0.2)
        found += [row.request_id for row in rows]
        if after is None:
            break
    assert sorted(found) == sorted(ids) and len(found) == 3
    none = reading_messages.requests_page(small.ledger, small.lake, asked, RequestFilter(type="sport"), 1, None, 0.2)
    assert none == ([], None)


def test_a_broadcast_is_in_the_history_of_whoever_it_went_to(
    large: DeliveryContext, fcm: FakeSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_messages, "MOST_FILES", 1)
    fcm.answer = flaky
    request_id = broadcast_of(large)
    for ref in broadcast.snapshot(large, request_id):
        assert broadcast.send_shard(large, request_id, ref.shard).done
    broadcast.finish(large, request_id)
    assert told(history(large, "u7")) == [(request_id, "a007", "accepted")]
    assert told(history(large, "u13")) == [(request_id, "a013", "transient")]
    (ended,) = (e.at for e in audit.page(large.ledger, request_id) if e.to_state == "done")
    assert history(large, "u7", since=ended + timedelta(hours=1)) == []


def test_retries_of_a_later_hour_count(ledger: Ledger, folder_lake: Lake, fcm: FakeSender) -> None:
    """Time goes on by an hour between the attempts."""
    shift = timedelta(0)

    def clock() -> datetime:
        return datetime.now(UTC) + shift

    ctx = context(ledger, folder_lake, fcm, clock=clock)
    register(ledger, "phone", user_id="u")
    request_id = accept(ledger, users=["u"], ttl_s=86_400)

    def answer(recipient: Recipient, number: int) -> AttemptResult:
        nonlocal shift
        at = to_micros(clock())
        shift += timedelta(hours=1)
        return AttemptResult(Outcome.TRANSIENT if number == 1 else Outcome.ACCEPTED, f"try{number}", at, at)

    fcm.answer = answer
    drained(ctx, request_id)
    land(ledger, folder_lake)
    assert len({file.path.rpartition("/")[0] for file in folder_lake.list("attempts")}) == 2
    (message,) = history(ctx, "u")
    assert (message.outcome, message.last["provider_code"], message.first["provider_code"]) == (
        "accepted",
        "try2",
        "try1",
    )
