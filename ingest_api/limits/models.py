"""Bodies of the limit routes.

Belongs here: models, and the bounds of what a limit may be. Does not belong here: what is done with them (``routes``),
holding callers to them (``keeping``).
"""

from datetime import datetime
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from ingest_api.fields import Shown, Strict
from notify_pipeline.core.ledger.policies import Policy

# A request every hundred seconds, and more a second than any number of hosts here takes.
MIN_PER_S, MAX_PER_S = 0.01, 100_000.0
MAX_BURST = 1_000_000
# Beyond any day's work, and still exact in every client's numbers (2^53).
MAX_DAILY = 10**12

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


def shown(tenant: str, found: Policy | None) -> LimitsShown:
    """Return a tenant's limits as they are answered; None: nothing is limited."""
    values = dict.fromkeys(LimitsShown.model_fields) | (dict(found.value) if found else {})
    values["inherited"] = found is not None and found.tenant != tenant
    values["updated_at"] = found.updated_at if found else None
    return LimitsShown(**values)
