"""What the contract suite needs of a channel: a sender whose provider answers as the test says.

Both transports are held to it, ours and the libraries'; what a library cannot keep is listed in ``DEVIATIONS``, and
tests assert it as it is, so that they fail when the library improves.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import orjson

from notify_pipeline.channels.apns.message import ApnsCodec
from notify_pipeline.channels.base import ChannelSender, Clock, Message
from notify_pipeline.channels.fcm.message import FcmCodec
from notify_pipeline.channels.library.apns import AioapnsTransport
from notify_pipeline.channels.library.fcm import FirebaseTransport
from notify_pipeline.channels.push import Codec, PushSender
from notify_pipeline.channels.rates import Gate
from notify_pipeline.channels.transport import Transport
from notify_pipeline.channels.wire.transport import WireTransport
from notify_pipeline.core.ids import DeliveryIds
from notify_pipeline.core.rates import Limits
from notify_pipeline.core.records import AttemptResult, Audience, Content, Notification, Recipient
from notify_pipeline.core.vocabulary import Channel, Outcome, Platform, Priority
from tests.channels.buckets import OwnBucket
from tests.channels.peer import Action, Drop, Peer, Reply, Script, Seen, running_peer
from tests.waiting import PATIENCE_S

RECEIPTS = "https://cdn.example"
PROJECT = "project"
TOPIC = "com.example.app"
# Odd ends that some library takes for no answer are waited for this long.


def patience(name: str) -> float:
    """Return how long, in seconds, one of ``CHANNELS`` waits for an answer: aioapns does for some that never come."""
    return 1.0 if name == "apns-ios-library" else PATIENCE_S


# By library and case (the contract suite's words): what it does instead of what the contract says, and why.
DEVIATIONS: dict[tuple[Channel, str], tuple[object, str]] = {
    (Channel.FCM, "refused_stream"): (Outcome.AMBIGUOUS, "firebase-admin hides the code of a reset"),
    (Channel.FCM, "goaway_above"): (Outcome.AMBIGUOUS, "firebase-admin hides the last stream id of a GOAWAY"),
    (Channel.FCM, "not_json"): (Outcome.AMBIGUOUS, "firebase-admin hides the status of a good answer it cannot read"),
    (Channel.APNS, "retry_after"): (None, "aioapns hides an answer's headers"),
    (Channel.APNS, "spaces"): (True, "aioapns writes JSON with spaces, which count towards the payload's limit"),
    (Channel.APNS, "refused_stream"): (Outcome.AMBIGUOUS, "aioapns ignores resets: the time-out ends the request"),
    (Channel.APNS, "goaway_above"): (Outcome.AMBIGUOUS, "aioapns hides the last stream id of a GOAWAY"),
    (Channel.APNS, "no_reason"): (Outcome.AMBIGUOUS, "aioapns ignores errors without a body: the time-out ends it"),
    (Channel.APNS, "plain_error"): (Outcome.AMBIGUOUS, "aioapns breaks the connection over a body that is not JSON"),
    (Channel.APNS, "much_data"): (
        {Outcome.TRANSIENT, Outcome.AMBIGUOUS},
        "aioapns never acknowledges DATA: when the connection's window is used up, errors end in time-outs",
    ),
    (Channel.APNS, "long_body"): (Outcome.AMBIGUOUS, "aioapns reads each DATA frame as a whole JSON document"),
}


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
    library: bool
    credentials: FixedCredentials = field(default_factory=FixedCredentials)

    def answer(self, what: str) -> None:
        """Make the provider answer everything like this from now on."""
        action = self.answers[what]
        self.script(lambda _: action)

    def script(self, script: Script) -> None:
        """Make the provider act so from now on; like APNs, it gives a request's own apns-id back."""

        def echo(seen: Seen) -> Action:
            action = script(seen)
            if isinstance(action, Reply) and "apns-id" in seen.headers:
                others = tuple(pair for pair in action.headers if pair[0] != "apns-id")
                return replace(action, headers=(("apns-id", seen.headers["apns-id"]), *others))
            return action

        self.peer.script = echo

    def expected(self, case: str, kept: object) -> object:
        """What is to be seen in this case: what the contract says, or this library's deviation from it."""
        deviation = DEVIATIONS.get((self.sender.name, case)) if self.library else None
        return deviation[0] if deviation else kept

    @property
    def calls(self) -> int:
        """How many requests the provider got."""
        return len(self.peer.seen)


