"""Bodies of the template routes.

Belongs here: models, and what they alone can say is wrong. Does not belong here: what is done with them (``routes``),
what a text may say (``core.templating``).
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from ingest_api.errors import FieldError
from ingest_api.fields import NO_NUL_PATTERN, Loose, Shown, Strict
from ingest_api.notifications.content import (
    MAX_DATA,
    RESERVED_DATA,
    RESERVED_DATA_PREFIXES,
    ChannelName,
    Content,
    DataKey,
    Override,
)
from ingest_api.sms.models import MessageShown
from notify_pipeline.core import send_checks, templating

Version = Annotated[int, Field(ge=1, le=2**31 - 1)]
Source = Annotated[str, Field(pattern=NO_NUL_PATTERN, min_length=1, max_length=templating.MAX_SOURCE)]
HtmlSource = Annotated[str, Field(pattern=NO_NUL_PATTERN, min_length=1, max_length=templating.MAX_HTML_SOURCE)]
DataSource = Annotated[str, Field(pattern=NO_NUL_PATTERN, max_length=templating.MAX_SOURCE)]
DataSources = Annotated[dict[DataKey, DataSource], Field(max_length=MAX_DATA)]


class ActionTexts(Strict):
    """A button with places for fields. It is left out where its title comes out empty."""

    action: Annotated[str, Field(pattern=send_checks.ACTION_PATTERN)] = Field(
        description="Its name; no place for fields.", examples=["read"]
    )
    title: Source
    link: Source | None = None
    icon_url: Source | None = None


class TemplateTexts(Strict):
    """Content with places for fields. Of an override, null takes the content's away."""

    title: Source | None = None
    body: Source | None = None
    link: Source | None = None
    image_url: Source | None = None
    data: DataSources | None = None
    html: HtmlSource | None = Field(
        default=None, description="For e-mail only: the page that is shown. Values of fields are escaped in it."
    )
    icon_url: Source | None = None
    actions: Annotated[list[ActionTexts], Field(max_length=send_checks.MAX_ACTIONS)] | None = Field(
        default=None, description="For browsers: buttons."
    )

    def faults(self, where: str) -> Iterator[FieldError]:
        """Yield what is wrong between fields."""
        for key in self.data or {}:
            if key in RESERVED_DATA or key.startswith(RESERVED_DATA_PREFIXES):
                yield FieldError(f"{where}.data.{key}", "is a reserved key")
        for number in send_checks.repeated([action.action for action in self.actions or ()]):
            yield FieldError(f"{where}.actions.{number}.action", "must not be the name of two actions")


class NewTemplate(Strict):
    """A template: texts in a part of Jinja2, which the fields of a send fill."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "content": {
                        "title": "Your order {{ order.id }}",
                        "body": "{% if order.late %}Sorry, it is late. {% endif %}It comes on {{ day }}.",
                        "link": "https://example.com/orders/{{ order.id|urlencode }}",
                    },
                    "overrides": {"apns": {"title": "Order {{ order.id }}"}},
                }
            ]
        }
    )

    content: TemplateTexts
    overrides: dict[ChannelName, TemplateTexts] = Field(
        default_factory=dict, description="What differs on a channel; null takes a field away."
    )

    def faults(self) -> Iterator[FieldError]:
        """Yield what is wrong with it."""
        given = self.content
        if given.title is None and given.body is None and not given.data:
            yield FieldError("content", "needs a title, a body or data")
        yield from self.content.faults("content")
        for channel, texts in self.overrides.items():
            yield from texts.faults(f"overrides.{channel}")
            if texts.html is not None and channel != "email":
                yield FieldError(f"overrides.{channel}.html", "is for e-mail only")
        for fault in templating.check(_Texts(self)):
            yield FieldError(fault.field, fault.message)

    @property
    def parts(self) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Content and overrides as they are stored and rendered."""
        overrides = {str(channel): texts.model_dump(exclude_unset=True) for channel, texts in self.overrides.items()}
        return self.content.model_dump(exclude_none=True), overrides


class _Texts:
    """A template that is not stored yet."""

    def __init__(self, new: NewTemplate) -> None:
        self.content: Mapping[str, Any]
        self.overrides: Mapping[str, Mapping[str, Any]]
        self.content, self.overrides = new.parts


class TemplateShown(Shown):
    """A version of a template."""

    name: str
    version: int
    inherited: bool = Field(description="It is the product's; the organization has none of its own by this name.")
    content: dict[str, Any]
    overrides: dict[str, dict[str, Any]]
    created_at: datetime = Field(description="When this version was made.")


class TemplatePage(Shown):
    """A page of templates, by name."""

    items: list[TemplateShown]
    next_cursor: str | None


class VersionShown(Shown):
    """A version in a template's history."""

    version: int
    deleted: bool = Field(description="It is a deletion, and has no content.")
    content: dict[str, Any] | None
    overrides: dict[str, dict[str, Any]] | None
    created_at: datetime


class VersionPage(Shown):
    """A page of a template's history, newest first."""

    name: str
    inherited: bool
    items: list[VersionShown]
    next_cursor: str | None


class NewPreview(Strict):
    """What to fill a template with."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"fields": {"order": {"id": 7}, "day": "Monday"}}]})

    fields: dict[str, Any] = Field(default_factory=dict, description="What the template's variables stand for.")
    version: Version | None = Field(default=None, description="By default the newest.")


class Rendering(Strict):
    """What a template made, checked as a send's content is."""

    content: Content
    overrides: dict[ChannelName, Override] = Field(default_factory=dict)

    def faults(self) -> Iterator[FieldError]:
        """Yield what a send would be refused for."""
        yield from self.content.faults()
        for channel, override in self.overrides.items():
            yield from override.faults(channel, self.content)


class PreviewShown(Shown):
    """What recipients would see, by channel. Personal fields are still open in it."""

    name: str
    version: int
    content: dict[str, Any]
    channels: dict[str, dict[str, Any]]
    sms: MessageShown | None = Field(description="As SMS, with personal fields still open; null without any text.")


class VersionQuery(Loose):
    """Which version."""

    version: Version | None = Field(default=None, description="By default the newest.")
