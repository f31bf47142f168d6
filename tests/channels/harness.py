"""What the contract suite needs of a channel: a sender whose provider answers as the test says."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import orjson

from notify_pipeline.channels.apns.message import ApnsCodec
from notify_pipeline.channels.base import ChannelSender, Message
from notify_pipeline.channels.curl_transport import CurlTransport
from notify_pipeline.channels.fcm.message import FcmCodec
from notify_pipeline.channels.push import Codec, PushSender
from notify_pipeline.channels.wire.transport import WireTransport
from notify_pipeline.core.ids import DeliveryIds
from notify_pipeline.core.records import AttemptResult, Audience, Content, Notification, Recipient
from notify_pipeline.core.vocabulary import Platform, Priority
from tests.channels.peer import Action, Drop, Peer, Reply, running_peer

Kind = type[CurlTransport] | type[WireTransport]

RECEIPTS = "https://cdn.example"


def utc_now() -> datetime:
    return datetime.now(UTC)


class FixedCredentials:
    """Hands out tokens "token-1", "token-2", … and remembers which were refused."""

    def __init__(self) -> None:
        self.number = 1
        self.refused: list[str] = []

    async def bearer(self) -> str:
        return f"token-{self.number}"

    async def renew(self, refused: str) -> str:
        self.refused.append(refused)
        self.number += 1
        return await self.bearer()

    async def aclose(self) -> None:
        pass


@dataclass
class Harness:
    """One channel under test, open."""

    sender: ChannelSender
    platform: Platform
    address: Callable[[int], str]
    bad_address: str
    answers: Mapping[str, Action]  # by the contract's word for it
    can_dry_run: bool
    peer: Peer
    credentials: FixedCredentials = field(default_factory=FixedCredentials)

    def answer(self, what: str) -> None:
        """Make the provider answer everything like this from now on."""
        action = self.answers[what]
        self.peer.script = lambda _: action

    @property
    def calls(self) -> int:
        """How many requests the provider got."""
        return len(self.peer.seen)


Open = Callable[[Path], AbstractAsyncContextManager[Harness]]


def notification(**changes: object) -> Notification:
    """A notification with nothing unusual about it."""
    now = utc_now()
    values: dict[str, object] = {
        "tenant": "tenant-1",
        "request_id": "request-1",
        "notification_id": "notification-1",
        "type": "news",
        "audience": Audience(),
        "content": Content("Title", "Body", "https://example.com/a", "https://example.com/i.png", {"key": "value"}),
        "accepted_at": now,
        "expires_at": now + timedelta(hours=1),
        "priority": Priority.HIGH,
    }
    return Notification(**(values | changes))  # type: ignore[arg-type]


async def send(
    harness: Harness, count: int = 1, message: Message | None = None, addresses: list[str] | None = None
) -> list[AttemptResult]:
    """Send to so many recipients; every one must be reported exactly once."""
    if message is None:
        message = harness.sender.prepare(notification(), harness.platform)
    addresses = addresses or [harness.address(number) for number in range(count)]
    ids = DeliveryIds(b"s" * 32, "tenant-1", "notification-1", harness.sender.name)
    results: dict[int, AttemptResult] = {}

    def report(index: int, result: AttemptResult) -> None:
        assert index not in results, f"recipient {index} was reported twice"
        results[index] = result

    recipients = [Recipient(address, harness.platform) for address in addresses]
    await harness.sender.send(message, recipients, [ids.of(address) for address in addresses], report)
    assert sorted(results) == list(range(len(addresses)))
    return [results[index] for index in range(len(addresses))]


def fcm_error(status: int, code: str, word: str, headers: tuple[tuple[str, str], ...] = (), **detail: object) -> Reply:
    details: list[dict[str, object]] = [
        {"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": word}
    ]
    if detail:
        details.append({"@type": "type.googleapis.com/google.rpc.BadRequest", **detail})
    error = {"code": status, "message": "…", "status": code, "details": details}
    return Reply(status, orjson.dumps({"error": error}), headers)


def apns_error(status: int, reason: str, headers: tuple[tuple[str, str], ...] = (), **more: object) -> Reply:
    return Reply(status, orjson.dumps({"reason": reason, **more}), headers)


FCM_ANSWERS: dict[str, Action] = {
    "accepted": Reply(200, b'{"name": "projects/p/messages/1"}'),
    "throttled": fcm_error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", (("retry-after", "7"),)),
    "transient": fcm_error(503, "UNAVAILABLE", "UNAVAILABLE", (("retry-after", "3"),)),
    "permanent": fcm_error(
        400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", fieldViolations=[{"field": "message.data[0].value"}]
    ),
    "invalid_recipient": fcm_error(404, "NOT_FOUND", "UNREGISTERED"),
    "ambiguous": Drop(),
    "credentials": Reply(401, b'{"error": {"code": 401, "status": "UNAUTHENTICATED"}}'),
}
APNS_ANSWERS: dict[str, Action] = {
    "accepted": Reply(200, b"", (("apns-id", "0F0F"),)),
    "throttled": apns_error(429, "TooManyRequests", (("retry-after", "7"),)),
    "transient": apns_error(503, "ServiceUnavailable", (("retry-after", "3"),)),
    "permanent": apns_error(413, "PayloadTooLarge"),
    "invalid_recipient": apns_error(410, "Unregistered", timestamp=1_700_000_000_123),
    "ambiguous": Drop(),
    "credentials": apns_error(403, "ExpiredProviderToken"),
}


@asynccontextmanager
async def _push(
    folder: Path,
    codec: Codec,
    platform: Platform,
    answers: Mapping[str, Action],
    address: Callable[[int], str],
    bad: str,
    kind: Kind,
) -> AsyncIterator[Harness]:
    async with running_peer(folder) as peer:
        transport = kind(peer.url, ca=peer.ca, max_in_flight=16, timeout_s=5)
        credentials = FixedCredentials()
        sender = PushSender(codec, credentials, transport, utc_now)
        harness = Harness(sender, platform, address, bad, answers, codec.can_dry_run, peer, credentials)
        harness.answer("accepted")
        try:
            yield harness
        finally:
            await sender.aclose()
            await asyncio.sleep(0)


def fcm_android(folder: Path, kind: Kind = CurlTransport) -> AbstractAsyncContextManager[Harness]:
    codec = FcmCodec("project", RECEIPTS)
    return _push(folder, codec, Platform.ANDROID, FCM_ANSWERS, lambda n: f"c{n:021d}:APA91b{n:0134d}", 'x"} {', kind)


def fcm_web(folder: Path, kind: Kind = CurlTransport) -> AbstractAsyncContextManager[Harness]:
    codec = FcmCodec("project", RECEIPTS)
    return _push(folder, codec, Platform.WEB, FCM_ANSWERS, lambda n: f"d{n:021d}:APA91b{n:0134d}", "a token", kind)


def apns_ios(folder: Path, kind: Kind = CurlTransport) -> AbstractAsyncContextManager[Harness]:
    codec = ApnsCodec("com.example.app", RECEIPTS)
    return _push(folder, codec, Platform.IOS, APNS_ANSWERS, lambda n: f"{n:064x}", "../../etc", kind)


CHANNELS: dict[str, Open] = {
    f"{name}-{transport}": partial(opened, kind=kind)
    for name, opened in {"fcm-android": fcm_android, "fcm-web": fcm_web, "apns-ios": apns_ios}.items()
    for transport, kind in {"curl": CurlTransport, "wire": WireTransport}.items()
}
