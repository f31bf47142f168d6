"""When an attempt is followed by another one, and when.

Belongs here: the rule that turns one outcome into "again at" or "final, because". Does not belong here: classifying a
provider's answer (``channels``), recording anything (``core.ledger``), or waiting.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from notify_pipeline.core.settings import Settings
from notify_pipeline.core.vocabulary import RETRYABLE_OUTCOMES, DeadLetterReason, OnAmbiguous, Outcome

_MICROS = 1_000_000
# Past this exponent the bound is far above any cap; keeps 2 ** n small however many attempts a policy allows.
_MAX_DOUBLINGS = 32


class GaveUp(StrEnum):
    """Why no further attempt follows one whose outcome alone would have allowed it."""

    ATTEMPTS = DeadLetterReason.ATTEMPTS
    EXPIRES = DeadLetterReason.EXPIRES
    NO_RETRY = DeadLetterReason.NO_RETRY
    LEFT = "ambiguous_left"
    RECORD_FAILED = DeadLetterReason.RECORD_FAILED


# Outcomes that a dead letter may have; a chunk with none of them has no dead letters.
MAY_DIE = RETRYABLE_OUTCOMES | {Outcome.PERMANENT, Outcome.EXPIRED}


class Jitter(StrEnum):
    """How far a wait is spread: over all of it, or not at all."""

    FULL = "full"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Again:
    """Attempt the same delivery again, not before ``due_at`` (microseconds since the epoch)."""

    due_at: int


@dataclass(frozen=True, slots=True)
class Final:
    """No further attempt. ``reason`` is None where the outcome itself is final."""

    reason: GaveUp | None = None

    def died_of(self, outcome: Outcome, attempt_no: int) -> DeadLetterReason | None:
        """Return why the delivery is a dead letter; None where it is none.

        It is none where somebody was or may have been reached and the sender left it at that (``ambiguous_left``),
        where the recipient is the reason, and where the send had expired before the first attempt.
        """
        if self.reason is not None:
            return None if self.reason is GaveUp.LEFT else DeadLetterReason(self.reason.value)
        if outcome is Outcome.PERMANENT:
            return DeadLetterReason.PERMANENT
        # The retry was planned in time, and when its turn came it was late.
        return DeadLetterReason.EXPIRES if outcome is Outcome.EXPIRED and attempt_no > 1 else None


@dataclass(frozen=True, slots=True)
class Wishes:
    """What one send asks of its retries."""

    expires_at: int
    retry: bool = True
    on_ambiguous: OnAmbiguous = OnAmbiguous.RESEND


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential back-off: with full jitter a uniform draw from zero to a bound that doubles up to a cap.

    Full jitter spreads the retries of many recipients that failed together over the whole interval, so that they do
    not return together (https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/).

    Attributes:
        attempts: How often one delivery may be attempted, the first included.
        base_s: Upper bound of the first wait, seconds.
        cap_s: Upper bound of any wait, seconds; a provider's Retry-After may exceed it.
        draw: Gives uniform numbers in [0, 1).
        jitter: Without it, every wait is its upper bound.
    """

    attempts: int
    base_s: float
    cap_s: float
    draw: Callable[[], float]
    jitter: Jitter = Jitter.FULL

    @classmethod
    def of(cls, settings: Settings, draw: Callable[[], float]) -> "RetryPolicy":
        """Return the policy that the settings describe."""
        return cls(settings.retry_attempts, settings.retry_base_s, settings.retry_cap_s, draw)

    def bound_s(self, attempt_no: int) -> float:
        """Return the longest wait, in seconds, that may follow attempt ``attempt_no`` (1 is the first)."""
        return min(self.cap_s, self.base_s * 2.0 ** min(attempt_no - 1, _MAX_DOUBLINGS))

    def after(
        self, outcome: Outcome, attempt_no: int, now: int, wishes: Wishes, retry_after_s: float | None = None
    ) -> Again | Final:
        """Decide what follows an attempt.

        Args:
            outcome: How it ended.
            attempt_no: Its number, from 1.
            now: When the decision is made, microseconds since the epoch.
            wishes: What the send asks for.
            retry_after_s: The provider's Retry-After: no attempt comes before it. The back-off is added to it, because
                everybody who was told the same time would otherwise come back at that time.

        Returns:
            ``Again`` with a time strictly before the expiry, or ``Final``.
        """
        if not outcome.is_retryable:
            return Final()
        # An ambiguous attempt is the user's choice, whatever they say of ordinary failures: the two are independent.
        if outcome is Outcome.AMBIGUOUS:
            if wishes.on_ambiguous is OnAmbiguous.LEAVE:
                return Final(GaveUp.LEFT)
        elif not wishes.retry:
            return Final(GaveUp.NO_RETRY)
        if attempt_no >= self.attempts:
            return Final(GaveUp.ATTEMPTS)
        share = 1.0 if self.jitter is Jitter.NONE else self.draw()
        wait_s = share * self.bound_s(attempt_no) + max(0.0, retry_after_s or 0.0)
        due_at = now + round(wait_s * _MICROS)
        return Again(due_at) if due_at < wishes.expires_at else Final(GaveUp.EXPIRES)
