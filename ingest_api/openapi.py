"""The OpenAPI 3.1 document, made from the declared routes.

Belongs here: the document's form. Does not belong here: any particular route or model.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from ingest_api.endpoint import Answer, Endpoint, Group
from ingest_api.errors import JSON_TYPE
from ingest_api.fields import ID_PATTERN, Shown
from ingest_api.keys import ORGANIZATION_HEADER, Access
from notify_pipeline.core.vocabulary import KeyScope

_REF = "#/components/schemas/{model}"
_BEARER = "bearer"
_HEADER_KEY = "apiKey"
_USER_TOKEN = "userToken"  # noqa: S105 - the name of a scheme
_ERRORS = {
    400: "It could not be read: malformed JSON or headers.",
    401: "The key is missing, unknown, revoked or expired, or its owner is not active.",
    403: "The key is good, but has not the right.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    422: "Unknown or missing fields, wrong types or values: `details` names each.",
    429: "The key calls too fast, or a day's quota is used up; ask again after `Retry-After` seconds.",
    503: "The ledger cannot take it now; ask again after `Retry-After` seconds.",
}
_PAGES = (
    "Needs no key: browsers call it from the domain's pages. A preflight (`OPTIONS`) is 204, with CORS headers for the "
    "origins of any domain."
)
_PAGE_ERRORS = {
    403: "`origin_not_allowed`: the call has an `Origin` whose pages may not speak for the domain.",
    429: "Too many calls from this address, or with this secret key, if any; ask again after `Retry-After` seconds.",
}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds.", "schema": {"type": "string"}}}
_ERROR_HEADERS: dict[int, dict[str, Any]] = {
    401: {"WWW-Authenticate": {"description": "`Bearer`.", "schema": {"type": "string"}}},
    429: _RETRY_AFTER,
    503: _RETRY_AFTER,
}
_ABOUT = """Everything is JSON in UTC. Every answer of 400 and above is the `Error` envelope.

Lists have `items` and are paged: hand `next_cursor` back as `cursor` until it is null. A page may be short before the
last one. What has happened (sends, events, dead letters, use, history) can be listed with the organizations' by
`include_organizations=true`; what was set up (templates, routes, policies, callbacks, keys) is each tenant's own.

Answers that show a key or a secret have `Cache-Control: no-store`. What another tenant has is 404; 403 says that the
kind of key is wrong.

A product's key acts for one of the product's organizations with the header `Notify-Organization`: the call then is
about that organization's data alone, as if one of its own keys had made it.

A user token (`POST /users/{user_id}/token`) opens the WebSocket, and takes a key's place for its own user's inbox and
preferences."""
_ORGANIZATION: dict[str, Any] = {
    "name": ORGANIZATION_HEADER,
    "in": "header",
    "description": "The id of an active organization of the key's product that this call acts for.",
    "schema": {"type": "string", "pattern": ID_PATTERN},
}
_NO_ORGANIZATION = f"`{ORGANIZATION_HEADER}` names no active organization of the key's product."


class FieldFault(Shown):
    """One thing that is wrong, and where."""

    field: str
    message: str


class ErrorBody(Shown):
    """What went wrong: a stable code, a sentence for humans, and the fields."""

    code: str
    message: str
    details: list[FieldFault]


class Error(Shown):
    """The one error envelope."""

    error: ErrorBody


def document(groups: Sequence[Group], version: str) -> dict[str, Any]:
    """Return the document of these groups' routes."""
    endpoints = [endpoint for group in groups for endpoint in group.endpoints]
    _, schemas = models_json_schema(_models(endpoints), ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for group in groups:
        for endpoint in group.endpoints:
            paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(group, endpoint)
    return {
        "openapi": "3.1.0",
        "info": {"title": "notify-pipeline", "version": version, "description": _ABOUT},
        "tags": [{"name": group.name, "description": group.about} for group in groups],
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {
                _BEARER: {"type": "http", "scheme": "bearer"},
                _HEADER_KEY: {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
                _USER_TOKEN: {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "A token of the path's user, from `POST /users/{user_id}/token`.",
                },
            },
        },
    }


def _models(endpoints: Iterable[Endpoint]) -> list[tuple[type[BaseModel], JsonSchemaMode]]:
    found: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {(Error, "serialization"): None}
    for endpoint in endpoints:
        if endpoint.body is not None:
            found[endpoint.body, "validation"] = None
        for given in endpoint.answers.values():
            if given.model is not None:
                found[given.model, "serialization"] = None
    return list(found)


def _operation(group: Group, endpoint: Endpoint) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": endpoint.operation,
        "tags": [group.name],
        "summary": endpoint.summary,
        "parameters": list(_parameters(endpoint)),
        "responses": {str(status): given for status, given in sorted(_responses(endpoint))},
    }
    about = [endpoint.description, _who(endpoint.access)]
    operation["description"] = "\n\n".join(text for text in about if text)
    operation["security"] = [{_BEARER: []}, {_HEADER_KEY: []}] if endpoint.access.needs_key else []
    if endpoint.access is Access.USER:
        operation["security"].append({_USER_TOKEN: []})
    if endpoint.body is not None:
        operation["requestBody"] = {"required": True, "content": {JSON_TYPE: {"schema": _reference(endpoint.body)}}}
    return operation


