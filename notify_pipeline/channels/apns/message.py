"""APNs requests: a notification as APNs wants it.

Belongs here: the payload, its limits, the headers that carry it. Does not belong here: answers (``errors``), provider
tokens (``credentials``), sending (``push``).

Sources: https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns and
https://developer.apple.com/documentation/usernotifications/generating-a-remote-notification
"""

import dataclasses
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from notify_pipeline.channels import splice
from notify_pipeline.channels.apns.errors import classify
from notify_pipeline.channels.base import PAYLOAD_TOO_LARGE, ContentRejected, Message, Render, Verdict
from notify_pipeline.channels.payload import collapse_key, data_keys, opened
from notify_pipeline.channels.transport import Answer, Headers
from notify_pipeline.core.ids import short_hash
from notify_pipeline.core.records import Notification, Recipient
from notify_pipeline.core.vocabulary import Channel, Platform, Priority

MAX_PAYLOAD_BYTES = 4096
# At most 64 bytes, and what an HTTP field value can carry.
_COLLAPSE_ID = re.compile(r"[!-~]{1,64}")


@dataclass(frozen=True, slots=True)
class ApnsMessage(Message):
    """A template with holes for ``d`` and personal fields, and the headers beside the provider token."""

    template: splice.Template
    headers: Headers
    personal: splice.Personal | None


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
        delivery_id, personal = splice.Hole(), splice.Personal(notification)
        asked = dataclasses.replace(notification, content=opened(notification.content_on(self.name), personal))
        data = data_keys(asked, platform, self.provider, self._receipt_url, delivery_id)
        body = splice.encode({**data, "aps": _aps(asked)})
        size = len(personal.closed(body.decode()).encode()) if personal.used else len(body)
        if size > MAX_PAYLOAD_BYTES:
            raise ContentRejected(PAYLOAD_TOO_LARGE, f"{size} bytes of payload, APNs takes {MAX_PAYLOAD_BYTES}")
        template = splice.template(body, [delivery_id, *personal.holes])
        headers = self._headers(asked)
        return ApnsMessage(notification, platform, template, headers, personal if personal.used else None)

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

    def renderer(self, message: Message, now: datetime) -> Render:
        """Return what gives a recipient's path and body."""
        own = _own(message)
        text, pick, personal = own.template.text, own.template.pick, own.personal

        def render(recipient: Recipient, delivery_id: str) -> tuple[str, bytes] | None:
            return f"/3/device/{recipient.address}", text % pick((delivery_id.encode(),))

        if personal is None:
            return render
        values = personal.values

        def render_personal(recipient: Recipient, delivery_id: str) -> tuple[str, bytes] | None:
            body = text % pick((delivery_id.encode(), *values(recipient)))
            return None if len(body) > MAX_PAYLOAD_BYTES else (f"/3/device/{recipient.address}", body)

        return render_personal

    def message_id(self, answer: Answer) -> str | None:
        """See ``push.Codec``."""
        return answer.headers.get("apns-id")

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
