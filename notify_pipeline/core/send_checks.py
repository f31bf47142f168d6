"""What a send may say, for sends that no caller wrote: those that routes make of events.

Belongs here: what content and an audience may be. Does not belong here: the models that a caller's body is read with
(``ingest_api.notifications``), which say the same; a test holds the two together.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from notify_pipeline.core import domain_names, phone_numbers, templating
from notify_pipeline.core.conditions import TOPIC

# Of an audience; exactly one of them. ``topics`` are few, a domain is one, the others as many as the settings allow.
AUDIENCES = ("users", "emails", "phones", "devices", "topics", "domain")
MAX_TOPICS = 100
_MAX_TEXT = {"title": 1_000, "body": 20_000, "html": templating.MAX_HTML}
_MAX_DATA, _MAX_VALUE = 100, 4_096
_RESERVED = frozenset(
    {"from", "message_type", "notification", "aps", "notificationId", "platform", "provider", "d", "receipt"}
)
_RESERVED_PREFIXES = ("google.", "gcm.")
_DATA_KEY = re.compile(r"[^\x00-\x1f\x7f]{1,100}\Z")
# As long as browsers' addresses mostly are at most; a URL's after its scheme.
MAX_LINK = 2_048
MAX_URL = len("https://") + MAX_LINK
_HTTPS = re.compile(rf"(?=.{{1,{MAX_URL}}}\Z)https://[^\x00-\x20\x7f]+\Z")
IMAGE = re.compile(rf"(?=.{{1,{MAX_URL}}}\Z)https?://[^\x00-\x20\x7f]+\Z")
_LINKS = {
    "link": re.compile(rf"[^\x00-\x20\x7f]{{1,{MAX_LINK}}}\Z"),
    "image_url": IMAGE,
    "icon_url": _HTTPS,
}
# Buttons in browsers. Those of today show two (``Notification.maxActions``); what is left over is left out by them.
# https://developer.mozilla.org/en-US/docs/Web/API/Notification/maxActions_static
MAX_ACTIONS = 4
ACTION_PATTERN = r"^[A-Za-z0-9_.\-]{1,64}$"
MAX_ACTION_TITLE = 100
_ACTION = re.compile(rf"{ACTION_PATTERN[:-1]}\Z")
_COLLAPSE_KEY = re.compile(r"[!-~]{1,64}\Z")
_PLAIN = re.compile(r"[^\x00-\x1f\x7f]{1,256}\Z")
_EMAIL = re.compile(r"[^\s@<>\x00-\x1f\x7f]{1,64}@[^\s@<>\x00-\x1f\x7f]{1,255}\Z")
_TOKEN = re.compile(r"[A-Za-z0-9_:.\-]{1,4096}\Z")
_TOPIC = re.compile(rf"{TOPIC}\Z")


def content_faults(content: Mapping[str, Any], overrides: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield what is wrong with content that a template made, each with its field."""
    yield from _content_faults("content", content)
    for channel, override in overrides.items():
        where = f"overrides.{channel}"
        yield from _texts_faults(where, override)
        if override.get("html") is not None and channel != "email":
            yield f"{where}.html is for e-mail only"
        if not _says_something({**content, **override}):
            yield f"{where} leaves neither a title, a body nor data"


def collapse_key_fault(key: str) -> str | None:
    """Return what is wrong with a collapse key, or None."""
    return None if _COLLAPSE_KEY.match(key) else "collapse_key must be 1 to 64 visible ASCII characters"


def audience(kind: str, members: Any, most: int) -> tuple[list[str], str | None]:
    """Return an audience's members as a send has them, each once, and what is wrong with them, or None.

    Args:
        kind: One of ``AUDIENCES``.
        members: A list of texts, or one text.
        most: How many there may be, but for topics.
    """
    given = [members] if isinstance(members, str) else members
    if not isinstance(given, list):
        return [], f"{kind} must be a list"
    most = {"topics": MAX_TOPICS, "domain": 1}.get(kind, most)
    if len(given) > most:
        return [], f"{kind} must not have more than {most} entries; it has {len(given)}"
    made: list[str] = []
    for number, member in enumerate(given):
        try:
            made.append(_MEMBERS[kind](member))
        except (TypeError, ValueError):
            # Not its text: it may be somebody's address.
            return [], f"{kind}.{number} is none of the form that a send takes"
    return list(dict.fromkeys(made)), None


