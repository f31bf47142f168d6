"""One ``send`` of a push sender under way: who is drawn when, and what is reported of whom.

Belongs here: the loop over recipients and the reporting, each exactly once. Does not belong here: the order of things
around it (``push``), a provider's language (``fcm``, ``apns``).

What is in the two loops here runs a million times for a large send. So the clock is read once in a while and carried on
by the monotonic one, tuples are built without their constructors, and an acceptance is not classified first.
"""

from collections.abc import Iterator, Sequence
from time import monotonic_ns

from notify_pipeline.channels.base import (
    BAD_ADDRESS,
    CREDENTIALS,
    HELD,
    NO_ANSWER,
    NOT_PROCESSED,
    PAYLOAD_TOO_LARGE,
    TTL,
    Clock,
    Message,
    Report,
    Verdict,
)
from notify_pipeline.channels.codec import Codec
from notify_pipeline.channels.rates import SHORT_PAUSE_S, Gate
from notify_pipeline.channels.transport import Answer, End, Headers, NotProcessed, Request
from notify_pipeline.channels.troubles import Troubles
from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.records import AttemptResult, Recipient
from notify_pipeline.core.vocabulary import Outcome

# How long a reading of the clock is carried on: a step of the clock is seen this late.
_READING_NS = 10_000_000
_new = tuple.__new__


