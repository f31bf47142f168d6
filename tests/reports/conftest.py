"""Delivery contexts with a channel that answers as a test says: for small sends, and for a topic of 110 recipients."""

import pytest

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.vocabulary import Channel
from notify_pipeline.delivery.context import DeliveryContext
from tests.delivery.fakes import FakeSender, context
from tests.delivery.lakes import Landing, row

# Two parts: 55 + 15 and 40 recipients.
SIZES = {"inline_limit": 3, "shard_min": 40, "chunk_size": 10}


@pytest.fixture
def fcm() -> FakeSender:
    return FakeSender(Channel.FCM)


@pytest.fixture
def small(ledger: Ledger, lake: Lake, fcm: FakeSender) -> DeliveryContext:
    return context(ledger, lake, fcm, FakeSender(Channel.APNS))


@pytest.fixture
def large(ledger: Ledger, folder_lake: Lake, fcm: FakeSender) -> DeliveryContext:
    landing = Landing(folder_lake, ledger)
    phones = [row(f"a{n:03d}", 1, ["t"], user_id=f"u{n}") for n in range(95)]
    landing.land(*phones, *(row(f"i{n:03d}", 1, ["t"], platform="ios") for n in range(15)))
    return context(ledger, folder_lake, fcm, FakeSender(Channel.APNS), **SIZES)
