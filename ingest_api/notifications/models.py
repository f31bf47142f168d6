"""Bodies of the send routes.

Belongs here: models of a send, and what they alone can say is wrong. Does not belong here: content (``content``),
answers (``answers``), what is made of a send (``making``), what is done with it (``routes``).
"""

from collections.abc import Iterator
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, ConfigDict, Field, PlainSerializer

from ingest_api.domains.models import DomainName
from ingest_api.errors import FieldError
from ingest_api.fields import (
    NAME_PATTERN,
    Email,
    LocalTime,
    Name,
    NotificationId,
    Phone,
    Strict,
    TemplateName,
    Token,
    Topic,
    UserId,
    UtcTime,
)
from ingest_api.notifications.content import ChannelName, Content, Override
from notify_pipeline.core import conditions
from notify_pipeline.core.records import MAX_TTL_S
from notify_pipeline.core.vocabulary import OnAmbiguous, Priority, QuietHours

AUDIENCES = ("topics", "users", "devices", "emails", "phones", "everyone", "domain")
LISTS = ("users", "devices", "emails", "phones")
# FCM conditions know five topics; ours are a scan of partitions, and each topic is one more.
MAX_TOPICS = 100
MAX_CHANNELS = 7
# One transaction of some 20 ms, which others wait for.
MAX_BULK = 1_000


def _readable(condition: str) -> str:
    conditions.parse(condition)
    return condition


def _only_true(everyone: bool) -> bool:
    if not everyone:
        raise ValueError("must be true")
    return everyone


def _const_true(schema: dict[str, Any]) -> None:
    schema["const"] = True
    del schema["default"]


def _without_default(schema: dict[str, Any]) -> None:
    del schema["default"]


def _storable(fields: dict[str, Any]) -> dict[str, Any]:
    try:
        orjson.dumps(fields)
    except TypeError as error:
        raise ValueError("must have whole numbers of at most 64 bits") from error
    return fields


class TemplateUse(Strict):
    """A stored template and what fills it."""

    name: TemplateName
    version: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = Field(
        default=None, description="By default the newest; the send keeps the one that it was made with."
    )
    fields: Annotated[dict[str, Any], AfterValidator(_storable)] = Field(
        default_factory=dict, description="What the template's variables stand for."
    )


class Options(Strict):
    """What a send may say besides its type and content: its audience, and how it is to be delivered."""

    topics: list[Topic] = Field(
        default_factory=list, min_length=1, max_length=MAX_TOPICS, description="Devices with any of these topics."
    )
    users: list[UserId] = Field(
        default_factory=list, min_length=1, description="These users, on the channels that the send allows."
    )
    devices: list[Token] = Field(default_factory=list, min_length=1, description="These device tokens.")
    emails: list[Email] = Field(default_factory=list, min_length=1, description="These e-mail addresses.")
    phones: list[Phone] = Field(default_factory=list, min_length=1, description="These phone numbers.")
    everyone: Annotated[bool, AfterValidator(_only_true)] = Field(
        default=False, description="All registered devices.", json_schema_extra=_const_true
    )
    condition: (
        Annotated[
            str,
            Field(
                max_length=conditions.MAX_LENGTH,
                description="With `everyone`: only devices whose topics satisfy it. FCM's language: `'a topic' in"
                " topics`, `&&`, `||`, `!` and parentheses, which must say the order where `&&` and `||` meet.",
                examples=["'uk' in topics && !('sport' in topics || 'weather' in topics)"],
            ),
            AfterValidator(_readable),
        ]
        | None
    ) = None
    domain: DomainName | None = Field(
        default=None, description="The contacts of this domain, which is the tenant's and whose push feature is on."
    )
    overrides: dict[ChannelName, Override] = Field(
        default_factory=dict, description="What is different on a channel: null takes a field of the content away."
    )
    channels: Annotated[list[ChannelName], Field(min_length=1, max_length=MAX_CHANNELS)] | None = Field(
        default=None,
        description="Only these; by default push (`fcm`, `apns`, `webpush`), or what the audience is made of.",
    )
    category: Annotated[str, Field(pattern=NAME_PATTERN)] | None = None
    priority: Priority = Priority.NORMAL
    importance: Annotated[str, Field(pattern=NAME_PATTERN)] | None = Field(
        default=None, description="Kept with the send, for the tenant's own use."
    )
    send_at: (
        Annotated[UtcTime, PlainSerializer(lambda t: t.isoformat().replace("+00:00", "Z"), return_type=str)] | None
    ) = Field(default=None, description="Not before this time; a time without an offset is refused.")
    send_at_local: LocalTime | None = Field(
        default=None, description="Not before this time on each recipient's own wall clock; instead of `send_at`."
    )
    quiet_hours: QuietHours = Field(
        default=QuietHours.WAIT, description="What to do with a recipient whose quiet hours it falls into."
    )
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


