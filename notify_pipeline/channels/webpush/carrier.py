"""Posting to browsers' push services: encrypted, signed, and no faster than each service asks.

Belongs here: one call from subscription to verdict. Does not belong here: the payload (``message``), the token
(``vapid``), what answers mean (``answers``), how many at once (``each``).

A channel of its own speaks to many services: a subscription names one. So a 429 is a pause of that service's alone,
kept here, and not of the gate that all share. Whoever registers a subscription chooses where we connect to, so
connections are those of ``public_http``.
"""

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from notify_pipeline.channels.base import BAD_ADDRESS, HELD, PAYLOAD_TOO_LARGE, Clock, Verdict
from notify_pipeline.channels.each import NoAnswer, NotCalled
from notify_pipeline.channels.rates import SHORT_PAUSE_S
from notify_pipeline.channels.retry_after import parse_retry_after
from notify_pipeline.channels.webpush.answers import classify
from notify_pipeline.channels.webpush.encryption import encrypted
from notify_pipeline.channels.webpush.message import MAX_PLAINTEXT_BYTES, PROVIDER, WebPushMessage, prepare
from notify_pipeline.channels.webpush.vapid import VapidTokens, origin_of
from notify_pipeline.core.addresses import url_fault
from notify_pipeline.core.push_subscriptions import subscription_of
from notify_pipeline.core.records import Notification, Recipient
from notify_pipeline.core.vocabulary import Channel, Outcome, Platform

if TYPE_CHECKING:
    # Loaded at the first call: every step of a broadcast opens all channels.
    import aiohttp

    from notify_pipeline.channels.public_http import PublicSession

# Paused services remembered; what is over goes first.
_PAUSES = 1_000
_MAX_MESSAGE_ID = 2_048


@dataclass(frozen=True, slots=True)
class Reach:
    """Whom we may connect to.

    Attributes:
        allow_private: Plain HTTP, private addresses and any port.
        only_below: The one address that endpoints may begin with: the sandbox's; None: any.
        tls: Says whom to trust; None: whom the system trusts.
    """

    allow_private: bool = False
    only_below: str | None = None
    tls: ssl.SSLContext | None = None


class _Sent:
    """Whether a request has begun to leave."""

    __slots__ = ("sent",)

    def __init__(self) -> None:
        self.sent = False


