"""A notification as a short message: one text, filled for each recipient, and not longer than is allowed.

Belongs here: what both providers need of a notification. Does not belong here: making the text (``core.sms_text``),
counting segments (``core.sms_segments``), a provider (``twilio``, ``sns``).
"""

from dataclasses import dataclass

from notify_pipeline.channels.base import PAYLOAD_TOO_LARGE, ContentRejected, Message
from notify_pipeline.channels.fields import Fields
from notify_pipeline.core import sms_segments
from notify_pipeline.core.records import Notification, Recipient
from notify_pipeline.core.sms_text import MAX_CHARACTERS, text_of
from notify_pipeline.core.vocabulary import Channel, Platform

NO_TEXT = "no_text"


@dataclass(frozen=True, slots=True)
class SmsMessage(Message):
    """A message ready for SMS.

    Attributes:
        text: With personal fields still open.
        fields: What fills them.
        most_segments: What it may take with its fields filled.
    """

    text: str
    fields: Fields
    most_segments: int

    def text_for(self, recipient: Recipient) -> str | None:
        """Return what one recipient gets; None when their own fields make it too long, or leave nothing."""
        if "[[[" not in self.text:
            return self.text  # ``prepare`` has measured it
        filled = self.fields.filled(self.text, recipient)
        return filled if filled.strip() and is_allowed(filled, self.most_segments) else None


def prepare(notification: Notification, platform: Platform, most_segments: int) -> SmsMessage:
    """Make a message; see ``ChannelSender.prepare``.

    Raises:
        ContentRejected: There is no text, or it is too long even with personal fields empty.
    """
    text = text_of(notification.content, notification.content_on(Channel.SMS))
    if not text.strip():
        raise ContentRejected(NO_TEXT, "the content has neither a title nor a body for SMS")
    fields = Fields(notification)
    if not is_allowed(fields.filled(text, _NOBODY), most_segments):
        limits = f"{MAX_CHARACTERS} characters or {most_segments} segments"
        raise ContentRejected(PAYLOAD_TOO_LARGE, f"the text has more than {limits}")
    return SmsMessage(notification, platform, text, fields, most_segments)


def is_allowed(text: str, most_segments: int) -> bool:
    """Tell whether a text is short enough for the providers and for the installation."""
    return len(text) <= MAX_CHARACTERS and sms_segments.measured(text).number <= most_segments


_NOBODY = Recipient("", Platform.SMS)
