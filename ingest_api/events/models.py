"""Bodies and answers of the event routes.

Belongs here: models of an event, and what they alone can say is wrong. Does not belong here: lists and replays
(``listing``), routes that turn events into sends (``event_routes``), what is done with them (``routes``).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from ingest_api.domains.models import DomainName
from ingest_api.errors import FieldError
from ingest_api.fields import Email, Name, NotificationId, Phone, Shown, Strict, Token, Topic, UserId
from ingest_api.notifications.answers import BulkRefused
from ingest_api.notifications.models import MAX_TOPICS
from notify_pipeline.core.send_checks import AUDIENCES

# What a template needs of an event is some hundred bytes; what is larger belongs where an enricher can fetch it.
MAX_DETAIL_BYTES = 65_536
# Expressions, templates and both stores read it; nobody means deeper ones.
MAX_DETAIL_DEPTH = 32
# One transaction of some 20 ms, which others wait for.
MAX_BULK = 1_000


def _bounded(detail: dict[str, Any]) -> dict[str, Any]:
    try:
        size = len(orjson.dumps(detail))
    except TypeError as error:
        raise ValueError("must have whole numbers of at most 64 bits, and must not nest deep") from error
    if size > MAX_DETAIL_BYTES:
        raise ValueError(f"must not have more than {MAX_DETAIL_BYTES} bytes as JSON; it has {size}")
    if _depth(detail) > MAX_DETAIL_DEPTH:
        raise ValueError(f"must not nest deeper than {MAX_DETAIL_DEPTH}")
    return detail


def _without_default(schema: dict[str, Any]) -> None:
    del schema["default"]


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level and depth <= MAX_DETAIL_DEPTH:
        depth += 1
        members: list[Any] = []
        for each in level:
            inner = each.values() if isinstance(each, dict) else each
            members.extend(one for one in inner if isinstance(one, dict | list))
        level = members
    return depth


Detail = Annotated[
    dict[str, Any],
    AfterValidator(_bounded),
    Field(description=f"Whatever the event carries: at most {MAX_DETAIL_BYTES} bytes, {MAX_DETAIL_DEPTH} levels."),
]


class EventRecipients(Strict):
    """Whom an event is about: one kind of audience, as of a send."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [kind]} for kind in AUDIENCES]})

    users: list[UserId] = Field(default_factory=list, min_length=1)
    emails: list[Email] = Field(default_factory=list, min_length=1)
    phones: list[Phone] = Field(default_factory=list, min_length=1)
    devices: list[Token] = Field(default_factory=list, min_length=1)
    topics: list[Topic] = Field(default_factory=list, min_length=1, max_length=MAX_TOPICS)
    domain: DomainName = Field(default="", description="Its contacts.", json_schema_extra=_without_default)

    def faults(self, max_list: int) -> Iterator[FieldError]:
        """Yield what is wrong between fields, and lists that are too long."""
        given = [kind for kind in AUDIENCES if kind in self.model_fields_set]
        if not given:
            yield FieldError("recipients", f"exactly one of {', '.join(AUDIENCES)} is required")
        for kind in given[1:]:
            yield FieldError(f"recipients.{kind}", f"must not be given beside {given[0]}")
        for kind in given:
            if kind != "domain" and len(getattr(self, kind)) > max_list:
                yield FieldError(f"recipients.{kind}", f"must not have more than {max_list} entries; use a topic")

    @property
    def stored(self) -> Mapping[str, Sequence[str]]:
        """What was given, by kind."""
        given = {kind: getattr(self, kind) for kind in AUDIENCES if kind in self.model_fields_set}
        return {kind: [members] if kind == "domain" else members for kind, members in given.items()}


def _as_object(given: object) -> object:
    return {"users": given} if isinstance(given, list) else given


class NewEvent(Strict):
    """Something that happened. It names no channel: routes say what is sent because of it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "source": "shop",
                    "type": "order.shipped",
                    "id": "order-1042-shipped",
                    "detail": {"order": {"id": 1042, "total": 59.9}, "carrier": "DHL"},
                    "recipients": ["user-42"],
                }
            ]
        }
    )

    source: Name = Field(description="What it comes from; routes match it.", examples=["shop"])
    type: Name = Field(description="What happened; routes match it.", examples=["order.shipped"])
    id: NotificationId | None = Field(
        default=None,
        description="The tenant's own id, unique per source, or the Idempotency-Key header: a repetition replays the"
        " first answer, another body is a conflict. Without one, an id is made, and a repetition is another event.",
    )
    detail: Detail = Field(default_factory=dict)
    recipients: (
        Annotated[EventRecipients, BeforeValidator(_as_object, json_schema_input_type=list[UserId] | EventRecipients)]
        | None
    ) = Field(default=None, description="A list of user ids, or one kind of audience. Routes may find them elsewhere.")

    def faults(self, max_list: int) -> Iterator[FieldError]:
        """Yield what is wrong between fields.

        Args:
            max_list: The longest list of recipients.
        """
        if self.recipients is not None:
            yield from self.recipients.faults(max_list)


class NewEventBulk(Strict):
    """Many events."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"events": [{"source": "shop", "type": "order.paid", "id": "o-1", "recipients": ["user-42"]}]}]
        }
    )

    # Each is checked on its own, so that one that is wrong does not refuse the others.
    events: list[Any] = Field(min_length=1, max_length=MAX_BULK, description="Each as in the body of `POST /events`.")


class EventAccepted(Shown):
    """The answer to an event; a repetition gets the same, but for `duplicate`."""

    event_id: str
    source: str
    id: str = Field(description="The tenant's own, or `event_id` where it gave none.")
    state: Literal["accepted"]
    status_url: str = Field(description="Where to follow it.")
    duplicate: bool


class EventBulkAccepted(EventAccepted):
    """An item that was accepted, now or before."""

    status: Literal[202]


class EventBulkAnswer(Shown):
    """What became of each item, in their order."""

    results: list[EventBulkAccepted | BulkRefused]
