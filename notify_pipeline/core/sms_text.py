"""What a notification says in a short message.

Belongs here: making one text of content. Does not belong here: how many segments it takes (``sms_segments``), filling
personal fields (``channels.sms``).
"""

from notify_pipeline.core.personal import literal
from notify_pipeline.core.records import Content

# What both providers take at most.
# https://www.twilio.com/docs/messaging/api/message-resource (Body), https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
MAX_CHARACTERS = 1_600


def text_of(content: Content, on_sms: Content) -> str:
    """Return the text, personal fields still open; empty when there is nothing to say.

    A body that is the SMS override's own is the whole text: whoever counts segments writes them out. Otherwise title,
    body and link stand on lines of their own.

    Args:
        content: The send's.
        on_sms: What it is on this channel, its override included.
    """
    if on_sms.body is not None and on_sms.body != content.body:
        return _lines(on_sms.body)
    # A link has no personal fields, whatever it looks like.
    link = on_sms.link and literal(on_sms.link)
    return "\n".join(_lines(part) for part in (on_sms.title, on_sms.body, link) if part)


def _lines(text: str) -> str:
    """Return a text whose lines end as in short messages, which have no carriage returns."""
    return text.replace("\r\n", "\n").replace("\r", "\n")