def _who(access: Access) -> str:
    if access is Access.ANONYMOUS:
        return _PAGES
    if not access.needs_key:
        return "Needs no key."
    own = ", or the user's own token" if access is Access.USER else ""
    return f"Key: {', '.join(sorted(access.scopes - {KeyScope.USER}))}{own}."


def _parameters(endpoint: Endpoint) -> Iterator[dict[str, Any]]:
    for name, kind in endpoint.parameters.items():
        found = TypeAdapter(kind).json_schema()
        schema = _inlined({key: each for key, each in found.items() if key != "$defs"}, found.get("$defs", {}))
        yield {"name": name, "in": "path", "required": True, "schema": schema}
    if endpoint.query is not None:
        yield from _query(endpoint.query)
    for name, (kind, meaning) in endpoint.headers.items():
        yield {"name": name, "in": "header", "description": meaning, "schema": TypeAdapter(kind).json_schema()}
    if endpoint.access.is_for_tenants:
        yield _ORGANIZATION


def _query(model: type[BaseModel]) -> Iterator[dict[str, Any]]:
    schema = model.model_json_schema()
    defined = schema.get("$defs", {})
    for name, found in schema["properties"].items():
        shape = _inlined(found, defined)
        parameter = {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": shape}
        if "description" in shape:
            parameter["description"] = shape.pop("description")
        yield parameter


def _inlined(schema: Mapping[str, Any], defined: Mapping[str, Any]) -> dict[str, Any]:
    """Return a parameter's schema without references, and without the null that a query string cannot say."""
    if "$ref" in schema:
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        return {**defined[schema["$ref"].rpartition("/")[2]], **rest}
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return dict(schema)
    rest = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
    return {**_inlined(kinds[0], defined), **rest}


def _responses(endpoint: Endpoint) -> Iterator[tuple[int, dict[str, Any]]]:
    for status, given in endpoint.answers.items():
        yield status, _answer(given)
    # Headers can be malformed on any route.
    statuses = {400, 503}
    if endpoint.access.needs_key:
        statuses |= {401, 403}
    # An admin's key has no limits.
    if endpoint.access.is_for_tenants:
        statuses |= {429}
    special = _PAGE_ERRORS if endpoint.access is Access.ANONYMOUS else {}
    if endpoint.body is not None:
        statuses |= {413, 415, 422}
    if endpoint.query is not None or endpoint.parameters:
        statuses |= {422}
    meanings = {status: _ERRORS[status] for status in statuses} | special | dict(endpoint.errors)
    if endpoint.access.is_for_tenants:
        meanings[404] = f"{meanings[404]} Or {_NO_ORGANIZATION}" if 404 in meanings else _NO_ORGANIZATION
    for status, meaning in meanings.items():
        shown: dict[str, Any] = {"description": meaning, "content": {JSON_TYPE: {"schema": _reference(Error)}}}
        yield status, shown | ({"headers": _ERROR_HEADERS[status]} if status in _ERROR_HEADERS else {})


def _answer(given: Answer) -> dict[str, Any]:
    shown: dict[str, Any] = {"description": given.meaning}
    if given.model is not None:
        shown["content"] = {given.content_type: {"schema": _reference(given.model)}}
    elif types := given.content_types or (() if given.content_type == JSON_TYPE else (given.content_type,)):
        shown["content"] = {each: {"schema": {"type": "string"}} for each in types}
    if given.headers:
        shown["headers"] = {
            name: {"description": about, "schema": {"type": "string"}} for name, about in given.headers.items()
        }
    return shown


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}
