"""Bodies of the policy routes.

Belongs here: models, and the bounds of what a policy may say. Does not belong here: what is done with them
(``routes``), what a policy does to a send (``delivery``).
"""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from ingest_api.fields import Shown, Strict, Timezone
from ingest_api.limits.models import LimitsShown
from ingest_api.preferences.models import ChannelOrAll

# More attempts than this reach nobody: with the longest waits, the last of them lie beyond any ttl.
MAX_ATTEMPTS = 20
# Providers ask for waits of seconds to minutes; an hour is beyond what any of them names.
MIN_BASE_S, MAX_BASE_S = 0.05, 3_600.0
MAX_CAP_S = 86_400.0
# Uses are remembered for as long as the longest period.
MAX_PERIOD_S = 90 * 86_400
MAX_COUNT = 10_000
_HH_MM = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"

TimeOfDay = Annotated[str, Field(pattern=_HH_MM, examples=["22:00"])]
# A category as a send names it, fit for a path: no slash, and not dots alone, which URL clients resolve away.
Category = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9_.:\-]*[A-Za-z0-9_:\-][A-Za-z0-9_.:\-]*$", max_length=100, examples=["marketing"]),
]


class RetryPolicy(Strict):
    """How a recipient is tried again after a failure that may pass."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"attempts": 4, "base_s": 1.0, "cap_s": 30.0, "jitter": "full"}]}
    )

    attempts: Annotated[int, Field(ge=1, le=MAX_ATTEMPTS)] = Field(description="The first included.")
    base_s: Annotated[float, Field(ge=MIN_BASE_S, le=MAX_BASE_S, allow_inf_nan=False)] = Field(
        description="Upper bound of the first wait, in seconds; each later one is twice the one before."
    )
    cap_s: Annotated[float, Field(ge=MIN_BASE_S, le=MAX_CAP_S, allow_inf_nan=False)] = Field(
        description="Upper bound of any wait, in seconds; not less than `base_s`."
    )
    jitter: Literal["full", "none"] = Field(
        default="full", description="`full`: anywhere between nothing and the bound; `none`: the bound itself."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.cap_s < self.base_s:
            raise ValueError("cap_s must not be less than base_s")
        return self


class QuietHoursPolicy(Strict):
    """When recipients are left alone."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"from": "22:00", "until": "07:00", "timezone": "Europe/London"}]}
    )

    from_: TimeOfDay = Field(alias="from", description="Local time, included.")
    until: TimeOfDay = Field(description="Local time, excluded; before `from`: of the next day.")
    timezone: Timezone | None = Field(
        default=None,
        description="Local time is each recipient's own; this zone is for those whose is not known. Null: UTC.",
    )

    @model_validator(mode="after")
    def _some_hours(self) -> Self:
        if self.from_ == self.until:
            raise ValueError("until must differ from from")
        return self


class FrequencyCap(Strict):
    """How many sends one recipient gets within a period."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"count": 3, "period_s": 86_400}]})

    count: Annotated[int, Field(ge=1, le=MAX_COUNT)] = Field(description="Sends per recipient and period.")
    period_s: Annotated[int, Field(ge=1, le=MAX_PERIOD_S)] = Field(
        description="Seconds, looking back from each send; 90 days at most."
    )


class PreferenceDefaults(Strict):
    """What recipients get who said nothing themselves."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"channels": {"sms": False}}]})

    channels: dict[ChannelOrAll, bool] = Field(
        default_factory=dict, description="Whether a channel may be used; `*`: those that are not named."
    )


class CategoryDefaults(PreferenceDefaults):
    """Likewise for one category, which nobody can refuse where it is mandatory."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"channels": {"email": False}, "mandatory": False}]})

    mandatory: bool = Field(
        default=False,
        description="It is sent whatever its recipients said, but to no suppressed address.",
    )


class _Stored(Shown):
    inherited: bool = Field(description="True where it is the product's, and the organization has none of its own.")
    updated_at: datetime


class RetryShown(_Stored):
    """A stored retry policy."""

    channel: str | None = Field(description="Null: all channels that have none of their own.")
    attempts: int
    base_s: float
    cap_s: float
    jitter: str


class QuietHoursShown(_Stored):
    """Stored quiet hours."""

    from_: str = Field(alias="from")
    until: str
    timezone: str | None


class FrequencyCapShown(_Stored):
    """A stored frequency cap."""

    category: str | None = Field(description="Null: all sends together.")
    count: int
    period_s: int


class PreferenceDefaultsShown(_Stored):
    """Stored defaults."""

    category: str | None = Field(description="Null: all that have none of their own, and what has no category.")
    channels: dict[str, bool]
    mandatory: bool


class PoliciesShown(Shown):
    """Everything that a tenant wants done differently."""

    retry: list[RetryShown]
    quiet_hours: QuietHoursShown | None
    frequency_caps: list[FrequencyCapShown]
    preferences: list[PreferenceDefaultsShown]
    limits: LimitsShown | None


def stored(body: Strict) -> dict[str, Any]:
    """Return a policy's value as it is stored: every field, under the name that the API gives it."""
    return body.model_dump(mode="json", by_alias=True)
