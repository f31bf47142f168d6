"""What the SMS stand-in asks of a new message, in Twilio's words.

Belongs here: reading the form, its checks, and the answers. Does not belong here: faults, logging, what phones do
(``sms``).

https://www.twilio.com/docs/messaging/api/message-resource#create-a-message-resource and
https://www.twilio.com/docs/api/errors
"""

import base64
import binascii
import hmac
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, parse_qsl

import orjson

from notify_pipeline.core.phone_numbers import is_e164
from notify_pipeline.core.sms_segments import measured
from notify_pipeline.core.sms_text import MAX_CHARACTERS
from notify_pipeline.sandbox.http1 import HttpRequest, Response

ACCOUNT_SID = "AC" + "5a4db0c5" * 4
NUMBER = "+15005550006"  # Twilio's own magic number
_PATH = f"/sms/2010-04-01/Accounts/{ACCOUNT_SID}/Messages.json"
_FORM = b"application/x-www-form-urlencoded"
_MORE_INFO = "https://www.twilio.com/docs/errors/"


@dataclass(frozen=True, slots=True)
class Submitted:
    """One message as it was asked for. ``known`` is what its status callback says of it."""

    to: str
    sender: str
    body: str
    callback: str | None
    known: Mapping[str, str]


def refusal(status: int, code: int, message: str) -> Response:
    """Return an error answer."""
    body = {"code": code, "message": message, "more_info": f"{_MORE_INFO}{code}", "status": status}
    return Response(status, orjson.dumps(body))


def read(request: HttpRequest, token: str) -> Submitted | Response:
    """Return a message, or why it is refused."""
    if not _is_authorized(request.headers.get(b"authorization", b""), token):
        return refusal(401, 20003, "Authenticate")
    if request.path != _PATH:
        return refusal(404, 20404, f"The requested resource {request.path} was not found")
    if request.headers.get(b"content-type", b"").split(b";")[0].strip().lower() != _FORM:
        return refusal(415, 20415, f"Send {_FORM.decode()}")
    try:
        form = dict(parse_qsl(request.body.decode(), keep_blank_values=True))
    except UnicodeDecodeError:
        return refusal(400, 20001, "The form is not UTF-8")
    return _fault(form) or _submitted(form)


def created(submitted: Submitted, messaging: bool) -> dict[str, object]:
    """Return the resource of an accepted message."""
    return {
        "sid": f"SM{uuid.uuid4().hex}",
        "account_sid": ACCOUNT_SID,
        "to": submitted.to,
        "from": None if messaging else submitted.sender,
        "messaging_service_sid": submitted.sender if messaging else None,
        "body": submitted.body,
        "status": "queued",
        "num_segments": str(measured(submitted.body).number),
        "error_code": None,
        "error_message": None,
    }


def _is_authorized(header: bytes, token: str) -> bool:
    scheme, _, value = header.partition(b" ")
    try:
        given = base64.b64decode(value, validate=True)
    except binascii.Error:
        return False
    return scheme.lower() == b"basic" and hmac.compare_digest(given, f"{ACCOUNT_SID}:{token}".encode())


def _fault(form: Mapping[str, str]) -> Response | None:
    body, validity = form.get("Body", ""), form.get("ValidityPeriod", "1")
    if not form.get("To"):
        return refusal(400, 21604, "A 'To' phone number is required.")
    if not is_e164(form["To"]):
        return refusal(400, 21211, "The 'To' number is not a valid phone number.")
    if not form.get("From") and not form.get("MessagingServiceSid"):
        return refusal(400, 21603, "A 'From' phone number is required.")
    if not body:
        return refusal(400, 21602, "Message body is required.")
    if len(body) > MAX_CHARACTERS:
        return refusal(400, 21617, "The concatenated message body exceeds the 1600 character limit")
    if not (validity.isascii() and validity.isdigit() and 1 <= int(validity) <= 36_000):
        return refusal(400, 21624, "The validity period is not between 1 and 36000 seconds.")
    return None


def _submitted(form: Mapping[str, str]) -> Submitted:
    callback = form.get("StatusCallback") or None
    query = parse_qs((callback or "").partition("?")[2])
    known = {name: values[0] for name, values in query.items()}
    return Submitted(form["To"], form.get("From") or form["MessagingServiceSid"], form["Body"], callback, known)
