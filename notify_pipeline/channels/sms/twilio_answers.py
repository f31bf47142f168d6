"""What Twilio's answers mean, and those of services that speak like it.

Belongs here: one pure function from an answer to a verdict, and its tables. Does not belong here: acting on it.

Sources: https://www.twilio.com/docs/usage/twilios-response, https://www.twilio.com/docs/api/errors and
https://www.twilio.com/docs/usage/api/concurrency-limits
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson

from notify_pipeline.channels.base import OPTED_OUT, Verdict
from notify_pipeline.channels.retry_after import parse_retry_after
from notify_pipeline.core.vocabulary import Outcome

# "Requests that receive 429 responses aren't processed and are safe to retry after backing off": it is about how many
# are under way at once, so a moment helps. Twilio sends no Retry-After with most of them.
DEFAULT_THROTTLE_S = 1.0
# The sender's queue at Twilio is full: "4 hours' worth of messages". https://www.twilio.com/docs/api/errors/21611
_QUEUE_FULL_S = 60.0

_THROTTLED = Verdict(Outcome.THROTTLED, retry_after_s=DEFAULT_THROTTLE_S, hold=True)
_DEAD = Verdict(Outcome.INVALID_RECIPIENT, drop_token=True)
# Ours to mend, and nothing is lost meanwhile: the account, the key, or the number that we send from.
_OURS = Verdict(Outcome.TRANSIENT, credentials=True)

# By the error's own code. What is not here is read by its status.
_TABLE: Mapping[int, Verdict] = {
    21211: _DEAD,  # 'To' is not a valid phone number
    21614: _DEAD,  # 'To' is not a mobile number
    21635: _DEAD,  # 'To' cannot be a landline
    21610: _DEAD,  # they replied STOP
    14107: _THROTTLED,
    20429: _THROTTLED,
    21611: Verdict(Outcome.THROTTLED, retry_after_s=_QUEUE_FULL_S, hold=True),
    20003: _OURS,  # authentication
    20005: _OURS,  # the account is not active
    21603: _OURS,  # 'From' is required
    21606: _OURS,  # 'From' is not one of ours
    21609: _OURS,  # our status callback is no URL for them
    21659: _OURS,  # 'From' is not a Twilio number
    21660: _OURS,  # 'From' belongs to another account
    21701: _OURS,  # no such messaging service
    21703: _OURS,  # the messaging service has no numbers
    30002: _OURS,  # the account is suspended
}
_OPTED_OUT_CODE = 21610
_LONGEST_ID = 64


def classify(status: int, retry_after: str | None, body: bytes, now: datetime) -> Verdict:
    """Return what an answer to a new message means. Never raises, whatever the body holds.

    A number is suppressed on a code that is about that number alone. "Unreachable from this sender" (21612) or "not
    enabled for this country" (21408) are not: other settings would reach it.

    Args:
        status: HTTP's.
        retry_after: The header, where there is one.
        body: JSON with ``sid``, or with ``code``.
        now: What a Retry-After date is measured from.
    """
    parsed = _parsed(body)
    if 200 <= status < 300:
        sid = parsed.get("sid")
        return Verdict(Outcome.ACCEPTED, message_id=sid[:_LONGEST_ID] if isinstance(sid, str) else None)
    code = parsed.get("code")
    code = code if isinstance(code, int) and 0 < code < 1_000_000 else None
    verdict = _TABLE.get(code or 0) or _by_status(status)
    if verdict.outcome in (Outcome.THROTTLED, Outcome.TRANSIENT):
        asked = parse_retry_after(retry_after, now)
        verdict = verdict._replace(retry_after_s=verdict.retry_after_s if asked is None else asked)
    word = f"http_{status}" if code is None else str(code)
    return verdict._replace(code=f"{OPTED_OUT}:{word}" if code == _OPTED_OUT_CODE else word)


def _by_status(status: int) -> Verdict:
    if status == 429:
        return _THROTTLED
    # 404 is the account's resource, and a redirect or a 405 says that the URL is not theirs.
    if status in (401, 403, 404, 405, 407) or 300 <= status < 400:
        return _OURS
    return Verdict(Outcome.TRANSIENT if status >= 500 or status == 408 else Outcome.PERMANENT)


def _parsed(body: bytes) -> Mapping[str, Any]:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
