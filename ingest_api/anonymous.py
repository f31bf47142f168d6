"""Calls from browsers: without a key, from pages of whatever site, by the rules of CORS.

Belongs here: which page may read an answer, and the preflight that asks before. Does not belong here: which page may
speak for a domain (``domains.finding``), how often an address may call (``limits.addresses``), which routes these are
(each says so by its access).

A page reads what we answer only if we name its origin (https://fetch.spec.whatwg.org/#http-cors-protocol). We never say
``*``, and never take credentials. ``Vary: Origin`` is on all of it, so that no cache gives one page another's answer.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from flask import Blueprint, Request, Response, after_this_request, request
from sqlalchemy.exc import SQLAlchemyError

from ingest_api.errors import ApiError, unavailable
from ingest_api.keys import Access
from ingest_api.lean import LeanResponse
from notify_pipeline.core.ledger.group_commit import LedgerError
from notify_pipeline.core.ledger.keys import KeyInfo

if TYPE_CHECKING:
    from ingest_api.services import Services

_logger = logging.getLogger(__name__)
# How long a browser need not ask again. Chromium takes no more than two hours; what it does then is checked all the
# same. https://developer.mozilla.org/en-US/docs/Web/HTTP/Reference/Headers/Access-Control-Max-Age
_MAX_AGE_S = 7_200
_ORIGIN = "HTTP_ORIGIN"
_KEY_HEADERS = {"HTTP_AUTHORIZATION", "HTTP_X_API_KEY"}


class Page:
    """The page that a call comes from, and whether it may read the answer.

    Attributes:
        origin: As the browser says; None for whoever is no page of another site.
        may_read: True once a domain was found that it may speak for; False once one was that it may not; None before,
            when only errors can follow: then pages of any domain may read them.
    """

    __slots__ = ("_key", "_request", "_services", "may_read", "origin")

    def __init__(self, request: Request, services: "Services") -> None:
        self.origin: str | None = request.environ.get(_ORIGIN)
        self.may_read: bool | None = None
        self._request = request
        self._services = services
        self._key: KeyInfo | None = None

    @classmethod
    def of(cls, request: Request, services: "Services") -> "Page":
        """Return the page that a request comes from, and see to the headers of its answer, errors included.

        Raises:
            ApiError: 429 when its address calls too often, or the secret key that it has without needing one.
        """
        page = cls(request, services)
        after_this_request(page.answered)
        page._key = key = _secret_key(request, services)
        if key is None:
            _count(request, services)
        else:
            services.rates.check(key)
        return page

    def count_for(self, tenant: str) -> None:
        """Count a call about a domain of this tenant on its address too, where the key that it has is another's.

        Raises:
            ApiError: 429 when its address calls too often.
        """
        if self._key is not None and not self._acts_for(self._key, tenant):
            _count(self._request, self._services)

    def _acts_for(self, key: KeyInfo, tenant: str) -> bool:
        if key.tenant == tenant:
            return True
        try:
            return self._services.keys.organization(self._request, key) == tenant
        except ApiError:
            return False

    def answered(self, response: Response) -> Response:
        """Add to an answer what browsers and caches need to know."""
        headers = response.headers
        headers.add("Vary", "Origin")
        if "Cache-Control" not in headers or response.status_code >= 400:
            headers["Cache-Control"] = "no-store"
        if self.origin is not None and self._reads(response.status_code):
            headers["Access-Control-Allow-Origin"] = self.origin
            headers["Access-Control-Expose-Headers"] = "Retry-After"
        return response

    def _reads(self, status: int) -> bool:
        if self.may_read is not None or self.origin is None:
            return bool(self.may_read)
        try:
            # What a handler does without asking for a domain is nobody's to read.
            return status >= 400 and self._services.domains.is_origin(self.origin)
        except (LedgerError, SQLAlchemyError):
            return False


def _count(request: Request, services: "Services") -> None:
    """Count a call on its address. Raises ApiError: 429 when it calls too often, 503 when that cannot be told."""
    try:
        services.addresses.check(request)
    except OSError as error:
        _logger.error("how often addresses call cannot be kept", exc_info=error)
        raise unavailable("limit_unavailable", "The limit could not be looked at now. Ask again.") from error


def _secret_key(request: Request, services: "Services") -> KeyInfo | None:
    """Return the good secret key of a tenant's own server, which calls for many browsers; None without one."""
    if not request.environ.keys() & _KEY_HEADERS:
        return None
    try:
        return services.keys.check(request, Access.SECRET)
    except ApiError:
        return None


def add_preflight(blueprint: Blueprint, rule: str, methods: Sequence[str], services: "Services") -> None:
    """Answer the question that browsers ask before a page's call (OPTIONS) on a path with these methods.

    It does not count on the address's rate: no page could read that it was refused, and its answer is in the book.
    """
    allowed = {
        "Access-Control-Allow-Methods": ", ".join(methods),
        "Access-Control-Allow-Headers": "Content-Type",
        "Access-Control-Max-Age": str(_MAX_AGE_S),
    }

    def preflight(**_: str) -> Response:
        origin = request.environ.get(_ORIGIN)
        response = LeanResponse(status=204, headers={"Vary": "Origin"})
        del response.headers["Content-Type"]
        # Which domain it is about stands in the body to come: here any domain's page may go on.
        if origin is not None and services.domains.is_origin(origin):
            response.headers.extend({"Access-Control-Allow-Origin": origin, **allowed})
        return response

    blueprint.add_url_rule(rule, endpoint=f"preflight {rule}", view_func=preflight, methods=["OPTIONS"])
