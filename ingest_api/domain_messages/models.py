"""Bodies of messages to a domain's contacts.

Belongs here: models of a message, and what they alone can say is wrong. Does not belong here: answers (``answers``),
what is stored of a message (``making``), what is done with it (``routes``).
"""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from ingest_api.camel import CamelLoose, CamelPage, CamelStrict
from ingest_api.errors import FieldError
from ingest_api.fields import HTTPS_PATTERN, NAME_PATTERN, NO_NUL_PATTERN, Moment, Name, UtcTime, VisitorGuid
from ingest_api.notifications.content import MAX_BODY, MAX_TITLE
from ingest_api.tracking.models import RecipientOutcome
from notify_pipeline.core import send_checks
from notify_pipeline.core.personal import unknown_in
from notify_pipeline.core.records import MAX_TTL_S
from notify_pipeline.core.send_checks import MAX_URL
from notify_pipeline.core.vocabulary import Priority

# Reports and filters know messages by it, where the sender says nothing else.
DEFAULT_TYPE = "push-contacts"
# More than a title and a body use, and a list of thousands of visitors stays a body that is taken at once.
MAX_FIELDS = 50
MAX_VALUE = 1_000
# Every hour of it that anything was sent in is looked through.
HISTORY_DAYS = 30

HttpsUrl = Annotated[str, Field(pattern=HTTPS_PATTERN, max_length=MAX_URL, examples=["https://example.com/offers"])]
FieldName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
FieldValue = Annotated[str, Field(pattern=NO_NUL_PATTERN, max_length=MAX_VALUE)]
Fields = Annotated[
    dict[FieldName, FieldValue],
    Field(
        max_length=MAX_FIELDS,
        description="What `[[[name]]]` in title and body stands for; names are the same in any case.",
        examples=[{"first_name": "Ada"}],
    ),
]


class MessageAction(CamelStrict):
    """A button."""

    action: Annotated[str, Field(pattern=send_checks.ACTION_PATTERN, examples=["buy"])] = Field(
        description="Its name, in reports and for the page's worker; each once."
    )
    title: Annotated[str, Field(pattern=NO_NUL_PATTERN, min_length=1, max_length=send_checks.MAX_ACTION_TITLE)] = Field(
        description="What it says.", examples=["Buy now"]
    )
    icon: HttpsUrl | None = None
    link: HttpsUrl | None = Field(
        default=None, description="Opened by a click. By default nothing is, and the click is counted."
    )

    def stored(self) -> dict[str, str]:
        """Return it as content has it."""
        whole = {"action": self.action, "title": self.title, "link": self.link, "icon_url": self.icon}
        return {name: value for name, value in whole.items() if value is not None}


class NewMessage(CamelStrict):
    """A message to the contacts of a domain."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "title": "Summer sale",
                    "body": "Everything at half the price, today only.",
                    "onClickLink": "https://example.com/sale",
                    "imageUrl": "https://example.com/sale.jpg",
                    "actions": [{"action": "buy", "title": "Buy now", "link": "https://example.com/cart"}],
                }
            ]
        }
    )

    title: Annotated[str, Field(pattern=NO_NUL_PATTERN, min_length=1, max_length=MAX_TITLE)]
    body: Annotated[str, Field(pattern=NO_NUL_PATTERN, min_length=1, max_length=MAX_BODY)]
    on_click_link: HttpsUrl | None = Field(default=None, description="Opened by a click.")
    image_url: HttpsUrl | None = None
    icon_url: HttpsUrl | None = Field(default=None, description="By default the domain's.")
    actions: list[MessageAction] = Field(
        default_factory=list, max_length=send_checks.MAX_ACTIONS, description="Buttons. Most browsers show two."
    )
    type: Name = Field(default=DEFAULT_TYPE, description="The kind of notification, for reports and filters.")
    category: Annotated[str, Field(pattern=NAME_PATTERN)] | None = None
    priority: Priority = Priority.NORMAL
    ttl: Annotated[int, Field(ge=0, le=MAX_TTL_S)] | None = Field(
        default=None, description="Seconds after which it is not worth delivering; a day by default."
    )
    send_at: UtcTime | None = Field(
        default=None, description="Not before this time; a time without an offset is refused."
    )

    def faults(self, max_list: int) -> Iterator[FieldError]:
        """Yield what is wrong between fields.

        Args:
            max_list: The longest list of visitors.
        """
        for number in send_checks.repeated([each.action for each in self.actions]):
            yield FieldError(f"actions.{number}.action", "must not be the name of two actions")
        yield from self._text_faults()

    def _text_faults(self) -> Iterator[FieldError]:
        for name, text in (("title", self.title), ("body", self.body)):
            for unknown in unknown_in(text):
                yield FieldError(name, f"has the field {unknown}, which only a message to visitors can fill")

    def stored(self) -> dict[str, Any]:
        """Return the body of the send that it is, without whom it is for; what is absent or null is absent."""
        content = {
            "title": self.title,
            "body": self.body,
            "link": self.on_click_link,
            "image_url": self.image_url,
            "icon_url": self.icon_url,
            "actions": [each.stored() for each in self.actions] or None,
        }
        options = {
            "category": self.category,
            "priority": self.priority.value if self.priority is not Priority.NORMAL else None,
            "ttl": self.ttl,
            "send_at": None if self.send_at is None else self.send_at.isoformat().replace("+00:00", "Z"),
        }
        given = {name: value for name, value in options.items() if value is not None}
        return {"type": self.type, "content": {n: v for n, v in content.items() if v is not None}, **given}


class _Personal(NewMessage):
    """Base of messages whose title and body may hold fields of the visitors' own."""

    replacement_is_mandatory: bool = Field(
        default=False, description="Whether nobody gets it where anybody lacks a field that title or body have."
    )

    def _text_faults(self) -> Iterator[FieldError]:
        yield from ()


