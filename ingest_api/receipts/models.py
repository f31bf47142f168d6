"""What a device's beacon carries.

Belongs here: the queries' models. Does not belong here: logging it (``routes``).
"""

from typing import Annotated

from pydantic import Field

from ingest_api.fields import Loose, NotificationId
from notify_pipeline.core.send_checks import ACTION_PATTERN
from notify_pipeline.core.vocabulary import Platform


class Beacon(Loose):
    """The query string of a receipt, as the push payload hands it to the app."""

    notificationId: NotificationId  # noqa: N815 - the name on the wire
    platform: Platform
    provider: Annotated[str, Field(pattern=r"^[a-z0-9_.\-]{1,64}$", examples=["fcm"])]
    d: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$", description="The delivery id, which proves its own origin.")]


class Click(Beacon):
    """The query string of a click."""

    action: Annotated[str, Field(pattern=ACTION_PATTERN, examples=["read-later"])] | None = Field(
        default=None,
        description="Which of the content's `actions` was clicked; without one, the notification itself. Counted if"
        " the notification has it.",
    )
