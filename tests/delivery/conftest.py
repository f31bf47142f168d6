"""Fixtures of the delivery tests: the two channels as fakes that accept, and a clock that tests set."""

import pytest

from notify_pipeline.core.vocabulary import Channel
from tests.delivery.clocks import Clock
from tests.delivery.fakes import FakeSender


@pytest.fixture
def fcm() -> FakeSender:
    return FakeSender(Channel.FCM)


@pytest.fixture
def apns() -> FakeSender:
    return FakeSender(Channel.APNS)


@pytest.fixture
def clock() -> Clock:
    return Clock()