class Sending:
    """The recipients of one ``send``.

    Attributes:
        left: How many of those to be drawn are not drawn yet.
        ask_again: Whether answers that newer credentials may change are put aside instead of reported.
        refused: Those answers, by position.
    """

    def __init__(
        self,
        codec: Codec,
        gate: Gate,
        clock: Clock,
        message: Message,
        recipients: Sequence[Recipient],
        delivery_ids: Sequence[str],
        report: Report,
    ) -> None:
        self._codec = codec
        self._gate = gate
        self._clock = clock
        self._message = message
        self._recipients = recipients
        self._delivery_ids = delivery_ids
        self._report = report
        self._sent_at = [0] * len(recipients)
        self._dry_run = message.notification.dry_run
        self._accepted = Outcome.DRY_RUN if self._dry_run else Outcome.ACCEPTED
        self._troubles = Troubles(codec.provider, len(recipients))
        self._todo: Sequence[int] = range(len(recipients))
        self._next = 0
        self._read_ns = 0  # when the clock was read
        self._micros = 0  # what it said
        self._read_until = 0
        self.ask_again = True
        self.refused: dict[int, AttemptResult] = {}

    @property
    def left(self) -> int:
        """See the class."""
        return len(self._todo) - self._next

    def again(self) -> None:
        """Draw those once more whose answers newer credentials may change; whatever they answer then is reported."""
        self.ask_again = False
        self._todo, self._next = list(self.refused), 0

    def requests(self, most: int, headers: Headers, pauses: int) -> Iterator[Request]:
        """Make recipients' requests when they are about to be sent; report those that get none.

        Ends early when a pause begins: what is left then is reported too, unless the pause is short.

        Args:
            most: How many to draw.
            headers: Of all requests.
            pauses: The gate's when it let these through; a pause that began since is one of theirs.
        """
        gate = self._gate
        expires_at = to_micros(self._message.notification.expires_at)
        render = self._codec.renderer(self._message, self._clock())
        matches = self._codec.address.fullmatch
        recipients, delivery_ids, todo, sent_at = self._recipients, self._delivery_ids, self._todo, self._sent_at
        end = min(len(todo), self._next + most)
        while self._next < end:
            index = todo[self._next]
            if gate.pauses != pauses and gate.held_for_s > 0:
                self.hold_back()
                return
            self._next += 1
            now = monotonic_ns()
            now = self._micros + (now - self._read_ns) // 1000 if now < self._read_until else self._read(now)
            recipient = recipients[index]
            if self.refused:
                self.refused.pop(index, None)
            if now >= expires_at:
                self._without_call(index, now, Outcome.EXPIRED, TTL)
            elif matches(recipient[0]) is None:
                self._without_call(index, now, Outcome.INVALID_RECIPIENT, BAD_ADDRESS)
            elif (made := render(recipient, delivery_ids[index])) is None:
                self._without_call(index, now, Outcome.PERMANENT, PAYLOAD_TOO_LARGE)
            else:
                sent_at[index] = now
                yield _new(Request, (index, made[0], headers, made[1]))

    def ended(self, index: int, end: End) -> None:
        """Report how a request ended, unless it may be asked again with newer credentials."""
        now = monotonic_ns()
        now = self._micros + (now - self._read_ns) // 1000 if now < self._read_until else self._read(now)
        sent_at = self._sent_at[index]
        if now < sent_at:  # the clock was set back
            now = sent_at
        if end.__class__ is Answer and end[0] == 200:
            message_id = self._codec.message_id(end)
            self._report(
                index, _new(AttemptResult, (self._accepted, None, sent_at, now, message_id, None, False, None))
            )
            return
        if isinstance(end, Answer):
            verdict = self._codec.classify(end, self._clock())
            if verdict.hold and verdict.retry_after_s is not None:
                self._gate.hold(verdict.retry_after_s)
            result = self._result(verdict, sent_at, now)
            if verdict.renew and self.ask_again:
                self.refused[index] = result
                return
        elif isinstance(end, NotProcessed):
            code = f"{NOT_PROCESSED}:{end.reason}"
            result = AttemptResult(Outcome.TRANSIENT, code, sent_at, now)
            self._troubles.met(code, end.detail)
        else:
            code = f"{NO_ANSWER}:{end.reason}"
            result = AttemptResult(Outcome.AMBIGUOUS, code, sent_at, None)
            self._troubles.met(code, end.detail)
        self._report(index, result)

    def hold_back(self) -> None:
        """Report that the provider's pause came before the turn of those not drawn yet; not for a short one."""
        held_s = self._gate.held_for_s
        if held_s <= SHORT_PAUSE_S:
            return
        now = to_micros(self._clock())
        for index in self._undrawn():
            self._report(index, AttemptResult(Outcome.THROTTLED, HELD, now, now, retry_after_s=held_s))

    def pretend(self) -> None:
        """Report a dry run on a provider that has none."""
        now = to_micros(self._clock())
        for index, recipient in enumerate(self._recipients):
            if self._codec.address.fullmatch(recipient.address):
                self._without_call(index, now, Outcome.DRY_RUN, None)
            else:
                self._without_call(index, now, Outcome.INVALID_RECIPIENT, BAD_ADDRESS)

    def no_credentials(self, code: str) -> None:
        """Report that those not drawn yet could not be sent to for want of credentials."""
        now = to_micros(self._clock())
        for index in self._undrawn():
            self._without_call(index, now, Outcome.TRANSIENT, f"{CREDENTIALS}:{code}")

    def report_refused(self) -> None:
        """Report what was refused and is not asked again."""
        while self.refused:
            index, result = self.refused.popitem()
            self._report(index, result)

    def log_troubles(self) -> None:
        """Say once per kind what went wrong beyond a recipient's own failure."""
        self._troubles.log()

    def _undrawn(self) -> Iterator[int]:
        """Draw the rest without sending; yield those that have no answer yet."""
        while self._next < len(self._todo):
            index = self._todo[self._next]
            self._next += 1
            if index not in self.refused:
                yield index

    def _read(self, now_ns: int) -> int:
        """Read the clock; return microseconds since the epoch."""
        self._micros = to_micros(self._clock())
        self._read_ns = monotonic_ns()  # after the clock, so that what is carried on never runs ahead of it
        self._read_until = now_ns + _READING_NS
        return self._micros

    def _without_call(self, index: int, now: int, outcome: Outcome, code: str | None) -> None:
        self._report(index, AttemptResult(outcome, code, now, now))

    def _result(self, verdict: Verdict, sent_at: int, answered_at: int) -> AttemptResult:
        outcome = verdict.outcome
        if self._dry_run and outcome is Outcome.ACCEPTED:
            outcome = Outcome.DRY_RUN
        code = verdict.code
        if verdict.credentials:
            code = f"{CREDENTIALS}:{code}"
            self._troubles.met(code)
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