def _matching(form: re.Pattern[str]) -> Callable[[Any], str]:
    def check(member: Any) -> str:
        if not isinstance(member, str) or not form.match(member) or not _is_unicode(member):
            raise ValueError("of another form")
        return member

    return check


def _phone(member: Any) -> str:
    if not isinstance(member, str):
        raise TypeError("no text")
    return phone_numbers.normalized(member)


def _user(member: Any) -> str:
    # Ids are often numbers in events.
    if isinstance(member, int) and not isinstance(member, bool):
        member = str(member)
    return _matching(_PLAIN)(member)


def _host(member: Any) -> str:
    if not isinstance(member, str):
        raise TypeError("no text")
    return domain_names.host_name(member)


_MEMBERS: Mapping[str, Callable[[Any], str]] = {
    "users": _user,
    "emails": _matching(_EMAIL),
    "phones": _phone,
    "devices": _matching(_TOKEN),
    "topics": _matching(_TOPIC),
    "domain": _host,
}


def _content_faults(where: str, content: Mapping[str, Any]) -> Iterator[str]:
    if not _says_something(content):
        yield f"{where} needs a title, a body or data"
    yield from _texts_faults(where, content)


def _says_something(content: Mapping[str, Any]) -> bool:
    return content.get("title") is not None or content.get("body") is not None or bool(content.get("data"))


def _texts_faults(where: str, texts: Mapping[str, Any]) -> Iterator[str]:
    for name, most in _MAX_TEXT.items():
        text = texts.get(name)
        if text is not None and not (0 < len(text) <= most and _is_storable(text)):
            yield f"{where}.{name} must be text of 1 to {most} characters"
    for name, form in _LINKS.items():
        text = texts.get(name)
        if text is not None and not (form.match(text) and _is_unicode(text)):
            yield f"{where}.{name} must be a link of at most 2,048 characters"
    yield from _data_faults(where, texts.get("data") or {})
    yield from _actions_faults(f"{where}.actions", texts.get("actions") or [])


def repeated(names: Sequence[str]) -> Iterator[int]:
    """Yield the places of actions that have an earlier one's name."""
    yield from (place for place, name in enumerate(names) if name in names[:place])


def _data_faults(where: str, data: Mapping[str, Any]) -> Iterator[str]:
    if len(data) > _MAX_DATA:
        yield f"{where}.data must not have more than {_MAX_DATA} keys"
    for key, value in data.items():
        if key in _RESERVED or key.startswith(_RESERVED_PREFIXES) or not _DATA_KEY.match(key):
            yield f"{where}.data has a key that it must not have"
        elif len(value) > _MAX_VALUE or not _is_storable(value):
            yield f"{where}.data.{key} must be text of at most {_MAX_VALUE} characters"


def _actions_faults(where: str, actions: Sequence[Mapping[str, str]]) -> Iterator[str]:
    if len(actions) > MAX_ACTIONS:
        yield f"{where} must not be more than {MAX_ACTIONS}"
    for number, action in enumerate(actions):
        if not _ACTION.match(action.get("action", "")):
            yield f"{where}.{number}.action must be a name of 1 to 64 letters, digits, and - _ ."
        title = action.get("title", "")
        if not (0 < len(title) <= MAX_ACTION_TITLE and _is_storable(title)):
            yield f"{where}.{number}.title must be text of 1 to {MAX_ACTION_TITLE} characters"
        for name in ("link", "icon_url"):
            url = action.get(name)
            if url is not None and not (_HTTPS.match(url) and _is_unicode(url)):
                yield f"{where}.{number}.{name} must be an https link of at most 2,048 characters"
    for number in repeated([action.get("action", "") for action in actions]):
        yield f"{where}.{number}.action must not be the name of two actions"


def _is_storable(text: str) -> bool:
    return "\x00" not in text and _is_unicode(text)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