class Open(Protocol):
    """Opens a channel."""

    def __call__(self, folder: Path, *, clock: Clock = ..., timeout_s: float = ...) -> "Opened":
        """The folder takes the peer's certificates."""
        ...


Opened = AbstractAsyncContextManager[Harness]


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

    recipients = [Recipient(address, harness.platform, user_id='Ada "Ä" %s') for address in addresses]
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


def _transport(codec: Codec, peer: Peer, library: bool, timeout_s: float) -> Transport:
    if not library:
        return WireTransport(peer.url, ca=peer.ca, max_in_flight=16, timeout_s=timeout_s)
    if isinstance(codec, FcmCodec):
        return FirebaseTransport(peer.url, PROJECT, ca=peer.ca, max_in_flight=16, timeout_s=timeout_s)
    return AioapnsTransport(peer.url, ca=peer.ca, max_in_flight=16, timeout_s=timeout_s)


@dataclass(frozen=True)
class _Channel:
    """One of the channels under test, closed."""

    codec: Callable[[], Codec]
    platform: Platform
    answers: Mapping[str, Action]
    address: Callable[[int], str]
    bad_address: str
    library: bool = False

    @asynccontextmanager
    async def __call__(
        self, folder: Path, *, clock: Clock = utc_now, timeout_s: float = PATIENCE_S
    ) -> AsyncIterator[Harness]:
        codec = self.codec()
        async with running_peer(folder) as peer:
            credentials = FixedCredentials()
            transport = _transport(codec, peer, self.library, timeout_s)
            sender = PushSender(codec, credentials, transport, clock, Gate(OwnBucket(), Limits(None), clock))
            harness = Harness(
                sender=sender,
                platform=self.platform,
                address=self.address,
                bad_address=self.bad_address,
                answers=self.answers,
                can_dry_run=codec.can_dry_run,
                peer=peer,
                library=self.library,
                credentials=credentials,
            )
            harness.answer("accepted")
            try:
                yield harness
            finally:
                await sender.aclose()
                await asyncio.sleep(0)


FCM_ANDROID = _Channel(
    lambda: FcmCodec(PROJECT, RECEIPTS), Platform.ANDROID, FCM_ANSWERS, lambda n: f"c{n:021d}:APA91b{n:0134d}", 'x"} {'
)
FCM_WEB = _Channel(
    lambda: FcmCodec(PROJECT, RECEIPTS), Platform.WEB, FCM_ANSWERS, lambda n: f"d{n:021d}:APA91b{n:0134d}", "a token"
)
APNS_IOS = _Channel(lambda: ApnsCodec(TOPIC, RECEIPTS), Platform.IOS, APNS_ANSWERS, lambda n: f"{n:064x}", "../../etc")

WIRE: dict[str, Open] = {"fcm-android": FCM_ANDROID, "fcm-web": FCM_WEB, "apns-ios": APNS_IOS}
LIBRARY: dict[str, Open] = {
    "fcm-android": replace(FCM_ANDROID, library=True),
    "fcm-web": replace(FCM_WEB, library=True),
    "apns-ios": replace(APNS_IOS, library=True),
}
CHANNELS: dict[str, Open] = {
    **{f"{name}-wire": opened for name, opened in WIRE.items()},
    **{f"{name}-library": opened for name, opened in LIBRARY.items()},
}
