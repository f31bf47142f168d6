"""The document says what the routes do."""

from typing import Any

import pytest
from jsonschema_rs import validator_for

from ingest_api.app import GROUPS
from ingest_api.keys import Access
from ingest_api.openapi import document

ENDPOINTS = [endpoint for group in GROUPS for endpoint in group.endpoints]
DOCUMENT = document(GROUPS, "1")


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for inner in value.values() for found in _references(inner)]
    if isinstance(value, list):
        return [found for inner in value for found in _references(inner)]
    return []


def test_every_reference_leads_somewhere() -> None:
    found = _references(DOCUMENT)
    assert len(found) > 50
    for reference in found:
        assert reference.rpartition("/")[2] in DOCUMENT["components"]["schemas"], reference


def test_operations_have_names_of_their_own_and_say_what_they_do() -> None:
    operations = [o for path in DOCUMENT["paths"].values() for o in path.values()]
    assert len(operations) == len(ENDPOINTS)
    assert len({o["operationId"] for o in operations}) == len(operations)
    assert all(o["summary"] and o["description"] for o in operations)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda e: e.operation)
def test_an_operation_lists_its_errors_and_its_key(endpoint: Any) -> None:
    operation = DOCUMENT["paths"][endpoint.path][endpoint.method.lower()]
    listed = set(operation["responses"])
    guarded, for_pages = endpoint.access.needs_key, endpoint.access is Access.ANONYMOUS
    assert ({"401", "403"} <= listed) == guarded
    assert for_pages <= ("403" in listed)
    assert bool(operation["security"]) == guarded
    assert ("429" in listed) == (endpoint.access.is_for_tenants or for_pages)
    # A route that reads a form by itself says so in its own words.
    assert ({"413", "415"} <= listed) == (endpoint.body is not None or 415 in endpoint.errors)
    for status, response in operation["responses"].items():
        if int(status) >= 400:
            assert response["content"]["application/json"]["schema"]["$ref"].endswith("/Error")
            assert ("Retry-After" in response.get("headers", {})) == (status in ("429", "503"))


def test_examples_fit_their_schemas() -> None:
    checked = 0
    for name, schema in DOCUMENT["components"]["schemas"].items():
        for example in schema.get("examples", ()):
            rooted = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
            validator_for(rooted).validate(example)
            checked += 1
    assert checked >= 4


def test_the_document_is_served(house: Any) -> None:
    served = house.anonymous.ok("GET", "/openapi.json")
    assert served["openapi"] == "3.1.0"
    assert served["paths"].keys() == DOCUMENT["paths"].keys()
