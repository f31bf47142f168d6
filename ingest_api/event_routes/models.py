"""Bodies and answers of the route routes.

Belongs here: models of a routing rule, and what they alone can say is wrong. Does not belong here: enrichers
(``enrichers``), trying a rule (``dry_run``), what is done with a rule (``routes``), what it means
(``core.route_rules``).
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from ingest_api.errors import FieldError
from ingest_api.event_routes import enrichers
from ingest_api.event_routes.enrichers import MAX_ENRICHERS, EnricherUse
from ingest_api.fields import NAME_PATTERN, NO_NUL_PATTERN, Name, Shown, Strict, TemplateName
from ingest_api.notifications.content import ChannelName
from ingest_api.notifications.models import MAX_CHANNELS
from ingest_api.templates.models import NewTemplate, TemplateTexts, Version
from notify_pipeline.core import expressions, templating
from notify_pipeline.core.records import MAX_TTL_S
from notify_pipeline.core.route_rules import MAX_NAME, Inline
from notify_pipeline.core.vocabulary import Priority

# Fields of a template that are filled one by one.
MAX_FIELDS = 100

# A segment of a path, and a part of a notification id.
RouteName = Annotated[
    str,
    Field(pattern=rf"^[A-Za-z0-9_][A-Za-z0-9_.\-]{{0,{MAX_NAME - 1}}}$", examples=["order-shipped"]),
]
# A source or type, or all that begin with what stands before the asterisk.
Pattern = Annotated[str, Field(pattern=r"^([A-Za-z0-9_.:/\-]{1,100}|[A-Za-z0-9_.:/\-]{0,99}\*)$", examples=["order.*"])]
# Its faults are named by ``faults``: which character, too.
ExpressionText = Annotated[
    str, Field(pattern=NO_NUL_PATTERN, min_length=1, max_length=expressions.MAX_LENGTH, examples=["detail.customer_id"])
]
FieldName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")]


class RouteMatch(Strict):
    """Which events a route is about."""

    source: Pattern = Field(default="*", description="Exact, or a beginning and `*`.", examples=["shop"])
    type: Pattern = Field(default="*", description="Likewise.")
    when: ExpressionText | None = Field(
        default=None,
        description="A condition in JMESPath over the whole event (`source`, `type`, `id`, `detail`, `recipients`,"
        " `accepted_at`); null, false, and what is empty is no.",
        examples=["detail.order.total > `100`"],
    )


class RouteTemplate(Strict):
    """A stored template, and what fills it."""

    name: TemplateName
    version: Version | None = Field(default=None, description="By default the newest when the event is routed.")
    fields: Annotated[dict[FieldName, ExpressionText], Field(max_length=MAX_FIELDS)] | None = Field(
        default=None,
        description="Each of the template's fields as an expression over the event and its `enrichment`. By default"
        " the event's `detail` and what enrichment found.",
    )


class RouteRecipients(Strict):
    """Recipients by kind, each an expression; one of them finds somebody."""

    users: ExpressionText | None = None
    emails: ExpressionText | None = None
    phones: ExpressionText | None = None
    devices: ExpressionText | None = None
    topics: ExpressionText | None = None
    domain: ExpressionText | None = None


class NewRoute(Strict):
    """A rule: which events, and what is sent because of them."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["content"]}, {"required": ["template"]}],
            "examples": [
                {
                    "match": {"source": "shop", "type": "order.*", "when": "detail.order.total > `100`"},
                    "category": "orders",
                    "content": {"title": "Order {{ detail.order.id }}", "body": "It is on its way."},
                    "channels": ["fcm", "apns", "email"],
                    "priority": "high",
                    "recipients": "detail.customer_id",
                }
            ],
        }
    )

    match: RouteMatch
    enabled: bool = Field(default=True, description="Whether it takes part.")
    type: Name | None = Field(default=None, description="Of the sends; by default the event's.")
    category: Annotated[str, Field(pattern=NAME_PATTERN)] | None = None
    template: RouteTemplate | None = Field(default=None, description="Instead of `content` and `overrides`.")
    content: TemplateTexts | None = Field(
        default=None, description="Texts in the language of templates, with the event's members as fields."
    )
    overrides: dict[ChannelName, TemplateTexts] = Field(
        default_factory=dict, description="What differs on a channel; null takes a field away."
    )
    channels: Annotated[list[ChannelName], Field(min_length=1, max_length=MAX_CHANNELS)] | None = Field(
        default=None, description="As of a send."
    )
    priority: Priority = Priority.NORMAL
    ttl: Annotated[int, Field(ge=0, le=MAX_TTL_S)] | None = Field(
        default=None, description="Seconds from the event's acceptance or last replay; a day by default."
    )
    collapse_key: Annotated[str, Field(pattern=NO_NUL_PATTERN, min_length=1, max_length=500)] | None = Field(
        default=None, description="As of a send; may have places for fields, as `content` has."
    )
    enrichment: list[EnricherUse] = Field(
        default_factory=list, max_length=MAX_ENRICHERS, description="What its events lack, in the order of looking."
    )
    enrich: Literal["always", "missing"] = Field(
        default="always", description="`missing`: only where the sends cannot be made of the event alone."
    )
    per_recipient: bool = Field(
        default=False, description="A send for each user, who may be told what enrichment found of them."
    )
    recipients: ExpressionText | RouteRecipients | None = Field(
        default=None,
        description="An expression that finds user ids, or an object with one kind of audience; or an expression for"
        " each kind. By default the event's own.",
    )

    def faults(self) -> Iterator[FieldError]:
        """Yield what the models alone do not refuse."""
        yield from self._content_faults()
        for where, text in self._expressions():
            try:
                expressions.compiled(text)
            except expressions.BadExpression as error:
                yield FieldError(where, str(error))
        if self.collapse_key is not None:
            for fault in templating.check(Inline({"collapse_key": self.collapse_key})):
                yield FieldError("collapse_key", fault.message)
        yield from enrichers.faults(self.enrichment)

    def _content_faults(self) -> Iterator[FieldError]:
        if self.content is not None:
            yield from NewTemplate(content=self.content, overrides=self.overrides).faults()
        elif self.template is None:
            yield FieldError("content", "is required, unless a template is named")
        if self.template is not None:
            for other in sorted(self.model_fields_set & {"content", "overrides"}):
                yield FieldError(other, "must not be given beside a template")

    def _expressions(self) -> Iterator[tuple[str, str]]:
        if self.match.when is not None:
            yield "match.when", self.match.when
        if self.template is not None:
            yield from ((f"template.fields.{name}", text) for name, text in (self.template.fields or {}).items())
        if isinstance(self.recipients, str):
            yield "recipients", self.recipients
        elif self.recipients is not None:
            yield from ((f"recipients.{kind}", text) for kind, text in self.recipients if text is not None)

    @property
    def stored(self) -> dict[str, Any]:
        """The rule as it is stored and shown: absent where it says nothing."""
        rule = self.model_dump(mode="json", exclude_none=True, exclude={"content", "overrides"})
        if self.content is not None:
            rule["content"], rule["overrides"] = NewTemplate(content=self.content, overrides=self.overrides).parts
        return rule


class RouteShown(Shown):
    """A stored route."""

    name: str
    inherited: bool = Field(description="It is the product's; the organization has none of its own by this name.")
    built_in: bool = Field(description="Everybody has it who has none of their own by this name.")
    rule: dict[str, Any] = Field(description="As it was put, with what was left out.")
    updated_at: datetime | None = Field(description="Null for one that is built in.")


class RouteList(Shown):
    """All routes that a tenant goes by, by name."""

    items: list[RouteShown]
