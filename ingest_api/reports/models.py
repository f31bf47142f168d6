"""What the reports say.

Belongs here: models of answers. Does not belong here: those of questions (``questions``), what is done with them (the
routes), how figures come about (``reports``).
"""

from datetime import datetime

from pydantic import Field

from ingest_api.fields import Shown
from notify_pipeline.core.vocabulary import Priority, RequestState


class Counts(Shown):
    """Counts of deliveries. A delivery is one recipient on one channel, and counts once whatever its retries."""

    audience: int = Field(description="Recipients that were planned.")
    attempted: int = Field(description="Accepted, failed, invalid and ambiguous ones.")
    accepted: int = Field(description="The provider accepted it, or a genuine beacon proves it.")
    accepted_by_beacon: int = Field(description="Of `accepted`: those that only a beacon proves.")
    failed: int = Field(description="The last word was a permanent or transient error, or throttling.")
    throttled: int = Field(description="Of `failed`: those last throttled.")
    invalid: int = Field(description="The provider says that the recipient does not exist.")
    ambiguous: int = Field(description="The last call got no answer, and no beacon proves it.")
    skipped: int = Field(description="No call was made, for the reason in the failures.")
    expired: int = Field(description="Its time ran out before any call.")
    dry_run: int = Field(description="Recipients of a dry run.")
    received: int = Field(description="Distinct deliveries with a received beacon.")
    opened: int = Field(description="Distinct deliveries with an opened beacon.")
    clicked: int = Field(description="Distinct deliveries with a clicked beacon.")
    hits: int = Field(description="Received beacons, repeats included.")


class Measures(Counts):
    """The figures of a notification's deliveries."""

    first_accepted_at: datetime | None
    last_accepted_at: datetime | None
    p50_s: float | None = Field(description="Median seconds from the API's acceptance (or `send_at`) to the device.")
    p90_s: float | None
    p99_s: float | None
    share_120s: float | None = Field(description="Share of accepted deliveries received within 120 s.")


class PlatformMeasures(Measures):
    """The figures of one channel, platform and provider."""

    channel: str
    platform: str
    provider: str


class VersionShown(Shown):
    """Which version answered."""

    version: int | None = Field(description="The published version's number; null before the first.")
    published_at: datetime | None = Field(description="When it was published; good as `as_of`.")


class ReportShown(Shown):
    """One notification's report."""

    tenant: str = Field(description="Whose it is: the key's own tenant, or an organization of its product.")
    notification_id: str
    request_id: str
    type: str
    category: str | None
    priority: Priority
    title: str | None
    topics: list[str]
    domain: str | None = Field(description="The domain whose contacts it is for; null: it is for others.")
    is_dry_run: bool
    state: RequestState
    accepted_at: datetime
    send_at: datetime | None
    finished_at: datetime | None
    received_through: datetime | None = Field(description="How far the logs have been read.")
    settled: bool = Field(description="No change is expected any more.")
    figures_from: str = Field(
        description="`ledger`: it is being sent, and what is counted of sending is of this moment; else `published`."
    )
    totals: Measures
    platforms: list[PlatformMeasures]


class TotalsShown(Counts):
    """Sums over all pages; with a platform or channel asked for, of those platforms alone."""

    notifications: int
    share_120s: float | None = Field(description="Share of accepted deliveries received within 120 s.")


class ReportPage(VersionShown):
    """A page of reports."""

    items: list[ReportShown]
    totals: TotalsShown | None = Field(description="Published figures; null unless asked for.")
    next_cursor: str | None


class Bucket(Shown):
    """One platform's deliveries in a step of time."""

    platform: str
    bucket_s: int = Field(description="Where the step begins, in seconds after acceptance (or `send_at`).")
    accepted: int = Field(description="Deliveries that the provider accepted in it.")
    received: int = Field(description="Deliveries whose first received beacon came in it.")


class FailureShown(Shown):
    """Attempts that were not accepted, with the same outcome and code."""

    channel: str
    platform: str
    provider: str
    outcome: str
    provider_code: str = Field(description="The provider's code, or our reason for not calling; may be empty.")
    attempts: int = Field(description="Attempts that ended so.")
    deliveries: int = Field(description="Deliveries whose last word it was.")
    first_at: datetime
    last_at: datetime


class LatencyShown(Shown):
    """How long a stage took, in seconds."""

    channel: str
    platform: str
    provider: str
    stage: str = Field(
        description="`queued`: due until called; `provider`: until it accepted; `device`: until received; `total`: all."
    )
    deliveries: int = Field(description="Those that went through it.")
    p50_s: float
    p90_s: float
    p99_s: float
    max_s: float


class _DetailPage(VersionShown):
    notification_id: str
    next_cursor: str | None


class TimelinePage(_DetailPage):
    """A page of a timeline, from acceptance on. Steps without deliveries are missing."""

    step_s: int
    items: list[Bucket]


class FailurePage(_DetailPage):
    """A page of failures, the most deliveries first."""

    items: list[FailureShown]


class LatencyPage(_DetailPage):
    """A page of latencies."""

    items: list[LatencyShown]


class Difference(Shown):
    """One figure of both: the other's minus the first's, and the other's by the first's."""

    first: float | None
    other: float | None
    difference: float | None
    ratio: float | None = Field(description="Null where the first is zero or not known.")


class PlatformComparison(Shown):
    """The figures of one platform of both; of a notification that has none there, zeros."""

    platform: str
    figures: dict[str, Difference]


class Caveat(Shown):
    """Why figures may not be compared as they stand."""

    code: str
    message: str


class ComparisonShown(VersionShown):
    """Two sends side by side."""

    first: ReportShown
    other: ReportShown
    totals: dict[str, Difference] = Field(
        description="Each count and second, and rates: `accepted_rate` of the audience, `received_rate` and "
        "`share_120s` of accepted, `opened_rate` and `clicked_rate` of received."
    )
    platforms: list[PlatformComparison]
    caveats: list[Caveat]
