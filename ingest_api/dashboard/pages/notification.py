"""One notification's page.

Belongs here: reading what the page shows, and when it is read again. Does not belong here: how it is shown (``parts``),
queries (``reports.reading_*``).

While it moves, only what is inside its boxes is made anew: boxes that scroll or open, links and controls stay, so that
nobody who reads or types is thrown out.
"""

from typing import Any

from dash import Dash, Input, Output, State, dcc, html
from dash.exceptions import PreventUpdate
from pydantic import TypeAdapter, ValidationError

from ingest_api.dashboard import asking, widgets
from ingest_api.dashboard.page import HOME, Page, View, Visit, parameters, visitor
from ingest_api.dashboard.parts import behind, standing, whole
from ingest_api.dashboard.parts.whole import Found
from ingest_api.dashboard.sessions import Session
from ingest_api.dashboard.widgets import aria
from ingest_api.errors import ApiError, not_found
from ingest_api.fields import NotificationId
from ingest_api.services import Services
from notify_pipeline.core.ledger import live, tenants
from notify_pipeline.core.vocabulary import KeyScope, RequestState
from notify_pipeline.reports import reading_comparison, reading_details, reading_live
from notify_pipeline.reports.reading_rows import Row

_SCOPES = frozenset({KeyScope.SECRET})
# How often an open page asks: while it is being sent, and while beacons may still come in. Settled, it asks no more.
_SENDING_MS, _SENT_MS = 2_000, 10_000
_UNKNOWN = "There is no such notification, or it was accepted only seconds ago."
_ID: TypeAdapter[str] = TypeAdapter(NotificationId)


def _view(services: Services, visit: Visit) -> View:
    tenant = asking.named(services, visit.session, visit.query.get("organization"))
    found = _read(services, tenant, visit.place)
    report, parts = found.report, whole.parts(found)
    name = report["title"] or report["notification_id"]
    whose = tenants.get(services.ledger, tenant) if tenant != visit.session.tenant else None
    content = [
        html.Div(
            [
                html.Div(widgets.link("All notifications", HOME), className="hint"),
                html.H1(name),
                html.Div(standing.description(report, None if whose is None else whose.name), className="about"),
                html.Div(
                    [
                        html.Span(parts["chips"], id="notification-chips", className="row"),
                        html.Span(parts["sentence"], id="notification-sentence", className="muted"),
                    ],
                    className="row",
                ),
            ],
            className="head",
        ),
        html.Div(parts["figures"], id="notification-figures"),
        *whole.cards(parts, lambda table: behind.files(visit.place, table, visit.query)),
        _comparing(services, visit, report),
        html.Div(
            standing.said(report), id="notification-said", role="status", className="unseen", **aria(live="polite")
        ),
        dcc.Store(id="notification-token", data=found.token),
        dcc.Interval(id="notification-tick", interval=_pace(report)[0], disabled=_pace(report)[1]),
    ]
    return View(name, html.Div(content, className="stack"))


def _register(dash: Dash, services: Services) -> None:
    @dash.callback(
        *(Output(f"notification-{name}", "children") for name in whole.BOXES),
        Output("timeline-graph", "figure"),
        Output("latency-graph", "figure"),
        Output("notification-token", "data"),
        Output("notification-tick", "interval"),
        Output("notification-tick", "disabled"),
        Input("notification-tick", "n_intervals"),
        State("address", "pathname"),
        State("address", "search"),
        State("notification-token", "data"),
        prevent_initial_call=True,
    )
    def move(_: object, pathname: object, search: object, before: object) -> tuple[Any, ...]:
        """Show the report again when it has changed."""
        tenant, name = _asked(services, pathname, search)
        if before is not None and before == _token(services, tenant, name):
            raise PreventUpdate
        found = _read(services, tenant, name)
        parts = whole.parts(found)
        shown = [parts[each] for each in whole.BOXES]
        return (*shown, parts["timeline"], parts["latency"], found.token, *_pace(found.report))

    @dash.callback(
        Output("notification-comparison", "children"),
        Input("address", "search"),
        State("address", "pathname"),
        prevent_initial_call=True,
    )
    def compare(search: object, pathname: object) -> Any:
        """Show another send beside this one."""
        if not isinstance(pathname, str) or PAGE.place(pathname) is None:
            raise PreventUpdate
        tenant, name = _asked(services, pathname, search)
        return _compared(services, tenant, _report(services, tenant, name), parameters(search).get("with", ""))


def _asked(services: Services, pathname: object, search: object) -> tuple[str, str]:
    """Return the tenant and the notification that a callback is about.

    Raises:
        ApiError: 404 unless the visitor sees the tenant.
    """
    session: Session = visitor(_SCOPES)
    name = PAGE.place(pathname) if isinstance(pathname, str) else None
    if name is None:
        raise not_found(_UNKNOWN)
    return asking.named(services, session, parameters(search).get("organization")), name


def _read(services: Services, tenant: str, notification_id: str) -> Found:
    # Before it is read: what changes meanwhile is then read again.
    token = _token(services, tenant, notification_id)
    version = services.reports.version()
    as_of = None if version is None else version.published_at
    report = _report(services, tenant, notification_id)
    reports, details = services.reports, reading_details
    timeline, failures, latencies, actions = (
        read(reports, tenant, notification_id, as_of=as_of) or []
        for read in (details.timeline, details.failures, details.latencies, details.actions)
    )
    return Found(report, timeline, failures, latencies, actions, token)


def _report(services: Services, tenant: str, notification_id: str) -> Row:
    """Return a report as it stands now.

    Raises:
        ApiError: 404 when the tenant has no such notification.
    """
    try:
        _ID.validate_python(notification_id)
    except ValidationError as error:
        raise not_found(_UNKNOWN) from error
    row = reading_details.one(services.reports, tenant, notification_id)
    if row is not None:
        return reading_live.overlay(services.ledger, [row])[0]
    found = reading_live.unpublished(services.ledger, tenant, notification_id)
    if found is None:
        raise not_found(_UNKNOWN)
    return found


def _token(services: Services, tenant: str, notification_id: str) -> str:
    """Return a word that changes when the report does."""
    version = services.reports.version()
    return f"{0 if version is None else version.number} {live.token(services.ledger, tenant, notification_id)}"


def _pace(report: Row) -> tuple[int, bool]:
    """Return how often the page asks for changes, and whether it has no more to ask for."""
    is_final = RequestState(report["state"]).is_final
    return _SENT_MS if is_final else _SENDING_MS, bool(report["settled"]) and is_final


def _comparing(services: Services, visit: Visit, report: Row) -> Any:
    other = visit.query.get("with", "")
    return widgets.card(
        "Compare",
        "Another send beside this one.",
        [
            behind.chooser(visit.place, visit.query),
            html.Div(_compared(services, report["tenant"], report, other), id="notification-comparison"),
        ],
    )


def _compared(services: Services, tenant: str, report: Row, other: str) -> list[Any]:
    if not other:
        return []
    try:
        return behind.comparison(reading_comparison.compared(report, _report(services, tenant, other)))
    except ApiError as error:
        return behind.problem(error.message)


PAGE = Page("notifications", "", _SCOPES, _view, _register, has_place=True, is_its_own=True)
