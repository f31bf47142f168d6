"""FCM HTTP v1 requests: a notification as FCM wants it, for Android and for browsers.

Belongs here: the payload, its limits, the request that carries it. Does not belong here: answers (``errors``), access
tokens (``credentials``), sending (``push``).

Sources: https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages and
https://firebase.google.com/docs/cloud-messaging/customize-messages/collapsible-message-types

Android gets data messages. A notification message is shown by the system without waking the app, so that no beacon
would be called, and it ignores the collapse key, so that a resend would show twice; with a data message the app does
both. Its title and body are then data keys. Browsers get notification and data: there the service worker is woken for
both kinds. FCM's own script shows the buttons and leaves a click on one to the page's worker, which finds its link in
the data: an action of FCM's has none. FCM stores four different collapse keys per device that is offline, and drops
others.
"""

import dataclasses
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from firebase_admin import messaging

from notify_pipeline.channels import splice
from notify_pipeline.channels.base import PAYLOAD_TOO_LARGE, ContentRejected, Message, Render, Verdict
from notify_pipeline.channels.fcm.errors import classify, message_id
from notify_pipeline.channels.payload import URGENCY, buttons, collapse_key, data_keys, opened
from notify_pipeline.channels.transport import Answer, Headers
from notify_pipeline.core.ids import DELIVERY_ID_LENGTH, short_hash
from notify_pipeline.core.records import MAX_TTL_S, Content, Notification, Recipient
from notify_pipeline.core.vocabulary import Channel, Platform, Priority

# "4096 bytes for most messages ... This includes both the keys and the values."
# https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode
MAX_PAYLOAD_BYTES = 4096
_RESERVED_KEYS = frozenset({"from", "message_type", "notification"})
_RESERVED_PREFIXES = ("google.", "gcm.")


@dataclass(frozen=True, slots=True)
class FcmMessage(Message):
    """A template with holes for the token, ``d``, the time to live and personal fields."""

    template: splice.Template
    personal: "_Personal | None"


class FcmCodec:
    """Speaks FCM for one Firebase project (a ``push.Codec``)."""

    name = Channel.FCM
    provider = "fcm"
    can_dry_run = True
    # No form is documented; all tokens seen are of these, which mean themselves in JSON.
    address = re.compile(r"[A-Za-z0-9_:.\-]{1,4096}")

    def __init__(self, project: str, receipt_url: str) -> None:
        """Args: project: Firebase project id. receipt_url: base of the beacons, without a trailing slash."""
        self._path = f"/v1/projects/{project}/messages:send"
        self._receipt_url = receipt_url

    def prepare(self, notification: Notification, platform: Platform) -> FcmMessage:
        """See ``ChannelSender.prepare``."""
        token, delivery_id, ttl, personal = splice.Hole(), splice.Hole(), splice.Hole(), splice.Personal(notification)
        asked = dataclasses.replace(notification, content=opened(notification.content_on(self.name), personal))
        data = data_keys(asked, platform, self.provider, self._receipt_url, delivery_id) | _as_text(asked.content)
        for key in data:
            if key in _RESERVED_KEYS or key.startswith(_RESERVED_PREFIXES):
                raise ContentRejected("reserved_data_key", f"FCM keeps the data key {key!r} for itself")
        build = _web if platform is Platform.WEB else _android
        try:
            # The target is set below: this one's only use is that the library insists on one.
            message = orjson.loads(str(build(asked, data)))
        except ValueError as error:
            raise ContentRejected("invalid_content", str(error)) from None
        sizes = _Personal(message, personal)
        if sizes.least > MAX_PAYLOAD_BYTES:
            size = f"{sizes.least} bytes of payload, FCM takes {MAX_PAYLOAD_BYTES}"
            raise ContentRejected(PAYLOAD_TOO_LARGE, size)
        del message["topic"]
        message["token"] = token.mark
        if platform is Platform.WEB:
            message["webpush"]["headers"]["TTL"] = ttl.mark
        else:
            message["android"]["ttl"] = f"{ttl.mark}s"
        request: dict[str, Any] = {"message": message}
        if notification.dry_run:
            request["validate_only"] = True
        template = splice.template(splice.encode(request), [token, delivery_id, ttl, *personal.holes])
        return FcmMessage(notification, platform, template, sizes if personal.used else None)

    def headers(self, message: Message, bearer: str) -> Headers:
        """Return the headers that all requests of this message share."""
        return (("authorization", f"Bearer {bearer}"), ("content-type", "application/json"))

    def renderer(self, message: Message, now: datetime) -> Render:
        """Return what gives a recipient's path and body; the time to live counts from now."""
        if not isinstance(message, FcmMessage):
            raise TypeError("this message was prepared by another channel")
        left = int((message.notification.expires_at - now).total_seconds())
        ttl = str(min(max(left, 0), MAX_TTL_S)).encode()
        path, personal = self._path, message.personal
        text, pick = message.template.text, message.template.pick

        def render(recipient: Recipient, delivery_id: str) -> tuple[str, bytes] | None:
            return path, text % pick((recipient.address.encode(), delivery_id.encode(), ttl))

        if personal is None:
            return render
        values, fits = personal.fields.values, personal.fits

        def render_personal(recipient: Recipient, delivery_id: str) -> tuple[str, bytes] | None:
            texts = values(recipient)
            if not fits(texts):
                return None
            return path, text % pick((recipient.address.encode(), delivery_id.encode(), ttl, *texts))

        return render_personal

    def message_id(self, answer: Answer) -> str | None:
        """See ``push.Codec``."""
        return message_id(answer)

    def classify(self, answer: Answer, now: datetime) -> Verdict:
        """See ``errors.classify``."""
        return classify(answer, now)


