"""Field types that several groups of routes share: what a token, a topic, an id may look like.

Belongs here: annotated types with their pattern, limits and examples, checks of one value, and the bases of models.
Does not belong here: whole request models (beside their routes), how errors are shown (``errors``, ``inputs``).

All text patterns exclude NUL, which PostgreSQL cannot store, by listing what they allow. They are written so that
pydantic's engine, JSON Schema (ECMA-262) and Python read them alike.
"""

import re
from datetime import UTC, date, datetime
from functools import cache
from typing import Annotated, Any
from zoneinfo import available_timezones

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NaiveDatetime,
    PlainSerializer,
    StrictStr,
    WithJsonSchema,
)

from notify_pipeline.core import phone_numbers
from notify_pipeline.core.conditions import TOPIC
from notify_pipeline.core.mail_addresses import MAIL_PATTERN, MAX_LENGTH
from notify_pipeline.core.vocabulary import Platform

# Registration tokens of FCM have no documented form: base64url with a colon, some 163 characters today. PostgreSQL
# takes 2,704 bytes into an index, where the token comes after the tenant.
# https://firebase.google.com/docs/cloud-messaging/manage-tokens
TOKEN_PATTERN = r"^[A-Za-z0-9_:.\-]{1,2500}$"  # noqa: S105 - the form of a token
# APNs device tokens are hex digits; "may vary in length", 32 bytes today, 100 with room to grow.
# https://developer.apple.com/documentation/usernotifications/registering-your-app-with-apns
APNS_TOKEN_PATTERN = r"^[A-Fa-f0-9]{1,200}$"  # noqa: S105 - the form of a token
TOPIC_PATTERN = rf"^{TOPIC}$"
# Visible ASCII but for the slash, and not of dots alone: URL clients resolve "." and ".." away.
NOTIFICATION_ID_PATTERN = r"^[!-.0-~]*[!-\-0-~][!-.0-~]*$"
NOTIFICATION_ID_LENGTH = 128
ID_PATTERN = r"^[0-9a-f]{32}$"
NAME_PATTERN = r"^[A-Za-z0-9_.:/\-]{1,100}$"
PLAIN_PATTERN = r"^[^\x00-\x1f\x7f]*$"
NO_NUL_PATTERN = r"^[^\x00]*$"
# How long it may be is said beside them: whoever compiles "2,048 characters of any script" is at it for milliseconds.
HTTPS_PATTERN = r"^https://[^\x00-\x20\x7f]+$"
WEB_PATTERN = r"^https?://[^\x00-\x20\x7f]+$"
LINK_PATTERN = r"^[^\x00-\x20\x7f]+$"

Token = Annotated[str, Field(pattern=TOKEN_PATTERN, examples=["dGhlIGRldmljZQ:APA91bHun4MxP5egoKMwt2KZFBaFUH"])]
# Topics of a registration are filtered, not refused: any text is legal, and what was stored is shown.
TopicCandidate = Annotated[str, Field(max_length=1_000, pattern=NO_NUL_PATTERN, examples=["breaking/uk"])]
Email = Annotated[str, Field(pattern=MAIL_PATTERN, max_length=MAX_LENGTH, examples=["ada@example.com"])]
# Whatever people put between the digits: stored and compared in E.164.
Phone = Annotated[
    str,
    Field(pattern=phone_numbers.WRITTEN_PATTERN, examples=["+447700900123"]),
    AfterValidator(phone_numbers.normalized),
]
Topic = Annotated[str, Field(pattern=TOPIC_PATTERN, examples=["breaking/uk"])]
NotificationId = Annotated[
    str,
    Field(
        pattern=NOTIFICATION_ID_PATTERN,
        min_length=1,
        max_length=NOTIFICATION_ID_LENGTH,
        examples=["7f1c2a34-0000-4000-8000-5a6b7c8d9e0f"],
    ),
]
RequestId = Annotated[str, Field(pattern=ID_PATTERN, examples=["019a92b1c5d07c3e8f60a1b2c3d4e5f6"])]
# A segment of a path, visible, and not of dots alone, which URL clients resolve away.
VisitorGuid = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9_.:\-]*[A-Za-z0-9_:\-][A-Za-z0-9_.:\-]*$",
        max_length=128,
        examples=["6f9619ff-8b86-d011-b42d-00c04fc964ff"],
    ),
]
TenantId = Annotated[str, Field(pattern=ID_PATTERN, examples=["019a92b1c5d07c3e8f60a1b2c3d4e5f7"])]
KeyId = Annotated[str, Field(pattern=ID_PATTERN, examples=["019a92b1c5d07c3e8f60a1b2c3d4e5f8"])]
# A user id that fits into a path: no slash, and not dots alone, which URL clients resolve away.
UserInPath = Annotated[
    str,
    Field(
        pattern=r"^[^\x00-\x1f\x7f/]*[^\x00-\x1f\x7f/.][^\x00-\x1f\x7f/]*$",
        min_length=1,
        max_length=256,
        examples=["user-42"],
    ),
]
UserId = Annotated[str, Field(pattern=PLAIN_PATTERN, min_length=1, max_length=256, examples=["user-42"])]
Name = Annotated[str, Field(pattern=NAME_PATTERN, examples=["news"])]
# A segment of a path, and not of dots alone, as above.
TemplateName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_:][A-Za-z0-9_.:\-]{0,99}$", examples=["order-shipped"])]
Label = Annotated[str, Field(pattern=PLAIN_PATTERN, min_length=1, max_length=200, examples=["The Daily"])]
Locale = Annotated[str, Field(pattern=r"^[A-Za-z0-9_\-]{1,35}$", examples=["en-GB"])]
Limit = Annotated[int, Field(ge=1, le=500, description="Items per page.")]
Cursor = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_\-]{1,400}$", description="`next_cursor` of the page before this one.")
]

