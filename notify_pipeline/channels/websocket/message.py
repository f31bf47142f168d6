"""A notification as a WebSocket client gets it.

Belongs here: the payload and its limit. Does not belong here: the number that is added when it is stored
(``core.gateway.message``), sending (``carrier``).
"""

import dataclasses
from dataclasses import dataclass

from notify_pipeline.channels import splice
from notify_pipeline.channels.base import PAYLOAD_TOO_LARGE, ContentRejected, Message
from notify_pipeline.channels.payload import collapse_key, data_keys, opened
from notify_pipeline.core.gateway import MAX_MESSAGE_BYTES
from notify_pipeline.core.ids import DELIVERY_ID_LENGTH
from notify_pipeline.core.records import Notification, Recipient
from notify_pipeline.core.vocabulary import Platform

PROVIDER = "websocket"
# '"cursor":9223372036854775807,' is put in front.
_CURSOR_BYTES = 29


@dataclass(frozen=True, slots=True)
class WebSocketMessage(Message):
    """A template with holes for ``d`` and personal fields."""

    template: splice.Template
    personal: splice.Personal

    def payload(self, recipient: Recipient, delivery_id: str) -> bytes | None:
        """Return one recipient's payload; None where its personal fields make it too large."""
        values = (delivery_id.encode(), *self.personal.values(recipient))
        text: bytes = self.template.text % self.template.pick(values)
        return text if len(text) + _CURSOR_BYTES <= MAX_MESSAGE_BYTES else None


def prepare(notification: Notification, platform: Platform, receipt_url: str) -> WebSocketMessage:
    """Build what is the same for all recipients.

    Raises:
        ContentRejected: It is larger than API Gateway and ours take, or holds text that is not Unicode.
    """
    delivery_id, personal = splice.Hole(), splice.Personal(notification)
    content = opened(notification.content_on(platform.channel), personal)
    asked = dataclasses.replace(notification, content=content)
    shown = {
        "type": "notification",
        "notificationId": notification.notification_id,
        "d": delivery_id.mark,
        "notification_type": notification.type,
        "category": notification.category,
        "importance": notification.importance,
        "priority": notification.priority.value,
        "title": content.title,
        "body": content.body,
        "link": content.link,
        "image_url": content.image_url,
        "icon_url": content.icon_url,
        "actions": [action.stored for action in content.actions],
        "data": dict(content.data),
        # The device calls it when it has shown the message, as for push.
        "receipt": data_keys(asked, platform, PROVIDER, receipt_url, delivery_id)["receipt"],
        "collapse_key": collapse_key(notification),
    }
    raw = splice.encode(shown)
    holes = sum(raw.count(hole.mark.encode()) for hole in personal.holes)
    least = len(raw) - holes * DELIVERY_ID_LENGTH + _CURSOR_BYTES
    if least > MAX_MESSAGE_BYTES:
        raise ContentRejected(PAYLOAD_TOO_LARGE, f"{least} bytes, a WebSocket message has {MAX_MESSAGE_BYTES} at most")
    template = splice.template(raw, [delivery_id, *personal.holes])
    return WebSocketMessage(notification, platform, template, personal)
