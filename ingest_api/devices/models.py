"""Bodies of the device routes.

Belongs here: models. Does not belong here: what is done with them (``routes``).
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from ingest_api.fields import PLAIN_PATTERN, Locale, Shown, Strict, Timezone, Token, TopicCandidate, UserId
from notify_pipeline.core.push_subscriptions import MAX_ENDPOINT_LENGTH
from notify_pipeline.core.vocabulary import Platform

# FCM lets an app instance be in 2,000 topics.
# https://firebase.google.com/docs/cloud-messaging/manage-topic-subscriptions
MAX_TOPICS = 2_000

Topics = Annotated[
    list[TopicCandidate],
    Field(
        max_length=MAX_TOPICS,
        description="Ill-formed and repeated names are left out; the answer shows what was stored. A topic has 1 to 200"
        " letters, digits and `-_.~%/`.",
    ),
]


# What an app or a page registers; other addresses have routes of their own.
DevicePlatform = Literal[Platform.ANDROID, Platform.IOS, Platform.WEB, Platform.WEBPUSH]
Base64Url = Annotated[str, Field(pattern=r"^[A-Za-z0-9_\-]{1,200}={0,2}$")]

# RFC 8291 appendix A.
_EXAMPLE_KEY = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"


class SubscriptionKeys(Strict):
    """What a browser's push is encrypted with."""

    p256dh: Base64Url = Field(description="The browser's public key: 65 bytes, a point on P-256.")
    auth: Base64Url = Field(description="The secret shared with the browser: 16 bytes.")


class BrowserSubscription(Strict):
    """What `PushSubscription.toJSON()` gives a page."""

    endpoint: Annotated[str, Field(pattern=r"^[!-~]+$", max_length=MAX_ENDPOINT_LENGTH)] = Field(
        description="Where messages are posted: https, and no private address."
    )
    expiration_time: float | None = Field(
        default=None,
        alias="expirationTime",
        description="Taken and not kept: the push service says when a subscription is over.",
    )
    keys: SubscriptionKeys


class NewRegistration(Strict):
    """What an app says of itself. Registering a token again replaces everything that was said before."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "token": "dGhlIGRldmljZQ:APA91bHun4MxP5egoKMwt2KZFBaFUH",
                    "platform": "android",
                    "user_id": "user-42",
                    "topics": ["breaking/uk"],
                    "app_version": "7.1.0",
                    "locale": "en-GB",
                    "timezone": "Europe/London",
                },
                {
                    "platform": "webpush",
                    "subscription": {
                        "endpoint": "https://updates.push.services.example/wpush/v2/gAAAAABl",
                        "expirationTime": None,
                        "keys": {"p256dh": _EXAMPLE_KEY, "auth": "BTBZMqHH6r4Tts7J_aSIgg"},
                    },
                },
            ]
        }
    )

    token: Token | None = Field(
        default=None,
        description="FCM's registration token, or for ios the APNs device token in hex; not for webpush, whose "
        "registration's token is made of its subscription, and answered.",
    )
    subscription: BrowserSubscription | None = Field(default=None, description="For webpush, and only there.")
    platform: DevicePlatform
    user_id: UserId | None = Field(default=None, description="The tenant's own id of the user.")
    topics: Topics = Field(default_factory=list)
    app_version: Annotated[str, Field(pattern=PLAIN_PATTERN, max_length=64, examples=["7.1.0"])] | None = None
    locale: Locale | None = None
    timezone: Timezone | None = Field(default=None, description="A name from the IANA time zone database.")


class NewTopics(Strict):
    """The topics a device shall have from now on; an empty list leaves it registered, without any."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"topics": ["breaking/uk", "sport"]}]})

    topics: Topics


class DeviceShown(Shown):
    """A registration as it is stored."""

    token: str
    platform: Platform
    user_id: str | None
    topics: list[str]
    app_version: str | None
    locale: str | None
    timezone: str | None
    created_at: datetime
    registered_at: datetime = Field(description="The last time the app registered this token.")
    is_valid: bool | None = Field(
        description="What the provider says of the token; null where it was not asked, or does not say."
    )
