"""From bytes to validated models: bodies, query strings, path parameters, and the errors that name the field.

Belongs here: reading and checking what a request carries. Does not belong here: the models (beside their routes), keys
(``keys``).
"""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from flask import Request
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from ingest_api.errors import JSON_TYPE, ApiError, FieldError, bad_request, too_large, unprocessable
from ingest_api.fields import NotificationId
from notify_pipeline.core.domain_names import WRITTEN_PATTERN
from notify_pipeline.core.mail_addresses import MAIL_PATTERN

Model = TypeVar("Model", bound=BaseModel)
Moment = TypeVar("Moment", datetime, date)
FORM_TYPE = "application/x-www-form-urlencoded"
# Webhooks that we take have some thirty.
_MAX_FORM_FIELDS = 200
# Enough to mend a request; a body of a million wrong items shall not be answered by a million lines.
MAX_DETAILS = 20
_MAX_FIELD_LENGTH = 200
# How pydantic names the choices of a Literal of enum members: <Channel.SMS: 'sms'>. Callers know only the value.
_ENUM_MEMBER = re.compile(r"<\w+\.\w+: ('[^']*')>")
# What people know by a name, and would not recognize in its pattern.
_FORMS = {
    MAIL_PATTERN: "must be an e-mail address",
    WRITTEN_PATTERN: "must be a host's name such as example.com, without scheme, port and path",
}
# A key is, or takes the place of, the id of a send.
_KEY: TypeAdapter[str] = TypeAdapter(NotificationId)


def read_body(request: Request, model: type[Model], limit: int) -> Model:
    """Read and validate a JSON body of at most ``limit`` bytes.

    Raises:
        ApiError: 415 for another content type, 413 when too large, 400 when it is not JSON, 422 when it does not fit.
    """
    if request.environ.get("CONTENT_TYPE") != JSON_TYPE and not _is_json(request.mimetype):
        message = "The body must be application/json."
        raise ApiError(415, "unsupported_media_type", message, [FieldError("Content-Type", message)])
    return read_json(_raw_body(request.environ, limit), model)


def read_json(raw: bytes, model: type[Model]) -> Model:
    """Validate JSON.

    Raises:
        ApiError: 400 when it is not JSON, 422 when it does not fit.
    """
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        raise _body_error(error, raw) from error


def read_form(request: Request, limit: int) -> list[tuple[str, str]]:
    """Read a form of at most ``limit`` bytes: names and values in their order, the empty ones too.

    Raises:
        ApiError: 415 for another content type, 413 when too large, 400 when it is not a form.
    """
    if request.mimetype != FORM_TYPE:
        message = f"The body must be {FORM_TYPE}."
        raise ApiError(415, "unsupported_media_type", message, [FieldError("Content-Type", message)])
    raw = _raw_body(request.environ, limit)
    try:
        return parse_qsl(raw.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FORM_FIELDS)
    except ValueError as error:
        raise bad_request("The body is not a form.", "body", "malformed_form") from error


def read_raw(request: Request, limit: int) -> bytes:
    """Read a body of at most ``limit`` bytes, whatever it says it is.

    Raises:
        ApiError: 413 when too large.
    """
    return _raw_body(request.environ, limit)


def read_query(request: Request, model: type[Model]) -> Model:
    """Validate the query string; a parameter given twice is an error.

    Raises:
        ApiError: 422 naming the parameter.
    """
    if not request.query_string:
        values: dict[str, str] = {}
    else:
        values = {}
        for name, given in request.args.lists():
            if len(given) > 1:
                raise unprocessable(FieldError(_shown(name), "must be given once"))
            values[name] = given[0]
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise unprocessable(*_details(error.errors(include_url=False, include_input=False))) from error


def check_order(since: Moment | None, until: Moment | None, field: str = "until", first: str = "from") -> None:
    """Refuse a span that ends before it begins.

    Raises:
        ApiError: 422 naming ``field``, by whose name ``first`` is the other end.
    """
    if since is not None and until is not None and since > until:
        raise unprocessable(FieldError(field, f"must not lie before {first}"))


def read_path(adapters: Mapping[str, TypeAdapter[str]], values: dict[str, str]) -> None:
    """Check path parameters, and put what their types make of them in their place.

    Raises:
        ApiError: 422 naming the parameter.
    """
    for name, value in values.items():
        try:
            values[name] = adapters[name].validate_python(value)
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)
            raise unprocessable(*(FieldError(name, _message(item)) for item in found)) from error


