"""Bodies of the callback routes.

Belongs here: models. Does not belong here: what is done with them (``routes``), what callbacks are told
(``core.ledger.callback_messages``).
"""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field

from ingest_api.fields import ID_PATTERN, PageQuery, Shown, Strict
from notify_pipeline.core.addresses import MAX_URL_LENGTH
from notify_pipeline.core.ledger.callbacks import MAX_SECRET_BYTES, SECRET_PREFIX, secret_bytes
from notify_pipeline.core.vocabulary import CallbackEvent, MessageState

# A week: longer than anybody needs to change a receiver over.
MAX_OVERLAP_S = 604_800
_DAY_S = 86_400

CallbackId = Annotated[str, Field(pattern=ID_PATTERN, examples=["019a92b1c5d07c3e8f60a1b2c3d4e5f6"])]
MessageId = Annotated[str, Field(pattern=ID_PATTERN, examples=["019a92b1c5d07c3e8f60a1b2c3d4e5f7"])]


def _distinct(events: list[CallbackEvent]) -> list[CallbackEvent]:
    if len(set(events)) != len(events):
        raise ValueError("must not name an event twice")
    return events


def _secret(secret: str) -> str:
    secret_bytes(secret)
    return secret


Url = Annotated[
    str,
    Field(
        pattern=r"^[!-~]+$",
        max_length=MAX_URL_LENGTH,
        description="Where messages are posted: https, and no private address.",
        examples=["https://example.com/hooks/notify"],
    ),
]
Events = Annotated[
    list[Annotated[CallbackEvent, Field(strict=False)]],
    AfterValidator(_distinct),
    Field(min_length=1, max_length=len(CallbackEvent), json_schema_extra={"uniqueItems": True}),
]
Secret = Annotated[
    str,
    # Base64 of the most bytes.
    Field(
        pattern=rf"^{SECRET_PREFIX}[A-Za-z0-9+/]+=*$", max_length=len(SECRET_PREFIX) + (MAX_SECRET_BYTES + 2) // 3 * 4
    ),
    AfterValidator(_secret),
    Field(description="Your own: `whsec_` and base64 of 24 to 64 bytes. By default one is made."),
]


class NewCallback(Strict):
    """A callback to register."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"url": "https://example.com/hooks/notify"}]})

    url: Url
    events: Events = Field(
        default_factory=lambda: list(CallbackEvent), description="What to be told; by default everything."
    )
    secret: Secret | None = None


class CallbackChange(Strict):
    """What to change of a callback; the rest stays."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "examples": [{"active": False}]})

    url: Url | None = None
    events: Events | None = None
    active: bool | None = Field(
        default=None, description="False: it is told nothing more, and what waited for it has failed."
    )


class Rotation(Strict):
    """How to change the secret."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"overlap_s": 3600}]})

    secret: Secret | None = None
    overlap_s: Annotated[int, Field(ge=0, le=MAX_OVERLAP_S)] = Field(
        default=_DAY_S, description="For so many seconds messages are signed with the old secret too."
    )


class CallbackShown(Shown):
    """A callback."""

    callback_id: str
    url: str
    events: list[CallbackEvent]
    active: bool
    created_at: datetime
    updated_at: datetime
    old_secret_until: datetime | None = Field(description="Until then messages are signed with the old secret too.")


class CallbackMade(CallbackShown):
    """A callback with its secret, which is shown this once."""

    secret: str


class CallbackList(Shown):
    """A tenant's callbacks, oldest first."""

    items: list[CallbackShown]
    next_cursor: None = Field(description="They are few: always the last page.")


class CallbackMessageShown(Shown):
    """A message to a callback."""

    message_id: str = Field(description="The `webhook-id` of every attempt.")
    callback_id: str
    event: str
    request_id: str | None = Field(description="The send that it tells of; null: a test.")
    state: MessageState
    attempts: int = Field(description="Attempts begun.")
    next_attempt_at: datetime | None = Field(description="Null: at once, or never.")
    status: int | None = Field(description="The last answer's.")
    error: str | None = Field(description="Why the last attempt was none, or why there is no further one.")
    created_at: datetime
    ended_at: datetime | None
    payload: dict[str, Any] = Field(description="What is posted.")


class CallbackMessagePage(Shown):
    """A page of messages, newest first."""

    items: list[CallbackMessageShown]
    next_cursor: str | None


class MessageQuery(PageQuery):
    """Which messages to list."""

    state: MessageState | None = None
