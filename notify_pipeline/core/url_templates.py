"""URLs with places for an event's fields, such as ``https://api.example.com/orders/{detail.order_id}``.

Belongs here: reading such a template, filling it so that a value stays where it was put, and lists of hosts that may be
asked. Does not belong here: asking (``delivery.enrichment``), which addresses are public (``addresses``).

What stands in braces is an expression (``expressions``). Its value is percent-encoded as a whole (RFC 3986 §2.1), so it
can add neither a parameter nor a fragment. Scheme, host and port have no places: nobody who posts an event chooses who
is asked.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from notify_pipeline.core.addresses import MAX_URL_LENGTH, url_fault
from notify_pipeline.core.expressions import BadExpression, Expression, NotEvaluated, compiled

_PLACE = re.compile(r"\{([^{}]*)\}")
_AUTHORITY = re.compile(r"https?://[^/?#{}]+[/?]")
# What a client or server may take for a step up, however it is written.
_DOTS = frozenset({".", ".."})
_DEFAULT_PORTS = {"https": 443, "http": 80}
# Each is an expression that may take tens of milliseconds for a large event.
MAX_PLACES = 16


class BadTemplate(ValueError):
    """The template cannot be read; the message says why."""


class NotFilled(Exception):
    """The event has not what the template needs; the message names the place."""


@dataclass(frozen=True, slots=True)
class UrlTemplate:
    """A template that can be read: texts and expressions in turn, beginning and ending with a text.

    Attributes:
        host: In lower case.
        port: The scheme's own where none is named.
        is_default_port: Whether it is the scheme's own.
    """

    host: str
    port: int
    is_default_port: bool
    texts: tuple[str, ...]
    places: tuple[Expression, ...]

    def fill(self, scope: Mapping[str, Any]) -> str:
        """Return the URL with values in their places.

        Raises:
            NotFilled: A value is not there, is no text, number or boolean, or would change which path is asked for.
        """
        made = self.texts[0]
        for place, text in zip(self.places, self.texts[1:], strict=True):
            made += self._value(place, scope, in_path="?" not in made) + text
        path = made.partition("?")[0].partition("://")[2]
        if any(unquote(segment) in _DOTS for segment in path.split("/")):
            raise NotFilled("the URL's path would have a segment of dots")
        if len(made) > MAX_URL_LENGTH:
            raise NotFilled(f"the URL would be longer than {MAX_URL_LENGTH} characters")
        return made

    def _value(self, place: Expression, scope: Mapping[str, Any], in_path: bool) -> str:
        try:
            found = place.search(scope)
        except NotEvaluated as error:
            raise NotFilled(f"{place.text}: {error}") from error
        if found is None:
            raise NotFilled(f"missing: {place.text}")
        if isinstance(found, bool):
            return "true" if found else "false"
        if not isinstance(found, str | int | float):
            raise NotFilled(f"{place.text} is neither a text nor a number")
        text = str(found)
        # An empty segment asks for another thing, often for all of them; an encoded slash is a slash to many servers.
        if in_path and (not text or "/" in text or "\\" in text):
            raise NotFilled(f"{place.text} is empty or has a slash, which no segment of a path may")
        try:
            return quote(text, safe="")
        except UnicodeEncodeError as error:
            raise NotFilled(f"{place.text} is no Unicode text") from error


@lru_cache(maxsize=2_048)
def read(text: str, allow_private: bool) -> UrlTemplate:
    """Return a template.

    Args:
        text: As it was written.
        allow_private: Whether plain HTTP, private addresses and any port are allowed.

    Raises:
        BadTemplate: It cannot be read.
    """
    parts = _PLACE.split(text)
    texts, places = parts[::2], parts[1::2]
    if not _AUTHORITY.match(texts[0] if places else text + "/"):
        raise BadTemplate("must begin with https://, a host without places, and a path")
    if any(brace in each for each in texts for brace in "{}"):
        raise BadTemplate("has a brace without its other half; write %7B and %7D for braces themselves")
    if len(places) > MAX_PLACES:
        raise BadTemplate(f"has {len(places)} places; {MAX_PLACES} are allowed")
    # Any value: one of letters can neither mend nor break what is around it.
    sample = "x".join(texts)
    if fault := url_fault(sample, allow_private):
        raise BadTemplate(fault)
    try:
        compiled_places = tuple(compiled(place) for place in places)
    except BadExpression as error:
        raise BadTemplate(f"in braces: {error}") from error
    split = urlsplit(sample)
    if any(unquote(segment) in _DOTS for segment in split.path.split("/")):
        raise BadTemplate("must not have a segment of dots")
    default = _DEFAULT_PORTS[split.scheme]
    port = split.port or default
    return UrlTemplate((split.hostname or "").removesuffix("."), port, port == default, tuple(texts), compiled_places)


def is_listed(template: UrlTemplate, hosts: str) -> bool:
    """Tell whether a template's host is in a list.

    Args:
        template: Whose.
        hosts: Separated by commas: ``api.example.com`` (at its scheme's port), ``api.example.com:8443`` (at that one),
            ``*.example.com`` (all below it, at any depth).
    """
    for each in hosts.lower().split(","):
        name, _, port = each.strip().rpartition(":") if re.search(r":\d+\s*\Z", each) else (each.strip(), "", "")
        at_port = template.port == int(port) if port else template.is_default_port
        fits = template.host.endswith(name[1:]) if name.startswith("*.") else template.host == name.strip("[]")
        if name and at_port and fits:
            return True
    return False
