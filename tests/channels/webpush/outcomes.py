"""The harness of Web push for the outcomes suite."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from notify_pipeline.channels.each import EachSender
from notify_pipeline.channels.rates import Gate
from notify_pipeline.channels.webpush.carrier import Reach, WebPushCarrier
from notify_pipeline.channels.webpush.message import WebPushMessage
from notify_pipeline.channels.webpush.vapid import VapidTokens
from notify_pipeline.core.rates import Limits
from notify_pipeline.core.records import Content
from notify_pipeline.core.vapid import key_of
from notify_pipeline.core.vocabulary import Platform
from tests.channels.buckets import OwnBucket
from tests.channels.harness import RECEIPTS, utc_now
from tests.channels.outcomes import Case
from tests.channels.webpush.browsers import ACCEPTED, Answer, Service, running_service

ANSWERS: dict[Case, Answer] = {
    Case.ACCEPTED: ACCEPTED,
    Case.THROTTLED: (429, {"Retry-After": "7"}),
    Case.TRANSIENT: (503, {"Retry-After": "3"}),
    Case.PERMANENT: (413, {}),
    Case.INVALID_RECIPIENT: (410, {}),
    Case.AMBIGUOUS: None,
}


@dataclass
class WebPushHarness:
    """Web push, open."""

    sender: EachSender[WebPushMessage]
    gate: Gate
    service: Service

    platform = Platform.WEBPUSH
    oversized = Content("Title", "ä" * 2_000)
    gives_ids = True
    throttled_s = 7.0

    def address(self, number: int) -> str:
        return self.service.token(number)

    def answer(self, case: Case) -> None:
        self.service.hangs = False
        answer = ANSWERS[case]
        self.service.answers = lambda _: answer

    def hang(self) -> None:
        self.service.hangs = True

    @property
    def called(self) -> list[str]:
        return [self.service.token(got.number) for got in self.service.got]

    @property
    def marks(self) -> list[str]:
        return [got.message["d"] for got in self.service.got]


@asynccontextmanager
async def open_webpush(folder: Path) -> AsyncIterator[WebPushHarness]:
    async with running_service() as service:
        tokens = VapidTokens(key_of(b"k" * 32), "mailto:ops@example.com", utc_now)
        carrier = WebPushCarrier(tokens, Reach(allow_private=True), RECEIPTS, 5.0, utc_now)
        gate = Gate(OwnBucket(), Limits(None), utc_now)
        sender = EachSender(carrier, gate, utc_now, 16)
        try:
            yield WebPushHarness(sender, gate, service)
        finally:
            await sender.aclose()
