"""A recipient's own fields: whichever way its send takes, they arrive at the channel, again in retries and replays."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest

from notify_pipeline.channels.base import Message, Report
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import letters, replays
from notify_pipeline.core.ledger.engine import Ledger, utc_now
from notify_pipeline.core.ledger.letters import Filter
from notify_pipeline.core.records import Recipient
from notify_pipeline.core.schemas import SNAPSHOT
from notify_pipeline.core.vocabulary import Channel, Outcome, Platform, RequestState
from notify_pipeline.delivery import planning
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.delivery.recipients import Recipients
from tests.delivery.fakes import TENANT, FakeSender, accept, context
from tests.delivery.test_broadcast import routed, run
from tests.delivery.test_drain import drain_to_end, found, register

ADA, BOB = '{"name":"Ada"}', '{"name":"Bob \\u00e9"}'
OWN = {"d0": ADA, "d1": BOB}


class Listening(FakeSender):
    """Remembers which fields each call had."""

    def __init__(self, name: Channel) -> None:
        super().__init__(name)
        self.heard: list[tuple[str, str | None]] = []

    async def send(
        self, message: Message, recipients: Sequence[Recipient], delivery_ids: Sequence[str], report: Report
    ) -> None:
        self.heard.extend((each.address, each.fields) for each in recipients)
        await super().send(message, recipients, delivery_ids, report)


@pytest.fixture
def fcm() -> Listening:
    return Listening(Channel.FCM)


@pytest.fixture
def ctx(ledger: Ledger, folder_lake: Lake, fcm: Listening) -> DeliveryContext:
    for number in range(3):
        register(ledger, f"d{number}", Platform.WEB)
    return context(ledger, folder_lake, fcm, inline_limit=10)


@pytest.mark.parametrize("as_broadcast", [False, True])
def test_fields_arrive_in_attempts_in_retries_and_in_replays_of_what_died(
    ctx: DeliveryContext, fcm: Listening, as_broadcast: bool
) -> None:
    def send(**body: Any) -> str:
        if as_broadcast:
            assert run(ctx, made := routed(ctx, **body)).is_final
        else:
            drain_to_end(ctx, made := accept(ctx.ledger, **body))
        return made

    fcm.answer = lambda recipient, number: Outcome.TRANSIENT if number == 1 else Outcome.PERMANENT
    request_id = send(devices=["d0", "d1", "d2"], device_fields=OWN)
    everybody = [("d0", ADA), ("d1", BOB), ("d2", None)]
    assert (sorted(fcm.heard), found(ctx.ledger, request_id).state) == (sorted(everybody * 2), RequestState.FAILED)
    dead = letters.page(ctx.ledger, [TENANT], Filter(), 10).rows
    assert sorted((each.address, each.fields) for each in dead) == everybody
    fcm.heard.clear()
    fcm.answer = lambda recipient, number: Outcome.ACCEPTED
    asked = replays.Replay(TENANT, "k", utc_now(), [each.delivery_id for each in dead], Filter(), 10, 10)
    (made,) = replays.replay(ctx.ledger, asked).answer["requests"]
    drain_to_end(ctx, made["request_id"])
    assert sorted(fcm.heard) == everybody


def test_shards_and_deliveries_without_fields_are_read() -> None:
    old = SNAPSHOT.remove(SNAPSHOT.get_field_index("fields"))
    rows = pa.table([pa.array(["d0", None], pa.string()) for _ in old.names], schema=old)
    recipients = Recipients(rows, ["d0", "d1"], ["1", "2"]).as_sent(Platform.WEB)
    assert [each.fields for each in recipients] == [None, None]
    assert planning.recipient_of("d0", "web", '["u",null,null,"1.0"]') == Recipient(
        "d0", Platform.WEB, "u", None, None, "1.0"
    )
