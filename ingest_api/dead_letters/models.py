"""Dead letters as they are asked for, shown and replayed.

Belongs here: models, and what they alone can say is wrong. Does not belong here: what is done with them (``routes``).
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

from pydantic import ConfigDict, Field

from ingest_api.errors import FieldError
from ingest_api.fields import (
    NAME_PATTERN,
    PLAIN_PATTERN,
    IncludeOrganizations,
    Name,
    NotificationId,
    PageQuery,
    RequestId,
    Shown,
    Strict,
    UserId,
    UtcTime,
)
from ingest_api.notifications.content import Content
from ingest_api.replaying import ONE_CHOICE, choice_faults
from notify_pipeline.core.ledger.letters import Filter
from notify_pipeline.core.ledger.replays import MOST_COUNTED
from notify_pipeline.core.vocabulary import Channel, DeadLetterReason, Outcome, Platform

# A replay is one transaction, which takes some 50 µs a letter: no other write waits for more than a tenth of a second.
MAX_IDS = 1_000
MAX_LETTERS = 2_000

DeliveryId = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$", examples=["9f0c3d1e2b4a59687786a5b4c3d2e1f00f1e2d3c"])]
ProviderCode = Annotated[str, Field(pattern=PLAIN_PATTERN, min_length=1, max_length=200, examples=["UNAVAILABLE"])]
Category = Annotated[str, Field(pattern=NAME_PATTERN)]


class LetterFilter(Strict):
    """Which dead letters are meant: those that fit everything that is given."""

    request_id: RequestId | None = Field(default=None, description="Of this request.")
    notification_id: NotificationId | None = Field(default=None, description="Of this notification.")
    channel: Channel | None = None
    platform: Platform | None = None
    reason: DeadLetterReason | None = None
    provider_code: ProviderCode | None = None
    type: Name | None = None
    category: Category | None = None
    user: UserId | None = None
    since: UtcTime | None = Field(default=None, alias="from", description="Died then or later.")
    until: UtcTime | None = Field(default=None, description="Died before.")

    def wanted(self, replayed: bool | None = None) -> Filter:
        """Return what it means."""
        given = {name: getattr(self, name) for name in _SAME}
        return Filter(**given, user_id=self.user, since=self.since, until=self.until, replayed=replayed)


_SAME = ("request_id", "notification_id", "channel", "platform", "reason", "provider_code", "type", "category")


class ListQuery(PageQuery, LetterFilter):
    """Which dead letters to list."""

    model_config = ConfigDict(extra="forbid", strict=False)

    replayed: bool | None = Field(default=None, description="Only those that were sent again, or only the others.")
    include_organizations: IncludeOrganizations = False


class LetterShown(Shown):
    """A delivery that reached nobody, and why it was not attempted again."""

    delivery_id: str
    tenant: str = Field(description="Whose it is: the product, or one of its organizations.")
    request_id: str
    notification_id: str
    type: str
    category: str | None
    channel: Channel
    platform: Platform
    recipient: str = Field(description="The device token.")
    user_id: str | None
    outcome: Outcome = Field(description="Of the last attempt.")
    provider_code: str | None = Field(description="The provider's word in it.")
    reason: DeadLetterReason = Field(description="Why there was no further attempt.")
    attempts: int
    died_at: datetime
    replayed_at: datetime | None
    replayed_as: str | None = Field(
        description="The request that sends it again; null beside `replayed_at` where its device belongs to somebody"
        " else by now, so that it is not."
    )


class LetterPage(Shown):
    """A page of dead letters, newest first."""

    items: list[LetterShown]
    next_cursor: str | None


class NewReplay(Strict):
    """Which dead letters to send again: these, or those that fit a filter."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": ONE_CHOICE,
            "examples": [{"filter": {"channel": "fcm", "from": "2026-11-21T06:00:00Z"}, "limit": 1000}],
        }
    )

    ids: list[DeliveryId] = Field(
        default_factory=list, min_length=1, max_length=MAX_IDS, description="These, by their `delivery_id`."
    )
    filter: LetterFilter = Field(
        default_factory=LetterFilter,
        description="Those that fit and were not replayed, longest dead first; `{}` means all.",
    )
    limit: Annotated[int, Field(ge=1, le=MAX_LETTERS)] = Field(
        default=MAX_IDS, description="At most so many of a filter's; the answer says how many are left."
    )
    content: Content | None = Field(
        default=None,
        description="What to send instead of the original's content, its overrides included: for content that no"
        " provider took.",
    )

    def faults(self) -> Iterator[FieldError]:
        """Yield what is wrong between fields."""
        yield from choice_faults(self.model_fields_set)
        if self.content is not None:
            yield from self.content.faults()


class ReplayShown(Shown):
    """A new request, and what it sends again."""

    request_id: str
    notification_id: str
    replay_of: str = Field(description="The request whose dead letters these are.")
    channel: Channel
    dead_letters: int = Field(description="How many recipients it has.")


class AlreadyReplayed(Shown):
    """A dead letter that was sent again before; nothing was done about it."""

    delivery_id: str
    replayed_as: str | None


class ReplayAnswer(Shown):
    """What a replay does."""

    requests: list[ReplayShown] = Field(description="One for each original request and channel, or several of many.")
    already_replayed: list[AlreadyReplayed] = Field(description="Of `ids`: those that were replayed before.")
    left_out: list[str] = Field(
        description="Deliveries to a user whose device was registered for somebody else since: not sent, and not"
        " offered again."
    )
    left: int = Field(description=f"How many more fit the filter; counted up to {MOST_COUNTED:,}.")
