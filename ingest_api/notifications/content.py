"""What a recipient sees, and how a channel's content differs from it.

Belongs here: those models, and what is wrong with a text or a key. Does not belong here: the send around them
(``models``), templates.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from ingest_api.errors import FieldError
from ingest_api.fields import HTTPS_PATTERN, LINK_PATTERN, NO_NUL_PATTERN, WEB_PATTERN, Strict
from notify_pipeline.core import send_checks, templating
from notify_pipeline.core.personal import PERSONAL_FIELDS, unknown_in
from notify_pipeline.core.records import content_over

# FCM and APNs take 4,096 bytes for everything; other channels more, so that their own limit speaks.
MAX_TITLE = 1_000
MAX_BODY = 20_000
# What mail programs show of an e-mail: Gmail cuts it off at 102 kB.
MAX_HTML = templating.MAX_HTML
MAX_DATA = 100
# Keys that FCM reserves, APNs' own, and ours in every payload.
# https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages#Message.FIELDS.data
RESERVED_DATA = frozenset(
    {"from", "message_type", "notification", "aps", "notificationId", "platform", "provider", "d", "receipt"}
)
RESERVED_DATA_PREFIXES = ("google.", "gcm.")
_LINK = Field(pattern=LINK_PATTERN, max_length=send_checks.MAX_LINK)
# Browsers show nothing else, and open what a page of theirs gives them.
_HTTPS = Field(pattern=HTTPS_PATTERN, max_length=send_checks.MAX_URL)

DataKey = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,100}$")]
DataValue = Annotated[str, Field(pattern=NO_NUL_PATTERN, max_length=4_096)]
Data = Annotated[
    dict[DataKey, DataValue],
    Field(
        max_length=MAX_DATA,
        description="Reaches the app as it is. Reserved: " + ", ".join(f"`{k}`" for k in sorted(RESERVED_DATA)) + ".",
        json_schema_extra={"propertyNames": {"not": {"enum": [*sorted(RESERVED_DATA)]}}},
    ),
]
ChannelName = Literal["fcm", "apns", "webpush", "email", "sms", "websocket", "inbox"]


class Action(Strict):
    """A button of a notification in a browser."""

    action: Annotated[str, Field(pattern=send_checks.ACTION_PATTERN)] = Field(
        description="Its name, in reports and for the page's worker; each once.", examples=["read"]
    )
    title: Annotated[str, Field(pattern=NO_NUL_PATTERN, min_length=1, max_length=send_checks.MAX_ACTION_TITLE)] = Field(
        description="What it says.", examples=["Read on"]
    )
    link: Annotated[str, _HTTPS] | None = Field(
        default=None, description="Opened by a click. By default nothing is, and the click is counted."
    )
    icon_url: Annotated[str, _HTTPS] | None = None

    @model_serializer(mode="wrap")
    def _stored(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}


def _none_if_empty(actions: list[Action] | None) -> list[Action] | None:
    return actions or None


class _Texts(Strict):
    title: Annotated[str, Field(pattern=NO_NUL_PATTERN, min_length=1, max_length=MAX_TITLE)] | None = None
    body: Annotated[str, Field(pattern=NO_NUL_PATTERN, min_length=1, max_length=MAX_BODY)] | None = None
    link: Annotated[str, _LINK] | None = Field(
        default=None, description="Opened on a tap: a URL, or the app's own scheme."
    )
    image_url: Annotated[str, Field(pattern=WEB_PATTERN, max_length=send_checks.MAX_URL)] | None = None
    html: Annotated[str, Field(pattern=NO_NUL_PATTERN, min_length=1, max_length=MAX_HTML)] | None = Field(
        default=None, description="For e-mail only: the page that is shown. By default one is made of the rest."
    )
    icon_url: Annotated[str, _HTTPS] | None = Field(
        default=None, description="For browsers: the small picture beside the text."
    )
    actions: Annotated[
        Annotated[list[Action], Field(max_length=send_checks.MAX_ACTIONS)] | None, AfterValidator(_none_if_empty)
    ] = Field(default=None, description="For browsers: buttons. Most show two, and leave out the others.")


class Content(_Texts):
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

    data: Data = Field(default_factory=dict)

    def faults(self) -> Iterator[FieldError]:
        """Yield what the model alone does not refuse."""
        if self.title is None and self.body is None and not self.data:
            yield FieldError("content", "needs a title, a body or data")
        yield from _faults("content", self, self.data)


class Override(_Texts):
    """What is different on one channel: a field that is given replaces the content's, null takes it away."""

    data: Data | None = None

    def faults(self, channel: ChannelName, content: Content | None) -> Iterator[FieldError]:
        """Yield what is wrong with it, and with the content that it makes of ``content``."""
        where = f"overrides.{channel}"
        yield from _faults(where, self, self.data or {})
        if self.html is not None and channel != "email":
            yield FieldError(f"{where}.html", "is for e-mail only")
        if content is not None:
            made = content_over(content.model_dump(exclude_unset=True), self.model_dump(exclude_unset=True))
            if made.title is None and made.body is None and not made.data:
                yield FieldError(where, "leaves neither a title, a body nor data")


def _faults(where: str, texts: _Texts, data: Mapping[str, str]) -> Iterator[FieldError]:
    for key in data:
        if key in RESERVED_DATA or key.startswith(RESERVED_DATA_PREFIXES):
            yield FieldError(f"{where}.data.{key}", "is a reserved key")
    for name, text in (("title", texts.title), ("body", texts.body), ("html", texts.html)):
        if text is not None and "[[[" in text:
            yield from _unknown_fields(f"{where}.{name}", text)
    if texts.actions:
        for number in send_checks.repeated([action.action for action in texts.actions]):
            yield FieldError(f"{where}.actions.{number}.action", "must not be the name of two actions")
    for key, text in data.items():
        if "[[[" in text:
            yield from _unknown_fields(f"{where}.data.{key}", text)


def _unknown_fields(field: str, text: str) -> Iterator[FieldError]:
    for name in unknown_in(text):
        known = ", ".join(PERSONAL_FIELDS)
        yield FieldError(field, f"has the personal field {name}, which is unknown; known are {known}")
