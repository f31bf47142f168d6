"""What a push provider's language is to the sender.

Belongs here: the interface. Does not belong here: an implementation (``fcm``, ``apns``).
"""

import re
from datetime import datetime
from typing import Protocol

from notify_pipeline.channels.base import Message, Render, Verdict
from notify_pipeline.channels.transport import Answer, Headers
from notify_pipeline.core.records import Notification
from notify_pipeline.core.vocabulary import Channel, Platform


class Codec(Protocol):
    """A provider's language."""

    name: Channel
    provider: str
    can_dry_run: bool
    address: re.Pattern[str]

    def prepare(self, notification: Notification, platform: Platform) -> Message:
        """See ``ChannelSender.prepare``."""
        ...

    def headers(self, message: Message, bearer: str) -> Headers:
        """Return the headers that all requests of a message share."""
        ...

    def renderer(self, message: Message, now: datetime) -> Render:
        """Return a function from a recipient (whose address matches ``address``) and a delivery id to path and body."""
        ...

    def message_id(self, answer: Answer) -> str | None:
        """Return the provider's id of what it accepted with a 200: the short way past ``classify``; never raises."""
        ...

    def classify(self, answer: Answer, now: datetime) -> Verdict:
        """Say what an answer means; never raises."""
        ...
