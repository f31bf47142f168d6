"""Whatever the document allows and forbids: no 5xx, and every answer is one that it lists, in the shape it gives."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from pydantic import BaseModel
from schemathesis.checks import not_a_server_error
from schemathesis.generation.feedback import FeedbackSources
from schemathesis.pytest._test_builder import build_operation_test
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from ingest_api.app import GROUPS
from ingest_api.domain_messages.models import MessageAction
from ingest_api.event_routes.models import NewRoute
from ingest_api.events.models import NewEvent
from ingest_api.keys import Access
from ingest_api.notifications.content import Content, Override
from ingest_api.openapi import document
from tests.ingest_api.conftest import ADMIN, House, build, copied, registration, send


def _without_choices(schema: Any) -> Any:
    """Return the document without "exactly one of these fields": making objects by it is drawing until one fits.

    That took minutes. Objects that break the rule are made all the same; that they are refused is tried elsewhere.
    """
    if isinstance(schema, list):
        return [_without_choices(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {name: _without_choices(each) for name, each in schema.items() if not _is_choice(name, each)}


def _is_choice(name: str, schema: Any) -> bool:
    return name == "oneOf" and all(isinstance(each, dict) and each.keys() == {"required"} for each in schema)


# What several routes' bodies hold in the same words, with one that is right: to make all that such a part may be takes
# seconds for each of them. The routes in ``_WHOLE`` try it, the others know this one. The long run tries all with all.
_PARTS: dict[type[BaseModel], dict[str, Any]] = {
    Content: {"title": "Hello", "data": {"a": "b"}},
    Override: {"title": "Hello"},
    NewRoute: {"match": {"source": "shop", "type": "order.*"}, "content": {"title": "Order {{ detail.number }}"}},
    NewEvent: {"source": "shop", "type": "order", "id": "e-1", "recipients": ["u-1"]},
    MessageAction: {"action": "read", "title": "Read on"},
}
_WHOLE = {"POST /notifications", "PUT /routes/{name}", "POST /events", "POST /push-contacts/{domain}/message"}
_REFERENCE = "#/components/schemas/"


def _brief(whole: Any) -> Any:
    """Return the document with those parts as one example each, in bodies of requests alone."""
    parts = whole["components"]["schemas"]
    known = parts | {model.__name__: {"type": "object", "enum": [example]} for model, example in _PARTS.items()}
    brief = {f"{name}Asked": _asked(each) for name, each in known.items()}
    paths = {
        path: {
            method: {**each, "requestBody": _asked(each["requestBody"])} if "requestBody" in each else each
            for method, each in methods.items()
        }
        for path, methods in whole["paths"].items()
    }
    return {**whole, "paths": paths, "components": {**whole["components"], "schemas": parts | brief}}


def _asked(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_asked(each) for each in schema]
    if isinstance(schema, dict):
        return {name: _asked(each) for name, each in schema.items()}
    return f"{schema}Asked" if isinstance(schema, str) and schema.startswith(_REFERENCE) else schema


_DOCUMENT = _without_choices(document(GROUPS, "1"))
_ACCESS = {(e.method, e.path): e.access for group in GROUPS for e in group.endpoints}
# Not that all that the schemas allow is accepted: some rules no schema can say (a known time zone, a genuine receipt).
_CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
)
_PATHS = {e.path for group in GROUPS for e in group.endpoints}
# A path that another one's parameter fits too has that one's methods beside its own.
_SHADOWED = {
    path for path in _PATHS for other in _PATHS - {path} if re.fullmatch(re.sub(r"\{\w+\}", "[^/{}]+", other), path)
}
_SCHEMA = schemathesis.openapi.from_dict(_DOCUMENT)
_BRIEF = schemathesis.openapi.from_dict(_brief(_DOCUMENT))
_ROUTES = [f"{e.method} {e.path}" for group in GROUPS for e in group.endpoints]
_PHASES = (Phase.explicit, Phase.generate, Phase.target)
_QUIET = (HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.data_too_large)
_QUIETLY = settings(deadline=None, phases=_PHASES, suppress_health_check=_QUIET)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Iterator[House]:
    """One ingress for all of it, with a device and a send to be found."""
    # A body that breaks a rule by its length alone shall be told so, and not that it is too large.
    for made in build(copied(migrated, tmp_path_factory.mktemp("schemathesis")), max_body_bytes=64 * 1024 * 1024):
        made.secret.ok("POST", "/devices", registration())
        made.secret.ok("POST", "/notifications", send())
        yield made


def _hold(house: House, route: str, schema: Any, wanted: settings) -> None:
    """Try one route.

    Its cases take a second to make, which ``schema.parametrize()`` does for all routes in each process that collects.
    """
    method, _, path = route.partition(" ")

    @wanted
    def holds(case: Any) -> None:
        _check(house, case)

    build_operation_test(
        config=schema.config,
        operation=schema[path][method],
        test_func=holds,
        given_kwargs={},
        feedback=FeedbackSources(),
    )()


def _check(house: House, case: Any) -> None:
    access = _ACCESS.get((case.method, case.path), Access.SECRET)
    key = {Access.ADMIN: ADMIN, Access.PUBLIC: None, Access.ANONYMOUS: None}.get(access, house.mine.secret_key)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    checks = [check for check in _CHECKS if check is not unsupported_method or case.path not in _SHADOWED]
    case.call_and_validate(app=house.client.application, headers=headers, checks=checks)


@pytest.mark.parametrize("route", _ROUTES)
def test_the_document_holds(house: House, route: str) -> None:
    _hold(house, route, _SCHEMA if route in _WHOLE else _BRIEF, settings(_QUIETLY, max_examples=15, derandomize=True))


def test_each_part_is_right_and_tried_whole_by_a_route() -> None:
    schemas = _DOCUMENT["components"]["schemas"]
    tried = {name for route in _WHOLE for name in _reached(_DOCUMENT["paths"], schemas, *route.split(" ", 1))}
    assert tried >= {model.__name__ for model in _PARTS}
    for model, example in _PARTS.items():
        model.model_validate(example)


def _reached(paths: Any, schemas: Any, method: str, path: str) -> set[str]:
    """Return the names of all schemas that a route's body is made of."""
    found: set[str] = set()
    left = [paths[path][method.lower()]["requestBody"]]
    while left:
        names = set(re.findall(rf'"{_REFERENCE}(\w+)"', json.dumps(left.pop()))) - found
        found |= names
        left += [schemas[name] for name in names]
    return found


@pytest.mark.long
@pytest.mark.parametrize("route", _ROUTES)
def test_the_document_holds_for_long(house: House, route: str) -> None:
    _hold(house, route, _SCHEMA, settings(_QUIETLY, max_examples=400))
