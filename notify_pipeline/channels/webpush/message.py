"""What a browser's service worker gets: the payload, its limit, and the headers of RFC 8030 around it.

Belongs here: building them. Does not belong here: encrypting (``encryption``), posting (``carrier``).

The payload is one JSON object: the app's data, ``title``, ``body``, ``icon_url``, ``actions`` and ``tag`` beside it.
Nothing is shown by itself: the page's service worker shows it and calls the beacon (docs/webpush.md has one).
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from notify_pipeline.channels import splice
from notify_pipeline.channels.base import PAYLOAD_TOO_LARGE, ContentRejected, Message
from notify_pipeline.channels.payload import URGENCY, buttons, collapse_key, data_keys, opened
from notify_pipeline.core.ids import DELIVERY_ID_LENGTH, short_hash
from notify_pipeline.core.records import MAX_TTL_S, Notification, Recipient
from notify_pipeline.core.vocabulary import Channel, Platform

PROVIDER = "webpush"
# "a push service is not required to support more than 4096 octets of payload body, which equates to a maximum of 3993
# octets of plaintext" (RFC 8291 section 4).
MAX_PLAINTEXT_BYTES = 3_993


@dataclass(frozen=True, slots=True)
class WebPushMessage(Message):
    """A template with holes for ``d`` and personal fields, and the headers that all recipients share."""

    text: bytes
    pick: Callable[[tuple[bytes, ...]], Any]
    personal: splice.Personal | None
    urgency: str
    topic: str

    def plaintext(self, recipient: Recipient, delivery_id: str) -> bytes:
        """Return what one recipient gets; it may be too long, where it has personal fields."""
        values = self.personal.values(recipient) if self.personal else ()
        filled: bytes = self.text % self.pick((delivery_id.encode(), *values))
        return filled

    def headers(self, now: datetime) -> dict[str, str]:
        """Return the headers of RFC 8030 section 5; the time to live counts from now."""
        left = int((self.notification.expires_at - now).total_seconds())
        return {
            "TTL": str(min(max(left, 0), MAX_TTL_S)),
            "Urgency": self.urgency,
            "Topic": self.topic,
            "Content-Encoding": "aes128gcm",
            "Content-Type": "application/octet-stream",
        }


def prepare(notification: Notification, platform: Platform, receipt_url: str) -> WebPushMessage:
    """Build what is the same for all recipients. See ``ChannelSender.prepare``."""
    delivery_id, personal = splice.Hole(), splice.Personal(notification)
    content = opened(notification.content_on(Channel.WEBPUSH), personal)
    asked = dataclasses.replace(notification, content=content, overrides={})
    topic = short_hash(collapse_key(notification))
    # RFC 8030 section 5.4: a topic replaces what still waits at the push service; the tag what is shown already.
    shown = {"title": content.title, "body": content.body, "tag": topic}
    data = data_keys(asked, platform, PROVIDER, receipt_url, delivery_id)
    said = {key: value for key, value in shown.items() if value is not None}
    raw = splice.encode({**data, **buttons(content), **said})
    template = splice.template(raw, [delivery_id, *personal.holes])
    least = len(template.text % template.pick((b"d" * DELIVERY_ID_LENGTH, *(b"" for _ in personal.holes))))
    if least > MAX_PLAINTEXT_BYTES:
        size = f"{least} bytes of payload, push services take {MAX_PLAINTEXT_BYTES}"
        raise ContentRejected(PAYLOAD_TOO_LARGE, size)
    return WebPushMessage(
        notification=notification,
        platform=platform,
        text=template.text,
        pick=template.pick,
        personal=personal if personal.used else None,
        urgency=URGENCY[notification.priority],
        topic=topic,
    )
