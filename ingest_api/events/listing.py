"""Events as they are asked for, shown and replayed.

Belongs here: those models, and what they alone can say is wrong. Does not belong here: posting (``models``), what is
done with them (``following``).
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from ingest_api.errors import FieldError
from ingest_api.fields import IncludeOrganizations, Loose, Name, PageQuery, Shown, Strict, UtcTime
from ingest_api.replaying import ONE_CHOICE, choice_faults
from notify_pipeline.core.ledger.event_lists import STRANDED_STATES, EventFilter
from notify_pipeline.core.ledger.replays import MOST_COUNTED
from notify_pipeline.core.vocabulary import EventState

# A replay is one transaction, which takes some 50 µs an event.
MAX_REPLAYED = 1_000

EventId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", examples=["019a92b1c5d07c3e8f60a1b2c3d4e5f6"])]


class EventsWanted(Strict):
    """Which events are meant: those that fit everything that is given."""

    state: EventState | None = None
    source: Name | None = None
    type: Name | None = None
    since: UtcTime | None = Field(default=None, alias="from", description="Accepted then or later.")
    until: UtcTime | None = Field(default=None, description="Accepted before.")

    @property
    def wanted(self) -> EventFilter:
        """What it means."""
        return EventFilter(self.state, self.source, self.type, self.since, self.until)


class EventQuery(PageQuery, EventsWanted):
    """Which events to list."""

    model_config = ConfigDict(extra="forbid", strict=False)

    include_organizations: IncludeOrganizations = False


class OwnIdQuery(Loose):
    """Whose id the path's is."""

    source: Name | None = Field(
        default=None, description="When given, the id in the path is the tenant's own, of this source."
    )


class EventShown(Shown):
    """Where an event stands, and what was made of it."""

    tenant: str = Field(description="Whose it is: the key's own tenant, or an organization of its product.")
    event_id: str
    source: str
    type: str
    id: str
    state: EventState
    reason: str | None = Field(description="Why it is unrouted or dead, or what it waits for.")
    detail: dict[str, Any]
    recipients: dict[str, list[str]] | None
    enrichment: dict[str, Any] | None = Field(
        description="What enrichment found, by route: `shared` by enricher, and `recipients` by user."
    )
    routes: list[str] = Field(description="Those that matched when it was routed, or died.")
    notification_ids: list[str] = Field(description="The sends that were made of it.")
    attempt_no: int = Field(description="How often its enrichment was begun.")
    replays: int = Field(description="How often it was given to the router again.")
    accepted_at: datetime
    updated_at: datetime


class EventPage(Shown):
    """A page of events, newest first."""

    items: list[EventShown]
    next_cursor: str | None


class NewEventReplay(Strict):
    """Which events to route again: these, or those that fit a filter."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": ONE_CHOICE,
            "examples": [{"filter": {"state": "unrouted", "source": "shop"}, "limit": 1000}],
        }
    )

    ids: list[EventId] = Field(
        default_factory=list, min_length=1, max_length=MAX_REPLAYED, description="These, by their `event_id`."
    )
    filter: EventsWanted = Field(
        default_factory=EventsWanted,
        description="Those that fit and are `unrouted` or `dead`, the oldest first; `{}` means all.",
    )
    limit: Annotated[int, Field(ge=1, le=MAX_REPLAYED)] = Field(
        default=MAX_REPLAYED, description="At most so many of a filter's; the answer says how many are left."
    )

    def faults(self) -> Iterator[FieldError]:
        """Yield what is wrong between fields."""
        yield from choice_faults(self.model_fields_set)
        if self.filter.state is not None and self.filter.state not in STRANDED_STATES:
            yield FieldError("filter.state", "must be unrouted or dead: no others can be replayed")


class EventRefused(Shown):
    """An event that was not replayed."""

    event_id: str
    state: EventState = Field(description="Where it stands: it was routed, or is about to be.")


class EventReplayAnswer(Shown):
    """What a replay does."""

    replayed: int = Field(description="So many are routed again.")
    refused: list[EventRefused] = Field(description="Of `ids`: those that are neither unrouted nor dead.")
    left: int = Field(description=f"How many more fit the filter; counted up to {MOST_COUNTED:,}.")
