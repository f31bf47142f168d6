"""What FCM's answers mean.

Belongs here: one pure function from an answer to a verdict, and its table. Does not belong here: acting on it.

Sources: https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode,
https://firebase.google.com/docs/cloud-messaging/error-codes and
https://firebase.google.com/docs/cloud-messaging/scale-fcm
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import orjson

from notify_pipeline.channels.base import Verdict
from notify_pipeline.channels.retry_after import parse_retry_after
from notify_pipeline.channels.transport import Answer
from notify_pipeline.core.vocabulary import Outcome

# "If a retry-after header is not set, then default to 60 seconds" (for 429).
DEFAULT_THROTTLE_S = 60.0
_TOKEN_FIELD = "message.token"  # noqa: S105 - a field's name
# Of a token that has not the form of one FCM says this, and often names no field beside it. The documentation does not
# promise the words, so they are taken literally.
_NO_TOKEN = "The registration token is not a valid FCM registration token"  # noqa: S105 - a sentence
_WORD = re.compile(r"[A-Z_]{1,64}")

_CREDENTIALS = Verdict(Outcome.TRANSIENT, credentials=True)
_RENEW = Verdict(Outcome.TRANSIENT, credentials=True, renew=True)
# The quota is the project's: whatever else is sent meanwhile is refused too, and counts as pressing on.
# https://firebase.google.com/docs/cloud-messaging/throttling-and-quotas
_THROTTLED = Verdict(Outcome.THROTTLED, retry_after_s=DEFAULT_THROTTLE_S, hold=True)
_TRANSIENT = Verdict(Outcome.TRANSIENT)
_PERMANENT = Verdict(Outcome.PERMANENT)

# By status and error word: a word under a status that it does not belong to is not the provider's clear statement.
_TABLE: Mapping[tuple[int, str], Verdict] = {
    (404, "UNREGISTERED"): Verdict(Outcome.INVALID_RECIPIENT, drop_token=True),
    # The token belongs to another Firebase project: ours may be misconfigured, so nothing is dropped.
    (403, "SENDER_ID_MISMATCH"): _PERMANENT,
    (400, "INVALID_ARGUMENT"): _PERMANENT,
    # The project's own APNs or web push key: a newer access token would not help.
    (401, "THIRD_PARTY_AUTH_ERROR"): _CREDENTIALS,
    (403, "THIRD_PARTY_AUTH_ERROR"): _CREDENTIALS,
}
_BY_STATUS: Mapping[int, Verdict] = {401: _RENEW, 403: _CREDENTIALS, 408: _TRANSIENT, 429: _THROTTLED}


def classify(answer: Answer, now: datetime) -> Verdict:
    """Return what an answer of ``messages:send`` means. Never raises, whatever the body holds.

    404 UNREGISTERED drops the token. 400 INVALID_ARGUMENT drops it only when a violation names ``message.token``, or
    the message says that it is none, and is the content's fault otherwise. 429 waits for Retry-After or 60 s, and holds
    the whole project unless all that it says was exceeded is a device's rate. 5xx waits for Retry-After if there is
    one, this recipient alone: the reference says to retry that request, and one of FCM's many servers does not speak
    for the others. 401 asks for a newer access token, 403 is a matter of rights. What is not known is read by its
    status class, and drops nothing.

    Args:
        answer: What came back.
        now: What a Retry-After date is measured from.
    """
    status = answer.status
    if 200 <= status < 300:
        return Verdict(Outcome.ACCEPTED, message_id=message_id(answer))
    error = _parse(answer.body).get("error")
    error = error if isinstance(error, dict) else {}
    word = _error_word(error)
    verdict = _TABLE.get((status, word or "")) or _BY_STATUS.get(status)
    if verdict is None:
        verdict = _TRANSIENT if status >= 500 else _PERMANENT
    if status == 400 and _names_token(error):
        verdict = Verdict(Outcome.INVALID_RECIPIENT, drop_token=True)
    if status == 429 and _is_device_rate(error):
        verdict = verdict._replace(hold=False)
    if verdict.outcome in (Outcome.THROTTLED, Outcome.TRANSIENT):
        asked = parse_retry_after(answer.headers.get("retry-after"), now)
        verdict = verdict._replace(retry_after_s=verdict.retry_after_s if asked is None else asked)
    return verdict._replace(code=word or f"http_{status}")


def message_id(answer: Answer) -> str | None:
    """Return the name that FCM gave to an accepted message."""
    return _text(_parse(answer.body), "name")


def _parse(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _text(value: Mapping[str, Any], key: str) -> str | None:
    found = value.get(key)
    return found if isinstance(found, str) else None


def _details(error: Mapping[str, Any], kind: str) -> Iterator[Mapping[str, Any]]:
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and str(detail.get("@type", "")).endswith(kind):
            yield detail


def _error_word(error: Mapping[str, Any]) -> str | None:
    """The FCM error code where there is one, else the canonical status, else None."""
    words = [_text(detail, "errorCode") for detail in _details(error, "google.firebase.fcm.v1.FcmError")]
    for word in (*words, _text(error, "status")):
        if word is not None and _WORD.fullmatch(word):
            return word
    return None


def _names_token(error: Mapping[str, Any]) -> bool:
    if _text(error, "message") == _NO_TOKEN:
        return True
    for detail in _details(error, "google.rpc.BadRequest"):
        violations = detail.get("fieldViolations")
        for violation in violations if isinstance(violations, list) else ():
            if isinstance(violation, dict) and violation.get("field") == _TOKEN_FIELD:
                return True
    return False


def _is_device_rate(error: Mapping[str, Any]) -> bool:
    """Say whether every exceeded quota named is one of "device message rate", and at least one is named."""
    named: list[bool] = []
    for detail in _details(error, "google.rpc.QuotaFailure"):
        violations = detail.get("violations")
        for violation in violations if isinstance(violations, list) else ():
            words = violation if isinstance(violation, dict) else {}
            said = f"{_text(words, 'subject') or ''} {_text(words, 'description') or ''}"
            named.append("device" in said.lower())
    return bool(named) and all(named)
