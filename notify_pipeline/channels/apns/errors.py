"""What APNs' answers mean.

Belongs here: one pure function from an answer to a verdict, and its table. Does not belong here: acting on it.

Source: https://developer.apple.com/documentation/usernotifications/handling-notification-responses-from-apns
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from notify_pipeline.channels.base import Verdict
from notify_pipeline.channels.retry_after import parse_retry_after
from notify_pipeline.channels.transport import Answer
from notify_pipeline.core.vocabulary import Outcome

# "Update the token no more than once every 20 minutes": the one in use is good, so a pause is all that is needed. Apple
# names no length; its engineers say that the connection is of no use until enough time has passed, so everything sent
# with the team's key pauses. https://developer.apple.com/forums/thread/675879
_TOKEN_UPDATES_PAUSE_S = 60.0
_WORD = re.compile(r"[A-Za-z]{1,64}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The year 9999 in milliseconds: what a datetime can hold.
_MAX_TIMESTAMP_MS = 253_402_300_799_000

_DEAD = Verdict(Outcome.INVALID_RECIPIENT, drop_token=True)
_CREDENTIALS = Verdict(Outcome.TRANSIENT, credentials=True)
_RENEW = Verdict(Outcome.TRANSIENT, credentials=True, renew=True)
_TRANSIENT = Verdict(Outcome.TRANSIENT)
_PERMANENT = Verdict(Outcome.PERMANENT)

# By status and reason: a reason under a status that it does not belong to is not the provider's clear statement.
_TABLE: Mapping[tuple[int, str], Verdict] = {
    (410, "Unregistered"): _DEAD,
    (410, "ExpiredToken"): _DEAD,
    (400, "BadDeviceToken"): _DEAD,
    (400, "DeviceTokenNotForTopic"): _DEAD,
    (400, "IdleTimeout"): _TRANSIENT,
    # The topic is the app's bundle id, which is part of our settings and not of the message.
    (400, "TopicDisallowed"): _CREDENTIALS,
    (400, "BadTopic"): _CREDENTIALS,
    (400, "MissingTopic"): _CREDENTIALS,
    (403, "ExpiredProviderToken"): _RENEW,
    (403, "InvalidProviderToken"): _RENEW,
    (413, "PayloadTooLarge"): _PERMANENT,
    # Too many to this one device.
    (429, "TooManyRequests"): Verdict(Outcome.THROTTLED),
    (429, "TooManyProviderTokenUpdates"): Verdict(Outcome.THROTTLED, retry_after_s=_TOKEN_UPDATES_PAUSE_S, hold=True),
}
_BY_STATUS: Mapping[int, Verdict] = {
    403: _CREDENTIALS,
    408: _TRANSIENT,
    410: Verdict(Outcome.INVALID_RECIPIENT),
    429: Verdict(Outcome.THROTTLED),
}


def classify(answer: Answer, now: datetime) -> Verdict:
    """Return what an answer to ``POST /3/device/<token>`` means. Never raises, whatever the body holds.

    410 drops the token as of the timestamp, BadDeviceToken and DeviceTokenNotForTopic drop it, 403 is about our
    credentials, 429 and 5xx wait (Retry-After honoured): this recipient alone, but everybody where the provider token
    was renewed too often. What is not known is read by its status class, and drops
    nothing.

    Args:
        answer: What came back.
        now: What a Retry-After date is measured from.
    """
    status = answer.status
    if 200 <= status < 300:
        return Verdict(Outcome.ACCEPTED, message_id=answer.headers.get("apns-id"))
    body = _parse(answer.body)
    reason = body.get("reason")
    word = reason if isinstance(reason, str) and _WORD.fullmatch(reason) else None
    verdict = _TABLE.get((status, word or "")) or _BY_STATUS.get(status)
    if verdict is None:
        verdict = _TRANSIENT if status >= 500 else _PERMANENT
    if verdict.outcome in (Outcome.THROTTLED, Outcome.TRANSIENT):
        asked = parse_retry_after(answer.headers.get("retry-after"), now)
        verdict = verdict._replace(retry_after_s=verdict.retry_after_s if asked is None else asked)
    since = _moment(body.get("timestamp")) if status == 410 else None
    return verdict._replace(code=word or f"http_{status}", unregistered_at=since)


def _parse(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _moment(timestamp: Any) -> datetime | None:
    """Read milliseconds since the epoch."""
    if isinstance(timestamp, bool) or not isinstance(timestamp, int) or not 0 < timestamp <= _MAX_TIMESTAMP_MS:
        return None
    return _EPOCH + timedelta(milliseconds=timestamp)
