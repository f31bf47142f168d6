"""What operators are shown.

Belongs here: models of the overview. Does not belong here: where it comes from (``overview``), the routes.
"""

from datetime import datetime

from pydantic import ConfigDict, Field

from ingest_api.fields import IncludeOrganizations, Shown, Strict
from notify_pipeline.core.vocabulary import Priority, RequestState


class OverviewQuery(Strict):
    """Whose."""

    model_config = ConfigDict(extra="forbid", strict=False)

    include_organizations: IncludeOrganizations = False


class QueueShown(Shown):
    """What waits alike."""

    queue: str = Field(description="`sends`, `deliveries`, `events` or `callback messages`.")
    state: str | None = Field(description="Where it stands; null where states are counted together.")
    channel: str | None = Field(description="Of deliveries.")
    tenant: str | None = Field(description="Whose; null where all tenants are counted together.")
    priority: Priority | None
    count: int
    due: int = Field(description="How many of them could go on now; the others wait for their time, or for a retry.")
    oldest_due_at: datetime | None = Field(description="Since when the longest due one is due.")


class BroadcastShown(Shown):
    """A broadcast that is being fixed or sent."""

    tenant: str
    request_id: str
    notification_id: str
    priority: Priority
    state: RequestState
    accepted_at: datetime
    shards: int
    shards_done: int
    is_held: bool = Field(description="Whether a process works on it now.")
    audience: int
    finished: int = Field(description="Recipients that have their last outcome.")
    accepted: int
    waiting_again: int = Field(description="Recipients that were tried and wait for another attempt.")
    drops_stopped: bool = Field(description="A provider calls so many of its tokens dead that none is dropped.")


class ErasureUnderWay(Shown):
    """An erasure that is not verified yet; it names nobody."""

    erasure_id: str
    tenant: str
    kind: str
    state: str
    waits_for: str | None
    requested_at: datetime


class CodeShown(Shown):
    """A reason that calls were not accepted for."""

    provider_code: str
    attempts: int


class ChannelShown(Shown):
    """How a provider has done on a channel in the hour under way and the one before, by the published version."""

    channel: str
    provider: str
    since: datetime
    attempts: int
    accepted: int
    throttled: int = Field(description="The provider said that it was too much; also in `failed`.")
    failed: int
    invalid: int
    ambiguous: int
    mean_s: float | None = Field(description="Seconds to the provider's answer.")
    p50_s: float | None
    p99_s: float | None
    codes: list[CodeShown] = Field(description="The most frequent reasons, five at most.")


class LogsShown(Shown):
    """How far logs have been read."""

    received_through: datetime | None
    settled_through: datetime | None = Field(description="What ended before is settled.")
    foreign_deliveries: int | None = Field(
        description="Deliveries that beacons name and nobody made. Here and below: for an admin's key only, since such "
        "lines are no tenant's; null for others."
    )
    foreign_hits: int | None
    quarantined: int | None = Field(description="Lines of today's and yesterday's logs that could not be read.")


class VersionShown(Shown):
    """The published version of the reports."""

    version: int
    published_at: datetime


class RoleShown(Shown):
    """A role that one process holds at a time."""

    name: str
    owner: str
    until: datetime
    is_held: bool = Field(description="False when its holder has not said for a while that it is alive.")


class ThrottleShown(Shown):
    """A provider credential's rate."""

    name: str
    used_at: datetime
    held_until: datetime | None = Field(description="Until when the provider asked for a pause; null without one.")
    ramp_from: datetime = Field(description="When the rate began to rise; it does for a minute.")
    pace: float


class LakeShown(Shown):
    """What is on its way into the lake."""

    entries: dict[str, int] = Field(description="Writes that wait, by table; each is one or many rows.")
    oldest_at: datetime | None
    rejected: int = Field(description="Writes that were kept aside because they do not fit their table.")


class InstallationShown(Shown):
    """What is nobody's in particular."""

    roles: list[RoleShown]
    throttles: list[ThrottleShown]
    lake: LakeShown
    dagster_url: str | None


class OverviewShown(Shown):
    """What waits, what is sent, and how channels do."""

    at: datetime
    queues: list[QueueShown]
    broadcasts: list[BroadcastShown]
    channels: list[ChannelShown]
    dead_letters: int = Field(description="Those that were not sent again, counted up to 100,000.")
    erasures: list[ErasureUnderWay] = Field(description="Those under way, the oldest first.")
    logs: LogsShown | None = Field(description="Null before the first version.")
    version: VersionShown | None
    tenants: dict[str, str] = Field(description="The names of the tenants that are named here.")
    installation: InstallationShown | None = Field(description="For an admin's key only.")
