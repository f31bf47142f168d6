"""FCM's answers, word for word as far as they are known.

Belongs here: bodies and headers. Does not belong here: when they are given (``fcm``).

Sources: https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode,
https://firebase.google.com/docs/cloud-messaging/error-codes, and answers quoted in public issue trackers.
"""

from collections.abc import Sequence

import orjson

from notify_pipeline.sandbox.faults import Fault
from notify_pipeline.sandbox.standin import Reply
from notify_pipeline.sandbox.wire import Header

_FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
_BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"
_JSON: Header = (b"content-type", b"application/json; charset=UTF-8")
# HTTP status of each canonical code: google/rpc/code.proto.
_STATUS = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
}


class Rejection(Exception):
    """Carries an answer out of the checks."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def reply(status: int, body: bytes, *extra: Header, message_id: str | None = None) -> Reply:
    """Return a JSON answer."""
    headers = ((b":status", b"%d" % status), _JSON, (b"content-length", b"%d" % len(body)), *extra)
    return Reply(status, headers, body, message_id)


def error(status: str, message: str, details: Sequence[object] = (), *extra: Header) -> Reply:
    """Return an answer in Google's error envelope; ``status`` is the canonical code."""
    content: dict[str, object] = {"code": _STATUS[status], "message": message, "status": status}
    if details:
        content["details"] = list(details)
    return reply(_STATUS[status], orjson.dumps({"error": content}), *extra)


def fcm_error(code: str) -> dict[str, str]:
    """Return the detail that names FCM's own error code."""
    return {"@type": _FCM_ERROR, "errorCode": code}


def bad_request(violations: Sequence[tuple[str, str]]) -> dict[str, object]:
    """Return the detail that names fields; a violation at the top has no field."""
    listed = [{"field": f, "description": d} if f else {"description": d} for f, d in violations]
    return {"@type": _BAD_REQUEST, "fieldViolations": listed}


def malformed(violations: Sequence[tuple[str, str]]) -> Reply:
    """Return the 400 of the JSON layer: wrong types and unknown names. It carries no FcmError."""
    return error("INVALID_ARGUMENT", "\n".join(d for _, d in violations), [bad_request(violations)])


def invalid(field: str, description: str, message: str | None = None) -> Reply:
    """Return the 400 of FCM itself, naming one field."""
    return error(
        "INVALID_ARGUMENT",
        message or description,
        [fcm_error("INVALID_ARGUMENT"), bad_request([(field, description)])],
    )


def too_big(kind: str) -> Reply:
    """Return the 400 of a payload above the limit, which names no field."""
    return error(
        "INVALID_ARGUMENT", f"{kind} message is too big", [{"@type": _BAD_REQUEST}, fcm_error("INVALID_ARGUMENT")]
    )


# It says so of tokens, and names no field, unlike elsewhere.
NO_TOKEN = error(
    "INVALID_ARGUMENT",
    "The registration token is not a valid FCM registration token",
    [fcm_error("INVALID_ARGUMENT")],
)
UNREGISTERED = error("NOT_FOUND", "Requested entity was not found.", [fcm_error("UNREGISTERED")])
_SIGN_IN = "See https://developers.google.com/identity/sign-in/web/devconsole-project."
NO_CREDENTIALS = error(
    "UNAUTHENTICATED",
    "Request is missing required authentication credential. Expected OAuth 2 access token, login cookie or other valid "
    f"authentication credential. {_SIGN_IN}",
    [
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "CREDENTIALS_MISSING",
            "domain": "googleapis.com",
            "metadata": {"method": "google.firebase.fcm.v1.FcmService.SendMessage", "service": "fcm.googleapis.com"},
        }
    ],
    (b"www-authenticate", b'Bearer realm="https://accounts.google.com/"'),
)
BAD_CREDENTIALS = error(
    "UNAUTHENTICATED",
    "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
    f"authentication credential. {_SIGN_IN}",
    [
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "ACCESS_TOKEN_TYPE_UNSUPPORTED",
            "domain": "googleapis.com",
            "metadata": {"method": "google.firebase.fcm.v1.FcmService.SendMessage", "service": "fcm.googleapis.com"},
        }
    ],
    (b"www-authenticate", b'Bearer realm="https://accounts.google.com/", error="invalid_token"'),
)
_HTML = b"<!DOCTYPE html>\n<html lang=en>\n<title>Error 404 (Not Found)!!1</title>\n"
NOT_FOUND = Reply(
    404,
    (
        (b":status", b"404"),
        (b"content-type", b"text/html; charset=UTF-8"),
        (b"content-length", b"%d" % len(_HTML)),
    ),
    _HTML,
)


def permission_denied(project: str) -> Reply:
    """Return the 403 of a credential that has no right on the project."""
    return error(
        "PERMISSION_DENIED",
        "Permission 'cloudmessaging.messages.create' denied on resource "
        f"'//cloudresourcemanager.googleapis.com/projects/{project}' (or it may not exist).",
    )


def failed(fault: Fault, retry_after_s: int | None) -> Reply:
    """Return the 429, 500 or 503."""
    extra = () if retry_after_s is None else ((b"retry-after", b"%d" % retry_after_s),)
    if fault is Fault.THROTTLED:
        message = "Quota exceeded for quota metric 'Send requests' and limit 'Send requests per minute' of service "
        message += "'fcm.googleapis.com' for consumer."
        quota = {
            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": [{"subject": "project", "description": "Message rate exceeded."}],
        }
        return error("RESOURCE_EXHAUSTED", message, [fcm_error("QUOTA_EXCEEDED"), quota], *extra)
    if fault is Fault.UNAVAILABLE:
        return error("UNAVAILABLE", "The service is currently unavailable.", [fcm_error("UNAVAILABLE")], *extra)
    return error("INTERNAL", "Internal error encountered.", [fcm_error("INTERNAL")])
