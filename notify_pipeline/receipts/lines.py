"""One log line, parsed exactly: the rule that every faster way of reading a log must agree with.

Belongs here: what a request means that a log tells of, in whatever format; what a Fastly-style JSON line means; why a
line is refused. Does not belong here: the other formats (``w3c``, ``combined``), files, blocks of lines, anything
vectorised (``blocks``, ``fast``).

The line is a JSON object with ``datetime``, ``event`` (the URL path) and ``querystring`` (percent-encoded, in any
order, with or without the question mark); further keys are allowed. Lines of other paths are other traffic.

So are requests for our paths that are no beacon: of another method than GET and POST, as a browser's OPTIONS before it
posts; and those that were refused, by a firewall or for want of a server (a status of 400 and above). One whose client
did not wait for the answer (CloudFront's 000, NGINX' 499) had been made, and counts. Where a line has neither method
nor status, every request counts.

A click may name the ``action`` (button) that was clicked. Nobody has signed it, unlike the delivery id: one that is
repeated or is no name of an action is as if it were not there, and the click counts all the same.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from urllib.parse import unquote_plus

import orjson

from notify_pipeline.core.ids import DELIVERY_ID_LENGTH, to_micros
from notify_pipeline.core.send_checks import ACTION_PATTERN
from notify_pipeline.core.vocabulary import Platform, ReceiptEvent

# A CDN takes URLs up to 8 kB or so; a longer line is not one of ours, whatever it says.
MAX_LINE_BYTES: Final = 65_536
EVENTS: Final = {f"/notification/{event}": event.value for event in ReceiptEvent}
PLATFORMS: Final = frozenset(platform.value for platform in Platform)
_FIELDS: Final = ("notificationId", "platform", "provider", "d")
_ACTION_FIELD: Final = "action"
_ACTION = re.compile(rf"{ACTION_PATTERN[:-1]}\Z")
_DELIVERY_ID = re.compile(rf"[0-9a-f]{{{DELIVERY_ID_LENGTH}}}")
# RFC 3339 as CDNs write it: a T or a blank, any fraction, Z or an offset or nothing (then UTC, their default).
_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[T ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?"
    r" ?(?:Z|UTC|GMT|([+-])([0-9]{2}):?([0-9]{2}))?"
)
_MAX_OFFSET = timedelta(hours=24)
METHODS: Final = ("GET", "POST")
# What Fastly's own example of a JSON format calls them, and what many have made of it.
METHOD_KEYS: Final = ("method", "request_method")
STATUS_KEYS: Final = ("status", "response_status")
_STATUS = re.compile("[0-9]{1,3}")
_FIRST_ERROR: Final = 400
_CLIENT_WENT_AWAY: Final = 499


class Reason(StrEnum):
    """Why a line, or the rest of a file, is in quarantine."""

    BAD_UTF8 = "bad_utf8"
    NUL = "nul"
    TOO_LONG = "too_long"
    BROKEN_JSON = "broken_json"
    BROKEN_LINE = "broken_line"  # of the other formats
    MISSING_FIELD = "missing_field"
    REPEATED_FIELD = "repeated_field"
    BAD_ENCODING = "bad_encoding"
    BAD_TIME = "bad_time"
    FUTURE_TIME = "future_time"
    UNKNOWN_PLATFORM = "unknown_platform"
    BAD_DELIVERY_ID = "bad_delivery_id"
    TRUNCATED_FILE = "truncated_file"
    CORRUPT_FILE = "corrupt_file"


@dataclass(frozen=True, slots=True)
class Event:
    """A genuine-looking beacon.

    ``at`` is microseconds since the epoch; ``stamp`` is the datetime as it was written. Only clicks have an ``action``.
    """

    event: str
    notification_id: str
    platform: str
    provider: str
    delivery_id: str
    at: int
    stamp: str
    action: str | None = None


class Other:
    """A line of other traffic: counted, not kept."""


OTHER: Final = Other()


class LineRefusedError(ValueError):
    """A line that goes to quarantine."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


def parse_line(raw: bytes, latest: int) -> Event | Other:
    """Parse one line.

    Args:
        raw: The line without its newline.
        latest: The last moment that its file can hold, microseconds since the epoch.

    Returns:
        The event, or ``OTHER`` for a blank line and for a path that is not ours.

    Raises:
        LineRefusedError: The line belongs in quarantine.
    """
    record = _record(raw)
    if record is None:
        return OTHER
    path = record.get("event")
    if not isinstance(path, str):
        raise LineRefusedError(Reason.MISSING_FIELD)
    event = EVENTS.get(path)
    if event is None or not is_beacon(_first(record, METHOD_KEYS), _first(record, STATUS_KEYS)):
        return OTHER
    stamp, query = record.get("datetime"), record.get("querystring")
    if not isinstance(stamp, str) or not isinstance(query, str):
        raise LineRefusedError(Reason.MISSING_FIELD)
    return event_of(event, query, stamp, parse_time(stamp), latest)


