"""The sender of channels that call their provider once per recipient, with a library of their own: e-mail, SMS, ….

Belongs here: everything that such channels do alike: expiry, addresses, dry runs, the gate, how many at once, and
reporting each recipient exactly once. Does not belong here: a provider's language (``email``, ``sms``, …), push over
HTTP/2 (``push``, which sends a million with a fraction of the work for each), whether to try again (``delivery``).

A send of many has as many tasks as it may have calls under way, not one per recipient: each draws the next recipient
when it has ended one. Whatever a carrier does, raise what it never said it would included, a recipient who was drawn
is reported, and who was not drawn was not called.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, Protocol, TypeVar

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
from notify_pipeline.channels.splice import check_delivery_ids
from notify_pipeline.channels.troubles import Troubles
from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.records import AttemptResult, Notification, Recipient
from notify_pipeline.core.turnstile import Turnstile
from notify_pipeline.core.vocabulary import Channel, Outcome, Platform, Priority

# What part of the calls under way each priority leaves to those above it, so that a provider that takes its time over
# a broadcast keeps nobody's password reset waiting.
_RESERVE = 0.125
# A send that calls nobody lets others have the event loop this often.
_BREATHE_EVERY = 64
CLOSED = "closed"
CANCELLED = "cancelled"

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
            Exception: Anything else counts as ``NoAnswer``, and is logged without its words: they may be anything.
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
            at_once: How many calls may be under way, of all sends together; low priorities leave some to higher ones.
        """
        self._carrier = carrier
        self._gate = gate
        self._clock = clock
        self._most = tuple(max(1, at_once - round(at_once * _RESERVE * rank)) for rank in range(len(Priority)))
        self._room = Turnstile(self._most)
        self._closed = False

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
        check_delivery_ids(recipients, delivery_ids)
        notification = message.notification
        troubles = Troubles(self.provider, len(recipients))
        todo = iter(range(len(recipients)))

        async def work() -> None:
            # Drawn from one iterator: whoever was not drawn when the caller is cancelled was not called.
            for index in todo:
                recipient = recipients[index]
                if (early := self._uncalled(message, recipient, troubles)) is not None:
                    report(index, early)
                    if index % _BREATHE_EVERY == 0:
                        await asyncio.sleep(0)
                    continue
                async with self._room.passed(notification.priority.rank, notification.tenant):
                    result = await self._one(message, recipient, delivery_ids[index], troubles)
                report(index, result)
                _stop_if_cancelled()

        try:
            await _side_by_side(work, min(self._most[notification.priority.rank], len(recipients)))
        finally:
            troubles.log()

    def _uncalled(self, message: Message, recipient: Recipient, troubles: Troubles) -> AttemptResult | None:
        """Return how it ends for a recipient for whom there is nothing to wait for, None for the others."""
        now = self._now()
        try:
            is_address = self._carrier.is_address(recipient.address)
        except Exception as error:  # noqa: BLE001 - one recipient's trouble is not another's
            return self._not_called(troubles.unexpected(error), now)
        if not is_address:
            return AttemptResult(Outcome.INVALID_RECIPIENT, BAD_ADDRESS, now, now)
        if message.notification.dry_run:
            return AttemptResult(Outcome.DRY_RUN, None, now, now)
        return self._not_called(CLOSED, now) if self._closed else None

    async def _one(self, message: Message, recipient: Recipient, delivery_id: str, troubles: Troubles) -> AttemptResult:
        """Wait for the gate, and call; return how it ended, whatever that was."""
        try:
            early = await self._gated(message)
        except Exception as error:  # noqa: BLE001 - the gate's ledger: nobody was called
            return self._not_called(troubles.unexpected(error), self._now())
        if early is not None:
            return early
        sent_at = self._now()
        try:
            # Only this channel's own messages come here: whoever sends got them from ``prepare``.
            verdict = await self._carrier.call(message, recipient, delivery_id)  # type: ignore[arg-type]
        except NotCalled as error:
            troubles.met(f"{NOT_PROCESSED}:{error.reason}", error.detail)
            return self._not_called(error.reason, sent_at)
        except NoAnswer as error:
            troubles.met(f"{NO_ANSWER}:{error.reason}", error.detail)
            return self._no_answer(error.reason, sent_at)
        except CredentialsRejected as error:
            code = f"{CREDENTIALS}:{error.code}"
            return AttemptResult(Outcome.TRANSIENT, troubles.met(code, error.detail), sent_at, self._now(sent_at))
        except asyncio.CancelledError:
            return self._no_answer(CANCELLED, sent_at)
        except Exception as error:  # noqa: BLE001 - one recipient's trouble is not another's
            return self._no_answer(troubles.unexpected(error), sent_at)
        return self._result(verdict, sent_at, troubles)

    async def _gated(self, message: Message) -> AttemptResult | None:
        """Wait for the gate; return how it ends for a recipient who is not called, None for one who is."""
        while not await self._gate.take(1, message.notification.priority.rank):
            if (held_s := self._gate.held_for_s) > SHORT_PAUSE_S:
                now = self._now()
                return AttemptResult(Outcome.THROTTLED, HELD, now, now, retry_after_s=held_s)
        now = self._now()
        if now >= to_micros(message.notification.expires_at):
            return AttemptResult(Outcome.EXPIRED, TTL, now, now)
        return self._not_called(CLOSED, now) if self._closed else None

    def _not_called(self, reason: str, sent_at: int) -> AttemptResult:
        return AttemptResult(Outcome.TRANSIENT, f"{NOT_PROCESSED}:{reason}", sent_at, self._now(sent_at))

    def _no_answer(self, reason: str, sent_at: int) -> AttemptResult:
        return AttemptResult(Outcome.AMBIGUOUS, f"{NO_ANSWER}:{reason}", sent_at, None)

    def _result(self, verdict: Verdict, sent_at: int, troubles: Troubles) -> AttemptResult:
        if verdict.hold and verdict.retry_after_s is not None:
            self._gate.hold(verdict.retry_after_s)
        code = verdict.code
        if verdict.credentials:
            code = troubles.met(f"{CREDENTIALS}:{code}")
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
        """See ``ChannelSender``. Who was not called yet is not called any more."""
        self._closed = True
        await self._carrier.aclose()
        await self._gate.aclose()


async def _side_by_side(work: Callable[[], Coroutine[Any, Any, None]], tasks: int) -> None:
    """Run so many of the same; what one raises ends the others and is raised itself."""
    if tasks <= 1:
        await work()
        return
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(tasks):
                group.create_task(work())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


def _stop_if_cancelled() -> None:
    """Raise what a carrier kept to itself, or made into a result: a cancellation of the task that called it."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
