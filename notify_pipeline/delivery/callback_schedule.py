"""What came of an attempt to tell a callback something, what follows, and when.

Belongs here: that rule. Does not belong here: recording it (``core.ledger.callback_claims``), waiting.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger.callback_claims import GONE, Claimed, Told
from notify_pipeline.core.vocabulary import MessageState

# Waits between attempts, in units of the first: of 5 s it makes 5 s, 5 min, 30 min, 2 h, 5 h, 10 h and 10 h, as the
# specification suggests. A receiver that is down over night misses nothing.
# https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#deliverability-and-reliability
WAITS = (1, 60, 360, 1_440, 3_600, 7_200, 7_200)
# Each wait is up to so much longer, so that what failed together does not come back together.
_JITTER = 0.2
_HTTP_GONE = 410
_PAUSES = (429, 503)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an attempt: a status, or why there is none."""

    status: int | None = None
    error: str | None = None
    retry_after_s: float | None = None

    @property
    def is_success(self) -> bool:
        """True when the receiver has taken the message."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def asks_for_a_pause(self) -> bool:
        """True when it is not this message that the receiver does not want now, but any."""
        return self.status in _PAUSES


def told(claimed: Claimed, answer: Answer, base_s: float, draw: Callable[[], float], now: datetime) -> Told:
    """Decide what follows an attempt.

    Args:
        claimed: What was sent.
        answer: What came back.
        base_s: The wait after the first attempt, seconds.
        draw: Gives uniform numbers in [0, 1).
        now: When the answer came.
    """
    status = answer.status
    if answer.is_success:
        return Told(claimed, MessageState.DELIVERED, status)
    if status == _HTTP_GONE:
        return Told(claimed, MessageState.FAILED, status, GONE)
    if claimed.attempt_no > len(WAITS):
        return Told(claimed, MessageState.FAILED, status, answer.error)
    wait_s = max(WAITS[claimed.attempt_no - 1] * base_s, answer.retry_after_s or 0.0) * (1 + _JITTER * draw())
    again_at = to_micros(now + timedelta(seconds=wait_s))
    return Told(claimed, MessageState.WAITING, status, answer.error, again_at, to_micros(now))
