"""The filters of the list of dead letters.

Belongs here: that form. Does not belong here: what fits a filter (``core.ledger.letters``).

The form changes the address by itself, as each of the dashboard's does (``assets/pages.js``).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from dash import dcc, html

from ingest_api.dashboard.page import HOME
from ingest_api.dashboard.widgets import data
from notify_pipeline.core.vocabulary import Channel, DeadLetterReason, Platform


def filters(path: str, query: Mapping[str, str]) -> Any:
    """Return the form, filled with an address's filters."""
    return html.Form(
        [
            _choice("channel", "Channel", list(Channel), query),
            _choice("platform", "Platform", list(Platform), query),
            _choice("reason", "Why it died", list(DeadLetterReason), query),
            _text("provider_code", "Provider's code", query),
            _text("notification_id", "Notification", query),
            _text("type", "Type", query),
            _text("user", "User", query),
            _choice("replayed", "Sent again", ("false", "true"), query),
            html.Button("Show", type="submit", className="button"),
        ],
        className="filters",
        action=HOME + path,
        **data(live=""),
    )


def _choice(name: str, label: str, options: Sequence[str], query: Mapping[str, str]) -> Any:
    named = {"true": "yes", "false": "no"}
    chosen = query.get(name, "")
    items = [
        html.Option(text, value=value, selected=value == chosen)
        for value, text in (("", "any"), *((str(each), named.get(each, each.replace("_", " "))) for each in options))
    ]
    return _field(label, html.Select(items, id=f"letters-{name}", name=name))


def _text(name: str, label: str, query: Mapping[str, str]) -> Any:
    return _field(
        label, dcc.Input(id=f"letters-{name}", name=name, type="text", value=query.get(name, ""), autoComplete="off")
    )


def _field(label: str, control: Any) -> Any:
    return html.Div([html.Label(label, htmlFor=control.id), control], className="field")
