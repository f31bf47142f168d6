"""The filters and tests of templates: Jinja's, as far as what they cost can be known beforehand.

Belongs here: filters and tests. Does not belong here: which nodes a template may have (``template_language``).

Left out are Jinja's that would need a bound of their own (``center``, ``format``, ``indent``, ``wordwrap``), say
something else each time (``random``), or are for HTML.
"""

import html
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from jinja2 import Undefined, pass_context

from notify_pipeline.core.template_values import (
    MAX_TEXT,
    Escaped,
    Items,
    Missing,
    RenderFailed,
    kind,
    number,
    shown,
    size,
    spend,
)

# A character becomes four bytes of three characters each.
_URL_GROWTH = 12
_ROUND_MOST = 10


def default(value: Any, fallback: Any = "", boolean: bool = False) -> Any:
    """Return the value, or the fallback where it is missing or, with ``boolean``, empty."""
    return fallback if isinstance(value, Undefined) or (boolean and not value) else value


def _join(value: Any, separator: Any = "") -> str:
    items = [shown(item) for item in _list(value)]
    between = shown(separator)
    _room(sum(map(len, items)) + len(between) * max(0, len(items) - 1))
    return between.join(items)


def _replace(value: Any, old: Any, new: Any) -> str:
    text, before, after = shown(value), shown(old), shown(new)
    if not before:
        raise RenderFailed("replaces an empty text")
    _room(len(text) + text.count(before) * (len(after) - len(before)))
    return text.replace(before, after)


def _truncate(value: Any, length: Any = 255, killwords: Any = False, end: Any = "...") -> str:
    text, tail, most = shown(value), shown(end), int(number(length))
    if len(text) <= most:
        return text
    cut = text[: max(0, most - len(tail))]
    return (cut if killwords else cut.rsplit(" ", 1)[0]) + tail


def _round(value: Any, precision: Any = 0) -> float:
    places = int(number(precision))
    if abs(places) > _ROUND_MOST:
        raise RenderFailed(f"rounds to more than {_ROUND_MOST} places")
    return float(round(number(value), places))


def _int(value: Any, fallback: Any = 0) -> Any:
    try:
        return int(number(int(value) if isinstance(value, str) else value))
    except (ValueError, RenderFailed):
        return fallback


def _float(value: Any, fallback: Any = 0.0) -> Any:
    try:
        return float(number(float(value) if isinstance(value, str) else value))
    except (ValueError, RenderFailed):
        return fallback


def _tojson(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    _room(len(text))
    return text


def _length(value: Any) -> int:
    return len(value) if isinstance(value, (str, dict)) else len(_list(value))


def _items(value: Any) -> Items:
    if not isinstance(value, dict):
        raise RenderFailed(f"takes the items of {kind(value)}")
    found = Items(value.items())
    found.size = size(value)
    return found


def _end(place: int) -> Callable[[Any], Any]:
    def end(value: Any) -> Any:
        found = value if isinstance(value, str) else _list(value)
        return found[place] if found else Missing("takes an item of an empty list or text")

    return end


def _list(value: Any) -> Sequence[Any]:
    if not isinstance(value, (list, tuple)):
        raise RenderFailed(f"takes {kind(value)} for a list")
    return value


def _room(length: int) -> None:
    if length > MAX_TEXT:
        raise RenderFailed(f"has a text of more than {MAX_TEXT} characters")
    spend(0, length)


def _on_text(change: Callable[[str], str]) -> Callable[[Any], str]:
    return lambda value: change(shown(value))


def _divisible(value: Any, by: Any) -> bool:
    return number(value) % number(by) == 0


_FILTERS: Mapping[str, Callable[..., Any]] = {
    "abs": lambda value: abs(number(value)),
    "capitalize": _on_text(str.capitalize),
    "escape": _on_text(lambda text: text if isinstance(text, Escaped) else Escaped(html.escape(text))),
    "first": _end(0),
    "float": _float,
    "int": _int,
    "items": _items,
    "join": _join,
    "last": _end(-1),
    "length": _length,
    "lower": _on_text(str.lower),
    "replace": _replace,
    "round": _round,
    "string": shown,
    "title": _on_text(str.title),
    "tojson": _tojson,
    "trim": _on_text(str.strip),
    "truncate": _truncate,
    "upper": _on_text(str.upper),
    "urlencode": _on_text(lambda text: quote(text, safe="")),
}
_SHORT = {"count": "length", "e": "escape"}
_TESTS: Mapping[str, Callable[..., bool]] = {
    "boolean": lambda value: isinstance(value, bool),
    "divisibleby": _divisible,
    "even": lambda value: _divisible(value, 2),
    "mapping": lambda value: isinstance(value, dict),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "odd": lambda value: not _divisible(value, 2),
    "sequence": lambda value: isinstance(value, (list, tuple)),
    "string": lambda value: isinstance(value, str),
}


def each(value: Any, steps: int) -> Any:
    """Return what a loop goes over, paid for: so many steps for each item."""
    if isinstance(value, Undefined):
        return iter(value)
    if isinstance(value, dict):
        value = list(value)
    spend(len(_list(value)) * steps)
    return value


def weighed(value: Any) -> Any:
    """Return what will be compared, paid for."""
    if isinstance(value, Missing):
        value.miss()
    else:
        spend(0, size(value))
    return value


def _guarded(function: Callable[..., Any], nothing: Any) -> Callable[..., Any]:
    # Taking the context keeps Jinja from calling it while it compiles.
    @pass_context
    def guarded(_: object, value: Any, *args: Any, **kwargs: Any) -> Any:
        missed = [given for given in (value, *args, *kwargs.values()) if isinstance(given, Missing)]
        if missed:
            for given in missed:
                given.miss()
            return nothing
        spend(1, _URL_GROWTH * size(value))
        return function(value, *args, **kwargs)

    return guarded


def _bare(function: Callable[..., Any]) -> Callable[..., Any]:
    @pass_context
    def bare(_: object, *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return bare


def filters() -> dict[str, Callable[..., Any]]:
    """Return the filters by name."""
    found = {name: _guarded(function, Missing()) for name, function in _FILTERS.items()}
    found |= {short: found[name] for short, name in _SHORT.items()}
    return found | {"default": _bare(default), "d": _bare(default)}


def tests() -> dict[str, Callable[..., Any]]:
    """Return the tests by name."""
    found = {name: _guarded(function, False) for name, function in _TESTS.items()}
    found["defined"] = _bare(lambda value: not isinstance(value, Undefined))
    found["undefined"] = _bare(lambda value: isinstance(value, Undefined))
    return found


def for_compiler() -> dict[str, Callable[..., Any]]:
    """Return the filters that no template can name: ``template_language`` puts them around loops and comparisons."""
    return {EACH: _bare(each), WEIGHED: _bare(weighed)}


# Not names that the language can write.
EACH = "each item"
WEIGHED = "weighed for comparison"
