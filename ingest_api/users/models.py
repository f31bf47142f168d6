"""Bodies of the user routes.

Belongs here: models. Does not belong here: what is done with them (``routes``).
"""

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, model_validator

from ingest_api.fields import Shown, Strict, Timezone
from ingest_api.policies.models import TimeOfDay

# A user id that fits into a path: no slash, and not dots alone, which URL clients resolve away.
UserInPath = Annotated[
    str,
    Field(
        pattern=r"^[^\x00-\x1f\x7f/]*[^\x00-\x1f\x7f/.][^\x00-\x1f\x7f/]*$",
        min_length=1,
        max_length=256,
        examples=["user-42"],
    ),
]


class UserProfile(Strict):
    """What the tenant tells of a user, in the place of what it told before."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"timezone": "Europe/London"}]})

    timezone: Timezone | None = Field(
        default=None, description="A name from the IANA time zone database: for devices that did not name their own."
    )


class UserShown(Shown):
    """A user as they are stored."""

    user_id: str
    timezone: str | None
    updated_at: datetime


class UserQuietHours(Strict):
    """When one user is left alone."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"from": "23:00", "until": "08:00"}]})

    from_: TimeOfDay = Field(alias="from", description="Local time, included.")
    until: TimeOfDay = Field(description="Local time, excluded; before `from`: of the next day.")
    timezone: Timezone | None = Field(
        default=None, description="Whose local time; null: that of the device, or the user's where it named none."
    )

    @model_validator(mode="after")
    def _some_hours(self) -> Self:
        if self.from_ == self.until:
            raise ValueError("until must differ from from")
        return self

    def stored(self) -> dict[str, Any]:
        """Return them as they are stored."""
        return self.model_dump(mode="json", by_alias=True)


class UserQuietHoursShown(Shown):
    """A user's own quiet hours as they are stored."""

    from_: str = Field(alias="from")
    until: str
    timezone: str | None
