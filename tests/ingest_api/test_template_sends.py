"""Sends that name a template: what is rendered, stored and replayed."""

import json
from typing import Any

import pytest

from notify_pipeline.core.ledger import requests, templates
from tests.ingest_api.conftest import House, fields_of, send

CONTENT = {"title": "Hello {{ name }}", "body": "{{ city }}", "data": {"k": "{{ name }}"}}
OVERRIDES = {"apns": {"title": "{{ name }}", "body": None}}
USE = {"name": "welcome", "fields": {"name": "Ann", "city": "Łódź"}}


def put(house: House, content: dict[str, Any] = CONTENT, overrides: dict[str, Any] = OVERRIDES) -> int:
    ledger, tenant = house.services.ledger, house.mine.tenant
    return templates.put(ledger, tenant, "welcome", content, overrides, "key", house.clock())[0].version


def stored(house: House) -> requests.RequestRow:
    row = requests.get_by_notification(house.services.ledger, house.mine.tenant, "n-1")
    assert row is not None
    return row


def asking(**use: Any) -> dict[str, Any]:
    return send(content=..., template={**USE, **use})


def test_a_template_is_rendered_and_its_version_kept(any_house: House) -> None:
    put(any_house)
    any_house.secret.ok("POST", "/notifications", asking())
    body = stored(any_house).body
    assert body["content"] == {"title": "Hello Ann", "body": "Łódź", "data": {"k": "Ann"}}
    assert body["overrides"] == {"apns": {"title": "Ann", "body": None}}
    assert body["template"] == {**USE, "version": 1}


def test_a_repetition_is_the_same_send_whatever_became_of_the_template(any_house: House) -> None:
    put(any_house)
    first = any_house.secret.ok("POST", "/notifications", asking())
    assert put(any_house, {"title": "{{ something_else }}"}, {}) == 2
    again = any_house.secret.call("POST", "/notifications", asking())
    assert (again.status_code, again.json) == (202, first | {"duplicate": True})
    templates.remove(any_house.services.ledger, any_house.mine.tenant, "welcome", "key", any_house.clock())
    again = any_house.secret.call("POST", "/notifications", asking())
    assert (again.status_code, again.json) == (202, first | {"duplicate": True})
    other = any_house.secret.call("POST", "/notifications", asking(fields={"name": "Bob", "city": "Kraków"}))
    assert other.status_code == 409
    assert stored(any_house).body["content"]["title"] == "Hello Ann"


def test_an_earlier_version_can_be_asked_for(house: House) -> None:
    put(house)
    put(house, {"title": "Second {{ name }}"}, {})
    house.secret.ok("POST", "/notifications", asking(version=1))
    assert stored(house).body["content"]["title"] == "Hello Ann"
    answered = house.secret.call("POST", "/notifications", asking(version=3) | {"id": "n-2"})
    assert (answered.status_code, fields_of(answered)) == (422, {"template.version"})


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (asking(fields={}), {"template.fields.name", "template.fields.city"}),
        (asking(name="unknown"), {"template.name"}),
        (asking(fields={**USE["fields"], "n": 10**30}), {"template.fields"}),  # type: ignore[dict-item]
        (asking(fields={**USE["fields"], "name": "\0"}), {"template.fields.name"}),  # type: ignore[dict-item]
        (asking(fields={"name": "x" * 1_000, "city": "x"}), {"content.title"}),
        (asking(shoe="x"), {"template.shoe"}),
        (send(template=USE), {"content"}),
        ({**asking(), "overrides": {"fcm": {"body": "x"}}}, {"overrides"}),
        (send(content=...), {"content"}),
        (send(content=None), {"content"}),
    ],
)
def test_what_does_not_fit_is_named(house: House, body: dict[str, Any], fields: set[str]) -> None:
    put(house)
    answered = house.secret.call("POST", "/notifications", json.dumps(body).encode())
    assert (answered.status_code, fields_of(answered)) == (422, fields), answered.text


def test_what_a_template_makes_is_checked_like_any_content(house: House) -> None:
    put(house, {"link": "{{ name }}", "title": "{{ city }}"}, {})
    spaces = house.secret.call("POST", "/notifications", asking(fields={"name": "a b", "city": "x"}))
    assert fields_of(spaces) == {"content.link"}
    empty = house.secret.call("POST", "/notifications", asking(fields={"name": "a", "city": ""}))
    assert fields_of(empty) == {"content"}


def test_an_edit_keeps_replaces_or_brings_a_template(house: House) -> None:
    put(house)
    house.secret.ok("POST", "/notifications", asking() | {"send_at": "2026-11-22T09:00:00Z"})
    before = stored(house).body
    put(house, {"title": "Second {{ name }}"}, {})
    house.secret.ok("PATCH", "/notifications/n-1", {"ttl": 60})
    assert stored(house).body == {**before, "ttl": 60}
    house.secret.ok("PATCH", "/notifications/n-1", {"template": {"name": "welcome", "fields": {"name": "Bob"}}})
    body = stored(house).body
    assert (body["content"], "overrides" in body, body["template"]["version"]) == ({"title": "Second Bob"}, False, 2)
    house.secret.ok("PATCH", "/notifications/n-1", {"content": {"title": "Plain"}})
    body = stored(house).body
    assert (body["content"], "overrides" in body, "template" in body) == ({"title": "Plain"}, False, False)
    house.secret.ok("PATCH", "/notifications/n-1", {"template": {**USE, "version": 1}})
    assert stored(house).body == {**before, "ttl": 60, "template": {**USE, "version": 1}}