IncludeOrganizations = Annotated[bool, Field(description="With a product's key: its organizations' too.")]


class Strict(BaseModel):
    """Base of everything a caller sends: unknown fields and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Loose(BaseModel):
    """Base of query strings, where every value arrives as text; unknown parameters are errors all the same."""

    model_config = ConfigDict(extra="forbid")


class PageQuery(Loose):
    """Which part of a list; those with filters add to it."""

    limit: Limit = 50
    cursor: Cursor | None = None


class Shown(BaseModel):
    """Base of what we answer. Every field is always there; None is null."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


def fields_of(model: type[Shown], thing: object, *others: str) -> dict[str, Any]:
    """Return what a model shows of a thing that has the same names, but for ``others``."""
    return {name: getattr(thing, name) for name in model.model_fields if name not in others}


_ISO_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d", re.ASCII)


def _iso_text(value: object) -> object:
    # Pydantic would read 1700000000 and "1700000000" as moments too.
    if not isinstance(value, str) or not _ISO_TIME.match(value):
        raise ValueError("must be an ISO-8601 time such as 2026-11-21T06:33:59Z")
    return value


def to_utc(moment: datetime) -> datetime:
    """Return the same moment in UTC; one that has no such date is a ValueError."""
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("must lie between the years 1 and 9999 in UTC") from error


# Not strict, because the check before it has taken the place of the JSON parser that strictness looks for.
UtcTime = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_iso_text), AfterValidator(to_utc)]

_DATE = re.compile(r"\d{4}-\d\d-\d\d\Z", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d[0-9:.]*([Zz]|[+-]\d\d:?\d\d)\Z", re.ASCII)


def _date_or_time(value: object) -> object:
    if isinstance(value, str):
        if _DATE.match(value):
            return datetime.combine(date.fromisoformat(value), datetime.min.time(), UTC)
        if not _TIME.match(value):
            raise ValueError("must be a date such as 2026-11-21, or a time with an offset such as 2026-11-21T06:33:59Z")
    return value


# A bound of a range: people write dates, programs write times.
Moment = Annotated[
    datetime,
    BeforeValidator(_date_or_time),
    AfterValidator(to_utc),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}],
            "examples": ["2026-11-21"],
        }
    ),
]

_LOCAL_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?$"
_LOCAL_TIME = re.compile(_LOCAL_PATTERN.replace("$", r"\Z"), re.ASCII)


def _local_text(value: object) -> object:
    if not isinstance(value, str) or not _LOCAL_TIME.match(value):
        raise ValueError("must be a time without an offset such as 2026-11-21T09:00")
    return value


# A wall clock's time, whatever the zone.
LocalTime = Annotated[
    NaiveDatetime,
    Field(strict=False),
    BeforeValidator(_local_text),
    PlainSerializer(lambda t: t.isoformat(), return_type=str),
    WithJsonSchema({"type": "string", "pattern": _LOCAL_PATTERN, "examples": ["2026-11-22T09:00"]}),
]


@cache
def _timezones() -> frozenset[str]:
    return frozenset(available_timezones())


def _known_timezone(name: str) -> str:
    if name not in _timezones():
        raise ValueError("must be a name from the IANA time zone database")
    return name


Timezone = Annotated[
    StrictStr,
    Field(pattern=r"^[A-Za-z0-9_+\-/]{1,64}$", examples=["Europe/London"]),
    AfterValidator(_known_timezone),
]

_TOPIC = re.compile(TOPIC_PATTERN.replace("$", r"\Z"))
_APNS_TOKEN = re.compile(APNS_TOKEN_PATTERN.replace("$", r"\Z"))


def stored_topics(candidates: list[str]) -> tuple[str, ...]:
    """Return the well-formed topics, each once, in the order given."""
    return tuple(dict.fromkeys(topic for topic in candidates if _TOPIC.match(topic)))


def token_fault(token: str, platform: Platform) -> str | None:
    """Return what is wrong with a token for this platform, or None. The token itself is never repeated."""
    if platform is Platform.IOS and not _APNS_TOKEN.match(token):
        return "must be an APNs device token for platform ios: 1 to 200 hex digits"
    return None
