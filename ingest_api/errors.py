"""The one error envelope, and how every failure becomes one.

Belongs here: error types that routes raise, their HTTP form, the handlers that turn foreign errors into them. Does not
belong here: deciding that a request is wrong (``inputs``, ``keys`` and the routes do).
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson
from flask import Flask, Response, request
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from ingest_api.lean import LeanResponse
from notify_pipeline.core.ledger.group_commit import LedgerError

JSON_TYPE = "application/json"
# What a client should wait before it asks again when the ledger could not: a full group commit takes milliseconds, a
# restart of the store seconds.
RETRY_AFTER_S = 2

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing that is wrong, and where: a dotted path into the body, or the parameter's or header's name."""

    field: str
    message: str


class ApiError(Exception):
    """A failure that the caller is told about in the envelope."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        details: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = tuple(details)
        self.headers = dict(headers or {})

    @property
    def envelope(self) -> dict[str, object]:
        """The answer's body."""
        details = [{"field": d.field, "message": d.message} for d in self.details]
        return {"error": {"code": self.code, "message": self.message, "details": details}}

    def response(self) -> Response:
        """Return the HTTP answer."""
        # What a caller sent may come back in a message; orjson refuses text that is not Unicode, so none is echoed raw.
        body = orjson.dumps(self.envelope)
        return LeanResponse(body, self.status, self.headers, content_type=JSON_TYPE)


def bad_request(message: str, field: str | None = None, code: str = "bad_request") -> ApiError:
    """Return a 400: the request could not be read at all, or carries a forged proof."""
    return ApiError(400, code, message, [FieldError(field, message)] if field else ())


def unauthorized(message: str) -> ApiError:
    """Return a 401, with the challenge that RFC 9110 §15.5.2 requires."""
    return ApiError(401, "unauthorized", message, headers={"WWW-Authenticate": "Bearer"})


def forbidden(message: str) -> ApiError:
    """Return a 403: the key is good, but not for this."""
    return ApiError(403, "forbidden", message)


def not_found(message: str, field: str | None = None) -> ApiError:
    """Return a 404: there is none, or it is another tenant's. ``field`` names it where the path does not."""
    return ApiError(404, "not_found", message, [FieldError(field, message)] if field else ())


def conflict(code: str, message: str, field: str) -> ApiError:
    """Return a 409: it contradicts what is stored."""
    return ApiError(409, code, message, [FieldError(field, message)])


def unprocessable(*details: FieldError) -> ApiError:
    """Return a 422 that names the fields."""
    return ApiError(422, "invalid_request", "The request is not valid; details name the fields.", details)


def too_large(limit: int) -> ApiError:
    """Return a 413."""
    message = f"The body is larger than {limit} bytes."
    return ApiError(413, "body_too_large", message, [FieldError("body", message)])


def unavailable(code: str, message: str) -> ApiError:
    """Return a 503: nothing is wrong with the request, and it may be repeated."""
    return ApiError(503, code, message, headers={"Retry-After": str(RETRY_AFTER_S)})


def install(app: Flask) -> None:
    """Register the handlers: every answer of 400 and above is an envelope."""

    @app.errorhandler(ApiError)
    def on_api_error(error: ApiError) -> Response:
        return error.response()

    @app.errorhandler(HTTPException)
    def on_http_error(error: HTTPException) -> Response:
        return _from_http(error, app.config["MAX_CONTENT_LENGTH"]).response()

    @app.errorhandler(LedgerError)
    @app.errorhandler(SQLAlchemyError)
    def on_ledger_error(error: Exception) -> Response:
        # Locked, full, restarting: the caller may simply ask again, ids make that safe.
        _log.error("the ledger failed on %s %s", request.method, request.url_rule, exc_info=error)
        message = "The ledger could not take this now; nothing is wrong with the request. Ask again."
        return unavailable("ledger_unavailable", message).response()

    @app.errorhandler(Exception)
    def on_bug(error: Exception) -> Response:
        _log.error("%s %s failed", request.method, request.url_rule, exc_info=error)
        return ApiError(500, "internal", "This is our fault; it was logged.").response()


def _from_http(error: HTTPException, limit: int) -> ApiError:
    if isinstance(error, RequestEntityTooLarge):
        return too_large(limit)
    status = error.code or 500
    if status == 404:
        return not_found("There is no such route.")
    name = error.name.lower().replace(" ", "_")
    # Werkzeug's own headers carry Allow for a 405; the content type is replaced by ours.
    headers = {k: v for k, v in error.get_headers() if k.lower() != "content-type"}
    return ApiError(status, name, f"{error.name}.", headers=headers)
