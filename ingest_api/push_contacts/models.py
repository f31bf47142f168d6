"""Bodies of the contact routes.

Belongs here: models. Does not belong here: what is done with them (``routes``, ``lists``).
"""

from datetime import datetime
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from ingest_api.camel import CamelPage, CamelShown, CamelStrict
from ingest_api.devices.models import BrowserSubscription
from ingest_api.domains.models import DomainName
from ingest_api.fields import Email, Moment, VisitorGuid
from notify_pipeline.core.ledger.contact_rows import MAX_TOKEN_LENGTH
from notify_pipeline.core.vocabulary import Platform

# A position holds a token: in base64url, with the time and 10 characters of JSON around it.
MAX_CURSOR_LENGTH = (MAX_TOKEN_LENGTH + 32) * 4 // 3

DeviceToken = Annotated[
    str,
    Field(
        pattern=rf"^[A-Za-z0-9_:.\-]{{1,{MAX_TOKEN_LENGTH}}}$",
        examples=["dGhlIGJyb3dzZXI:APA91bHun4MxP5egoKMwt2KZFBaFUH"],
    ),
]
_SUBSCRIPTION: dict[str, Any] = {
    "endpoint": "https://updates.push.services.example/wpush/v2/gAAAAABl",
    "expirationTime": None,
    # RFC 8291 appendix A.
    "keys": {
        "p256dh": "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
        "auth": "BTBZMqHH6r4Tts7J_aSIgg",
    },
}


class NewContact(CamelStrict):
    """What a page says of its browser. What is null or left out of e-mail and visitor stays as it was."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "domain": "example.com",
                    "deviceToken": "dGhlIGJyb3dzZXI:APA91bHun4MxP5egoKMwt2KZFBaFUH",
                    "email": "ada@example.com",
                    "visitorGuid": "6f9619ff-8b86-d011-b42d-00c04fc964ff",
                },
                {"domain": "example.com", "subscription": _SUBSCRIPTION},
            ]
        }
    )

    domain: DomainName
    device_token: DeviceToken | None = Field(
        default=None, description="FCM's registration token, or what was answered for a subscription."
    )
    subscription: BrowserSubscription | None = Field(
        default=None, description="The browser's own: then it is the address. One of the two must be there."
    )
    email: Email | None = Field(default=None, description="Kept in lower case.")
    visitor_guid: VisitorGuid | None = None


class ContactMade(CamelShown):
    """A contact as its page knows it from now on."""

    device_token: str = Field(description="What names it on the other routes.")
    domain: str


class NewEmail(CamelStrict):
    """Whose a contact is."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"email": "ada@example.com"}]})

    email: Email | None = Field(description="Kept in lower case; null forgets it.")


class NewVisitorGuid(CamelStrict):
    """Which visitor a contact is of."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"visitorGuid": "6f9619ff-8b86-d011-b42d-00c04fc964ff"}]})

    visitor_guid: VisitorGuid | None = Field(description="Null forgets it.")


class NewBrowserSubscription(CamelStrict):
    """The browser's new subscription."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"subscription": _SUBSCRIPTION}]})

    subscription: BrowserSubscription


class ContactExists(CamelShown):
    """Whether a visitor can be reached."""

    exists: bool


class ContactQuery(CamelPage):
    """Which contacts to list."""

    domain: DomainName
    email: Email | None = Field(default=None, description="In whatever case.")
    modified_from: Moment | None = Field(default=None, description="Changed then or later: a date in UTC, or a time.")
    modified_until: Moment | None = Field(default=None, description="Changed before: a date in UTC, or a time.")
    is_active: bool | None = Field(default=None, description="By default both.")
    cursor: Annotated[str, Field(pattern=rf"^[A-Za-z0-9_\-]{{1,{MAX_CURSOR_LENGTH}}}$")] | None = Field(
        default=None, description="`nextCursor` of the page before this one."
    )


class ContactShown(CamelShown):
    """A contact as it is stored."""

    device_token: str = Field(description="What its page knows it by.")
    token: str = Field(description="Its address: the same, or what stands for its subscription. `/devices` knows it.")
    domain: str
    platform: Platform = Field(description="`web`: by FCM; `webpush`: by its own subscription.")
    email: str | None
    visitor_guid: str | None
    is_active: bool
    created_at: datetime
    modified_at: datetime = Field(description="The last change; registering just the same again is none.")
    registered_at: datetime = Field(description="The last time its page registered it.")
    deleted_at: datetime | None = Field(description="Null while it is active.")
    delete_reason: str | None = Field(
        description="`unsubscribed`: its page took it away; `deleted`: its tenant did; else the provider's word that "
        "it is dead."
    )
    deleted_by_message_id: str | None = Field(description="The message, or other notification, that found it dead.")


class ContactPage(CamelShown):
    """A page of contacts, longest unchanged first."""

    items: list[ContactShown]
    next_cursor: str | None


class ContactCounts(CamelShown):
    """How many contacts a domain has."""

    active: int
    inactive: int = Field(description="Unsubscribed, deleted, or found dead.")
    total: int


class DomainStats(CamelShown):
    """What a domain has now."""

    name: str
    contacts: ContactCounts
