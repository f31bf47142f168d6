"""Bodies of the SMS routes.

Belongs here: models. Does not belong here: what is done with them (``routes``, ``webhooks``).
"""

from datetime import datetime
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from ingest_api.fields import NO_NUL_PATTERN, Shown, Strict
from ingest_api.notifications.content import MAX_BODY
from notify_pipeline.core import sms_segments
from notify_pipeline.core.sms_segments import Encoding
from notify_pipeline.core.sms_text import MAX_CHARACTERS

TEXT_NOTE = "Personal fields count as they are written, not as they will be filled."


class NewText(Strict):
    """A text to be measured."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"text": "Your order has left. ☀"}]})

    text: Annotated[str, Field(pattern=NO_NUL_PATTERN, max_length=MAX_BODY)] = Field(description=TEXT_NOTE)


class TextShown(Shown):
    """What a text takes as SMS."""

    encoding: Encoding = Field(description="`gsm7` where all characters are in the default alphabet, else `ucs2`.")
    units: int = Field(description="Septets, or 16-bit units.")
    segments: int = Field(description="Messages that are sent and paid for.")
    max_segments: int = Field(description="This installation's limit.")
    allowed: bool = Field(description="Whether a send with this text is not too long.")


class MessageShown(TextShown):
    """What a message says as SMS, and what it takes."""

    text: str


def shown(text: str, most_segments: int) -> dict[str, Any]:
    """Return what ``TextShown`` says of a text."""
    measured = sms_segments.measured(text)
    return {
        "encoding": measured.encoding,
        "units": measured.units,
        "segments": measured.number,
        "max_segments": most_segments,
        "allowed": len(text) <= MAX_CHARACTERS and measured.number <= most_segments,
    }


class StopShown(Shown):
    """A number that replied STOP."""

    number: str
    stopped_at: datetime
