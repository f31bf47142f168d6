"""What is asked of the reports.

Belongs here: models of questions. Does not belong here: those of answers (``models``), what is done with them
(``asking``, the routes).
"""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from ingest_api.fields import (
    PLAIN_PATTERN,
    Cursor,
    IncludeOrganizations,
    Loose,
    Moment,
    Name,
    NotificationId,
    PageQuery,
    TenantId,
    Topic,
)
from notify_pipeline.core.vocabulary import Channel, Platform, RequestState
from notify_pipeline.reports.reading_lists import Sort

# A day of ten-second steps on one platform is 8,640 rows.
MAX_DETAILS = 10_000
_MAX_STEP_S = 86_400

Search = Annotated[str, Field(pattern=PLAIN_PATTERN, min_length=1, max_length=200, examples=["election"])]


class AsOfQuery(Loose):
    """Of which version."""

    as_of: Moment | None = Field(
        default=None, description="From the version that was the published one then; by default, and ahead, today's."
    )


class OneQuery(AsOfQuery):
    """Whose report, and of which version."""

    organization: TenantId | None = Field(default=None, description="With a product's key: this organization's.")


class FilterQuery(OneQuery):
    """Which notifications to report on; every filter that is given must fit."""

    since: Moment | None = Field(
        default=None, alias="from", description="Accepted then or later: a date in UTC, or a time."
    )
    until: Moment | None = Field(default=None, description="Accepted before: a date in UTC, or a time.")
    type: Name | None = None
    platform: Platform | None = Field(default=None, description="With recipients there; only its row of `platforms`.")
    channel: Channel | None = Field(default=None, description="With recipients on it; likewise.")
    topic: Topic | None = Field(default=None, description="Sent to this topic.")
    state: RequestState | None = None
    q: Search | None = Field(default=None, description="With this in the title, in whatever case.")
    include_dry_run: bool = Field(default=False, description="Dry runs too.")
    include_organizations: IncludeOrganizations = False


class ReportQuery(FilterQuery, PageQuery):
    """A page of reports."""

    model_config = ConfigDict(populate_by_name=False)

    sort: Sort = Field(
        default=Sort.NEWEST,
        description="By this figure of `totals`, with a minus the largest first; rows without it come last.",
    )
    include_totals: bool = Field(default=False, description="With the sums over all pages.")


class DetailQuery(OneQuery):
    """A page of what stands behind a report."""

    limit: int = Field(default=1_000, ge=1, le=MAX_DETAILS, description="Items per page.")
    cursor: Cursor | None = None


class TimelineQuery(DetailQuery):
    """A page of a timeline."""

    step_s: int = Field(default=10, ge=10, le=_MAX_STEP_S, multiple_of=10, description="How long each step is.")


class ComparisonQuery(OneQuery):
    """What to compare a report with."""

    other: NotificationId = Field(alias="with", description="The other notification.")


class Rows(StrEnum):
    """What a row of a download is about."""

    NOTIFICATIONS = "notifications"
    PLATFORMS = "platforms"


class TimeSort(StrEnum):
    """The orders in which any number of reports can be had without holding them all."""

    OLDEST = "accepted_at"
    NEWEST = "-accepted_at"


class DownloadQuery(FilterQuery):
    """What to download."""

    rows: Rows = Field(
        default=Rows.NOTIFICATIONS, description="One row for each notification, or for each platform of each."
    )
    sort: TimeSort = Field(default=TimeSort.NEWEST, description="Which end comes first.")
