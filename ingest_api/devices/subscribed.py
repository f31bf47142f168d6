"""A browser's subscription as a page sends it, checked, and made into its token.

Belongs here: that, and which field is at fault. Does not belong here: the token's form (``core.push_subscriptions``),
what may be connected to (``core.addresses``).
"""

from urllib.parse import urlsplit

from ingest_api.devices.models import BrowserSubscription
from ingest_api.errors import FieldError, unprocessable
from notify_pipeline.core.addresses import url_fault
from notify_pipeline.core.push_subscriptions import (
    AUTH_BYTES,
    Subscription,
    from_base64url,
    is_point,
    subscription_of,
    token_of,
)
from notify_pipeline.core.settings import Settings


def subscribed(body: BrowserSubscription, settings: Settings) -> str:
    """Return the token of a subscription.

    Args:
        body: As the page sent it.
        settings: Say whether its endpoint may lead to private addresses, and to whose hosts.

    Raises:
        ApiError: 422 with the field that is wrong.
    """
    if (fault := url_fault(body.endpoint, settings.registers_private_browsers)) is not None:
        raise unprocessable(FieldError("subscription.endpoint", fault))
    host = f".{urlsplit(body.endpoint).hostname}"
    if settings.webpush_services and not host.endswith(tuple(f".{each}" for each in settings.webpush_services)):
        raise unprocessable(FieldError("subscription.endpoint", "must be of a push service that is known here"))
    point, auth = _bytes("p256dh", body.keys.p256dh), _bytes("auth", body.keys.auth)
    if not is_point(point):
        raise unprocessable(FieldError("subscription.keys.p256dh", "must be a point on P-256, uncompressed"))
    if len(auth) != AUTH_BYTES:
        raise unprocessable(FieldError("subscription.keys.auth", f"must be {AUTH_BYTES} bytes"))
    token = token_of(Subscription(body.endpoint, point, auth))
    if subscription_of(token) is None:
        raise unprocessable(FieldError("subscription.endpoint", "is too long"))
    return token


def _bytes(name: str, text: str) -> bytes:
    try:
        return from_base64url(text)
    except ValueError:
        raise unprocessable(FieldError(f"subscription.keys.{name}", "must be base64url")) from None