def _as_text(content: Content) -> dict[str, str]:
    """Return icon and buttons as data, whose values are text: the buttons as JSON. No recipient has others."""
    return {
        key: value if isinstance(value, str) else splice.encode(value).decode()
        for key, value in buttons(content).items()
    }


def _android(notification: Notification, data: dict[str, str]) -> messaging.Message:
    content = notification.content
    shown = {"title": content.title, "body": content.body}
    return messaging.Message(
        data=data | {key: value for key, value in shown.items() if value is not None},
        android=messaging.AndroidConfig(
            collapse_key=collapse_key(notification),
            priority="high" if notification.priority is Priority.HIGH else "normal",
            ttl=timedelta(0),
        ),
        topic="unset",
    )


def _web(notification: Notification, data: dict[str, str]) -> messaging.Message:
    content, key = notification.content, collapse_key(notification)
    shown = None
    if content.title is not None or content.body is not None:
        actions = [messaging.WebpushNotificationAction(a.action, a.title, a.icon_url) for a in content.actions]
        shown = messaging.WebpushNotification(
            title=content.title,
            body=content.body,
            image=content.image_url,
            tag=short_hash(key),
            icon=content.icon_url,
            actions=actions or None,
        )
    # FCM takes nothing but https here; other links are the service worker's to open.
    link = content.link if content.link and content.link.startswith("https://") else None
    return messaging.Message(
        data=data,
        webpush=messaging.WebpushConfig(
            # RFC 8030 section 5.4: a topic is at most 32 characters of base64url.
            headers={"TTL": "0", "Urgency": URGENCY[notification.priority], "Topic": short_hash(key)},
            notification=shown,
            fcm_options=messaging.WebpushFCMOptions(link=link) if link else None,
        ),
        topic="unset",
    )


class _Personal:
    """What a message's payload weighs, with whatever recipients put into its personal fields.

    FCM counts the keys and values of the data, and for browsers what is shown as JSON.

    Attributes:
        fields: The message's personal fields.
        least: Bytes with all of them empty.
    """

    def __init__(self, message: dict[str, Any], fields: splice.Personal) -> None:
        data = [text for item in message["data"].items() for text in item]
        shown = message.get("webpush", {}).get("notification")
        self.fields = fields
        self._in_data = [sum(text.count(hole.mark) for text in data) for hole in fields.holes]
        encoded = splice.encode(shown) if shown else b""
        self._in_shown = [encoded.count(hole.mark.encode()) for hole in fields.holes]
        holes = sum(self._in_data) + sum(self._in_shown)
        size = sum(len(text.encode()) for text in data) + len(encoded)
        self.least: int = size - holes * DELIVERY_ID_LENGTH
        self._most_holes = max(map(sum, zip(self._in_data, self._in_shown, strict=True)))

    def fits(self, texts: tuple[bytes, ...]) -> bool:
        """Say whether FCM takes the payload with these values, which are the insides of JSON strings."""
        at_most = self.least + self._most_holes * len(b"".join(texts))
        return at_most <= MAX_PAYLOAD_BYTES or self._size(texts) <= MAX_PAYLOAD_BYTES

    def _size(self, texts: tuple[bytes, ...]) -> int:
        in_data: int = sum(
            # FCM counts the text itself there; where nothing was escaped, that is as long.
            n * (len(orjson.loads(b'"%b"' % text).encode()) if b"\\" in text else len(text))
            for n, text in zip(self._in_data, texts, strict=True)
        )
        return self.least + in_data + sum(n * len(text) for n, text in zip(self._in_shown, texts, strict=True))
