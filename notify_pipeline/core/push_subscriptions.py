"""Browsers' push subscriptions as addresses: where to post, and for whose eyes only.

Belongs here: their form, as JSON and as the token that stands for one everywhere else. Does not belong here: posting,
encrypting (``channels.webpush``), routes.

A subscription is what ``PushSubscription.toJSON()`` gives a page: an endpoint at the browser's push service, the
browser's public key and a secret shared with it (https://www.w3.org/TR/push-api/#dom-pushsubscription-tojson, RFC 8291
section 2). Its token is made of these alone, so that the same subscription is always the same registration.
"""

import base64
import binascii
from typing import NamedTuple

import orjson

PREFIX = "wp."
# An uncompressed point on P-256, and what RFC 8291 section 3.2 has for a secret.
KEY_BYTES = 65
AUTH_BYTES = 16
# Those of today's push services have 200 to 500 characters; tokens must fit into an index of the ledger.
MAX_ENDPOINT_LENGTH = 1_500
# ... in base64url, with the keys and 52 characters of JSON around them.
MAX_TOKEN_LENGTH = len(PREFIX) + -(-(MAX_ENDPOINT_LENGTH + 52 + 87 + 22) * 4 // 3)


class Subscription(NamedTuple):
    """A browser's subscription.

    Attributes:
        endpoint: URL at the push service.
        p256dh: The browser's public key, an uncompressed point.
        auth: The shared secret.
    """

    endpoint: str
    p256dh: bytes
    auth: bytes


def token_of(subscription: Subscription) -> str:
    """Return the token that stands for a subscription."""
    keys = {"p256dh": to_base64url(subscription.p256dh), "auth": to_base64url(subscription.auth)}
    return PREFIX + to_base64url(orjson.dumps({"endpoint": subscription.endpoint, "keys": keys}))


def subscription_of(token: str) -> Subscription | None:
    """Return what a token stands for; None where it is none that ``token_of`` could have made.

    Neither the endpoint nor whether the key is on its curve is checked.
    """
    if not token.startswith(PREFIX) or len(token) > MAX_TOKEN_LENGTH:
        return None
    try:
        found = orjson.loads(from_base64url(token[len(PREFIX) :]))
        keys = found["keys"]
        subscription = Subscription(found["endpoint"], from_base64url(keys["p256dh"]), from_base64url(keys["auth"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if not isinstance(subscription.endpoint, str) or not subscription.endpoint:
        return None
    if len(subscription.p256dh) != KEY_BYTES or len(subscription.auth) != AUTH_BYTES:
        return None
    # Everything else that would decode to the same must not become a second registration.
    return subscription if token_of(subscription) == token else None


def is_point(raw: bytes) -> bool:
    """Tell whether bytes are an uncompressed point on P-256."""
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey

    try:
        EllipticCurvePublicKey.from_encoded_point(SECP256R1(), raw)
    except ValueError:
        return False
    return len(raw) == KEY_BYTES


def to_base64url(raw: bytes) -> str:
    """Return base64url without padding (RFC 4648 section 5), as browsers write keys."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    """Return what base64url stands for, with padding or without.

    Raises:
        ValueError: It is none.
    """
    raw = text.rstrip("=").encode("ascii")
    try:
        return base64.b64decode(raw + b"=" * (-len(raw) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64url") from error
