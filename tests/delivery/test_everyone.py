"""Sends to everyone, through the queue and as a broadcast."""

from collections.abc import Sequence

import pytest

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import devices
from notify_pipeline.core.ledger.engine import Ledger, utc_now
from notify_pipeline.core.vocabulary import Channel, Platform
from tests.delivery.fakes import TENANT, FakeSender, accept, context, land
from tests.delivery.test_broadcast import routed
from tests.delivery.test_broadcast import run as send_all
from tests.delivery.test_drain import drain_to_end, register

CONDITION = "!('sport' in topics) || 'uk' in topics"


def calls(*senders: FakeSender) -> list[str]:
    return sorted(call[0] for sender in senders for call in sender.calls)


@pytest.mark.parametrize(
    ("condition", "expected"), [(None, ["fan", "new", "phone", "tablet"]), (CONDITION, ["fan", "new", "phone"])]
)
def test_everyone_who_satisfies_the_condition_gets_it(
    ledger: Ledger, folder_lake: Lake, condition: str | None, expected: Sequence[str]
) -> None:
    register(ledger, "phone", user_id="u1")
    register(ledger, "fan", user_id="u2", platform=Platform.IOS, topics=["sport", "uk"])
    register(ledger, "tablet", topics=["sport"])
    register(ledger, "gone")
    land(ledger, folder_lake)
    devices.delete(ledger, TENANT, "gone", utc_now())
    register(ledger, "new")
    land(ledger, folder_lake)
    body = {"everyone": True, **({} if condition is None else {"condition": condition})}
    small = [FakeSender(Channel.FCM), FakeSender(Channel.APNS)]
    drain_to_end(context(ledger, folder_lake, *small), accept(ledger, **body))
    assert calls(*small) == expected
    large = [FakeSender(Channel.FCM), FakeSender(Channel.APNS)]
    send_all(ctx := context(ledger, folder_lake, *large, inline_limit=1), routed(ctx, **body))
    assert calls(*large) == expected
