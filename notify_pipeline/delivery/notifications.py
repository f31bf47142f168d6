"""Notifications in work, parsed once: by request, with what a channel made of each.

Belongs here: those caches. Does not belong here: reading requests for anything else (``core.ledger.requests``).
"""

import logging
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from notify_pipeline.channels.base import ChannelSender, Message
from notify_pipeline.core.ids import from_micros, to_micros
from notify_pipeline.core.ledger import routing
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.requests import RequestRow
from notify_pipeline.core.records import Notification, notification_from_body
from notify_pipeline.core.vocabulary import Platform
from notify_pipeline.delivery.retry import Wishes

log = logging.getLogger(__name__)

# A few kilobytes each; more than a drain has in work at once.
_KEPT = 4_096


def parse(row: RequestRow) -> Notification:
    """Return the notification that a stored request asks for.

    Raises:
        KeyError, TypeError, ValueError: The stored body is not one that the ingress could have written.
    """
    made = notification_from_body(
        row.body,
        tenant=row.tenant,
        request_id=row.request_id,
        notification_id=row.notification_id,
        accepted_at=row.accepted_at,
        expires_at=row.expires_at,
        revision=row.revision,
    )
    return made if row.replay_of is None else replace(made, replay_of=row.replay_of)


def until(notification: Notification, expires_at: int | None) -> Notification:
    """Return a notification as it is for recipients with an expiry of their own, microseconds since the epoch."""
    return notification if expires_at is None else replace(notification, expires_at=from_micros(expires_at))


def wishes(notification: Notification) -> Wishes:
    """Return what a notification asks of its retries."""
    return Wishes(to_micros(notification.expires_at), notification.retry, notification.on_ambiguous)


class Notifications:
    """The notifications of one event loop's thread."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Notification] = OrderedDict()

    def find(self, ledger: Ledger, request_ids: Iterable[str]) -> dict[str, Notification]:
        """Return the notifications of these requests, however many; those that are not here are read, and kept."""
        wanted = set(request_ids)
        found = {name: self._kept[name] for name in wanted & self._kept.keys()}
        if missing := wanted - found.keys():
            found.update((each.request_id, each) for each in load(ledger, missing))
        for name, each in found.items():
            self._kept[name] = each
            self._kept.move_to_end(name)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return found


def load(ledger: Ledger, request_ids: Iterable[str]) -> list[Notification]:
    """Read notifications from the ledger."""
    return [parse(row) for row in routing.load(ledger, sorted(request_ids))]


def load_readable(ledger: Ledger, request_ids: Iterable[str]) -> dict[str, Notification]:
    """Read notifications by request; those that cannot be understood are left out, and said so."""
    found: dict[str, Notification] = {}
    for row in routing.load(ledger, sorted(request_ids)):
        try:
            found[row.request_id] = parse(row)
        except (KeyError, TypeError, ValueError):
            log.exception("request %s cannot be read; what was claimed of it stays as it is", row.request_id)
    return found


class Messages:
    """What one channel made of notifications, by request, platform and expiry."""

    def __init__(self, sender: ChannelSender) -> None:
        self._sender = sender
        self._kept: OrderedDict[tuple[str, Platform, datetime], Message] = OrderedDict()

    def get(self, notification: Notification, platform: Platform) -> Message:
        """Return the prepared message.

        Raises:
            ContentRejected: The channel cannot send it to anyone.
        """
        key = (notification.request_id, platform, notification.expires_at)
        if key not in self._kept:
            self._kept[key] = self._sender.prepare(notification, platform)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return self._kept[key]
