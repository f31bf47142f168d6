"""Classification: the providers' tables, and that nothing a peer says can break it."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notify_pipeline.channels.apns.errors import classify as apns
from notify_pipeline.channels.base import Verdict
from notify_pipeline.channels.fcm.errors import classify as fcm
from notify_pipeline.channels.retry_after import MAX_RETRY_AFTER_S, parse_retry_after
from notify_pipeline.channels.transport import Answer
from notify_pipeline.core.vocabulary import Outcome

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"


def fcm_answer(status: int, canonical: str | None, word: str | None = None, field: str | None = None) -> Answer:
    details: list[object] = []
    if word:
        details.append({"@type": FCM_ERROR, "errorCode": word})
    if field:
        details.append({"@type": BAD_REQUEST, "fieldViolations": [{"field": field, "description": "…"}]})
    error = {"code": status, "status": canonical, "message": "…", "details": details}
    return Answer(status, {}, orjson.dumps({"error": error}))


# What FCM says of a token that has not the form of one, naming no field.
_SAID = "The registration token is not a valid FCM registration token"
NO_TOKEN = Answer(400, {}, orjson.dumps({"error": {"code": 400, "message": _SAID, "status": "INVALID_ARGUMENT"}}))


@pytest.mark.parametrize(
    ("answer", "outcome", "code", "drops"),
    [
        (fcm_answer(404, "NOT_FOUND", "UNREGISTERED"), Outcome.INVALID_RECIPIENT, "UNREGISTERED", True),
        (fcm_answer(404, "NOT_FOUND"), Outcome.PERMANENT, "NOT_FOUND", False),
        (Answer(404, {}, b"<html>"), Outcome.PERMANENT, "http_404", False),
        (fcm_answer(500, "INTERNAL", "UNREGISTERED"), Outcome.TRANSIENT, "UNREGISTERED", False),
        (
            fcm_answer(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "message.token"),
            Outcome.INVALID_RECIPIENT,
            "INVALID_ARGUMENT",
            True,
        ),
        (
            fcm_answer(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "message.data[0].value"),
            Outcome.PERMANENT,
            "INVALID_ARGUMENT",
            False,
        ),
        (fcm_answer(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT"), Outcome.PERMANENT, "INVALID_ARGUMENT", False),
        (NO_TOKEN, Outcome.INVALID_RECIPIENT, "INVALID_ARGUMENT", True),
        (NO_TOKEN._replace(status=500), Outcome.TRANSIENT, "INVALID_ARGUMENT", False),
        (fcm_answer(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH"), Outcome.PERMANENT, "SENDER_ID_MISMATCH", False),
        (fcm_answer(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"), Outcome.THROTTLED, "QUOTA_EXCEEDED", False),
        (Answer(429, {}, b""), Outcome.THROTTLED, "http_429", False),
        (fcm_answer(500, "INTERNAL", "INTERNAL"), Outcome.TRANSIENT, "INTERNAL", False),
        (Answer(502, {}, b"<!DOCTYPE html>"), Outcome.TRANSIENT, "http_502", False),
        (fcm_answer(503, "UNAVAILABLE", "UNAVAILABLE"), Outcome.TRANSIENT, "UNAVAILABLE", False),
        (Answer(418, {}, b"{}"), Outcome.PERMANENT, "http_418", False),
        (Answer(302, {}, b""), Outcome.PERMANENT, "http_302", False),
    ],
)
def test_fcm(answer: Answer, outcome: Outcome, code: str, drops: bool) -> None:
    verdict = fcm(answer, NOW)
    assert (verdict.outcome, verdict.code, verdict.drop_token) == (outcome, code, drops)
    assert not verdict.credentials


def test_fcm_accepts_whatever_the_body() -> None:
    assert fcm(Answer(200, {}, b'{"name": "projects/p/messages/7"}'), NOW) == Verdict(
        Outcome.ACCEPTED, message_id="projects/p/messages/7"
    )
    for body in (b"", b"{", b"[]", b'{"name": 7}', b"null"):
        assert fcm(Answer(200, {}, body), NOW) == Verdict(Outcome.ACCEPTED)


@pytest.mark.parametrize(
    ("answer", "renews"),
    [
        (fcm_answer(401, "UNAUTHENTICATED"), True),
        (Answer(401, {}, b""), True),
        (fcm_answer(401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR"), False),
        (fcm_answer(403, "PERMISSION_DENIED"), False),
        (Answer(403, {}, b"no"), False),
    ],
)
def test_fcm_credentials(answer: Answer, renews: bool) -> None:
    verdict = fcm(answer, NOW)
    assert (verdict.outcome, verdict.credentials, verdict.renew) == (Outcome.TRANSIENT, True, renews)
    assert not verdict.drop_token


def test_fcm_waits_as_long_as_asked_or_a_minute() -> None:
    answer = fcm_answer(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")
    assert fcm(answer, NOW).retry_after_s == 60
    assert fcm(answer._replace(headers={"retry-after": "5"}), NOW).retry_after_s == 5
    assert fcm(answer._replace(headers={"retry-after": "soon"}), NOW).retry_after_s == 60
    unavailable = fcm_answer(503, "UNAVAILABLE", "UNAVAILABLE")
    assert fcm(unavailable, NOW).retry_after_s is None
    assert fcm(unavailable._replace(headers={"retry-after": "5"}), NOW).retry_after_s == 5
    assert fcm(Answer(404, {"retry-after": "5"}, b""), NOW).retry_after_s is None


def test_fcm_holds_the_project_for_its_quota_and_nobody_for_a_devices() -> None:
    def exceeded(*said: object) -> Answer:
        detail = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": list(said)}
        return Answer(429, {}, orjson.dumps({"error": {"status": "RESOURCE_EXHAUSTED", "details": [detail]}}))

    device = {"subject": "device:x", "description": "Device message rate exceeded."}
    project = {"subject": "project:x", "description": "Message rate exceeded."}
    assert not fcm(exceeded(device), NOW).hold
    for answer in (exceeded(project), exceeded(device, project), exceeded(), exceeded(device, 7), Answer(429, {}, b"")):
        assert fcm(answer, NOW).hold
    assert not fcm(Answer(503, {"retry-after": "5"}, b""), NOW).hold


def test_apns_holds_the_team_for_its_tokens_and_nobody_for_a_devices_rate() -> None:
    assert not apns(apns_answer(429, "TooManyRequests"), NOW).hold
    verdict = apns(apns_answer(429, "TooManyProviderTokenUpdates"), NOW)
    assert (verdict.hold, verdict.retry_after_s) == (True, 60.0)
    assert not apns(apns_answer(503, "ServiceUnavailable"), NOW).hold


def apns_answer(status: int, reason: str, **more: object) -> Answer:
    return Answer(status, {"apns-id": "X"}, orjson.dumps({"reason": reason, **more}))


@pytest.mark.parametrize(
    ("status", "reason", "outcome", "drops"),
    [
        (410, "Unregistered", Outcome.INVALID_RECIPIENT, True),
        (410, "ExpiredToken", Outcome.INVALID_RECIPIENT, True),
        (410, "SomethingNew", Outcome.INVALID_RECIPIENT, False),
        (400, "BadDeviceToken", Outcome.INVALID_RECIPIENT, True),
        (400, "DeviceTokenNotForTopic", Outcome.INVALID_RECIPIENT, True),
        (500, "BadDeviceToken", Outcome.TRANSIENT, False),
        (400, "BadCollapseId", Outcome.PERMANENT, False),
        (400, "SomethingNew", Outcome.PERMANENT, False),
        (400, "IdleTimeout", Outcome.TRANSIENT, False),
        (404, "BadPath", Outcome.PERMANENT, False),
        (405, "MethodNotAllowed", Outcome.PERMANENT, False),
        (413, "PayloadTooLarge", Outcome.PERMANENT, False),
        (429, "TooManyRequests", Outcome.THROTTLED, False),
        (429, "TooManyProviderTokenUpdates", Outcome.THROTTLED, False),
        (500, "InternalServerError", Outcome.TRANSIENT, False),
        (503, "ServiceUnavailable", Outcome.TRANSIENT, False),
        (503, "Shutdown", Outcome.TRANSIENT, False),
    ],
)
def test_apns(status: int, reason: str, outcome: Outcome, drops: bool) -> None:
    verdict = apns(apns_answer(status, reason), NOW)
    assert (verdict.outcome, verdict.code, verdict.drop_token) == (outcome, reason, drops)
    assert not verdict.credentials


@pytest.mark.parametrize(
    ("status", "reason", "renews"),
    [
        (403, "ExpiredProviderToken", True),
        (403, "InvalidProviderToken", True),
        (403, "MissingProviderToken", False),
        (403, "Forbidden", False),
        (403, "SomethingNew", False),
        (400, "TopicDisallowed", False),
    ],
)
def test_apns_credentials(status: int, reason: str, renews: bool) -> None:
    verdict = apns(apns_answer(status, reason), NOW)
    assert (verdict.outcome, verdict.credentials, verdict.renew) == (Outcome.TRANSIENT, True, renews)
    assert not verdict.drop_token


def test_apns_says_since_when_a_token_is_dead() -> None:
    verdict = apns(apns_answer(410, "Unregistered", timestamp=1_700_000_000_123), NOW)
    assert verdict.unregistered_at == datetime(2023, 11, 14, 22, 13, 20, 123_000, tzinfo=UTC)
    hostile_values: tuple[object, ...] = (True, "1700000000123", -1, 0, 1e300, 10**18, None, [], {})
    for hostile in hostile_values:
        verdict = apns(apns_answer(410, "Unregistered", timestamp=hostile), NOW)
        assert verdict.drop_token
        assert verdict.unregistered_at is None


def test_apns_accepts_and_names_the_message() -> None:
    assert apns(Answer(200, {"apns-id": "ABC"}, b""), NOW) == Verdict(Outcome.ACCEPTED, message_id="ABC")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["error", "details", "@type", "errorCode", "status", "fieldViolations", "field", "reason"])
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)
# A detail of a kind that is read, with anything in it.
KIND = st.sampled_from(["FcmError", "BadRequest", "QuotaFailure"]).map(lambda kind: f"x/google.rpc.{kind}")
DETAIL = st.builds(
    lambda kind, inside: {"@type": kind, "violations": inside, "fieldViolations": inside},
    KIND | JSON,
    JSON | st.lists(st.fixed_dictionaries({"subject": JSON, "description": JSON, "field": JSON}), max_size=2),
)
HOSTILE_DETAILS = st.fixed_dictionaries(
    {"error": st.fixed_dictionaries({"details": st.lists(JSON | DETAIL, max_size=3), "status": JSON})}
)
BODIES = st.binary(max_size=60) | (JSON | HOSTILE_DETAILS).map(lambda value: orjson.dumps(value))
HEADERS = st.dictionaries(st.sampled_from(["retry-after", "apns-id", "x"]), st.text(max_size=40), max_size=3)
CLEAR_WORDS = (b"UNREGISTERED", b"message.token", _SAID.encode(), b"Unregistered", b"ExpiredToken", b"DeviceToken")


@given(st.integers(100, 999), BODIES, HEADERS)
def test_classification_is_total_and_drops_nothing_without_the_word(
    status: int, body: bytes, headers: dict[str, str]
) -> None:
    for classify in (fcm, apns):
        verdict = classify(Answer(status, headers, body), NOW)
        assert (verdict.outcome is Outcome.ACCEPTED) == (200 <= status < 300)
        assert verdict.outcome not in (Outcome.AMBIGUOUS, Outcome.SKIPPED, Outcome.EXPIRED, Outcome.DRY_RUN)
        if verdict.outcome is not Outcome.ACCEPTED:
            assert verdict.code
            assert len(verdict.code) <= 64
        if verdict.drop_token:
            assert any(word in body for word in CLEAR_WORDS)
            assert verdict.outcome is Outcome.INVALID_RECIPIENT
        if status >= 500:
            assert verdict.outcome is Outcome.TRANSIENT
        assert not verdict.hold or verdict.outcome is Outcome.THROTTLED and verdict.retry_after_s is not None
        if verdict.retry_after_s is not None:
            assert 0 <= verdict.retry_after_s <= MAX_RETRY_AFTER_S


@given(st.text(max_size=80) | st.from_regex(r"[ -]?[0-9]{1,5000}", fullmatch=True) | st.none())
def test_retry_after_takes_anything(value: str | None) -> None:
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER_S


@given(st.integers(0, 10**12))
def test_retry_after_in_seconds(seconds: int) -> None:
    assert parse_retry_after(str(seconds), NOW) == min(seconds, MAX_RETRY_AFTER_S)


@given(st.integers(-(10**6), 10**6))
def test_retry_after_as_a_date(offset: int) -> None:
    moment = NOW + timedelta(seconds=offset)
    expected = min(max(offset, 0), MAX_RETRY_AFTER_S)
    assert parse_retry_after(format_datetime(moment, usegmt=True), NOW) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Sat, 21 Nov 2026 12:02:00 GMT", 120.0),
        ("Saturday, 21-Nov-26 12:02:00 GMT", 120.0),
        ("Sat Nov 21 12:02:00 2026", 120.0),
        ("-5", None),
        ("1.5", None),
        ("1e3", None),
        ("٣", None),
        ("", None),
        ("never", None),
        ("Sat, 99 Nov 2026 12:02:00 GMT", None),
    ],
)
def test_retry_after_forms(value: str, expected: float | None) -> None:
    assert parse_retry_after(value, NOW) == expected
