"""APNs' rules: provider tokens, headers, payloads, and what is answered.

Belongs here: the checks of ``POST /3/device/{token}`` and APNs' answers. Does not belong here: faults and logging
(``standin``).

Sources, all below https://developer.apple.com/documentation/usernotifications/: sending-notification-requests-to-apns,
handling-notification-responses-from-apns, establishing-a-token-based-connection-to-apns.
"""

import os
import re
from datetime import datetime
from typing import Any

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from notify_pipeline.sandbox.faults import Fault
from notify_pipeline.sandbox.standin import Push, Reply
from notify_pipeline.sandbox.tokens import APNS_TOKEN
from notify_pipeline.sandbox.wire import Header, Request, Session

MAX_PAYLOAD = 4096
MAX_VOIP_PAYLOAD = 5120
MAX_COLLAPSE_ID = 64
# A provider token is stale after an hour, and may be renewed once in 20 minutes.
_TOKEN_LIFE_S = 3600
_TOKEN_RENEWAL_S = 1200
_CLOCK_SKEW_S = 300
_PUSH_TYPES = frozenset(
    b"alert background location voip complication fileprovider mdm liveactivity pushtotalk widgets controls".split()
)
_PRIORITIES = frozenset({b"1", b"5", b"10"})
_UUID = re.compile(rb"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_EXPIRATION = re.compile(rb"\d{1,12}")
_BUNDLE_ID = re.compile(rb"[A-Za-z0-9.-]{1,255}")
_PATH = re.compile(rb"/3/device/([^/?]*)")
# Verified tokens that are remembered: a client has one at a time.
_REMEMBERED = 64

_STATUS = {
    "BadCollapseId": 400,
    "BadDeviceToken": 400,
    "BadExpirationDate": 400,
    "BadMessageId": 400,
    "BadPriority": 400,
    "BadTopic": 400,
    "DeviceTokenNotForTopic": 400,
    "DuplicateHeaders": 400,
    "InvalidPushType": 400,
    "MissingDeviceToken": 400,
    "MissingTopic": 400,
    "PayloadEmpty": 400,
    "TopicDisallowed": 400,
    "ExpiredProviderToken": 403,
    "InvalidProviderToken": 403,
    "MissingProviderToken": 403,
    "BadPath": 404,
    "MethodNotAllowed": 405,
    "Unregistered": 410,
    "PayloadTooLarge": 413,
    "TooManyProviderTokenUpdates": 429,
    "TooManyRequests": 429,
    "InternalServerError": 500,
    "ServiceUnavailable": 503,
}
_FAILURES = {
    Fault.THROTTLED: "TooManyRequests",
    Fault.UNAVAILABLE: "ServiceUnavailable",
    Fault.INTERNAL: "InternalServerError",
}


class Apns:
    """The rules of one app of one team (``Provider``)."""

    channel = "apns"
    # "When using an authentication token, APNs allows only one stream until you post a request with a valid
    # authentication token."
    first_streams = 1
    full_streams = 1000
    logged_headers: tuple[bytes, ...] = (
        b"apns-id",
        b"apns-topic",
        b"apns-push-type",
        b"apns-priority",
        b"apns-expiration",
        b"apns-collapse-id",
    )

    def __init__(self, key: EllipticCurvePublicKey, key_id: str, team_id: str, topic: str) -> None:
        self._key = key
        self._key_id = key_id
        self._team_id = team_id
        self._topic = topic.encode()
        self._verified: dict[bytes, float] = {}

    def check(self, request: Request, push: Push, now: datetime) -> Reply | None:
        """Check a request; the answer to a bad one carries a reason."""
        reason = (
            self._path_problem(request, push)
            or self._token_problem(request.headers.get(b"authorization"), request.session, push, now.timestamp())
            or _header_problem(request)
            or self._topic_problem(request.headers.get(b"apns-topic"))
            or _payload_problem(request, push)
        )
        return None if reason is None else _refusal(request, reason)

    def accepted(self, request: Request, push: Push) -> Reply:
        """Return the 200: no body at all, so that HEADERS ends the stream."""
        apns_id = _apns_id(request)
        return Reply(200, ((b":status", b"200"), (b"apns-id", apns_id)), message_id=apns_id.decode())

    def unregistered(self, request: Request, since: datetime) -> Reply:
        """Return the 410 with its timestamp in milliseconds."""
        return _refusal(request, "Unregistered", timestamp=int(since.timestamp() * 1000))

    def failed(self, request: Request, fault: Fault, retry_after_s: int | None) -> Reply:
        """Return the 429, 500 or 503."""
        extra = () if retry_after_s is None else ((b"retry-after", b"%d" % retry_after_s),)
        return _refusal(request, _FAILURES[fault], extra)

    def _path_problem(self, request: Request, push: Push) -> str | None:
        path = _PATH.fullmatch(request.headers.get(b":path", b""))
        if path is None:
            return "BadPath"
        token = path[1].decode("latin-1")
        push.recipient = token or None
        push.collapse_id = request.headers.get(b"apns-collapse-id", b"").decode("latin-1") or None
        if request.headers.get(b":method") != b"POST":
            return "MethodNotAllowed"
        if not token:
            return "MissingDeviceToken"
        return None if APNS_TOKEN.fullmatch(token) else "BadDeviceToken"

    def _token_problem(self, header: bytes | None, session: Session, push: Push, now: float) -> str | None:
        scheme, _, token = (header or b"").partition(b" ")
        if scheme.lower() != b"bearer" or not token:
            return "MissingProviderToken"
        issued = self._verified.get(token)
        if issued is None:
            issued = self._issued_at(token)
            if issued is None:
                return "InvalidProviderToken"
            if len(self._verified) >= _REMEMBERED:
                self._verified.clear()
            self._verified[token] = issued
        if now - issued > _TOKEN_LIFE_S:
            return "ExpiredProviderToken"
        if issued - now > _CLOCK_SKEW_S:
            return "InvalidProviderToken"
        if session.provider_token != token:
            if session.provider_token is not None and abs(issued - session.issued_at) < _TOKEN_RENEWAL_S:
                return "TooManyProviderTokenUpdates"
            session.provider_token, session.issued_at = token, issued
        push.trusted = True
        return None

    def _issued_at(self, token: bytes) -> float | None:
        try:
            if jwt.get_unverified_header(token).get("kid") != self._key_id:
                return None
            claims = jwt.decode(token, self._key, algorithms=["ES256"], options={"verify_iat": False})
        except jwt.InvalidTokenError:
            return None
        issued = claims.get("iat")
        if claims.get("iss") != self._team_id or isinstance(issued, bool) or not isinstance(issued, (int, float)):
            return None
        return float(issued)

    def _topic_problem(self, topic: bytes | None) -> str | None:
        if topic is None:
            return "MissingTopic"
        if topic == self._topic:
            return None
        if not _BUNDLE_ID.fullmatch(topic):
            return "BadTopic"
        # Topics of the same app (.voip and others) exist, but no token here belongs to one.
        return "DeviceTokenNotForTopic" if topic.startswith(self._topic + b".") else "TopicDisallowed"


def _header_problem(request: Request) -> str | None:
    if request.has_duplicates:
        return "DuplicateHeaders"
    headers = request.headers
    apns_id = headers.get(b"apns-id")
    if apns_id is not None and not _UUID.fullmatch(apns_id):
        return "BadMessageId"
    if not _EXPIRATION.fullmatch(headers.get(b"apns-expiration", b"0")):
        return "BadExpirationDate"
    push_type = headers.get(b"apns-push-type")
    # Required for iOS 13 and later; APNs itself is laxer with older apps, a client that we test must not need that.
    if push_type not in _PUSH_TYPES:
        return "InvalidPushType"
    priority = headers.get(b"apns-priority", b"10")
    # "Specify 5 for background": 10 is an error for that type.
    if priority not in _PRIORITIES or (push_type == b"background" and headers.get(b"apns-priority") == b"10"):
        return "BadPriority"
    return "BadCollapseId" if len(headers.get(b"apns-collapse-id", b"")) > MAX_COLLAPSE_ID else None


def _payload_problem(request: Request, push: Push) -> str | None:
    limit = MAX_VOIP_PAYLOAD if request.headers.get(b"apns-push-type") == b"voip" else MAX_PAYLOAD
    if request.too_large or len(request.body) > limit:
        return "PayloadTooLarge"
    try:
        push.body = orjson.loads(request.body)
    except orjson.JSONDecodeError:
        return "PayloadEmpty"
    if not isinstance(push.body, dict) or not isinstance(push.body.get("aps"), dict):
        return "PayloadEmpty"
    nested: Any = push.body.get("data")
    push.data = {**nested, **push.body} if isinstance(nested, dict) else push.body
    return None


def _apns_id(request: Request) -> bytes:
    given = request.headers.get(b"apns-id")
    if given is not None and _UUID.fullmatch(given):
        return given
    made = os.urandom(16).hex().upper()
    return f"{made[:8]}-{made[8:12]}-4{made[13:16]}-A{made[17:20]}-{made[20:]}".encode()


def _refusal(request: Request, reason: str, extra: tuple[Header, ...] = (), timestamp: int | None = None) -> Reply:
    status = _STATUS[reason]
    content: dict[str, object] = {"reason": reason}
    if timestamp is not None:
        content["timestamp"] = timestamp
    apns_id = _apns_id(request)
    headers = ((b":status", b"%d" % status), (b"apns-id", apns_id), *extra)
    return Reply(status, headers, orjson.dumps(content), apns_id.decode())