def is_beacon(method: object, status: object) -> bool:
    """Tell whether a request for one of our paths is a beacon: by its method and status, where the log has them."""
    if isinstance(method, str) and method not in METHODS:
        return False
    number = int(status) if isinstance(status, str) and _STATUS.fullmatch(status) else status
    return type(number) is not int or number < _FIRST_ERROR or number == _CLIENT_WENT_AWAY


def event_of(event: str, query: str, stamp: str, at: int | None, latest: int) -> Event:
    """Return the event of a request for one of our paths.

    Args:
        event: Which of them.
        query: The query string as the client sent it.
        stamp: The time as it was written.
        at: ... and what it means, in microseconds since the epoch; None when it means nothing.
        latest: As for ``parse_line``.

    Raises:
        LineRefusedError: The line belongs in quarantine.
    """
    if at is None:
        raise LineRefusedError(Reason.BAD_TIME)
    if at > latest:
        raise LineRefusedError(Reason.FUTURE_TIME)
    notification_id, platform, provider, delivery_id, actions = _query(query)
    action = _action(actions) if actions and event == ReceiptEvent.CLICKED else None
    return Event(event, notification_id, platform, provider, delivery_id, at, stamp, action)


def parse_time(stamp: str) -> int | None:
    """Return microseconds since the epoch, or None for anything that is not a full date and time. Truncates."""
    match = _TIME.fullmatch(stamp)
    if match is None:
        return None
    *parts, fraction, sign, hours, minutes = match.groups()
    try:
        year, month, day, hour, minute, second = map(int, parts)
        moment = to_micros(datetime(year, month, day, hour, minute, second, tzinfo=UTC))
    except ValueError:
        return None
    moment += int(fraction[:6].ljust(6, "0")) if fraction else 0
    if sign:
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        if offset >= _MAX_OFFSET or int(minutes) >= 60:
            return None
        moment += (-1 if sign == "+" else 1) * int(offset.total_seconds()) * 1_000_000
    return moment


def is_blank(raw: bytes) -> bool:
    """Tell whether a line says nothing.

    Raises:
        LineRefusedError: It cannot be a line of any format.
    """
    if len(raw) > MAX_LINE_BYTES:
        raise LineRefusedError(Reason.TOO_LONG)
    if not raw.strip():
        return True
    if b"\0" in raw:
        raise LineRefusedError(Reason.NUL)
    return False


def as_text(raw: bytes) -> str:
    """Return a line's text.

    Raises:
        LineRefusedError: It has none.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise LineRefusedError(Reason.BAD_UTF8) from None


def _first(record: Mapping[str, Any], keys: tuple[str, ...]) -> object:
    return next((record[key] for key in keys if key in record), None)


def _record(raw: bytes) -> Mapping[str, Any] | None:
    if is_blank(raw):
        return None
    try:
        record = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise LineRefusedError(_why_broken(raw)) from None
    if not isinstance(record, dict):
        raise LineRefusedError(Reason.BROKEN_JSON)
    return record


def _why_broken(raw: bytes) -> Reason:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return Reason.BAD_UTF8
    return Reason.BROKEN_JSON


def _query(query: str) -> tuple[str, str, str, str, list[str]]:
    """Return notification id, platform, provider and delivery id of a query string, and actions as they stand there."""
    found: dict[str, str] = {}
    actions: list[str] = []
    for pair in query.removeprefix("?").split("&"):
        name, _, value = pair.partition("=")
        if name not in _FIELDS:
            if name == _ACTION_FIELD:
                actions.append(value)
            continue
        if name in found:
            raise LineRefusedError(Reason.REPEATED_FIELD)
        found[name] = _decode(value)
    values = tuple(found.get(name, "") for name in _FIELDS)
    if not all(values):
        raise LineRefusedError(Reason.MISSING_FIELD)
    notification_id, platform, provider, delivery_id = values
    if platform not in PLATFORMS:
        raise LineRefusedError(Reason.UNKNOWN_PLATFORM)
    if _DELIVERY_ID.fullmatch(delivery_id) is None:
        raise LineRefusedError(Reason.BAD_DELIVERY_ID)
    return notification_id, platform, provider, delivery_id, actions


def _action(values: list[str]) -> str | None:
    """Return the one action that is named, or None."""
    try:
        action = unquote_plus(values[0], errors="strict")
    except UnicodeDecodeError:
        return None
    return action if len(values) == 1 and _ACTION.match(action) else None


def _decode(value: str) -> str:
    try:
        text = unquote_plus(value, errors="strict")
    except UnicodeDecodeError:
        raise LineRefusedError(Reason.BAD_ENCODING) from None
    if "\0" in text:
        raise LineRefusedError(Reason.NUL)
    return text
