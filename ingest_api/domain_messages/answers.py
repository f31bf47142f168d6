"""Answers of the message routes.

Belongs here: those models. Does not belong here: bodies (``models``), where the answers come from.
"""

from datetime import datetime

from pydantic import Field

from ingest_api.camel import CamelShown
from notify_pipeline.core.vocabulary import Outcome, RequestState


class MessageAccepted(CamelShown):
    """The answer to a message; a repetition gets the same, but for `duplicate`."""

    message_id: str = Field(description="The Idempotency-Key, or one that was made; also the notification's id.")
    request_id: str
    status_url: str = Field(description="Where to follow it.")
    duplicate: bool


class VisitorMissing(CamelShown):
    """A visitor who gets the message with nothing in the place of some fields."""

    visitor_guid: str
    fields: list[str] = Field(description="In lower case.")


class VisitorsMessageAccepted(MessageAccepted):
    """The answer to a message to visitors."""

    missing_fields: list[VisitorMissing] = Field(description="The first hundred visitors who lack any.")
    missing_fields_count: int = Field(description="How many visitors lack any.")


class MessageFigures(CamelShown):
    """What became of a message: `sent` is `delivered` and `notDelivered` together, always."""

    sent: int = Field(description="Contacts with a final outcome.")
    delivered: int = Field(description="Their push service accepted it.")
    not_delivered: int = Field(description="It did not, or nothing was sent to them.")
    pending: int = Field(description="Contacts without a final outcome yet.")
    accepted_by_beacon: int = Field(
        description="Of those not delivered: their browsers told of it all the same, for the push service's answer was"
        " lost."
    )
    received: int = Field(description="Browsers that told so.")
    clicked: int = Field(description="Browsers that were clicked in, wherever.")
    action_clicks: dict[str, int] = Field(description="By the names of the message's actions, those with any.")
    received_through: datetime | None = Field(
        description="How far the logs have been read that `received`, `clicked` and `actionClicks` come from."
    )


class _Message(CamelShown):
    domain: str
    message_id: str
    title: str | None
    body: str | None
    type: str
    state: RequestState
    reason: str | None = Field(description="Why it came to its last state, where there is more to say.")
    accepted_at: datetime
    send_at: datetime | None
    finished_at: datetime | None = Field(description="When it came to its last state.")


class MessageDetails(MessageFigures, _Message):
    """A message, and what became of it."""


class DomainMessagePage(CamelShown):
    """A page of a domain's messages, newest first."""

    items: list[MessageDetails]
    next_cursor: str | None


class _Event(CamelShown):
    """What became of one message for one contact: final once the outcome is there."""

    success: bool | None = Field(description="Whether its push service accepted it; null while there is no outcome.")
    details: str | None = Field(description="The provider's own word for it, why it was not sent, or the outcome.")
    outcome: Outcome | None = Field(description="Of the last attempt; null while there may be another.")
    at: datetime | None = Field(description="When the last attempt began, or when it was skipped.")


class _Contact(CamelShown):
    device_token: str = Field(description="What the contact's page knows it by.")
    visitor_guid: str | None = Field(description="The contact's visitor now, where one is known.")


class ContactEvent(_Event, _Contact):
    """What became of a message for one of the contacts that it is for."""


class ContactEventPage(CamelShown):
    """A page of a message's contacts."""

    items: list[ContactEvent]
    complete: bool = Field(
        description="False while outcomes are still on their way from the ledger to the lake: then contacts that were"
        " skipped may be missing, and others lack what their provider said. Ask again."
    )
    next_cursor: str | None


class _SentMessage(CamelShown):
    message_id: str
    domain: str | None = Field(description="Null for a notification that was sent to it otherwise.")
    title: str | None


class MessageEvent(_Event, _SentMessage):
    """What became of one of the messages that went to a contact."""


class MessageEventPage(CamelShown):
    """A page of what went to a contact, newest first."""

    items: list[MessageEvent]
    complete: bool = Field(description="False while attempts are still on their way to the lake: ask again.")
    next_cursor: str | None
