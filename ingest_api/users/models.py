"""Bodies of the user routes.

Belongs here: models. Does not belong here: what is done with them (``routes``).
"""

from datetime import datetime

from pydantic import ConfigDict, Field

from ingest_api.fields import Shown, Strict, Timezone
from ingest_api.policies.models import QuietHoursPolicy


class UserProfile(Strict):
    """What the tenant tells of a user, in the place of what it told before."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"timezone": "Europe/London"}]})

    timezone: Timezone | None = Field(
        default=None, description="A name from the IANA time zone database: for devices that did not name their own."
    )


class UserQuietHours(QuietHoursPolicy):
    """When one user is left alone."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"from": "23:00", "until": "08:00"}]})

    timezone: Timezone | None = Field(
        default=None, description="Whose local time; null: that of the device, or the user's where it named none."
    )


class UserQuietHoursShown(Shown):
    """A user's own quiet hours as they are stored."""

    from_: str = Field(alias="from")
    until: str
    timezone: str | None


class UserShown(Shown):
    """A user as they are stored."""

    user_id: str
    timezone: str | None
    quiet_hours: UserQuietHoursShown | None
    updated_at: datetime
