"""Templates over HTTP: versions, whose they are, what is refused and where, previews."""

import json
from typing import Any

import pytest

from tests.ingest_api.conftest import Api, House, fields_of

HELLO = {
    "content": {
        "title": "Hi {{ user.name }}",
        "body": "{{ count }} new for [[[user_id]]]",
        "data": {"n": "{{ count }}"},
    },
    "overrides": {"apns": {"title": "Hi", "body": None}},
}


def named(house: House) -> Api:
    return house.api(house.mine.organizations[0].secret_key)


def test_a_template_has_versions(any_house: House) -> None:
    api = any_house.secret
    first = api.ok("PUT", "/templates/hello", HELLO)
    assert (first["version"], first["inherited"], first["content"]) == (1, False, HELLO["content"])
    assert first["overrides"] == HELLO["overrides"]
    assert api.ok("PUT", "/templates/hello", HELLO) == first
    second = api.ok("PUT", "/templates/hello", {"content": {"title": "Bye"}})
    assert second["version"] == 2
    assert api.ok("GET", "/templates/hello") == second
    assert api.ok("GET", "/templates/hello?version=1") == first
    assert api.call("GET", "/templates/hello?version=3").status_code == 404
    assert api.call("DELETE", "/templates/hello").status_code == 204
    assert api.call("DELETE", "/templates/hello").status_code == 404
    assert api.call("GET", "/templates/hello").status_code == 404
    assert api.call("POST", "/templates/hello/preview", {}).status_code == 404
    assert api.ok("GET", "/templates")["items"] == []
    assert api.ok("PUT", "/templates/hello", HELLO)["version"] == 4
    found: list[Any] = []
    cursor = ""
    while cursor is not None:
        page = api.ok("GET", f"/templates/hello/versions?limit=2{cursor and '&cursor=' + cursor}")
        found, cursor = found + page["items"], page["next_cursor"]
    assert [(v["version"], v["deleted"]) for v in found] == [(4, False), (3, True), (2, False), (1, False)]
    assert found[3]["content"] == HELLO["content"] and found[1]["content"] is None
    assert any_house.stranger.call("GET", "/templates/hello/versions").status_code == 404


def test_an_organization_has_its_products_templates(any_house: House) -> None:
    any_house.secret.ok("PUT", "/templates/a", HELLO)
    any_house.secret.ok("PUT", "/templates/b", HELLO)
    own = named(any_house)
    assert own.ok("GET", "/templates/a")["inherited"] is True
    assert own.call("DELETE", "/templates/a").status_code == 404, "not its own"
    own.ok("PUT", "/templates/b", {"content": {"title": "own"}})
    own.ok("PUT", "/templates/c", {"content": {"title": "own"}})
    names: list[Any] = []
    cursor = ""
    while cursor is not None:
        page = own.ok("GET", f"/templates?limit=1{cursor and '&cursor=' + cursor}")
        names, cursor = names + [(t["name"], t["inherited"]) for t in page["items"]], page["next_cursor"]
    assert names == [("a", True), ("b", False), ("c", False)]
    assert [t["name"] for t in any_house.secret.ok("GET", "/templates")["items"]] == ["a", "b"]
    assert own.ok("POST", "/templates/b/preview", {})["content"] == {"title": "own"}
    assert own.call("DELETE", "/templates/b").status_code == 204
    assert own.ok("GET", "/templates/b")["inherited"] is True


def test_a_preview_shows_each_channel(any_house: House) -> None:
    any_house.secret.ok("PUT", "/templates/hello", HELLO)
    fields = {"user": {"name": "Ann [[[locale]]] {{ count }}"}, "count": 3}
    shown = any_house.secret.ok("POST", "/templates/hello/preview", {"fields": fields})
    title = "Hi Ann [[[brackets]]]locale]]] {{ count }}"
    content = {"title": title, "body": "3 new for [[[user_id]]]", "data": {"n": "3"}}
    assert shown["content"] == shown["channels"]["fcm"] == content
    assert shown["channels"]["apns"] == {"title": "Hi", "data": {"n": "3"}}
    assert shown["version"] == 1


def test_a_preview_names_every_missing_field(any_house: House) -> None:
    any_house.secret.ok("PUT", "/templates/hello", HELLO)
    answered = any_house.secret.call("POST", "/templates/hello/preview", {"fields": {"user": {"first": "Ann"}}})
    assert (answered.status_code, fields_of(answered)) == (422, {"fields.user.name", "fields.count"})
    answered = any_house.secret.call("POST", "/templates/hello/preview", {})
    assert fields_of(answered) == {"fields.user.name", "fields.count"}


