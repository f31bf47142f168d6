"""The sender that both push providers share: draws recipients, sends, classifies, reports.

Belongs here: the order of things for one ``send``. Does not belong here: a provider's payload, words or credentials
(``fcm``, ``apns``), bytes on the wire (``transport``), whether and when to try again (``delivery``).
"""

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Protocol

from notify_pipeline.channels.base import (
    BAD_ADDRESS,
    CREDENTIALS,
    NO_ANSWER,
    NOT_PROCESSED,
    TTL,
    Clock,
    CredentialsRejected,
    Message,
    Report,
    Verdict,
)
from notify_pipeline.channels.splice import DELIVERY_ID
from notify_pipeline.channels.transport import Answer, End, Headers, NotProcessed, Request, Transport
from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.records import AttemptResult, Notification, Recipient
from notify_pipeline.core.vocabulary import Channel, Outcome, Platform

log = logging.getLogger(__name__)


class Codec(Protocol):
    """A provider's language."""

    name: Channel
    provider: str
    can_dry_run: bool
    address: re.Pattern[str]

    def prepare(self, notification: Notification, platform: Platform) -> Message:
        """See ``ChannelSender.prepare``."""
        ...

    def headers(self, message: Message, bearer: str) -> Headers:
        """Return the headers that all requests of a message share."""
        ...

    def renderer(self, message: Message, now: datetime) -> Callable[[str, str], tuple[str, bytes]]:
        """Return a function from an address (that matches ``address``) and a delivery id to path and body."""
        ...

    def classify(self, answer: Answer, now: datetime) -> Verdict:
        """Say what an answer means; never raises."""
        ...


class Credentials(Protocol):
    """Where bearer tokens come from."""

    async def bearer(self) -> str:
        """Return a good token. Raises ``CredentialsRejected``."""
        ...

    async def renew(self, refused: str) -> str:
        """Return a newer token than a refused one. Raises ``CredentialsRejected``."""
        ...

    async def aclose(self) -> None:
        """Release what is held."""
        ...


class PushSender:
    """A ``ChannelSender`` made of a codec, credentials and a transport."""

    def __init__(self, codec: Codec, credentials: Credentials, transport: Transport, clock: Clock) -> None:
        self._codec = codec
        self._credentials = credentials
        self._transport = transport
        self._clock = clock

    @property
    def name(self) -> Channel:
        """See ``ChannelSender``."""
        return self._codec.name

    @property
    def provider(self) -> str:
        """See ``ChannelSender``."""
        return self._codec.provider

    @property
    def held_for_s(self) -> float:
        """See ``ChannelSender``."""
        return 0.0

    def prepare(self, notification: Notification, platform: Platform) -> Message:
        """See ``ChannelSender``."""
        return self._codec.prepare(notification, platform)

    async def send(
        self, message: Message, recipients: Sequence[Recipient], delivery_ids: Sequence[str], report: Report
    ) -> None:
        """See ``ChannelSender``."""
        if len(recipients) != len(delivery_ids):
            raise ValueError(f"{len(recipients)} recipients and {len(delivery_ids)} delivery ids")
        for delivery_id in delivery_ids:
            if not DELIVERY_ID.fullmatch(delivery_id):
                raise ValueError(f"not a delivery id: {delivery_id[:6]!r}…")
        call = _Call(self._codec, self._clock, message, recipients, delivery_ids, report)
        try:
            await self._send(call, message)
        finally:
            call.report_refused()
            call.log_troubles()

    async def _send(self, call: "_Call", message: Message) -> None:
        try:
            if message.notification.dry_run and not self._codec.can_dry_run:
                call.pretend()
                return
            bearer = await self._credentials.bearer()
            await self._transport.post_many(call.requests(call.all(), self._codec.headers(message, bearer)), call.ended)
            if not call.refused:
                return
            # A newer token may be taken; asked once, so that a dead key cannot make a loop.
            bearer = await self._credentials.renew(bearer)
            call.ask_again = False
            again = list(call.refused)
            await self._transport.post_many(call.requests(again, self._codec.headers(message, bearer)), call.ended)
        except CredentialsRejected as error:
            log.error("%s: %s", self.provider, error)
            call.no_credentials(error.code)

    async def aclose(self) -> None:
        """See ``ChannelSender``."""
        await self._transport.aclose()
        await self._credentials.aclose()


