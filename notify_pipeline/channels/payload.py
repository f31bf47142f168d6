"""What every push carries beside what is shown: who it is, and the address that the device calls when it arrives.

Belongs here: the data keys of a push on any provider, the beacon's URL, collapse keys, browsers' urgency. Does not
belong here: where a provider wants them put (``fcm``, ``apns``, ``webpush``).
"""

import dataclasses
from typing import Any
from urllib.parse import quote, urlencode

from notify_pipeline.channels.splice import Hole, Personal
from notify_pipeline.core.ids import own_collapse_key
from notify_pipeline.core.records import Content, Notification
from notify_pipeline.core.vocabulary import Platform, Priority, ReceiptEvent

# RFC 8030 section 5.3.
URGENCY = {Priority.HIGH: "high", Priority.NORMAL: "normal", Priority.LOW: "low"}


def data_keys(
    notification: Notification, platform: Platform, provider: str, receipt_url: str, delivery_id: Hole
) -> dict[str, str]:
    """Return the app's data: the sender's own keys, and ours, which the sender's cannot override.

    Ours are ``notificationId``, ``platform``, ``provider``, ``d`` (the delivery id), ``receipt`` (what the device
    calls on arrival; the other beacons differ in their last path segment only), and where they are set ``link`` and
    ``image_url``.
    """
    query = {
        "notificationId": notification.notification_id,
        "platform": platform.value,
        "provider": provider,
        "d": delivery_id.mark,
    }
    content = notification.content
    ours = {
        **query,
        "receipt": f"{receipt_url}/notification/{ReceiptEvent.RECEIVED}?{urlencode(query, quote_via=quote, safe='')}",
        "link": content.link,
        "image_url": content.image_url,
    }
    return {**content.data, **{key: value for key, value in ours.items() if value is not None}}


def buttons(content: Content) -> dict[str, Any]:
    """Return what a page's own worker, or an app, shows and opens beside the text, where it is set.

    ``icon_url``, and ``actions``: a list of ``action``, ``title`` and perhaps ``link`` and ``icon_url``.
    """
    made: dict[str, Any] = {}
    if content.icon_url is not None:
        made["icon_url"] = content.icon_url
    if content.actions:
        made["actions"] = [action.stored for action in content.actions]
    return made


def opened(content: Content, personal: Personal) -> Content:
    """Return the content with holes where its title, body and data values have personal fields."""
    return dataclasses.replace(
        content,
        title=content.title and personal.opened(content.title),
        body=content.body and personal.opened(content.body),
        data={key: personal.opened(value) for key, value in content.data.items()},
    )


def collapse_key(notification: Notification) -> str:
    """Return the sender's collapse key, or one of this notification's own.

    With its own key, a notification that is sent again because the first answer was lost replaces itself on the
    device instead of showing twice.
    """
    if notification.collapse_key:
        return notification.collapse_key
    return own_collapse_key(notification.tenant, notification.notification_id)
