"""The dashboard's place in the ingress: signing in and out, its files, and everything else for who is signed in.

Belongs here: what stands between a browser and the pages. Does not belong here: the pages (``pages``), Dash
(``application``, which is loaded when the first page is opened by somebody with a session).

These routes are for browsers alone, so the OpenAPI document leaves them out.
"""

import logging
import threading
from collections.abc import Callable
from functools import cache, partial
from importlib.resources import files
from typing import cast
from urllib.parse import urlencode

from flask import Blueprint, Flask, Request, Response, request

from ingest_api.dashboard import downloads, sessions, sign_in
from ingest_api.dashboard.sessions import Session
from ingest_api.endpoint import empty
from ingest_api.errors import ApiError, forbidden, not_found, unauthorized, unavailable
from ingest_api.lean import LeanResponse
from ingest_api.served import Served
from ingest_api.services import Services

_HOME = "/dashboard/"
_SIGN_IN = "/dashboard/sign-in"
_HTML = "text/html; charset=utf-8"
_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
# Browsers ask each time whether a file is still the same: an upgrade of the ingress shows at once.
_FILE_HEADERS = [("Cache-Control", "no-cache")]
HEADERS = [
    ("X-Content-Type-Options", "nosniff"),
    # With "no-referrer" browsers would name no origin of a form either, see sessions.is_ours.
    ("Referrer-Policy", "same-origin"),
    ("X-Robots-Tag", "noindex, nofollow"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
]
_UNKNOWN_KEY = "This key is not valid: unknown, revoked, expired, or its owner is inactive."
_WRONG_KIND = "This needs a secret key. A publishable key is in apps, for anybody to read."
_TOO_MANY = "Too many attempts. Wait a moment and try again."
_FOREIGN = "This has to be sent by a page of the dashboard."

_log = logging.getLogger(__name__)


def blueprint(services: Services) -> Blueprint:
    """Build the blueprint. Loads nothing."""
    made = Blueprint("dashboard", __name__)
    pages = _Pages(services)
    views: dict[tuple[str, str], Callable[..., Response]] = {
        ("GET", "/dashboard"): lambda: _redirect(_HOME),
        ("GET", _SIGN_IN): lambda: _sign_in_page(request, services),
        ("POST", _SIGN_IN): lambda: _sign_in(request, services),
        ("POST", "/dashboard/sign-out"): lambda: _sign_out(request, services),
        ("GET", "/dashboard/session"): lambda: _session(request, services),
        ("GET", "/dashboard/assets/<name>"): _asset,
        ("GET", "/dashboard/reports.<form>"): partial(_download, services, downloads.reports),
        ("GET", "/dashboard/notifications/<name>/<table>.<form>"): partial(_download, services, downloads.details),
        ("GET", _HOME): pages.answer,
        ("GET", "/dashboard/<path:_>"): pages.answer,
        ("POST", "/dashboard/<path:_>"): pages.answer,
    }
    for (method, rule), view in views.items():
        # A point would name another blueprint.
        endpoint = f"{method} {rule.replace('.', '-')}"
        made.add_url_rule(rule, endpoint, view, methods=[method], provide_automatic_options=False)
    return made


def _download(services: Services, download: Callable[..., Response], **asked: str) -> Response:
    session = sessions.find(request, services)
    if session is None:
        return _must_sign_in(request)
    services.rates.check(session.key)
    return download(services, request, session, **asked)


class _Pages:
    """Whatever is behind the sign-in."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._guard = threading.Lock()
        self._application: Flask | None = None

    def answer(self, _: str = "") -> Response:
        """Answer a request of a session; send others to the sign-in."""
        session = sessions.find(request, self._services)
        if session is None:
            return _must_sign_in(request)
        if request.method == "POST" and not sessions.is_ours(request, self._services):
            raise forbidden(_FOREIGN)
        if request.method == "POST":
            self._services.rates.check(session.key)
        sessions.remember(request, session)
        return cast(Response, LeanResponse.from_app(self._loaded(session).wsgi_app, request.environ))

    def _loaded(self, session: Session) -> Flask:
        if self._application is None:
            with self._guard:
                if self._application is None:
                    from ingest_api.dashboard.application import build

                    self._application = build(self._services, session)
        return self._application


def _sign_in_page(request: Request, services: Services) -> Response:
    following = _following(request.args.get("next", ""))
    if sessions.find(request, services) is not None:
        return _redirect(following)
    return _page(sign_in.html(following=following))


def _sign_in(request: Request, services: Services) -> Response:
    if not sessions.is_ours(request, services):
        raise forbidden(_FOREIGN)
    following = _following(request.form.get("next", ""))
    try:
        services.sign_ins.check(request)
    except ApiError as error:
        return _page(sign_in.html(_TOO_MANY, following), error.status, error.headers)
    except OSError as error:
        _log.error("how often addresses sign in cannot be kept", exc_info=error)
        raise unavailable("limit_unavailable", "The limit could not be looked at now. Ask again.") from error
    key = services.keys.presented(request.form.get("key", "").strip())
    if key is None or key.scope not in sessions.SCOPES:
        return _page(sign_in.html(_UNKNOWN_KEY if key is None else _WRONG_KIND, following), 401)
    response = _redirect(following)
    sessions.begin(response, key, services)
    return response


def _sign_out(request: Request, services: Services) -> Response:
    if not sessions.is_ours(request, services):
        raise forbidden(_FOREIGN)
    response = _redirect(_SIGN_IN)
    sessions.end(request, response, services)
    # What the browser kept of the pages goes with the session. https://www.w3.org/TR/clear-site-data/
    response.headers["Clear-Site-Data"] = '"cache"'
    return response


def _session(request: Request, services: Services) -> Response:
    """Tell an open page whether its session goes on."""
    if sessions.find(request, services) is None:
        raise unauthorized("Sign in.")
    response = empty()
    response.headers.extend(HEADERS)
    return response


def _must_sign_in(request: Request) -> Response:
    wants_page = request.method == "GET" and not request.path.startswith("/dashboard/_")
    if not wants_page:
        raise unauthorized("Sign in.")
    where = request.full_path.rstrip("?")
    return _redirect(_SIGN_IN if where == _HOME else f"{_SIGN_IN}?{urlencode({'next': where})}")


def _following(wanted: str) -> str:
    """Return where to go after signing in: a page of the dashboard, whatever was asked for."""
    fine = wanted.startswith(_HOME) and wanted.isprintable() and "\\" not in wanted and not wanted.startswith(_SIGN_IN)
    return wanted if fine else _HOME


def _asset(name: str) -> Response:
    kind = _TYPES.get(name.rpartition(".")[2])
    if kind is None or name not in _asset_names():
        raise not_found("There is no such route.")
    return _served(name, kind).answer(request)


@cache
def _asset_names() -> frozenset[str]:
    return frozenset(each.name for each in files("ingest_api.dashboard").joinpath("assets").iterdir())


@cache
def _served(name: str, kind: str) -> Served:
    return Served.made(files("ingest_api.dashboard").joinpath("assets", name).read_bytes(), kind, _FILE_HEADERS)


def _page(body: str, status: int = 200, headers: "dict[str, str] | None" = None) -> Response:
    response = LeanResponse(body, status, content_type=_HTML)
    response.headers.extend([*HEADERS, ("Content-Security-Policy", sign_in.POLICY)])
    response.headers.extend(headers or {})
    return response


def _redirect(where: str) -> Response:
    response = LeanResponse(status=303, headers={"Location": where})
    response.headers.extend(HEADERS)
    return response