def _repeated_names(fields: dict[str, str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in fields:
        if name.lower() in seen:
            yield name
        seen.add(name.lower())


class VisitorMessage(_Personal):
    """A message to one visitor."""

    fields: Fields = Field(default_factory=dict)

    def faults(self, max_list: int) -> Iterator[FieldError]:
        """Yield what is wrong between fields."""
        yield from super().faults(max_list)
        for name in _repeated_names(self.fields):
            yield FieldError(f"fields.{name}", "must not be given twice; names are the same in any case")


class MessageVisitor(CamelStrict):
    """A visitor, and what fills the message's fields for them."""

    visitor_guid: VisitorGuid
    fields: Fields = Field(default_factory=dict)


class VisitorsMessage(_Personal):
    """A message to some visitors."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "title": "Hello [[[first_name]]]",
                    "body": "Your cart is waiting.",
                    "visitors": [{"visitorGuid": "v-1", "fields": {"first_name": "Ada"}}],
                    "replacementIsMandatory": True,
                }
            ]
        }
    )

    visitors: list[MessageVisitor] = Field(min_length=1, description="Each once.")

    def faults(self, max_list: int) -> Iterator[FieldError]:
        """Yield what is wrong between fields."""
        yield from super().faults(max_list)
        if len(self.visitors) > max_list:
            yield FieldError("visitors", f"must not have more than {max_list} entries")
            return
        seen: set[str] = set()
        for number, visitor in enumerate(self.visitors):
            if visitor.visitor_guid in seen:
                yield FieldError(f"visitors.{number}.visitorGuid", "must not be given twice")
            seen.add(visitor.visitor_guid)
            for name in _repeated_names(visitor.fields):
                where = f"visitors.{number}.fields.{name}"
                yield FieldError(where, "must not be given twice; names are the same in any case")


class MessagesQuery(CamelPage):
    """Which part of a domain's messages."""

    from_: Moment | None = Field(
        default=None, alias="from", description="Accepted then or later: a date in UTC, or a time."
    )
    until: Moment | None = Field(default=None, description="Accepted before: a date in UTC, or a time.")


class ExportQuery(CamelLoose):
    """Which of a domain's messages to write down."""

    from_: Moment | None = Field(
        default=None, alias="from", description="Accepted then or later: a date in UTC, or a time."
    )
    until: Moment | None = Field(default=None, description="Accepted before: a date in UTC, or a time.")


class EventsQuery(CamelPage):
    """Which of a message's contacts."""

    outcome: RecipientOutcome | None = None


class HistoryQuery(CamelPage):
    """Which part of a contact's history."""

    from_: Moment | None = Field(
        default=None,
        alias="from",
        description=f"First attempted then or later; by default {HISTORY_DAYS} days before the end.",
    )
    until: Moment | None = Field(default=None, description="First attempted before; by default up to now.")
