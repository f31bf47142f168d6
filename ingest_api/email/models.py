"""Bodies of the e-mail routes.

Belongs here: models. Does not belong here: what is done with them (``routes``, ``events``).
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from ingest_api.devices.models import Topics
from ingest_api.fields import PLAIN_PATTERN, Email, Locale, Shown, Strict, Timezone, UserId


class NewSubscription(Strict):
    """An address that wants e-mail about topics. Subscribing it again replaces everything that was said before."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"email": "ada@example.com", "user_id": "user-42", "topics": ["breaking/uk"]}]}
    )

    email: Email
    user_id: UserId | None = Field(default=None, description="The tenant's own id of the user.")
    topics: Topics = Field(default_factory=list)
    locale: Locale | None = None
    timezone: Timezone | None = Field(default=None, description="A name from the IANA time zone database.")


class SubscriptionShown(Shown):
    """A subscription as it is stored."""

    email: str = Field(description="In lower case, by which addresses are compared.")
    user_id: str | None
    topics: list[str]
    locale: str | None
    timezone: str | None
    created_at: datetime
    registered_at: datetime = Field(description="The last time the address was subscribed.")


class MailEvent(Strict):
    """What became of a message, as a relay other than Amazon SES reports it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"address": "ada@example.com", "kind": "bounce", "detail": "550 5.1.1"}]}
    )

    address: Email
    kind: Literal["bounce", "complaint"] = Field(
        description="bounce: nobody has this address, for good; complaint: its owner called a message spam."
    )
    detail: Annotated[str, Field(pattern=PLAIN_PATTERN, max_length=500)] | None = Field(
        default=None, description="What the receiving server said."
    )
