"""Deliveries of a channel whose credentials are gone: they wait for them, and no longer than they live."""

from datetime import UTC, datetime

import pytest

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import deliveries, devices, requests, routing
from notify_pipeline.core.ledger.devices import Registration
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.vocabulary import Channel, Platform, RequestState
from notify_pipeline.delivery import closed_lane, notifications, planning
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.delivery.known import find_known
from tests.delivery.fakes import TENANT, FakeSender, accept, context, land, rows_of
from tests.delivery.test_drain import drain_to_end, drain_until, found


def queued(ctx: DeliveryContext, ttl_s: float) -> str:
    """Return a send to one phone that was queued when all channels were open."""
    devices.register(ctx.ledger, TENANT, Registration("d1", Platform.ANDROID, "u1"), datetime.now(UTC))
    request_id = accept(ctx.ledger, ttl_s=ttl_s, users=["u1"])
    now = ctx.clock()
    (row,) = routing.claim(ctx.ledger, ctx.owner, now, 60, 10)
    notification = notifications.parse(row)
    known = find_known(ctx.ledger, [notification])[request_id]
    rules = planning.Rules(frozenset(Channel), 100, ctx.delivery_secret, "plan")
    assert routing.store(ctx.ledger, ctx.owner, [planning.plan(notification, known, rules, now)], now) == [True]
    return request_id


def test_they_end_when_they_expire(ledger: Ledger, folder_lake: Lake) -> None:
    ctx = context(ledger, folder_lake, FakeSender(Channel.APNS))
    request_id = queued(ctx, ttl_s=0.5)
    drain_to_end(ctx, request_id)
    land(ledger, folder_lake)
    (row,) = rows_of(folder_lake, "attempts")
    assert (row["outcome"], row["provider_code"], row["provider"]) == ("expired", "channel_not_configured", None)
    assert found(ledger, request_id).state is RequestState.EXPIRED


def test_they_are_sent_when_the_channel_is_back(
    ledger: Ledger, folder_lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closed_lane, "_WAIT_US", 300_000)
    without = context(ledger, folder_lake, FakeSender(Channel.APNS))
    request_id = queued(without, ttl_s=600)
    put_off: list[int] = []

    def is_put_off() -> bool:
        if not deliveries.is_due(ledger, "fcm", without.clock()):
            put_off.append(1)
        return bool(put_off) and deliveries.depths(ledger) == {"fcm": {"waiting": 1}}

    drain_until(without, is_put_off)
    fcm = FakeSender(Channel.FCM)
    drain_to_end(context(ledger, folder_lake, fcm), request_id)
    land(ledger, folder_lake)
    assert [call[0] for call in fcm.calls] == ["d1"]
    (row,) = rows_of(folder_lake, "attempts")
    assert (row["outcome"], row["attempt_no"]) == ("accepted", 1), "waiting made no attempt"
    row_now = requests.get(ledger, TENANT, request_id)
    assert row_now is not None and row_now.state is RequestState.DONE
