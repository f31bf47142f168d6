"""What is asked of the reports, and what they say.

Belongs here: models. Does not belong here: what is done with them (``routes``), how figures come about (``reports``).
"""

from datetime import datetime

from pydantic import ConfigDict, Field

from ingest_api.fields import Moment, Name, PageQuery, Shown
from notify_pipeline.core.vocabulary import Platform, Priority, RequestState


class ReportQuery(PageQuery):
    """Which notifications to report on."""

    model_config = ConfigDict(populate_by_name=False)

    since: Moment | None = Field(
        default=None, alias="from", description="Accepted then or later: a date in UTC, or a time."
    )
    until: Moment | None = Field(default=None, description="Accepted before: a date in UTC, or a time.")
    type: Name | None = None
    platform: Platform | None = Field(default=None, description="Only with recipients there, and only its figures.")
    include_dry_run: bool = Field(default=False, description="Dry runs too.")


class Measures(Shown):
    """Figures of deliveries. A delivery is one recipient on one channel, and counts once whatever its retries."""

    audience: int = Field(description="Recipients that were planned.")
    attempted: int = Field(description="Accepted, failed, invalid and ambiguous ones.")
    accepted: int = Field(description="The provider accepted it, or a genuine beacon proves it.")
    failed: int
    invalid: int = Field(description="The provider says that the recipient does not exist.")
    ambiguous: int = Field(description="The last call got no answer, and no beacon proves it.")
    skipped: int
    expired: int
    dry_run: int
    received: int = Field(description="Distinct deliveries with a received beacon.")
    opened: int
    clicked: int
    hits: int = Field(description="Received beacons, repeats included.")
    first_accepted_at: datetime | None
    last_accepted_at: datetime | None
    p50_s: float | None = Field(description="Median seconds from the API's acceptance to the device.")
    p90_s: float | None
    p99_s: float | None
    share_120s: float | None = Field(description="Share of accepted deliveries received within 120 s.")


class PlatformMeasures(Measures):
    """The figures of one platform and provider."""

    platform: str
    provider: str


class ReportShown(Shown):
    """One notification's report."""

    notification_id: str
    request_id: str
    type: str
    category: str | None
    priority: Priority
    title: str | None
    topics: list[str]
    is_dry_run: bool
    state: RequestState
    accepted_at: datetime
    finished_at: datetime | None
    received_through: datetime | None = Field(description="How far the logs have been read.")
    settled: bool = Field(description="No change is expected any more.")
    totals: Measures
    platforms: list[PlatformMeasures]


class ReportPage(Shown):
    """A page of reports, newest first."""

    items: list[ReportShown]
    next_cursor: str | None