class _Call:
    """One ``send``: what was drawn when, and what is to be asked again."""

    def __init__(
        self,
        codec: Codec,
        clock: Clock,
        message: Message,
        recipients: Sequence[Recipient],
        delivery_ids: Sequence[str],
        report: Report,
    ) -> None:
        self._codec = codec
        self._clock = clock
        self._message = message
        self._recipients = recipients
        self._delivery_ids = delivery_ids
        self._report = report
        self._sent_at: dict[int, int] = {}  # of requests under way
        self._started = False
        self._dry_run = message.notification.dry_run
        self._troubles: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self.ask_again = True
        self.refused: dict[int, AttemptResult] = {}  # answers that newer credentials may change

    def all(self) -> Iterable[int]:
        """Return every recipient's position."""
        return range(len(self._recipients))

    def requests(self, indices: Iterable[int], headers: Headers) -> Iterator[Request]:
        """Make each recipient's request when it is about to be sent; report those that get none."""
        self._started = True
        expires_at = self._message.notification.expires_at
        render = self._codec.renderer(self._message, self._clock())
        matches = self._codec.address.fullmatch
        for index in indices:
            self.refused.pop(index, None)
            now = self._clock()
            address = self._recipients[index].address
            if now >= expires_at:
                self._without_call(index, now, Outcome.EXPIRED, TTL)
            elif matches(address) is None:
                self._without_call(index, now, Outcome.INVALID_RECIPIENT, BAD_ADDRESS)
            else:
                path, body = render(address, self._delivery_ids[index])
                self._sent_at[index] = to_micros(now)
                yield Request(index, path, headers, body)

    def pretend(self) -> None:
        """Report a dry run on a provider that has none."""
        now = self._clock()
        for index, recipient in enumerate(self._recipients):
            if self._codec.address.fullmatch(recipient.address):
                self._without_call(index, now, Outcome.DRY_RUN, None)
            else:
                self._without_call(index, now, Outcome.INVALID_RECIPIENT, BAD_ADDRESS)

    def _without_call(self, index: int, now: datetime, outcome: Outcome, code: str | None) -> None:
        micros = to_micros(now)
        self._report(index, AttemptResult(outcome, code, micros, micros))

    def ended(self, index: int, end: End) -> None:
        """Classify the end of a request and report it, unless it may be asked again with newer credentials."""
        now = self._clock()
        sent_at = self._sent_at.pop(index)
        if isinstance(end, Answer):
            verdict = self._codec.classify(end, now)
            result = self._result(verdict, sent_at, max(sent_at, to_micros(now)))
            if verdict.renew and self.ask_again:
                self.refused[index] = result
                return
        elif isinstance(end, NotProcessed):
            code = f"{NOT_PROCESSED}:{end.reason}"
            result = AttemptResult(Outcome.TRANSIENT, code, sent_at, max(sent_at, to_micros(now)))
            self._trouble(code, end.detail)
        else:
            code = f"{NO_ANSWER}:{end.reason}"
            result = AttemptResult(Outcome.AMBIGUOUS, code, sent_at, None)
            self._trouble(code, end.detail)
        self._report(index, result)

    def no_credentials(self, code: str) -> None:
        """Report that nothing could be sent for want of credentials; not where some was."""
        if self._started:
            return
        now = self._clock()
        for index in self.all():
            self._without_call(index, now, Outcome.TRANSIENT, f"{CREDENTIALS}:{code}")

    def report_refused(self) -> None:
        """Report what was refused and is not asked again."""
        while self.refused:
            index, result = self.refused.popitem()
            self._report(index, result)

    def log_troubles(self) -> None:
        """Say once per kind what went wrong beyond a recipient's own failure."""
        for code, count in self._troubles.most_common():
            level = logging.ERROR if code.startswith(CREDENTIALS) else logging.WARNING
            example = self._examples[code]
            log.log(level, "%s: %s, %d of %d, %s", self._codec.provider, code, count, len(self._recipients), example)

    def _trouble(self, code: str, detail: str) -> None:
        self._troubles[code] += 1
        self._examples.setdefault(code, detail or "no detail")

    def _result(self, verdict: Verdict, sent_at: int, answered_at: int) -> AttemptResult:
        outcome = verdict.outcome
        if self._dry_run and outcome is Outcome.ACCEPTED:
            outcome = Outcome.DRY_RUN
        code = verdict.code
        if verdict.credentials:
            code = f"{CREDENTIALS}:{code}"
            self._trouble(code, "")
        return AttemptResult(
            outcome=outcome,
            provider_code=code,
            sent_at=sent_at,
            answered_at=answered_at,
            provider_message_id=verdict.message_id,
            retry_after_s=verdict.retry_after_s,
            # A dry run changes nothing, not even what is known of a token.
            drop_token=verdict.drop_token and not self._dry_run,
            unregistered_at=verdict.unregistered_at,
        )
