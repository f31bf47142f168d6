"""Bodies of the limit routes.

Belongs here: models, and the bounds of what a limit may be. Does not belong here: what is done with them (``routes``),
holding callers to them (``keeping``).
"""

import re
from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from ingest_api.fields import IncludeOrganizations, Loose, Shown, Strict
from notify_pipeline.core.ledger.policies import Policy

# A request every hundred seconds, and more a second than any number of hosts here takes.
MIN_PER_S, MAX_PER_S = 0.01, 100_000.0
MAX_BURST = 1_000_000
# Beyond any day's work, and still exact in every client's numbers (2^53).
MAX_DAILY = 10**12

# As many days as a figure by day is still read by people; each is a scan of that day's sends.
MAX_DAYS = 31

_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def _day_text(value: object) -> object:
    # Pydantic would read 1700000000 as a date too.
    if not isinstance(value, str) or not _DAY.fullmatch(value):
        raise ValueError("must be a day such as 2026-11-21")
    return value


Day = Annotated[date, BeforeValidator(_day_text)]
_PerS = Annotated[float, Field(ge=MIN_PER_S, le=MAX_PER_S, allow_inf_nan=False)]
_Daily = Annotated[int, Field(ge=0, le=MAX_DAILY)]


class TenantLimits(Strict):
    """What a tenant may use; what is absent or null is not limited."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"requests_per_s": 50.0, "burst": 100, "daily_requests": 100_000, "max_audience": 50_000}]
        }
    )

    requests_per_s: _PerS | None = Field(default=None, description="Requests per second, of each key.")
    burst: Annotated[int, Field(ge=1, le=MAX_BURST)] | None = Field(
        default=None, description="Requests of a key that may come at once; by default a second's worth."
    )
    daily_requests: _Daily | None = Field(
        default=None, description="Sends accepted per day (UTC); a product's counts its organizations' too."
    )
    daily_recipients: _Daily | None = Field(
        default=None, description="Recipients planned per day (UTC); a product's counts its organizations' too."
    )
    max_audience: Annotated[int, Field(ge=1, le=MAX_DAILY)] | None = Field(
        default=None, description="Recipients of one send."
    )
    max_content_bytes: Annotated[int, Field(ge=1, le=MAX_DAILY)] | None = Field(
        default=None, description="Content of one send with its overrides, as JSON."
    )

    def stored(self) -> dict[str, Any]:
        """Return the value as it is stored: what is limited and nothing else."""
        return self.model_dump(mode="json", exclude_none=True)


class LimitsShown(Shown):
    """A tenant's limits; null: none."""

    requests_per_s: float | None
    burst: int | None
    daily_requests: int | None
    daily_recipients: int | None
    max_audience: int | None
    max_content_bytes: int | None
    inherited: bool = Field(description="True where they are the product's, and the organization has none of its own.")
    updated_at: datetime | None = Field(description="Null where none were ever set.")


class UsageQuery(Loose):
    """Which days."""

    from_: Day | None = Field(default=None, alias="from", description="The first day; by default six before the last.")
    until: Day | None = Field(default=None, description="The last day, included; by default today (UTC).")
    include_organizations: IncludeOrganizations = False


class DayUsed(Shown):
    """The sends that were accepted on a day (UTC), and what has become of them by now."""

    day: date
    requests: int
    recipients: int = Field(description="Of those planned by now, skipped ones included.")
    channels: dict[str, dict[str, int]] = Field(
        description="Counts by channel: `audience`, `pending`, and one per outcome."
    )


class QuotaUsed(Shown):
    """What is left of a day's quota."""

    of: Literal["own", "product"] = Field(description="Whose quota it is.")
    limit: int
    used: int | None = Field(description="Null for an organization that may not know what its product uses.")
    left: int | None


class TodayUsed(Shown):
    """Today's quotas (UTC); empty lists: none."""

    day: date
    resets_at: datetime
    daily_requests: list[QuotaUsed]
    daily_recipients: list[QuotaUsed]


class UsageShown(Shown):
    """What was used."""

    days: list[DayUsed] = Field(description="Every day asked for, oldest first.")
    today: TodayUsed


def shown(tenant: str, found: Policy | None) -> LimitsShown:
    """Return a tenant's limits as they are answered; None: nothing is limited."""
    values = dict.fromkeys(LimitsShown.model_fields) | (dict(found.value) if found else {})
    values["inherited"] = found is not None and found.tenant != tenant
    values["updated_at"] = found.updated_at if found else None
    return LimitsShown(**values)