def test_actions_have_places_for_fields(house: House) -> None:
    read = {"action": "read", "title": "{{ verb }}", "link": "https://e.com/{{ id }}", "icon_url": "{{ icon|d('') }}"}
    mute = {"action": "mute", "title": "{% if loud %}Mute{% endif %}"}
    texts = {"title": "x", "icon_url": "https://e.com/{{ id }}.png", "actions": [read, mute]}
    made = house.secret.ok("PUT", "/templates/t", {"content": texts, "overrides": {"fcm": {"actions": [mute]}}})
    assert made["content"] == texts
    answered = house.secret.call("POST", "/templates/t/preview", {})
    assert fields_of(answered) == {"fields.verb", "fields.id", "fields.loud"}
    fields = {"verb": "Read", "id": 7, "loud": False}
    shown = house.secret.ok("POST", "/templates/t/preview", {"fields": fields})
    icon, button = "https://e.com/7.png", {"action": "read", "title": "Read", "link": "https://e.com/7"}
    assert shown["content"] == {"title": "x", "icon_url": icon, "actions": [button]}
    assert shown["channels"]["webpush"] == {"title": "x", "icon_url": icon, "actions": [button]}
    assert shown["channels"]["fcm"] == {"title": "x", "icon_url": icon}, "a title that came out empty took it away"
    assert shown["channels"]["apns"] == {"title": "x"}
    body = {"id": "t-1", "type": "news", "users": ["u"], "template": {"name": "t", "fields": fields}}
    house.secret.ok("POST", "/notifications", body)
    assert house.secret.ok("GET", "/notifications/t-1")["request"]["content"]["actions"] == [button]


@pytest.mark.parametrize(
    ("content", "fields", "where"),
    [
        ({"title": "{{ t }}"}, {"t": "x" * 1_001}, "content.title"),
        ({"title": "x", "link": "{{ t }}"}, {"t": "a b"}, "content.link"),
        ({"title": "x", "image_url": "{{ t }}"}, {"t": "ftp://x"}, "content.image_url"),
        (
            {"title": "x", "actions": [{"action": "a", "title": "b", "link": "{{ t }}"}]},
            {"t": "app://x"},
            "content.actions.0.link",
        ),
        ({"title": "{{ t }}"}, {"t": ""}, "content"),
        ({"title": "{{ t }}"}, {"t": [1]}, "content.title"),
        ({"title": "{{ t / 0 }}"}, {"t": 1}, "content.title"),
        ({"title": "{{ t }}"}, {"t": "a\0"}, "fields.t"),
        ({"title": "{{ t }}"}, {"t": "x" * 70_000}, "fields"),
        ({"title": "{{ t + 1 }}"}, {"t": 10**40}, "content.title"),
    ],
)
def test_what_a_send_would_be_refused_for_a_preview_is(
    house: House, content: dict[str, Any], fields: dict[str, Any], where: str
) -> None:
    house.secret.ok("PUT", "/templates/t", {"content": content})
    raw = json.dumps({"fields": fields}).encode()
    answered = house.secret.call("POST", "/templates/t/preview", raw)
    assert (answered.status_code, fields_of(answered)) == (422, {where})


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"content": {}}, "content"),
        ({"content": {"link": "https://e.com"}}, "content"),
        ({"content": {"title": "{{ x"}}, "content.title"),
        ({"content": {"title": "x", "data": {"k": "{% for %}"}}}, "content.data.k"),
        ({"content": {"title": "x"}, "overrides": {"fcm": {"body": "{{ f() }}"}}}, "overrides.fcm.body"),
        ({"content": {"title": "x"}, "overrides": {"pager": {}}}, "overrides.pager"),
        ({"content": {"title": "[[[nobody]]]"}}, "content.title"),
        ({"content": {"title": "x", "data": {"aps": "x"}}}, "content.data.aps"),
        ({"content": {"title": "x", "actions": [{"action": "a", "title": "{{"}]}}, "content.actions.0.title"),
        ({"content": {"title": "x", "actions": [{"action": "a", "title": "b"}] * 2}}, "content.actions.1.action"),
        ({"content": {"title": "x", "subject": "y"}}, "content.subject"),
        ({"content": {"title": "x" * 20_001}}, "content.title"),
    ],
)
def test_what_is_wrong_with_a_template_is_told_with_its_place(house: House, body: dict[str, Any], where: str) -> None:
    answered = house.secret.call("PUT", "/templates/t", body)
    assert (answered.status_code, fields_of(answered)) == (422, {where})
    assert house.secret.call("GET", "/templates/t").status_code == 404


def test_the_line_of_a_fault_is_told(house: House) -> None:
    answered = house.secret.call("PUT", "/templates/t", {"content": {"title": "x", "body": "a\nb\n{{ c|nope }}"}})
    (detail,) = answered.json["error"]["details"]  # type: ignore[index]
    assert detail["message"].startswith("line 3: there is no filter 'nope'")


@pytest.mark.parametrize("name", ["..", "-x", "a%2Fb", "x" * 101, "é"])
def test_a_name_is_a_segment_of_a_path(house: House, name: str) -> None:
    assert house.secret.call("PUT", f"/templates/{name}", HELLO).status_code in (404, 405, 422)


def test_only_secret_keys(house: House) -> None:
    assert house.publishable.call("GET", "/templates").status_code == 403
    assert house.publishable.call("PUT", "/templates/t", HELLO).status_code == 403