class NewSend(Options):
    """A send: one audience, content, and options."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [
                {"oneOf": [{"required": [kind]} for kind in AUDIENCES]},
                {"oneOf": [{"required": ["content"]}, {"required": ["template"]}]},
            ],
            "dependentRequired": {"condition": ["everyone"]},
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
    content: Content | None = None
    template: TemplateUse | None = Field(default=None, description="Instead of `content` and `overrides`.")

    def faults(self, max_list: int) -> Iterator[FieldError]:
        """Yield what is wrong between fields.

        Args:
            max_list: The longest list of users, devices, e-mail addresses or phone numbers.
        """
        yield from self._audience_faults(max_list)
        if self.send_at is not None and self.send_at_local is not None:
            yield FieldError("send_at_local", "must not be given beside send_at")
        if self.content is not None:
            yield from self.content.faults()
        elif self.template is None:
            yield FieldError("content", "is required, unless a template is named")
        if "template" in self.model_fields_set:
            for other in sorted(self.model_fields_set & {"content", "overrides"}):
                yield FieldError(other, "must not be given beside a template")
        for channel, override in self.overrides.items():
            yield from override.faults(channel, self.content)

    def _audience_faults(self, max_list: int) -> Iterator[FieldError]:
        given = [kind for kind in AUDIENCES if kind in self.model_fields_set]
        if not given:
            yield FieldError(AUDIENCES[0], f"exactly one of {', '.join(AUDIENCES)} is required")
        for kind in given[1:]:
            yield FieldError(kind, f"must not be given beside {given[0]}: a send has one audience")
        if self.channels is not None and set(self.channels) == {"inbox"} and given and given[0] != "users":
            yield FieldError("channels", "must name another channel too, or the send users: only users have an inbox")
        if "condition" in self.model_fields_set and not self.everyone:
            yield FieldError("condition", "must not be given without everyone")
        for kind in LISTS:
            if len(getattr(self, kind)) > max_list:
                yield FieldError(kind, f"must not have more than {max_list} entries; use a topic")

    def canonical(self) -> dict[str, Any]:
        """Return the body as it is stored and compared: JSON values, without the id, absent where unset or null.

        Nulls in overrides stay: they take something away.
        """
        body = self.model_dump(mode="json", exclude=_NOT_COMPARED, exclude_unset=True, exclude_none=True)
        if self.overrides:
            body["overrides"] = {
                channel: override.model_dump(mode="json", exclude_unset=True)
                for channel, override in self.overrides.items()
            }
        return body


_NOT_COMPARED = {"id", "overrides"}


class SendEdit(Options):
    """What shall be different: a field that is given replaces the send's whole field, null takes it away."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"send_at": "2026-11-22T09:00:00Z", "content": {"title": "Delayed"}}]}
    )

    type: Name = Field(default="", description="The kind of notification.", json_schema_extra=_without_default)
    content: Content | None = None
    template: TemplateUse | None = None

    def changes(self) -> dict[str, Any]:
        """Return what was given, as JSON values; nulls stay."""
        return self.model_dump(mode="json", exclude_unset=True)


class NewBulk(Strict):
    """Many sends."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "notifications": [
                        {"id": "a-1", "type": "news", "users": ["user-42"], "content": {"title": "One"}},
                        {"id": "a-2", "type": "news", "users": ["user-43"], "content": {"title": "Two"}},
                    ]
                }
            ]
        }
    )

    # Each is checked on its own, so that one that is wrong does not refuse the others.
    notifications: list[Any] = Field(
        min_length=1, max_length=MAX_BULK, description="Each as in the body of `POST /notifications`."
    )
