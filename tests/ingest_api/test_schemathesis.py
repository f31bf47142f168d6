"""Whatever the document allows and forbids: no 5xx, and every answer is one that it lists, in the shape it gives."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
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
from ingest_api.keys import Access
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


def _hold(house: House, route: str, wanted: settings) -> None:
    """Try one route.

    Its cases take a second to make, which ``schema.parametrize()`` does for all routes in each process that collects.
    """
    method, _, path = route.partition(" ")

    @wanted
    def holds(case: Any) -> None:
        _check(house, case)

    build_operation_test(
        config=_SCHEMA.config,
        operation=_SCHEMA[path][method],
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
    _hold(house, route, settings(_QUIETLY, max_examples=15, derandomize=True))


@pytest.mark.long
@pytest.mark.parametrize("route", _ROUTES)
def test_the_document_holds_for_long(house: House, route: str) -> None:
    _hold(house, route, settings(_QUIETLY, max_examples=400))
