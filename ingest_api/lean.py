"""Flask without what this API never uses: sessions, host matching; and streamed bodies apart from the others.

Belongs here: overrides of Flask's own extension points, each for a measured reason. Does not belong here: anything that
changes what a route can rely on; request hooks, error handlers and signals work as ever.

Flask's share of a request falls from 35 to 15 µs by these; accepting a send costs about 60 besides.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask, Request, Response
from flask.sessions import NullSession, SessionInterface, SessionMixin
from werkzeug.routing import MapAdapter

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

# RFC 9110 §8.6: no Content-Length in an answer with status 1xx or 204; in a 304 it would be the length of the 200.
_WITHOUT_LENGTH = frozenset({204, 304})


class _NoSession(SessionInterface):
    """Keys travel in headers; there are no cookies, so there is one empty session for everybody."""

    _NONE = NullSession()

    def open_session(self, app: Flask, request: Request) -> SessionMixin:
        """Return the empty session; writing to it is an error, as without a secret key."""
        return self._NONE

    def is_null_session(self, obj: object) -> bool:
        """Say that there is nothing to save."""
        return True

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Save nothing."""


class LeanResponse(Response):
    """A response whose body is at hand: its headers go out as they are, with the length added."""

    # Added below, once, instead of on each assignment.
    automatically_set_content_length = False

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer; Werkzeug's way also mends relative locations and streams, which we have none of."""
        body = b"".join(self.iter_encoded())
        headers = self.headers.to_wsgi_list()
        if self.status_code not in _WITHOUT_LENGTH:
            headers.append(("Content-Length", str(len(body))))
        start_response(self.status, headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


class StreamedResponse(LeanResponse):
    """A response whose body is made while it is sent: nobody knows its length, and the server sends it in chunks.

    What fails on the way can only break it off: whoever makes it checks everything before the first piece.
    """

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer piece by piece."""
        start_response(self.status, self.headers.to_wsgi_list())
        return [] if environ["REQUEST_METHOD"] == "HEAD" else self.iter_encoded()


class LeanFlask(Flask):
    """The application class of the ingress."""

    response_class = LeanResponse
    session_interface = _NoSession()

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return the view as it is: none of ours is a coroutine."""
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Match by path and method alone: we serve any host name, and build no URLs."""
        if request is None:
            return None
        query = request.environ.get("QUERY_STRING", "")
        return MapAdapter(self.url_map, "localhost", "/", "", "http", request.path, request.method, query)
