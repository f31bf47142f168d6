"""Bodies of the preference routes.

Belongs here: models. Does not belong here: what is done with them (``routes``), the rule (``core.consents``).
"""

from datetime import datetime
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from ingest_api.fields import NAME_PATTERN, Shown, Strict
from notify_pipeline.core.consents import Pair, spelled
from notify_pipeline.core.vocabulary import Channel

# More than a settings page shows; each is a row.
MAX_CATEGORIES = 200

_NAME_OR_ALL = rf"^\*$|{NAME_PATTERN}"

CategoryOrAll = Annotated[
    str,
    Field(pattern=_NAME_OR_ALL, description="A category as sends name it; `*`: all, and what has none."),
]
ChannelOrAll = Annotated[
    str, Field(pattern=rf"^(\*|{'|'.join(channel.value for channel in Channel)})$", description="`*`: all channels.")
]
_EXAMPLE: dict[str, Any] = {"preferences": {"*": {"sms": False}, "offers": {"email": False, "*": True}}}


class Preferences(Strict):
    """What a user wants, in the place of all that was said before."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    preferences: Annotated[dict[CategoryOrAll, dict[ChannelOrAll, bool]], Field(max_length=MAX_CATEGORIES)] = Field(
        description="By category and channel: whether it is wanted. What is said of something in particular goes first."
    )

    def pairs(self) -> dict[Pair, bool | None]:
        """Return it by category and channel."""
        return _pairs(self.preferences)


class PreferencesChange(Strict):
    """What a user wants from now on; the rest stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"preferences": {"offers": {"email": None}}}]})

    preferences: Annotated[dict[CategoryOrAll, dict[ChannelOrAll, bool | None]], Field(max_length=MAX_CATEGORIES)] = (
        Field(description="By category and channel; null takes back what was said.")
    )

    def pairs(self) -> dict[Pair, bool | None]:
        """Return it by category and channel."""
        return _pairs(self.preferences)


class PreferenceShown(Shown):
    """One thing that a user said."""

    category: str = Field(description="`*`: all that nothing else was said of.")
    channel: str = Field(description="`*`: all that nothing else was said of.")
    enabled: bool
    source: str = Field(description="Where: `api`, `user` (with the user's token), `one_click` or `page`.")
    updated_at: datetime


class PreferencesShown(Shown):
    """All that a user said."""

    user_id: str
    preferences: dict[str, dict[str, bool]] = Field(description="By category and channel.")
    said: list[PreferenceShown]


def _pairs(said: dict[str, dict[str, bool]] | dict[str, dict[str, bool | None]]) -> dict[Pair, bool | None]:
    return {
        (spelled(category), spelled(channel)): enabled
        for category, channels in said.items()
        for channel, enabled in channels.items()
    }
