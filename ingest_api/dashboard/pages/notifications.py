"""The first page: the notifications of a range of days.

Belongs here: reading what the page shows, and when it is read again. Does not belong here: how it is shown
(``parts.listing``), what its address asks for (``asking``), queries (``reports.reading_*``).
"""

import hashlib
from dataclasses import replace
from typing import Any

import orjson
from dash import Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.exceptions import PreventUpdate

from ingest_api.dashboard import asking
from ingest_api.dashboard.asking import Asked
from ingest_api.dashboard.page import Page, View, Visit, parameters, visitor
from ingest_api.dashboard.parts import filtering, listing
from ingest_api.services import Services
from notify_pipeline.core.ledger import live
from notify_pipeline.core.vocabulary import KeyScope
from notify_pipeline.reports import reading_lists, reading_live, reading_totals
from notify_pipeline.reports.reading_lists import ListEndedError, Version

_SCOPES = frozenset({KeyScope.SECRET})
# How often an open list asks whether it has changed; most often it has not, and that costs two small reads.
_EVERY_MS = 5_000


def _view(services: Services, visit: Visit) -> View:
    asked = asking.read(services, visit.session, visit.query)
    names = asking.organizations(services, visit.session)
    token, about, content = _read(services, asked, names)
    return View(
        "Notifications",
        html.Div(
            [
                html.Div(
                    [html.H1("Notifications"), html.P(about, id="list-about", className="lead")], className="head"
                ),
                filtering.filters(asked, names),
                html.Div(content, id="list-results", className="stack page-part"),
                dcc.Store(id="list-token", data=token),
                dcc.Interval(id="list-tick", interval=_EVERY_MS),
            ],
            className="stack",
        ),
    )


def _register(dash: Dash, services: Services) -> None:
    @dash.callback(
        Output("list-results", "children"),
        Output("list-days", "children"),
        Output("list-about", "children"),
        Output("list-token", "data"),
        Input("address", "search"),
        Input("list-tick", "n_intervals"),
        State("address", "pathname"),
        State("list-token", "data"),
        prevent_initial_call=True,
    )
    def move(search: object, _: object, pathname: object, before: object) -> tuple[Any, Any, Any, Any]:
        """Show another list when the address asks for one, and the same again when it has changed."""
        session = visitor(_SCOPES)
        if PAGE.place(pathname if isinstance(pathname, str) else "") is None:
            raise PreventUpdate
        asked = asking.read(services, session, parameters(search))
        if before is not None and before == _token(services, asked, services.reports.version()):
            raise PreventUpdate
        token, about, content = _read(services, asked, asking.organizations(services, session))
        is_same_list = "address.search" not in ctx.triggered_prop_ids
        return content, no_update if is_same_list else filtering.days(asked), about, token


def _read(services: Services, asked: Asked, names: dict[str, str]) -> tuple[str | None, str, list[Any]]:
    """Return the word that changes when this does, what the figures are of, and what was found."""
    version = services.reports.version()
    token = _token(services, asked, version)
    at = None if version is None else version.published_at
    try:
        page = reading_lists.page(services.reports, asked.where, asking.ROWS, asked.sort, asked.after, as_of=at)
    except ListEndedError:
        asked = replace(asked, after=None, problems=(*asked.problems, "The list has changed; this is its first page."))
        page = reading_lists.page(services.reports, asked.where, asking.ROWS, asked.sort, as_of=at)
    of = None if page.version is None else page.version.published_at
    sums = reading_totals.totals(services.reports, asked.where, as_of=of)
    days = reading_totals.daily(services.reports, asked.where, as_of=of)
    rows = reading_live.overlay(services.ledger, page.rows, asked.where.platform, asked.where.channel)
    return token, _about(services, page.version), listing.results(asked, replace(page, rows=rows), sums, days, names)


def _about(services: Services, version: Version | None) -> str:
    if version is None:
        return "What was sent, whom it reached, and how fast."
    return f"Figures published at {version.published_at:%H:%M:%S} UTC; those of sends under way are of this moment."


def _token(services: Services, asked: Asked, version: Version | None) -> str | None:
    """Return the word; None where it cannot be told cheaply whether anything has changed."""
    open_ = live.token_of_open(services.ledger, asked.where.tenants)
    if open_ is None:
        return None
    number = 0 if version is None else version.number
    parts = [number, open_, services.clock().date(), asked.given, asked.where.tenants]
    return hashlib.blake2b(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


PAGE = Page("", "Notifications", _SCOPES, _view, _register, is_its_own=True)
