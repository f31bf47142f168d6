"""Bodies of the send routes.

Belongs here: models, and what they alone can say is wrong. Does not belong here: what is done with them (``routes``).
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, PlainSerializer

from ingest_api.errors import FieldError
from ingest_api.fields import (
    NAME_PATTERN,
    NO_NUL_PATTERN,
    Name,
    NotificationId,
    Shown,
    Strict,
    Token,
    Topic,
    UserId,
    UtcTime,
)
from notify_pipeline.core.personal import PERSONAL_FIELDS, unknown_in
from notify_pipeline.core.records import MAX_TTL_S
from notify_pipeline.core.vocabulary import OnAmbiguous, Priority

AUDIENCES = ("topics", "users", "devices")
# FCM conditions know five topics; ours are a scan of partitions, and each topic is one more.
MAX_TOPICS = 100
MAX_CHANNELS = 6
# FCM and APNs take 4,096 bytes for everything; other channels more, so that their own limit speaks.
MAX_TITLE = 1_000
MAX_BODY = 20_000
MAX_DATA = 100
# Keys that FCM reserves, APNs' own, and ours in every payload.
# https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages#Message.FIELDS.data
RESERVED_DATA = frozenset(
    {"from", "message_type", "notification", "aps", "notificationId", "platform", "provider", "d", "receipt"}
)
RESERVED_DATA_PREFIXES = ("google.", "gcm.")
_LINK = r"^[^\x00-\x20\x7f]{1,2048}$"

DataKey = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,100}$")]
DataValue = Annotated[str, Field(pattern=NO_NUL_PATTERN, max_length=4_096)]
PushChannel = Literal["fcm", "apns"]


class Content(Strict):
    """What the recipient sees: at least a title, a body or data. These may hold personal fields, see the route."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": ["title"], "properties": {"title": {"type": "string"}}},
                {"required": ["body"], "properties": {"body": {"type": "string"}}},
                {"required": ["data"], "properties": {"data": {"type": "object", "minProperties": 1}}},
            ]
        }
    )

    title: Annotated[str, Field(pattern=NO_NUL_PATTERN, min_length=1, max_length=MAX_TITLE)] | None = None
    body: Annotated[str, Field(pattern=NO_NUL_PATTERN, min_length=1, max_length=MAX_BODY)] | None = None
    link: Annotated[str, Field(pattern=_LINK)] | None = Field(
        default=None, description="Opened on a tap: a URL, or the app's own scheme."
    )
    image_url: Annotated[str, Field(pattern=r"^https?://[^\x00-\x20\x7f]{1,2048}$")] | None = None
    data: dict[DataKey, DataValue] = Field(
        default_factory=dict,
        max_length=MAX_DATA,
        description="Reaches the app as it is. Reserved: " + ", ".join(f"`{k}`" for k in sorted(RESERVED_DATA)) + ".",
        json_schema_extra={"propertyNames": {"not": {"enum": [*sorted(RESERVED_DATA)]}}},
    )


class NewSend(Strict):
    """A send: one audience, content, and options."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": [kind]} for kind in AUDIENCES],
            "examples": [
                {
                    "id": "7f1c2a34-0000-4000-8000-5a6b7c8d9e0f",
                    "type": "news",
                    "topics": ["breaking/uk"],
                    "priority": "high",
                    "content": {
                        "title": "Parliament dissolved",
                        "body": "A general election will be held in six weeks.",
                        "link": "https://example.com/1",
                        "image_url": "https://example.com/1.jpg",
                        "data": {"section": "politics"},
                    },
                }
            ],
        }
    )

    id: NotificationId | None = Field(
        default=None,
        description="The tenant's own id, or the Idempotency-Key header: a repetition replays the first answer, another"
        " body is a conflict. Without one, an id is made, and a repetition is another send.",
    )
    type: Name = Field(description="The kind of notification, for reports and filters.")
    topics: list[Topic] = Field(
        default_factory=list, min_length=1, max_length=MAX_TOPICS, description="Devices with any of these topics."
    )
    users: list[UserId] = Field(default_factory=list, min_length=1, description="All devices of these users.")
    devices: list[Token] = Field(default_factory=list, min_length=1, description="These device tokens.")
    content: Content
    channels: Annotated[list[PushChannel], Field(min_length=1, max_length=MAX_CHANNELS)] | None = Field(
        default=None, description="Only these; by default whatever reaches the recipient."
    )
    category: Annotated[str, Field(pattern=NAME_PATTERN)] | None = None
    priority: Priority = Priority.NORMAL
    importance: Annotated[str, Field(pattern=NAME_PATTERN)] | None = None
    send_at: (
        Annotated[UtcTime, PlainSerializer(lambda t: t.isoformat().replace("+00:00", "Z"), return_type=str)] | None
    ) = Field(default=None, description="Not before this time; a time without an offset is refused.")
    ttl: Annotated[int, Field(ge=0, le=MAX_TTL_S)] | None = Field(
        default=None, description="Seconds after which it is not worth delivering; a day by default."
    )
    # APNs takes 64 bytes. https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns
    collapse_key: Annotated[str, Field(pattern=r"^[!-~]{1,64}$")] | None = Field(
        default=None, description="A later notification with the same key replaces this one on the device."
    )
    retry: bool = Field(default=True, description="Whether a transient failure is tried again.")
    dry_run: bool = Field(default=False, description="Everything but the delivery: providers only validate.")
    on_ambiguous: OnAmbiguous = Field(
        default=OnAmbiguous.RESEND,
        description="What to do where a provider was called and its answer was lost: send again, or leave it.",
    )

    def faults(self, max_list: int) -> Iterator[FieldError]:
        """Yield what is wrong between fields.

        Args:
            max_list: The longest users or devices list.
        """
        given = [kind for kind in AUDIENCES if kind in self.model_fields_set]
        if not given:
            yield FieldError(AUDIENCES[0], f"exactly one of {', '.join(AUDIENCES)} is required")
        for kind in given[1:]:
            yield FieldError(kind, f"must not be given beside {given[0]}: a send has one audience")
        for kind in ("users", "devices"):
            if len(getattr(self, kind)) > max_list:
                yield FieldError(kind, f"must not have more than {max_list} entries; use a topic")
        content = self.content
        if content.title is None and content.body is None and not content.data:
            yield FieldError("content", "needs a title, a body or data")
        for key in content.data:
            if key in RESERVED_DATA or key.startswith(RESERVED_DATA_PREFIXES):
                yield FieldError(f"content.data.{key}", "is a reserved key")
        yield from self._unknown_fields()

    def _unknown_fields(self) -> Iterator[FieldError]:
        content = self.content
        texts = {"content.title": content.title, "content.body": content.body}
        for field, text in [*texts.items(), *((f"content.data.{key}", text) for key, text in content.data.items())]:
            for name in unknown_in(text or ""):
                known = ", ".join(PERSONAL_FIELDS)
                yield FieldError(field, f"has the personal field {name}, which is unknown; known are {known}")

    def canonical(self) -> dict[str, Any]:
        """Return the body as it is stored and compared: JSON values, without the id, absent where unset or null."""
        return self.model_dump(mode="json", exclude=_NOT_COMPARED, exclude_unset=True, exclude_none=True)


_NOT_COMPARED = {"id"}


class SendAccepted(Shown):
    """The answer to a send; a repetition gets the same, but for `duplicate`."""

    request_id: str
    notification_id: str
    state: Literal["accepted"]
    status_url: str = Field(description="Where to follow it.")
    duplicate: bool
