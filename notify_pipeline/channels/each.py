"""The sender of channels that call their provider once per recipient, with a library of their own: e-mail, SMS, ….

Belongs here: everything that such channels do alike: expiry, addresses, dry runs, the gate, how many at once, and
reporting each recipient exactly once. Does not belong here: a provider's language (``email``, ``sms``, …), push over
HTTP/2 (``push``, which sends a million with a fraction of the work for each), whether to try again (``delivery``).
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from notify_pipeline.channels.base import (
    BAD_ADDRESS,
    CREDENTIALS,
    HELD,
    NO_ANSWER,
    NOT_PROCESSED,
    TTL,
    Clock,
    CredentialsRejected,
    Message,
    Report,
    Verdict,
)
from notify_pipeline.channels.rates import SHORT_PAUSE_S, Gate
from notify_pipeline.channels.splice import DELIVERY_ID
from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.records import AttemptResult, Notification, Recipient
from notify_pipeline.core.vocabulary import Channel, Outcome, Platform

log = logging.getLogger(__name__)

M = TypeVar("M", bound=Message)


class NotCalled(Exception):
    """The call certainly had no effect: it never left, or the provider said so."""

    def __init__(self, reason: str, detail: str = "") -> None:
        """Args: reason: one of few words, fit for counting. detail: for people; holds no secret and no address."""
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class NoAnswer(Exception):
    """The call may have had its effect: some of it left, and no answer came."""

    def __init__(self, reason: str, detail: str = "") -> None:
        """Args: as in ``NotCalled``."""
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Carrier(Protocol[M]):
    """One provider: what a channel adds to ``EachSender``."""

    name: Channel
    provider: str

    def prepare(self, notification: Notification, platform: Platform) -> M:
        """See ``ChannelSender.prepare``."""
        ...

    def is_address(self, address: str) -> bool:
        """Tell whether the provider could be called with this address at all."""
        ...

    async def call(self, message: M, recipient: Recipient, delivery_id: str) -> Verdict:
        """Call the provider for one recipient, and classify what it answers; its own time-out is its business.

        Raises:
            NotCalled, NoAnswer: There was no answer.
            CredentialsRejected: Nobody could be called with our credentials.
            asyncio.CancelledError: The caller was cancelled: then whether it was called is unknown, unless it raises
                ``NotCalled`` instead.
        """
        ...

    async def aclose(self) -> None:
        """Close what is held open."""
        ...


class EachSender(Generic[M]):
    """A ``ChannelSender`` made of a carrier and a gate."""

    def __init__(self, carrier: Carrier[M], gate: Gate, clock: Clock, at_once: int) -> None:
        """Take the parts; carrier and gate are closed with the sender.

        Args:
            carrier: Calls the provider.
            gate: Says how much may be sent when.
            clock: Tells the time.
            at_once: How many calls may be under way, of all sends together.
        """
        self._carrier = carrier
        self._gate = gate
        self._clock = clock
        self._room = asyncio.Semaphore(at_once)
        self._at_once = at_once

    @property
    def name(self) -> Channel:
        """See ``ChannelSender``."""
        return self._carrier.name

    @property
    def provider(self) -> str:
        """See ``ChannelSender``."""
        return self._carrier.provider

    @property
    def held_for_s(self) -> float:
        """See ``ChannelSender``."""
        return self._gate.held_for_s

    def prepare(self, notification: Notification, platform: Platform) -> Message:
        """See ``ChannelSender``."""
        return self._carrier.prepare(notification, platform)

    async def send(
        self, message: Message, recipients: Sequence[Recipient], delivery_ids: Sequence[str], report: Report
    ) -> None:
        """See ``ChannelSender``."""
        if len(recipients) != len(delivery_ids):
            raise ValueError(f"{len(recipients)} recipients and {len(delivery_ids)} delivery ids")
        for delivery_id in delivery_ids:
            if not DELIVERY_ID.fullmatch(delivery_id):
                raise ValueError(f"not a delivery id: {delivery_id[:6]!r}…")
        todo = iter(range(len(recipients)))

        async def work() -> None:
            # Drawn from one iterator: whoever was not drawn when the caller is cancelled was not called.
            for index in todo:
                async with self._room:
                    result = await self._one(message, recipients[index], delivery_ids[index], index, report)
                report(index, result)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._at_once, len(recipients))):
                group.create_task(work())

    async def _one(
        self, message: Message, recipient: Recipient, delivery_id: str, index: int, report: Report
    ) -> AttemptResult:
        if (early := await self._without_call(message, recipient)) is not None:
            return early
        sent_at = self._now()
        try:
            # Only this channel's own messages come here: whoever sends got them from ``prepare``.
            verdict = await self._carrier.call(message, recipient, delivery_id)  # type: ignore[arg-type]
        except NotCalled as error:
            log.warning("%s: %s", self.provider, error)
            return AttemptResult(Outcome.TRANSIENT, f"{NOT_PROCESSED}:{error.reason}", sent_at, self._now(sent_at))
        except NoAnswer as error:
            log.warning("%s: %s", self.provider, error)
            return AttemptResult(Outcome.AMBIGUOUS, f"{NO_ANSWER}:{error.reason}", sent_at, None)
        except CredentialsRejected as error:
            log.error("%s: %s", self.provider, error)
            return AttemptResult(Outcome.TRANSIENT, f"{CREDENTIALS}:{error.code}", sent_at, self._now(sent_at))
        except asyncio.CancelledError:
            report(index, AttemptResult(Outcome.AMBIGUOUS, f"{NO_ANSWER}:cancelled", sent_at, None))
            raise
        return self._result(verdict, sent_at)

    async def _without_call(self, message: Message, recipient: Recipient) -> AttemptResult | None:
        """Wait for the gate; return how it ends for a recipient who is not called, None for one who is."""
        now = self._now()
        if not self._carrier.is_address(recipient.address):
            return AttemptResult(Outcome.INVALID_RECIPIENT, BAD_ADDRESS, now, now)
        if message.notification.dry_run:
            return AttemptResult(Outcome.DRY_RUN, None, now, now)
        while not await self._gate.take(1, message.notification.priority.rank):
            if (held_s := self._gate.held_for_s) > SHORT_PAUSE_S:
                now = self._now()
                return AttemptResult(Outcome.THROTTLED, HELD, now, now, retry_after_s=held_s)
        if self._clock() >= message.notification.expires_at:
            now = self._now()
            return AttemptResult(Outcome.EXPIRED, TTL, now, now)
        return None

    def _result(self, verdict: Verdict, sent_at: int) -> AttemptResult:
        if verdict.hold and verdict.retry_after_s is not None:
            self._gate.hold(verdict.retry_after_s)
        code = verdict.code
        if verdict.credentials:
            code = f"{CREDENTIALS}:{code}"
            log.error("%s: %s", self.provider, code)
        return AttemptResult(
            outcome=verdict.outcome,
            provider_code=code,
            sent_at=sent_at,
            answered_at=self._now(sent_at),
            provider_message_id=verdict.message_id,
            retry_after_s=verdict.retry_after_s,
            drop_token=verdict.drop_token,
            unregistered_at=verdict.unregistered_at,
        )

    def _now(self, not_before: int = 0) -> int:
        """Return microseconds since the epoch; a clock that was set back counts as not having moved."""
        return max(to_micros(self._clock()), not_before)

    async def aclose(self) -> None:
        """See ``ChannelSender``."""
        await self._carrier.aclose()
        await self._gate.aclose()