class WebPushCarrier:
    """A ``Carrier`` to all push services. Belongs to one event loop."""

    name = Channel.WEBPUSH
    provider = PROVIDER

    def __init__(
        self,
        tokens: VapidTokens,
        reach: Reach,
        receipt_url: str,
        timeout_s: float,
        clock: Clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open nothing yet.

        Args:
            tokens: Sign our requests.
            reach: Whom we may connect to.
            receipt_url: Base of the beacons, without a trailing slash.
            timeout_s: For each call.
            clock: Tells the time.
            monotonic: Tells seconds that pass, whatever happens to the clock.
        """
        self._tokens = tokens
        self._reach = reach
        self._receipt_url = receipt_url
        self._timeout_s = timeout_s
        self._clock = clock
        self._monotonic = monotonic
        self._held_until: dict[str, float] = {}
        self._opened: PublicSession | None = None

    def prepare(self, notification: Notification, platform: Platform) -> WebPushMessage:
        """See ``Carrier``."""
        return prepare(notification, platform, self._receipt_url)

    def is_address(self, address: str) -> bool:
        """See ``Carrier``. The setting may have changed since it was registered, so the endpoint is looked at again."""
        subscription = subscription_of(address)
        return subscription is not None and url_fault(subscription.endpoint, self._reach.allow_private) is None

    async def call(self, message: WebPushMessage, recipient: Recipient, delivery_id: str) -> Verdict:
        """See ``Carrier``."""
        subscription = subscription_of(recipient.address)
        assert subscription is not None  # noqa: S101 - ``is_address`` has looked
        if (below := self._reach.only_below) is not None and not subscription.endpoint.startswith(below):
            raise NotCalled("not_the_sandbox", "no real browser gets anything before NOTIFY_VAPID_SUBJECT is set")
        plaintext = message.plaintext(recipient, delivery_id)
        if len(plaintext) > MAX_PLAINTEXT_BYTES:
            return Verdict(Outcome.PERMANENT, PAYLOAD_TOO_LARGE)
        origin = origin_of(subscription.endpoint)
        if (held_s := await self._waited(origin)) > 0:
            return Verdict(Outcome.THROTTLED, HELD, retry_after_s=held_s)
        try:
            body = encrypted(plaintext, subscription)
        except ValueError:
            return Verdict(Outcome.INVALID_RECIPIENT, BAD_ADDRESS)
        headers = message.headers(self._clock()) | {"Authorization": self._tokens.header(origin)}
        verdict = await self._posted(subscription.endpoint, body, headers)
        if verdict.outcome is Outcome.THROTTLED and verdict.retry_after_s:
            self._hold(origin, verdict.retry_after_s)
        return verdict

    async def aclose(self) -> None:
        """See ``Carrier``."""
        if self._opened is not None:
            await self._opened.aclose()

    async def _posted(self, endpoint: str, body: bytes, headers: dict[str, str]) -> Verdict:
        import aiohttp
        from yarl import URL

        from notify_pipeline.channels.public_http import PRIVATE, empty, word_for

        public = self._public()
        url, state = URL(endpoint, encoded=True), _Sent()
        try:
            async with public.session.post(
                url, data=body, headers={**headers, **public.parting}, allow_redirects=False, trace_request_ctx=state
            ) as answer:
                retry_after_s = parse_retry_after(answer.headers.get("Retry-After"), self._clock())
                verdict = classify(answer.status, _message_id(answer), retry_after_s)
                await empty(answer)
                return verdict
        except (aiohttp.ClientError, OSError, ValueError) as error:
            word = word_for(error)
            if word == PRIVATE:
                return Verdict(Outcome.PERMANENT, PRIVATE)
            raise (NoAnswer if state.sent else NotCalled)(word, type(error).__name__) from None
        except asyncio.CancelledError:
            if state.sent:
                raise
            raise NotCalled("cancelled") from None

    def _public(self) -> "PublicSession":
        if self._opened is None:
            import aiohttp

            from notify_pipeline.channels.public_http import PublicSession

            async def sent(_: object, context: Any, __: object) -> None:
                context.trace_request_ctx.sent = True

            trace = aiohttp.TraceConfig()
            trace.on_request_headers_sent.append(sent)
            timeout = aiohttp.ClientTimeout(total=self._timeout_s)
            agent = {"User-Agent": "notify-pipeline-webpush/1"}
            self._opened = PublicSession(self._reach.allow_private, timeout, agent, self._reach.tls, [trace])
        return self._opened

    async def _waited(self, origin: str) -> float:
        """Wait for the end of a service's short pause; return how long a longer one will last, 0 when it is open."""
        while (left_s := self._held_until.get(origin, 0.0) - self._monotonic()) > 0:
            if left_s > SHORT_PAUSE_S:
                return left_s
            await asyncio.sleep(left_s)
        return 0.0

    def _hold(self, origin: str, seconds: float) -> None:
        now = self._monotonic()
        if len(self._held_until) >= _PAUSES:
            self._held_until = {each: until for each, until in self._held_until.items() if until > now}
        if len(self._held_until) < _PAUSES:
            self._held_until[origin] = max(self._held_until.get(origin, 0.0), now + seconds)


def _message_id(answer: "aiohttp.ClientResponse") -> str | None:
    """Return where the message is, which is its only id (RFC 8030 section 5)."""
    location = answer.headers.get("Location")
    return location if location and len(location) <= _MAX_MESSAGE_ID and location.isprintable() else None
