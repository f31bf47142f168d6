"""Answers of the send routes.

Belongs here: those models. Does not belong here: bodies (``models``), what is done with them (``routes``).
"""

from typing import Literal

from pydantic import Field

from ingest_api.fields import Shown
from ingest_api.openapi import ErrorBody


class SendAccepted(Shown):
    """The answer to a send; a repetition gets the same, but for `duplicate`."""

    request_id: str
    notification_id: str
    state: Literal["accepted"]
    status_url: str = Field(description="Where to follow it.")
    duplicate: bool


class BulkAccepted(SendAccepted):
    """An item that was accepted, now or before."""

    status: Literal[202]


class BulkRefused(Shown):
    """An item that was not accepted, with the status and error that it would have got alone."""

    status: int
    error: ErrorBody


class BulkAnswer(Shown):
    """What became of each item, in their order."""

    results: list[BulkAccepted | BulkRefused]


class SendChanged(Shown):
    """The answer to an edit or a cancellation."""

    request_id: str
    notification_id: str
    state: Literal["accepted", "cancelled"]
    status_url: str = Field(description="Where to follow it.")
