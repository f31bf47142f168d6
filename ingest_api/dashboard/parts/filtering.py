"""The form above the list.

Belongs here: its controls. Does not belong here: what an address asks for (``asking``), what was found (``listing``).

The controls are the browser's own, in a plain form: ``pages.js`` makes an address of it whenever something changes.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Literal

from dash import dcc, html

from ingest_api.dashboard import asking, widgets, words
from ingest_api.dashboard.asking import Asked
from ingest_api.dashboard.page import HOME, address
from ingest_api.dashboard.widgets import aria, data
from notify_pipeline.core.vocabulary import Platform, RequestState

_RANGES = {"today": "Today", "7d": "7 days", "30d": "30 days", asking.CUSTOM: "Custom"}


def filters(asked: Asked, organizations: Mapping[str, str]) -> Any:
    """Return the form above the list."""
    given = asked.given
    any_ = ("", "Any")
    controls = [
        widgets.field("Search in titles", _text("q", given, "search"), "field field-wide"),
        widgets.field("Type", _text("type", given)),
        widgets.field("Topic", _text("topic", given)),
        widgets.field(
            "Platform", _choice("platform", given, [any_, *((each, words.platform(each)) for each in Platform)])
        ),
        widgets.field("State", _choice("state", given, [any_, *((each, words.state(each)) for each in RequestState)])),
        widgets.field("Dry runs", _choice("include_dry_run", given, [("", "Left out"), ("true", "Shown too")])),
    ]
    if organizations:
        options = [("", "All"), *organizations.items()]
        controls.append(widgets.field("Organization", _choice("organization", given, options)))
    return html.Form(
        [html.Div(days(asked), id="list-days", className="filters"), *controls],
        action=HOME,
        className="filters",
        role="search",
        **aria(label="Filters"),
        **data(live=""),
    )


def days(asked: Asked) -> list[Any]:
    """Return what changes with the address: the ranges, a range of one's own, and what the form sends unseen."""
    hidden = [
        dcc.Input(id=f"filter-{name}", name=name, type="hidden", value=asked.given[name])
        for name in ("range", "sort")
        if name in asked.given
    ]
    return [_ranges(asked), *_days(asked), *hidden]


def _ranges(asked: Asked) -> Any:
    links = []
    for name, text in _RANGES.items():
        own: dict[str, str | None] = {"from": None, "to": None}
        if name == asking.CUSTOM and asked.first is not None:
            own = {"from": asked.first.isoformat(), "to": None if asked.last is None else asked.last.isoformat()}
        chosen = aria(current="true") if name == asked.range else {}
        href = address("", asked.given, range=name, cursor=None, **own)
        links.append(html.Span(dcc.Link(text, href=href, id=f"range-{name}"), **chosen))
    shown = html.Div(links, className="segments", role="group", **aria(labelledby="range-name"))
    return html.Div(
        [html.Span("Accepted (days in UTC)", className="field-name", id="range-name"), shown], className="field-days"
    )


def _days(asked: Asked) -> list[Any]:
    if asked.range != asking.CUSTOM:
        return []
    return [
        widgets.field(name, _date(key, day))
        for name, key, day in (("First day", "from", asked.first), ("Last day", "to", asked.last))
    ]


def _text(name: str, given: Mapping[str, str], kind: Literal["text", "search"] = "text") -> Any:
    return dcc.Input(id=f"filter-{name}", name=name, type=kind, value=given.get(name, ""), autoComplete="off")


def _date(name: str, day: date | None) -> Any:
    # Dash names fewer kinds than it hands on to the browser.
    kind: Any = "date"
    return dcc.Input(id=f"filter-{name}", name=name, type=kind, value="" if day is None else day.isoformat())


def _choice(name: str, given: Mapping[str, str], options: Sequence[tuple[str, str]]) -> Any:
    return widgets.choice(name, given.get(name), options, id=f"filter-{name}")
