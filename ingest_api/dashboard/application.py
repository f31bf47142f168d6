"""The Dash application: the frame around the pages, and what every answer of it has.

Belongs here: putting the pages together, the frame, headers and compression. Does not belong here: any page
(``pages``), who may come here (``routes``, ``sessions``).

It is a Flask application of its own, which ``routes`` calls for requests that have a session. So nothing that Dash
registers reaches the routes of the API.
"""

import gzip
import secrets
from collections.abc import Sequence
from typing import Any, cast

from dash import Dash, Input, Output, ctx
from dash.exceptions import DependencyException, PreventUpdate
from flask import Flask, Response, g, request

from ingest_api import errors
from ingest_api.dashboard import callbacks, frame, sessions
from ingest_api.dashboard.page import Page, Visit, parameters
from ingest_api.dashboard.pages import notification, notifications, operations, operations_letters
from ingest_api.dashboard.routes import HEADERS
from ingest_api.errors import ApiError, not_found
from ingest_api.services import Services
from notify_pipeline.core.ledger import tenants

# In the order of the navigation. A page is a module of ``pages``.
PAGES: tuple[Page, ...] = (
    notifications.PAGE,
    notification.PAGE,
    operations.PAGE,
    operations_letters.LIST,
    operations_letters.LETTER,
)
_SUITES = "/dashboard/_dash-component-suites/"
# Shorter answers fit into a packet anyway.
_PACKED_FROM = 1_200
# Dash has some thirty files, which a page may name in whatever ways.
_MOST_KEPT = 64
_PACKED_TYPES = ("text/", "application/json", "application/javascript")


class _Dashboard(Dash):
    """Dash, with our document around its pages."""

    def interpolate_index(self, **parts: Any) -> str:  # type: ignore[override]
        """Return the document."""
        g.nonce = secrets.token_urlsafe(16)
        return frame.document(parts, g.nonce)


def build(services: Services, session: sessions.Session) -> Flask:
    """Build the application, ready for requests side by side.

    Args:
        services: What its pages work with.
        session: Any, to try the layout with.
    """
    server = Flask("ingest_api.dashboard", static_folder=None, template_folder=None)
    server.config["MAX_CONTENT_LENGTH"] = services.settings.max_body_bytes
    errors.install(server)
    # Of a file that Dash does not have.
    server.register_error_handler(DependencyException, lambda _: not_found("There is no such route.").response())
    dash = _Dashboard(
        "ingest_api.dashboard",
        server=cast(Any, server),
        # Our files are served before Dash is loaded, see ``routes``.
        assets_folder="assets",
        include_assets_files=False,
        requests_pathname_prefix="/dashboard/",
        routes_pathname_prefix="/dashboard/",
        title=frame.TITLE,
        update_title="",
        # The pages' components come and go with the address.
        suppress_callback_exceptions=True,
        add_log_handler=False,
        serve_locally=True,
    )
    dash.enable_dev_tools(debug=False)
    dash.layout = lambda: frame.layout(_owner(services), sessions.of(request), PAGES)
    _route(dash, services)
    for page in PAGES:
        page.register(dash, services)
    server.before_request(lambda: callbacks.check(request, dash))
    _finish(server, dash.csp_hashes())
    # Dash gets ready within its first request, and those beside it would find it half done.
    with server.test_request_context("/dashboard/"):
        sessions.remember(request, session)
        server.preprocess_request()
    return server


def _route(dash: Dash, services: Services) -> None:
    @dash.callback(
        Output("page", "children"),
        Output("page", "data-title"),
        Output("page", "data-path"),
        Output("navigation", "children"),
        Input("address", "pathname"),
        Input("address", "search"),
    )
    def show(pathname: object, search: object) -> tuple[Any, str, str, Any]:
        session = sessions.of(request)
        path = pathname if isinstance(pathname, str) else ""
        page, place = _page(session, path)
        if page is not None and page.is_its_own and set(ctx.triggered_prop_ids) == {"address.search"}:
            raise PreventUpdate
        view = frame.nothing("There is no such page.")
        if page is not None:
            try:
                view = page.view(services, Visit(session, place, parameters(search)))
            except ApiError as error:
                if error.status != 404:
                    raise
                view = frame.nothing(error.message)
        return view.content, view.title, path, frame.navigation(session, PAGES, page)


def _page(session: sessions.Session, path: str) -> tuple[Page | None, str]:
    """Return the page at a path that a session may see, and what the path names of it."""
    for page in PAGES:
        place = page.place(path)
        if place is not None and session.key.scope in page.scopes:
            return page, place
    return None, ""


def _owner(services: Services) -> str:
    session = sessions.of(request)
    tenant = None if session.is_admin else tenants.get(services.ledger, session.tenant)
    return "Administrator" if tenant is None else tenant.name


def _finish(server: Flask, scripts: Sequence[str]) -> None:
    packed: dict[str, bytes] = {}

    @server.after_request
    def finish(response: Response) -> Response:
        is_suite = request.path.startswith(_SUITES) and response.status_code == 200
        if not is_suite:
            response.headers.extend([*HEADERS, ("Content-Security-Policy", frame.policy(scripts, g.get("nonce", "")))])
        response.headers.add("Vary", "Accept-Encoding")
        if request.accept_encodings["gzip"] and (response.mimetype or "").startswith(_PACKED_TYPES):
            _pack(response, request.full_path if is_suite else None, packed)
        return response


def _pack(response: Response, kept_as: str | None, kept: dict[str, bytes]) -> None:
    """Pack an answer; Dash's files once, as they are the same for everybody as long as the process lives."""
    body = response.get_data()
    if len(body) < _PACKED_FROM:
        return
    small = None if kept_as is None else kept.get(kept_as)
    if small is None:
        small = gzip.compress(body, 6, mtime=0)
        if kept_as is not None and len(kept) < _MOST_KEPT:
            kept[kept_as] = small
    response.set_data(small)
    response.headers["Content-Encoding"] = "gzip"
