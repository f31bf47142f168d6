"""Bodies of the user routes.

Belongs here: models. Does not belong here: what is done with them (``routes``).
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, ConfigDict, Field

from ingest_api.fields import Email, Locale, Phone, Shown, Strict, Timezone
from ingest_api.policies.models import QuietHoursPolicy

# As JSON, in bytes: a fifth of what a template's fields may be in all, and room for any profile.
MAX_ATTRIBUTES = 16_384
# Objects and lists in each other. Templates take 16 levels, and see attributes two levels down.
MAX_DEPTH = 12


def _bounded(attributes: dict[str, Any]) -> dict[str, Any]:
    try:
        size = len(orjson.dumps(attributes))
    except TypeError as error:
        raise ValueError("must have whole numbers of at most 64 bits") from error
    if size > MAX_ATTRIBUTES:
        raise ValueError(f"must not be longer than {MAX_ATTRIBUTES} bytes as JSON")
    level: list[Any] = [attributes]
    for _ in range(MAX_DEPTH):
        level = [each for value in level for each in _within(value)]
    if any(isinstance(value, dict | list) for value in level):
        raise ValueError(f"must not be more than {MAX_DEPTH} deep")
    return attributes


def _within(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


class UserProfile(Strict):
    """What the tenant tells of a user. `PUT` replaces all of it, `PATCH` what is given."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "email": "ada@example.com",
                    "phone": "+447700900123",
                    "locale": "en-GB",
                    "timezone": "Europe/London",
                    "attributes": {"name": "Ada", "image_url": "https://example.com/ada.png"},
                }
            ]
        }
    )

    email: Email | None = Field(default=None, description="Where e-mail goes that is sent to the user.")
    phone: Phone | None = Field(default=None, description="Where SMS go that are sent to the user; kept in E.164.")
    locale: Locale | None = Field(default=None, description="The user's language, a BCP 47 tag.")
    timezone: Timezone | None = Field(
        default=None, description="A name from the IANA time zone database: for devices that did not name their own."
    )
    attributes: Annotated[dict[str, Any], AfterValidator(_bounded)] | None = Field(
        default=None,
        description="Whatever else templates of events shall know; `image_url` is taken for the user's own picture. "
        "At most 16 KB as JSON, 12 deep.",
    )

    def given(self) -> dict[str, Any]:
        """Return the fields that the caller named, nulls included."""
        return {name: getattr(self, name) for name in self.model_fields_set}


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
    email: str | None
    phone: str | None
    locale: str | None
    timezone: str | None
    attributes: dict[str, Any] | None
    quiet_hours: UserQuietHoursShown | None
    updated_at: datetime
