"""Bodies of the routes of looks and likes.

Belongs here: models. Does not belong here: what is done with them (``routes``).
"""

from datetime import datetime
from typing import Annotated

from pydantic import ConfigDict, Field

from ingest_api.fields import LINK_PATTERN, WEB_PATTERN, Shown, Strict, UserId, UserInPath
from notify_pipeline.core.send_checks import MAX_LINK, MAX_URL

# As in a send's content, which they become.
ImageUrl = Annotated[str, Field(pattern=WEB_PATTERN, max_length=MAX_URL, examples=["https://example.com/look-7.jpg"])]
DeepLink = Annotated[str, Field(pattern=LINK_PATTERN, max_length=MAX_LINK, examples=["app://looks/look-7"])]
# What fits into a path, as a user's id does.
LookId = UserInPath


class NewLook(Strict):
    """What the tenant tells of a look, in the place of what it told before."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "owner_id": "user-42",
                    "image_url": "https://example.com/look-7.jpg",
                    "deep_link": "app://looks/look-7",
                }
            ]
        }
    )

    owner_id: UserId = Field(description="The user who is told when somebody likes it.")
    image_url: ImageUrl | None = Field(default=None, description="Its picture.")
    deep_link: DeepLink | None = Field(default=None, description="What a tap opens: a URL, or the app's own scheme.")


class LookShown(Shown):
    """A look as it is stored."""

    look_id: str
    owner_id: str
    image_url: str | None
    deep_link: str | None
    updated_at: datetime


class NewLike(Strict):
    """Somebody likes a look."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"look_id": "look-7", "customer_id": "user-43"}]})

    look_id: LookId
    customer_id: UserId = Field(description="Who likes it.")


class LikeShown(Shown):
    """A like, and what its owner is told by."""

    look_id: str
    customer_id: str
    notification_id: str | None = Field(
        description="Of the owner's inbox item, and of the send; null where it is the owner's own like, of which "
        "nobody is told."
    )
    event_id: str | None = Field(description="The event that is routed; null likewise.")
    duplicate: bool = Field(description="It was liked before, and nobody is told again.")
    created_at: datetime
