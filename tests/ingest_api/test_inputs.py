"""Bad input: the right status, the field's name, and never a 500."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_api.inputs import MAX_DETAILS
from notify_pipeline.core.records import MAX_TTL_S
from tests.examples import examples
from tests.ingest_api.conftest import ADMIN, House, build, copied, fields_of, registration, send

LONG = "x" * 100_000


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Iterator[House]:
    """One ingress for all of this: what is refused changes nothing."""
    yield from build(copied(migrated, tmp_path_factory.mktemp("house")))


def acted(*changes: dict[str, Any]) -> dict[str, Any]:
    """A send with these actions, each of them right but for what is said."""
    return send(content={"title": "t", "actions": [{"action": "a", "title": "A", **each} for each in changes]})


SENDS: list[tuple[dict[str, Any], set[str]]] = [
    (send(id=""), {"id"}),
    (send(id="a/b"), {"id"}),
    (send(id="a b"), {"id"}),
    (send(id=".."), {"id"}),
    (send(id="x" * 129), {"id"}),
    (send(id="\u00e9"), {"id"}),
    (send(id="n\u0000"), {"id"}),
    (send(id="n\n"), {"id"}),
    (send(id=7), {"id"}),
    (send(type=...), {"type"}),
    (send(type=None), {"type"}),
    (send(type=""), {"type"}),
    (send(type="a b"), {"type"}),
    (send(topics=...), {"topics"}),
    (send(topics=[]), {"topics"}),
    (send(topics="breaking/uk"), {"topics"}),
    (send(topics=["ok", "not ok"]), {"topics.1"}),
    (send(topics=["x" * 201]), {"topics.0"}),
    (send(topics=["x"] * 101), {"topics"}),
    (send(topics=None), {"topics"}),
    (send(users=["u"]), {"users"}),
    (send(users=["u"], devices=["d"]), {"users", "devices"}),
    (send(topics=..., users=[""]), {"users.0"}),
    (send(topics=..., users=["a\u0000b"]), {"users.0"}),
    (send(topics=..., users=["u"] * 10_001), {"users"}),
    (send(topics=..., devices=["d d"]), {"devices.0"}),
    (send(topics=..., devices=[1]), {"devices.0"}),
    (send(topics=..., emails=["not an address"]), {"emails.0"}),
    (send(topics=..., phones=["0770"]), {"phones.0"}),
    (send(topics=..., phones=["+447700900123", "+44 7700 9001"]), {"phones.1"}),
    (send(emails=["a@example.com"], topics=["t"]), {"emails"}),
    (send(content=...), {"content"}),
    (send(content=None), {"content"}),
    (send(content={}), {"content"}),
    (send(content={"link": "https://example.com"}), {"content"}),
    (send(content={"data": {}}), {"content"}),
    (send(content={"title": ""}), {"content.title"}),
    (send(content={"title": "x" * 1_001}), {"content.title"}),
    (send(content={"title": "a\u0000b"}), {"content.title"}),
    (send(content={"body": "a\u0000b"}), {"content.body"}),
    (send(content={"body": ["a"]}), {"content.body"}),
    (send(content={"title": "t", "subtitle": "s"}), {"content.subtitle"}),
    (send(content={"title": "t", "link": "a b"}), {"content.link"}),
    (send(content={"title": "t", "image_url": "javascript:alert(1)"}), {"content.image_url"}),
    (send(content={"title": "t", "icon_url": "http://example.com/i.png"}), {"content.icon_url"}),
    (acted({"action": "a b"}), {"content.actions.0.action"}),
    (acted({"title": None}), {"content.actions.0.title"}),
    (acted({"link": "http://example.com/"}), {"content.actions.0.link"}),
    (acted({"icon_url": "app://x"}), {"content.actions.0.icon_url"}),
    (acted({"url": "https://example.com/"}), {"content.actions.0.url"}),
    (acted({}, {"action": "b"}, {}), {"content.actions.2.action"}),
    (acted(*({"action": str(number)} for number in range(5))), {"content.actions"}),
    (send(content={"title": "t", "data": {"a": 1}}), {"content.data.a"}),
    (send(content={"title": "t", "data": {"a": None}}), {"content.data.a"}),
    (send(content={"title": "t", "data": {"a": "\u0000"}}), {"content.data.a"}),
    (send(content={"title": "t", "data": {"a\u0000": "x"}}), {"content.data.a\u0000"}),
    (send(content={"title": "t", "data": {"aps": "x"}}), {"content.data.aps"}),
    (send(content={"title": "t", "data": {"google.x": "x"}}), {"content.data.google.x"}),
    (send(content={"title": "t", "data": {"notificationId": "x"}}), {"content.data.notificationId"}),
    (send(content={"title": "Hi [[[first_name]]]"}), {"content.title"}),
    (send(content={"title": "t", "body": "[[[user_id]]] [[[email]]]"}), {"content.body"}),
    (send(content={"data": {"a": "[[[x]]]", "b": "[[[locale]]]"}}), {"content.data.a"}),
    (send(content={"title": "t", "data": {str(n): "x" for n in range(101)}}), {"content.data"}),
    (send(channels=[]), {"channels"}),
    (send(channels=["pigeon"]), {"channels.0"}),
    (send(channels="fcm"), {"channels"}),
    (send(category="a b"), {"category"}),
    (send(priority="urgent"), {"priority"}),
    (send(priority=1), {"priority"}),
    (send(importance=""), {"importance"}),
    (send(send_at="tomorrow"), {"send_at"}),
    (send(send_at="2026-11-21T06:33:59"), {"send_at"}),
    (send(send_at="2026-11-21"), {"send_at"}),
    (send(send_at=1_795_000_000), {"send_at"}),
    (send(send_at="1795000000"), {"send_at"}),
    (send(send_at="2026-13-40T99:99:99Z"), {"send_at"}),
    (send(send_at="9999-12-31T23:59:59-10:00"), {"send_at"}),
    (send(send_at="0001-01-01T00:00:00+10:00"), {"send_at"}),
    (send(send_at="2028-01-01T00:00:00Z"), {"send_at"}),
    (send(ttl=-1), {"ttl"}),
    (send(ttl=MAX_TTL_S + 1), {"ttl"}),
    (send(ttl=1.5), {"ttl"}),
    (send(ttl="60"), {"ttl"}),
    (send(ttl=True), {"ttl"}),
    (send(ttl=1e308), {"ttl"}),
    (send(collapse_key=""), {"collapse_key"}),
    (send(collapse_key="x" * 65), {"collapse_key"}),
    (send(collapse_key="\u00e9" * 33), {"collapse_key"}),
    (send(retry="yes"), {"retry"}),
    (send(retry=1), {"retry"}),
    (send(dry_run="true"), {"dry_run"}),
    (send(on_ambiguous="maybe"), {"on_ambiguous"}),
    (send(nonsense=1), {"nonsense"}),
    (send(**{LONG: 1}), {"x" * 200 + "…"}),
]

REGISTRATIONS: list[tuple[dict[str, Any], set[str]]] = [
    (registration(token=""), {"token"}),
    (registration(token="x" * 2_501), {"token"}),
    (registration(token="a b"), {"token"}),
    (registration(token="a/b"), {"token"}),
    (registration(token="a\u0000"), {"token"}),
    (registration(token="\u00e9"), {"token"}),
    (registration(token=None), {"token"}),
    (registration(platform="ios"), {"token"}),
    (registration(platform="ios", token="a" * 201), {"token"}),
    (registration(platform="symbian"), {"platform"}),
    (registration(platform=None), {"platform"}),
    (registration(user_id=""), {"user_id"}),
    (registration(user_id=42), {"user_id"}),
    (registration(user_id="x" * 257), {"user_id"}),
    (registration(user_id="a\u0000b"), {"user_id"}),
    (registration(topics=[1]), {"topics.0"}),
    (registration(topics=[None]), {"topics.0"}),
    (registration(topics={"a": 1}), {"topics"}),
    (registration(topics=None), {"topics"}),
    (registration(topics=["a\u0000"]), {"topics.0"}),
    (registration(topics=["x" * 1_001]), {"topics.0"}),
    (registration(topics=["x"] * 2_001), {"topics"}),
    (registration(app_version="x" * 65), {"app_version"}),
    (registration(app_version="\u0000"), {"app_version"}),
    (registration(locale="en GB"), {"locale"}),
    (registration(timezone="Mars/Olympus"), {"timezone"}),
    (registration(timezone="../../etc/passwd"), {"timezone"}),
    (registration(timezone="America"), {"timezone"}),
    (registration(extra=1), {"extra"}),
    ({}, {"platform"}),
]

PRODUCTS: list[tuple[dict[str, Any], set[str]]] = [
    ({}, {"name"}),
    ({"name": ""}, {"name"}),
    ({"name": "x" * 201}, {"name"}),
    ({"name": "a\u0000"}, {"name"}),
    ({"name": 1}, {"name"}),
    ({"name": "n", "organizations": "a"}, {"organizations"}),
    ({"name": "n", "organizations": ["a", "a"]}, {"organizations"}),
    ({"name": "n", "organizations": ["a", ""]}, {"organizations.1"}),
    ({"name": "n", "organizations": [str(n) for n in range(101)]}, {"organizations"}),
    ({"name": "n", "admin": True}, {"admin"}),
]


@pytest.mark.parametrize(("body", "fields"), SENDS, ids=lambda value: None)
def test_a_bad_send_names_its_fields(house: House, body: dict[str, Any], fields: set[str]) -> None:
    answered = house.stranger.call("POST", "/notifications", body)
    assert answered.status_code == 422, answered.text
    assert fields_of(answered) == fields
    assert house.stranger.ok("GET", "/notifications")["items"] == []


@pytest.mark.parametrize(("body", "fields"), REGISTRATIONS, ids=lambda value: None)
def test_a_bad_registration_names_its_fields(house: House, body: dict[str, Any], fields: set[str]) -> None:
    answered = house.publishable.call("POST", "/devices", body)
    assert answered.status_code == 422, answered.text
    assert fields_of(answered) == fields


@pytest.mark.parametrize(("body", "fields"), PRODUCTS, ids=lambda value: None)
def test_a_bad_product_names_its_fields(house: House, body: dict[str, Any], fields: set[str]) -> None:
    answered = house.api(ADMIN).call("POST", "/products", body)
    assert answered.status_code == 422, answered.text
    assert fields_of(answered) == fields


BODIES = ["/notifications", "/devices", "/devices/abc/topics", "/products"]


def _post(house: House, path: str, body: bytes, **options: Any) -> Any:
    key = ADMIN if path == "/products" else house.mine.secret_key
    return house.api(key).call("PUT" if path.endswith("topics") else "POST", path, body, **options)


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"nope", b"{'a': 1}", b'{"a": "\xff"}', b"\x00", b"[" * 10_000, b'{"a":"\x00"}', b"\xef\xbb\xbf{}"],
)
def test_what_is_no_json_is_400(house: House, path: str, body: bytes) -> None:
    answered = _post(house, path, body)
    assert answered.status_code == 400, answered.text
    assert fields_of(answered) == {"body"}
    assert answered.json["error"]["code"] == "malformed_json"


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"text"', b"true"])
def test_json_that_is_no_object_is_422(house: House, path: str, body: bytes) -> None:
    answered = _post(house, path, body)
    assert answered.status_code == 422
    assert fields_of(answered) == {"body"}


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_another_content_type_is_415(house: House, path: str, content_type: str) -> None:
    answered = _post(house, path, b"{}", content_type=content_type)
    assert answered.status_code == 415
    assert fields_of(answered) == {"Content-Type"}


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "application/merge-patch+json"])
def test_json_by_another_name_is_taken(house: House, content_type: str) -> None:
    assert house.secret.call("POST", "/notifications", send(), content_type=content_type).status_code == 202


@pytest.mark.parametrize("path", BODIES)
def test_an_oversized_body_is_413(house: House, path: str) -> None:
    limit = house.services.settings.max_body_bytes
    answered = _post(house, path, b'{"a":"' + b"x" * limit + b'"}')
    assert answered.status_code == 413
    assert fields_of(answered) == {"body"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"id": "\\ud800"}', "id"),
        (b'{"content": {"data": {"k": "a\\udfffb"}}}', "content.data.k"),
        (b'{"topics": ["ok", "\\ud83d"]}', "topics.1"),
        (b'{"content": {"data": {"\\ud800": "v"}}}', "content.data"),
    ],
)
def test_half_a_surrogate_pair_is_422(house: House, body: bytes, field: str) -> None:
    answered = house.secret.call("POST", "/notifications", body)
    assert answered.status_code == 422
    assert fields_of(answered) == {field}


def test_many_faults_are_told_in_a_bounded_answer(house: House) -> None:
    answered = house.secret.call("POST", "/notifications", send(topics=[" "] * 100))
    assert answered.status_code == 422
    assert answered.json is not None
    assert len(answered.json["error"]["details"]) == MAX_DETAILS + 1


QUERIES = [
    ("/notifications?limit=0", "limit"),
    ("/notifications?limit=501", "limit"),
    ("/notifications?limit=ten", "limit"),
    ("/notifications?limit=", "limit"),
    ("/notifications?limit=1&limit=2", "limit"),
    ("/notifications?state=lost", "state"),
    ("/notifications?type=%00", "type"),
    ("/notifications?type=%ff", "type"),
    ("/notifications?cursor=%00", "cursor"),
    ("/notifications?cursor=abc", "cursor"),
    ("/notifications?cursor=" + "A" * 401, "cursor"),
    # Well packed, but no position of this list: two texts, a number beyond all dates, a NUL.
    ("/notifications?cursor=WyJhIiwiYiJd", "cursor"),
    ("/notifications?cursor=Wzk5OTk5OTk5OTk5OTk5OTk5OSwiYSJd", "cursor"),
    ("/notifications?cursor=WzEsIlx1MDAwMCJd", "cursor"),
    ("/notifications?nonsense=1", "nonsense"),
    ("/notifications?%00=1", "\u0000"),
    ("/notifications?%ff=1", "%FF"),
    ("/reports?from=yesterday", "from"),
    ("/reports?from=2026-02-30", "from"),
    ("/reports?from=2026-11-21T06:33:59", "from"),
    ("/reports?since=2026-11-21", "since"),
    ("/reports?until=0001-01-01T00:00:00%2B10:00", "until"),
    ("/reports?from=2026-11-22&until=2026-11-21", "until"),
    ("/reports?platform=symbian", "platform"),
    ("/reports?include_dry_run=perhaps", "include_dry_run"),
    ("/reports?cursor=WzEsIlx1MDAwMCJd", "cursor"),
    ("/requests/" + "0" * 32 + "/audit?cursor=WyJcdTAwMDAiXQ", "cursor"),
]


@pytest.mark.parametrize(("path", "field"), QUERIES)
def test_a_bad_query_names_its_parameter(house: House, path: str, field: str) -> None:
    if "/audit" in path:
        request_id = house.secret.ok("POST", "/notifications", send())["request_id"]
        path = path.replace("0" * 32, request_id)
    answered = house.secret.call("GET", path)
    assert answered.status_code == 422, answered.text
    assert fields_of(answered) == {field}


PATHS = [
    ("GET", "/devices/a%00b", "token"),
    ("GET", "/devices/a%20b", "token"),
    ("GET", "/devices/%ff%fe", "token"),
    ("GET", "/devices/" + "x" * 2_501, "token"),
    ("DELETE", "/devices/a%00b", "token"),
    ("PUT", "/devices/a%00b/topics", "token"),
    ("GET", "/notifications/a%00b", "notification_id"),
    ("GET", "/notifications/a%20b", "notification_id"),
    ("GET", "/notifications/%c3%a9", "notification_id"),
    ("GET", "/notifications/" + "x" * 129, "notification_id"),
    ("GET", "/requests/a%00b", "request_id"),
    ("GET", "/requests/ABC", "request_id"),
    ("GET", "/requests/a%00b/audit", "request_id"),
    ("GET", "/reports/a%00b", "notification_id"),
]


@pytest.mark.parametrize(("method", "path", "field"), PATHS)
def test_a_bad_path_names_its_parameter(house: House, method: str, path: str, field: str) -> None:
    answered = house.secret.call(method, path, {"topics": []} if method == "PUT" else None)
    assert answered.status_code == 422, answered.text
    assert fields_of(answered) == {field}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/nothing"),
        ("GET", "/devices"),
        ("GET", "/devices/"),
        ("GET", "/devices/a%2Fb"),
        ("GET", "//notifications"),
        ("GET", "/notifications/a/b"),
        ("PATCH", "/devices"),
        ("DELETE", "/notifications"),
        ("OPTIONS", "/notifications"),
        ("TRACE", "/notifications"),
        ("POST", "/healthz"),
        ("GET", "/docs/../app.py"),
        ("GET", "/docs/index.html"),
    ],
)
def test_no_such_route_is_told_in_the_envelope(house: House, method: str, path: str) -> None:
    answered = house.secret.call(method, path)
    assert answered.status_code in (404, 405)
    assert fields_of(answered) == set()
    assert (answered.status_code == 405) == ("Allow" in answered.headers)


@pytest.mark.parametrize("path", ["/notifications", "/devices"])
def test_what_postgresql_could_not_store_never_reaches_it(any_house: House, path: str) -> None:
    text = "a\u0000b"
    bodies: list[dict[str, Any]] = [send(content={"title": text}), send(id=text), registration(user_id=text)]
    for body in bodies:
        assert any_house.secret.call("POST", path, body).status_code == 422


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = ["id", "type", "topics", "users", "devices", "content", "send_at", "ttl", "priority", "channels", "retry"]


@settings(max_examples=examples(200), deadline=None)
@given(st.dictionaries(st.sampled_from(_FIELDS), _JSON, max_size=5))
def test_no_body_is_ever_a_500(house: House, changes: dict[str, Any]) -> None:
    answered = house.secret.call("POST", "/notifications", json.dumps({**send(), **changes}).encode())
    # 400: json.dumps writes Infinity, which is no JSON.
    assert answered.status_code in (202, 400, 409, 422), answered.text
    if answered.status_code != 202:
        fields_of(answered)


@settings(max_examples=examples(200), deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_are_ever_a_500(house: House, raw: bytes) -> None:
    assert house.publishable.call("POST", "/devices", raw).status_code in (400, 422)


def test_limits_come_from_the_settings(tmp_path: Path, migrated: Path) -> None:
    for house in build(copied(migrated, tmp_path), max_body_bytes=300, max_audience_list=2):
        assert house.secret.call("POST", "/notifications", b"{" + b" " * 300).status_code == 413
        body = send(topics=..., users=["a", "b", "c"], content={"title": "t"})
        assert fields_of(house.secret.call("POST", "/notifications", body)) == {"users"}


@pytest.mark.parametrize("path", ["/notifications", "/users/u-1/messages", "/audit", "/dead-letters", "/reports"])
def test_a_span_that_ends_before_it_begins_is_refused(house: House, path: str) -> None:
    early, late = "2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z"
    refused = house.secret.call("GET", f"{path}?from={late}&until={early}")
    assert (refused.status_code, fields_of(refused)) == (422, {"until"})
    house.secret.ok("GET", f"{path}?from={early}&until={early}")


def test_what_people_know_by_a_name_is_not_shown_as_a_pattern(house: House) -> None:
    def said(path: str, body: dict[str, Any]) -> str:
        (detail,) = house.secret.call("POST", path, body).get_json()["error"]["details"]
        return f"{detail['field']} {detail['message']}"

    contact = {"domain": "example.com", "deviceToken": "a"}
    assert said("/push-contacts", contact | {"email": "ada"}) == "email must be an e-mail address"
    assert said("/push-contacts", contact | {"domain": "https://example.com/"}).startswith(
        "domain must be a host's name"
    )
    acted = {"title": "t", "body": "b", "actions": [{"action": "a", "title": "A", "link": "http://example.com"}]}
    assert (
        said("/push-contacts/example.com/message", acted) == "actions.0.link must be an https address, without spaces"
    )
    assert said("/push-contacts", contact | {"visitorGuid": "a b"}).startswith("visitorGuid must match the pattern ^")
