"""APNs requests: a notification as APNs wants it.

Belongs here: the payload, its limits, the headers that carry it. Does not belong here: answers (``errors``), provider
tokens (``credentials``), sending (``push``).

Sources: https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns and
https://developer.apple.com/documentation/usernotifications/generating-a-remote-notification
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from notify_pipeline.channels import splice
from notify_pipeline.channels.apns.errors import classify
from notify_pipeline.channels.base import ContentRejected, Message, Verdict
from notify_pipeline.channels.payload import collapse_key, data_keys, short_hash
from notify_pipeline.channels.transport import Answer, Headers
from notify_pipeline.core.records import Notification
from notify_pipeline.core.vocabulary import Channel, Platform, Priority

MAX_PAYLOAD_BYTES = 4096
# At most 64 bytes, and what an HTTP field value can carry.
_COLLAPSE_ID = re.compile(r"[!-~]{1,64}")


@dataclass(frozen=True, slots=True)
class ApnsMessage(Message):
    """A format string with holes for ``d``, and the headers beside the provider token."""

    body: bytes
    headers: Headers


class ApnsCodec:
    """Speaks APNs for one app (a ``push.Codec``)."""

    name = Channel.APNS
    provider = "apns"
    can_dry_run = False
    # Hex digits of no fixed length; they go into the path as they are.
    address = re.compile(r"[0-9A-Fa-f]{1,200}")

    def __init__(self, topic: str, receipt_url: str) -> None:
        """Args: topic: the app's bundle id. receipt_url: base of the beacons, without a trailing slash."""
        self._topic = topic
        self._receipt_url = receipt_url

    def prepare(self, notification: Notification, platform: Platform) -> ApnsMessage:
        """See ``ChannelSender.prepare``."""
        delivery_id = splice.Hole()
        data = data_keys(notification, platform, self.provider, self._receipt_url, delivery_id)
        body = splice.encode({**data, "aps": _aps(notification)})
        if len(body) > MAX_PAYLOAD_BYTES:
            raise ContentRejected("payload_too_large", f"{len(body)} bytes of payload, APNs takes {MAX_PAYLOAD_BYTES}")
        template = splice.template(body, {"d": delivery_id})
        return ApnsMessage(notification, platform, template, self._headers(notification))

    def _headers(self, notification: Notification) -> Headers:
        collapse_id = collapse_key(notification)
        if not _COLLAPSE_ID.fullmatch(collapse_id):
            collapse_id = short_hash(collapse_id)
        shown = _is_shown(notification)
        # "Specify 5 for background notifications; 10 is an error."
        priority = "10" if shown and notification.priority is Priority.HIGH else "5"
        return (
            ("apns-topic", self._topic),
            ("apns-push-type", "alert" if shown else "background"),
            ("apns-priority", priority),
            # Whole seconds since the epoch; 0 would mean "do not store".
            ("apns-expiration", str(max(1, int(notification.expires_at.timestamp())))),
            ("apns-collapse-id", collapse_id),
            ("content-type", "application/json"),
        )

    def headers(self, message: Message, bearer: str) -> Headers:
        """Return the headers that all requests of this message share. APNs makes each request's apns-id itself."""
        return (("authorization", f"bearer {bearer}"), *_own(message).headers)

    def renderer(self, message: Message, now: datetime) -> Callable[[str, str], tuple[str, bytes]]:
        """Return what gives an address's path and body."""
        body = _own(message).body

        def render(address: str, delivery_id: str) -> tuple[str, bytes]:
            return f"/3/device/{address}", body % {b"d": delivery_id.encode()}

        return render

    def classify(self, answer: Answer, now: datetime) -> Verdict:
        """See ``errors.classify``."""
        return classify(answer, now)


def _own(message: Message) -> ApnsMessage:
    if not isinstance(message, ApnsMessage):
        raise TypeError("this message was prepared by another channel")
    return message


def _is_shown(notification: Notification) -> bool:
    return notification.content.title is not None or notification.content.body is not None


def _aps(notification: Notification) -> dict[str, Any]:
    if not _is_shown(notification):
        return {"content-available": 1}
    content = notification.content
    alert = {"title": content.title, "body": content.body}
    aps: dict[str, Any] = {
        "alert": {key: value for key, value in alert.items() if value is not None},
        # Wakes the app's service extension, which fetches the image and calls the beacon.
        "mutable-content": 1,
    }
    if notification.category is not None:
        aps["thread-id"] = notification.category
    return aps
