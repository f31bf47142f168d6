"""How figures, moments and states are written.

Belongs here: text for people. Does not belong here: components (``widgets``), colours.
"""

from datetime import date, datetime, timedelta

from notify_pipeline.core.vocabulary import RequestState

NONE = "–"
# Behind a space that no line is broken at.
_PERCENT = "\u00a0%"
_MINUTE_S, _HOUR_S = 60, 3_600
PLATFORMS = {
    "android": "Android",
    "ios": "iOS",
    "web": "Web (FCM)",
    "webpush": "Web push",
    "email": "E-mail",
    "sms": "SMS",
    "websocket": "WebSocket",
    "inbox": "Inbox",
}
STATES = {
    RequestState.ACCEPTED: "Accepted",
    RequestState.ROUTED: "Routed",
    RequestState.SENDING: "Sending",
    RequestState.DONE: "Done",
    RequestState.FAILED: "Failed",
    RequestState.CANCELLED: "Cancelled",
    RequestState.EXPIRED: "Expired",
    RequestState.UNROUTED: "Unrouted",
}


def count(number: float | None) -> str:
    """Return a count with its thousands apart."""
    return NONE if number is None else f"{number:,.0f}"


def share(part: float | None) -> str:
    """Return a share in percent. Only all is 100 %, and only nothing is 0 %."""
    if part is None:
        return NONE
    percent = part * 100
    if 0 < percent < 0.05:
        return f"< 0.1{_PERCENT}"
    if 99.95 <= percent < 100:
        return f"> 99.9{_PERCENT}"
    return f"{percent:.1f}{_PERCENT}" if 0 < percent < 100 else f"{percent:.0f}{_PERCENT}"


def share_of(part: float | None, whole: float | None) -> str:
    """Return what share of a whole a part is."""
    return NONE if part is None or not whole else share(part / whole)


def seconds(number: float | None) -> str:
    """Return a duration as people say it."""
    if number is None:
        return NONE
    if number < 1:
        return f"{number * 1_000:.0f} ms"
    if number < 100:
        return f"{number:.1f} s"
    if number < _HOUR_S:
        minutes, rest = divmod(round(number), _MINUTE_S)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, rest = divmod(round(number / _MINUTE_S), 60)
    return f"{hours:,} h {rest} min" if rest else f"{hours:,} h"


def moment(at: datetime | None) -> str:
    """Return a moment in UTC, to the minute."""
    return NONE if at is None else f"{at.day} {at:%b %Y, %H:%M}"


def day(at: date) -> str:
    """Return a day."""
    return f"{at.day} {at:%b %Y}"


def ago(then: datetime, now: datetime) -> str:
    """Return how long ago something was."""
    past = max(timedelta(), now - then)
    if past < timedelta(minutes=1):
        return "less than a minute ago"
    if past < timedelta(hours=1):
        return _many(past // timedelta(minutes=1), "minute") + " ago"
    if past < timedelta(days=2):
        return _many(past // timedelta(hours=1), "hour") + " ago"
    return _many(past.days, "day") + " ago"


def platform(name: str) -> str:
    """Return a platform's name."""
    return PLATFORMS.get(name, name)


def state(name: str) -> str:
    """Return a state's name."""
    return STATES.get(RequestState(name), name)


def many(number: float, thing: str) -> str:
    """Return a number of things: ``many(2, "send")`` is "2 sends"."""
    return _many(round(number), thing)


def _many(number: int, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"