def read_idempotency_key(request: Request) -> str | None:
    """Return what the Idempotency-Key header says, or None without one.

    Raises:
        ApiError: 422 naming the header.
    """
    header: str | None = request.environ.get("HTTP_IDEMPOTENCY_KEY")
    if header is None:
        return None
    # The header's draft makes it a quoted string; most clients send it bare.
    # https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
    if len(header) >= 2 and header[0] == header[-1] == '"':
        header = header[1:-1]
    try:
        return _KEY.validate_python(header)
    except ValidationError as error:
        raise unprocessable(
            FieldError("Idempotency-Key", "must be 1 to 128 visible ASCII characters, no slash")
        ) from error


def _is_json(mimetype: str) -> bool:
    return mimetype == JSON_TYPE or mimetype.endswith("+json")


def _raw_body(environ: Mapping[str, Any], limit: int) -> bytes:
    """Read the body; a sender that states no length, or a false one, cannot make us read more than the limit."""
    stated = environ.get("CONTENT_LENGTH") or ""
    if stated and int(stated) > limit:
        raise too_large(limit)
    if not stated and not environ.get("wsgi.input_terminated"):
        return b""
    # Without a length the body comes in chunks and the server says where it ends. One byte more than allowed tells.
    wanted = int(stated) if stated else limit + 1
    stream = environ["wsgi.input"]
    raw: bytes = stream.read(wanted)
    while len(raw) < wanted and (more := stream.read(wanted - len(raw))):
        raw += more
    if len(raw) > limit:
        raise too_large(limit)
    return raw


def _body_error(error: ValidationError, raw: bytes) -> ApiError:
    found = error.errors(include_url=False, include_input=False)
    if found[0]["type"] != "json_invalid":
        return unprocessable(*_details(found))
    field = _lone_surrogate(raw)
    if field is not None:
        return unprocessable(FieldError(field, "must be Unicode text; it holds half of a surrogate pair"))
    return bad_request(found[0]["msg"] + ".", "body", "malformed_json")


def _details(found: list[ErrorDetails]) -> Iterator[FieldError]:
    for item in found[:MAX_DETAILS]:
        field = ".".join(str(part) for part in item["loc"] if part != "[key]") or "body"
        yield FieldError(_shown(field), _message(item))
    if len(found) > MAX_DETAILS:
        yield FieldError("…", f"and {len(found) - MAX_DETAILS} more")


def _message(item: ErrorDetails) -> str:
    kind = item["type"]
    if kind == "extra_forbidden":
        return "is not a known field"
    if kind == "missing":
        return "is required"
    if kind == "string_pattern_mismatch":
        return _pattern_fault(item["ctx"]["pattern"])
    return _ENUM_MEMBER.sub(r"\1", item["msg"].removeprefix("Value error, "))


def _pattern_fault(pattern: str) -> str:
    """Say what a text should have been; forms that nobody knows by a name are shown as they are."""
    if pattern.startswith("^https://"):
        return "must be an https address, without spaces"
    return _FORMS.get(pattern, f"must match the pattern {pattern}")


def _shown(field: str) -> str:
    """Return a caller's field name fit for an answer: bounded, and nothing JSON cannot carry."""
    field = field.encode("utf-8", "replace").decode()
    return field if len(field) <= _MAX_FIELD_LENGTH else field[:_MAX_FIELD_LENGTH] + "…"


def _lone_surrogate(raw: bytes) -> str | None:
    r"""Return the path of the text with a lone surrogate: ``"\ud800"`` is grammatical JSON that no store can hold."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return next(_surrogates(found, ()), None)


def _surrogates(value: Any, path: tuple[str, ...]) -> Iterator[str]:
    """Walk without recursion: the parser's own depth limit does not bound ours."""
    waiting = [(value, path)]
    while waiting:
        item, where = waiting.pop()
        if isinstance(item, str) and not _encodes(item):
            yield ".".join(where) or "body"
        elif isinstance(item, dict):
            waiting.extend((v, (*where, k)) for k, v in item.items())
            waiting.extend((k, where) for k in item)
        elif isinstance(item, list):
            waiting.extend((v, (*where, str(n))) for n, v in enumerate(item))


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
