"""What a page of the dashboard is.

Belongs here: the form that every page has, and what a page is told of its visit. Does not belong here: any page
(``pages``: one module each), the frame around them (``application``).

A page's callbacks are endpoints: anybody with a session can call each of them with whatever arguments. So each asks
``visitor`` who is there, and reads nothing but by reading functions that are told the tenant.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlencode

from flask import request

from ingest_api.dashboard import sessions
from ingest_api.dashboard.sessions import Session
from ingest_api.errors import not_found
from ingest_api.services import Services
from notify_pipeline.core.vocabulary import KeyScope

if TYPE_CHECKING:
    from dash import Dash

HOME = "/dashboard/"
# More than any page asks for; the rest of an endless address is not looked at.
_MAX_QUERY_LENGTH = 8_192
_MAX_FIELDS = 64
Content = Any  # what Dash takes as children


@dataclass(frozen=True, slots=True)
class Visit:
    """An address of a page, and who looks at it.

    Attributes:
        session: Who.
        place: What follows the page's path: for ``/dashboard/notifications/n-1`` it is ``n-1``.
        query: The address's parameters; of repeated ones the last.
    """

    session: Session
    place: str
    query: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class View:
    """What a page shows.

    Attributes:
        title: The document's title, and what is said when the page is reached.
        content: The page's own part, within the frame's ``main``; its first heading is an ``h1``.
    """

    title: str
    content: Content


@dataclass(frozen=True, slots=True)
class Page:
    """A page: one module of ``pages`` has one, by the name ``PAGE``.

    Attributes:
        path: Behind ``/dashboard/``; empty for the first page. Without a slash at either end.
        name: In the navigation; empty for one that is reached from another page.
        scopes: Of keys whose holders may see it; for others there is no such page.
        view: What it shows at an address. Raises ApiError 404 where there is nothing.
        register: Declares its callbacks, once.
        has_place: Whether it is below its path that it shows things.
        is_its_own: Whether its callbacks see to changes of its parameters; otherwise it is shown anew.
    """

    path: str
    name: str
    scopes: frozenset[KeyScope]
    view: Callable[[Services, Visit], View]
    register: Callable[["Dash", Services], None]
    has_place: bool = False
    is_its_own: bool = False

    def place(self, pathname: str) -> str | None:
        """Return what a path names of this page; None when the path is not this page's."""
        path = HOME + self.path
        if not self.has_place:
            return "" if pathname.rstrip("/") == path.rstrip("/") else None
        found = pathname.removeprefix(path + "/")
        place = unquote(found) if found != pathname else ""
        # PostgreSQL takes no text with a NUL, and nothing is called so.
        return place if place and "\0" not in place else None


def visitor(scopes: frozenset[KeyScope]) -> Session:
    """Return who calls a callback.

    Raises:
        ApiError: 404 for the holder of a key of another scope.
    """
    session = sessions.of(request)
    if session.key.scope not in scopes:
        raise not_found("There is no such page.")
    return session


def parameters(search: object) -> dict[str, str]:
    """Return an address's parameters, from what a browser says: of repeated ones the last."""
    text = search.removeprefix("?") if isinstance(search, str) else ""
    try:
        pairs = parse_qsl(text[:_MAX_QUERY_LENGTH], max_num_fields=_MAX_FIELDS)
    except ValueError:
        return {}
    return dict(pairs)


def address(path: str, query: Mapping[str, str | None], **changes: str | None) -> str:
    """Return the address of a page with these parameters; those without a value are left out."""
    kept = {name: value for name, value in {**query, **changes}.items() if value}
    return HOME + path + (f"?{urlencode(kept)}" if kept else "")
