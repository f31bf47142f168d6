"""Sends that are over their tenant's limits, found out when they are planned or snapshot."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import audit, figures, policies, usage
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.tenant_tables import TENANTS, USAGE
from notify_pipeline.core.vocabulary import PolicyKind, RequestState
from notify_pipeline.delivery import broadcast
from notify_pipeline.delivery.context import DeliveryContext
from tests.delivery.fakes import TENANT, FakeSender, accept, context, land
from tests.delivery.test_broadcast import Landing, routed, row, run
from tests.delivery.test_drain import drain_to_end, found, register
from tests.ingest_api.conftest import change


@pytest.fixture
def ctx(ledger: Ledger, folder_lake: Lake, fcm: FakeSender) -> DeliveryContext:
    values = {"tenant": TENANT, "name": "P", "active": True, "created_at": 0}
    change(ledger, insert(TENANTS).values(values))
    Landing(folder_lake, ledger).land(*(row(f"a{n}", 1, ["t"]) for n in range(5)))
    for n in range(4):
        register(ledger, f"phone{n}", user_id="u")
    register(ledger, "single", user_id="v")
    land(ledger, folder_lake)
    return context(ledger, folder_lake, fcm, inline_limit=4)


def limit(ctx: DeliveryContext, **limits: Any) -> None:
    policies.put(ctx.ledger, TENANT, PolicyKind.LIMITS, limits, "admin", datetime.now(UTC) - timedelta(days=1))


def recipients_used(ctx: DeliveryContext) -> int:
    with ctx.ledger.read() as conn:
        return sum(conn.execute(select(USAGE.c.recipients)).scalars())


def test_a_send_to_too_many_fails_and_nobody_gets_it(ctx: DeliveryContext, fcm: FakeSender) -> None:
    limit(ctx, max_audience=3)
    large, small = accept(ctx.ledger, "large", users=["u"]), accept(ctx.ledger, "small", users=["v"])
    drain_to_end(ctx, large, small)
    assert [call[0] for call in fcm.calls] == ["single"]
    request = found(ctx.ledger, large)
    assert (request.state, request.reason, request.counts) == (RequestState.FAILED, "audience_too_large", {})
    assert found(ctx.ledger, small).state is RequestState.DONE
    last = audit.page(ctx.ledger, large)[-1]
    assert (last.to_state, last.detail) == ("failed", {"recipients": 4, "reason": "audience_too_large"})


def test_recipients_of_a_day_are_exactly_the_quota(ctx: DeliveryContext, fcm: FakeSender) -> None:
    limit(ctx, daily_recipients=6)
    first = accept(ctx.ledger, "first", users=["u"])
    drain_to_end(ctx, first)
    over = accept(ctx.ledger, "over", users=["u"])
    drain_to_end(ctx, over)
    rest = [accept(ctx.ledger, f"rest{n}", users=["v"]) for n in range(3)]
    drain_to_end(ctx, *rest)
    states = [found(ctx.ledger, each).state for each in (first, over, *rest)]
    assert states.count(RequestState.DONE) == 3
    assert found(ctx.ledger, over).reason == "quota_exceeded"
    assert (len(fcm.calls), recipients_used(ctx)) == (6, 6)
    today = usage.day_of(datetime.now(UTC))
    with ctx.ledger.read() as conn:
        (day,) = figures.by_day(conn, [TENANT], today - 1, today)
        assert figures.recipients_counted(conn, TENANT, today) == 6
    assert (day.requests, day.recipients) == (5, 6), "what people see is what the quota counts"
    assert day.channels == {"fcm": {"audience": 6, "pending": 0, "accepted": 6}}


@pytest.mark.parametrize("limits", [{"max_audience": 4}, {"daily_recipients": 4}])
def test_a_broadcast_over_a_limit_is_told_at_its_snapshot(
    ctx: DeliveryContext, fcm: FakeSender, limits: dict[str, int]
) -> None:
    limit(ctx, **limits)
    request_id = routed(ctx, topics=["t"])
    assert broadcast.snapshot(ctx, request_id) == []
    assert run(ctx, request_id) is RequestState.FAILED
    request = found(ctx.ledger, request_id)
    assert request.reason == ("audience_too_large" if "max_audience" in limits else "quota_exceeded")
    assert fcm.calls == []
    assert recipients_used(ctx) == 0
    assert not list(ctx.lake.list("snapshots/")), "nobody needs its shards"
    states = [entry.to_state for entry in audit.page(ctx.ledger, request_id)]
    assert states == ["accepted", "routed", "failed"]


def test_a_broadcast_within_its_limits_uses_them_once(ctx: DeliveryContext, fcm: FakeSender) -> None:
    limit(ctx, max_audience=5, daily_recipients=7)
    request_id = routed(ctx, topics=["t"])
    assert broadcast.snapshot(ctx, request_id) == broadcast.snapshot(ctx, request_id)
    assert run(ctx, request_id) is RequestState.DONE
    assert (len(fcm.calls), recipients_used(ctx)) == (5, 5)
    assert broadcast.snapshot(ctx, over := routed(ctx, notification_id="n2", topics=["t"])) == []
    assert found(ctx.ledger, over).reason == "quota_exceeded"


def test_tenants_without_limits_leave_no_trace(ctx: DeliveryContext, fcm: FakeSender) -> None:
    limit(ctx)
    request_id = accept(ctx.ledger, users=["u"])
    drain_to_end(ctx, request_id)
    with ctx.ledger.read() as conn:
        assert conn.execute(select(USAGE)).all() == []
