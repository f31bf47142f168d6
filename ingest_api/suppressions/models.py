"""Bodies of the suppression routes.

Belongs here: models, and what they alone can say is wrong. Does not belong here: what is done with them (``routes``).
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from ingest_api.errors import FieldError, unprocessable
from ingest_api.fields import PLAIN_PATTERN, PageQuery, Shown, Strict
from notify_pipeline.core import phone_numbers
from notify_pipeline.core.mail_addresses import MAX_LENGTH, is_mail_address
from notify_pipeline.core.vocabulary import Channel, SuppressionReason

# Those of ``core.ledger.suppressions.CHANNELS``.
SuppressibleChannel = Literal[Channel.EMAIL, Channel.SMS]
# An e-mail address or a phone number; neither has a slash or a control character.
Address = Annotated[
    str,
    Field(pattern=r"^[^\x00-\x20\x7f/]*[@+][^\x00-\x20\x7f/]+$", max_length=MAX_LENGTH, examples=["ada@example.com"]),
]
Detail = Annotated[str, Field(pattern=PLAIN_PATTERN, max_length=500, examples=["asked by phone"])]


class NewSuppression(Strict):
    """An address that is not to be written to."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"channel": "email", "address": "ada@example.com", "detail": "asked by phone"}]}
    )

    channel: SuppressibleChannel
    address: Address
    detail: Detail | None = Field(default=None, description="Why, for whoever reads the list.")

    @property
    def stored_address(self) -> str:
        """The address as its channel has it.

        Raises:
            ApiError: 422: the channel has no such addresses.
        """
        if self.channel is Channel.SMS:
            try:
                return phone_numbers.normalized(self.address)
            except phone_numbers.NotANumber as error:
                raise unprocessable(FieldError("address", str(error))) from error
        if not is_mail_address(self.address):
            raise unprocessable(FieldError("address", "must be an e-mail address for channel email"))
        return self.address


class SuppressionShown(Shown):
    """A suppression as it is stored."""

    channel: Channel
    address: str = Field(description="E-mail addresses in lower case, by which they are compared.")
    reason: SuppressionReason
    detail: str | None = Field(description="What the provider, or whoever added it, said.")
    created_at: datetime


class SuppressionPage(Shown):
    """A page of suppressions, newest first."""

    items: list[SuppressionShown]
    next_cursor: str | None


class SuppressionQuery(PageQuery):
    """Which suppressions to list."""

    channel: SuppressibleChannel | None = None
    reason: SuppressionReason | None = None
    address: Address | None = Field(default=None, description="Is this one suppressed?")
