"""Messages to a domain's contacts: what is stored of one, what is refused, and what is told of it afterwards."""

import csv
import io
from datetime import timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update
from werkzeug.test import TestResponse

from ingest_api.domain_messages.models import MAX_FIELDS, MAX_VALUE
from ingest_api.domain_messages.shown import CSV_COLUMNS, csv_lines
from ingest_api.inputs import MAX_DETAILS
from notify_pipeline.core.ledger import requests
from notify_pipeline.core.ledger.domain_messages import SentCounts
from notify_pipeline.core.ledger.tables import DEVICES, REQUESTS
from notify_pipeline.core.records import Action, Visitor
from notify_pipeline.core.vocabulary import Outcome, Priority
from notify_pipeline.delivery.notifications import parse
from tests.ingest_api.conftest import House, change, fields_of

PATH = "/push-contacts/shop.example.com"
MESSAGE: dict[str, Any] = {"title": "Sale", "body": "Half the price"}
WHOLE = MESSAGE | {
    "onClickLink": "https://shop.example.com/sale",
    "imageUrl": "https://shop.example.com/sale.jpg",
    "iconUrl": "https://shop.example.com/own.png",
    "actions": [
        {
            "action": "buy",
            "title": "Buy",
            "link": "https://shop.example.com/cart",
            "icon": "https://i.example.com/b.png",
        },
        {"action": "later", "title": "Later"},
    ],
    "type": "sale",
    "category": "offers",
    "priority": "high",
    "ttl": 60,
}


@pytest.fixture
def house(house: House) -> House:
    """An ingress whose tenants have a domain each."""
    house.secret.ok("PUT", "/domains/shop.example.com", {"isPushFeatureEnabled": True})
    house.stranger.ok("PUT", "/domains/other.example.com", {"isPushFeatureEnabled": True})
    return house


def post(house: House, body: Any = MESSAGE, key: str | None = None, path: str = PATH + "/message") -> TestResponse:
    return house.secret.call("POST", path, body, headers={} if key is None else {"Idempotency-Key": key})


def stored(house: House, message_id: str) -> requests.RequestRow:
    row = requests.get_by_notification(house.services.ledger, house.mine.tenant, message_id)
    assert row is not None
    return row


def ended(house: House, message_id: str, counts: dict[str, dict[str, int]]) -> None:
    """Let a message's recipients have ended so."""
    values = {"counts": orjson.dumps(counts).decode(), "state": "done"}
    mine = REQUESTS.c.notification_id == message_id
    change(house.services.ledger, update(REQUESTS).where(mine).values(**values))


def test_a_message_is_a_send_to_its_domain(house: House) -> None:
    answered = post(house, WHOLE, "m-1")
    assert answered.status_code == 202
    row = stored(house, "m-1")
    assert answered.json == {
        "messageId": "m-1",
        "requestId": row.request_id,
        "statusUrl": f"/requests/{row.request_id}",
        "duplicate": False,
    }
    made = parse(row)
    assert (made.audience.domain, made.audience.visitors) == ("shop.example.com", ())
    assert (made.type, made.category, made.priority, made.ttl_s) == ("sale", "offers", Priority.HIGH, 60)
    assert made.expires_at == house.clock() + timedelta(seconds=60)
    content = made.content
    assert (content.title, content.body, content.link) == ("Sale", "Half the price", WHOLE["onClickLink"])
    assert (content.image_url, content.icon_url) == (WHOLE["imageUrl"], WHOLE["iconUrl"])
    assert content.actions == (
        Action("buy", "Buy", "https://shop.example.com/cart", "https://i.example.com/b.png"),
        Action("later", "Later"),
    )
    with house.services.ledger.read() as conn:
        assert conn.execute(select(REQUESTS.c.domain)).scalars().all() == ["shop.example.com"]
    # It is an ordinary notification for every other route.
    assert house.secret.ok("GET", "/notifications/m-1")["request"]["domain"] == "shop.example.com"
    assert house.secret.ok("DELETE", "/notifications/m-1")["state"] == "cancelled"
    off = update(REQUESTS).where(REQUESTS.c.notification_id == "m-1").values(reason="domain_disabled")
    change(house.services.ledger, off)
    details = house.secret.ok("GET", PATH + "/messages/m-1/details")
    assert (details["state"], details["reason"]) == ("cancelled", "domain_disabled")


def test_the_domain_s_icon_stands_in_and_a_repetition_is_compared_by_what_was_asked(house: House) -> None:
    icon = {"isPushFeatureEnabled": True, "iconUrl": "https://shop.example.com/icon.png"}
    house.secret.ok("PUT", "/domains/shop.example.com", icon)
    first = post(house, key="m-1").json
    assert stored(house, "m-1").body["content"]["icon_url"] == icon["iconUrl"]
    house.secret.ok("PUT", "/domains/shop.example.com", icon | {"iconUrl": "https://shop.example.com/new.png"})
    again = post(house, key="m-1")
    assert again.headers["Idempotent-Replayed"] == "true"
    assert first is not None and again.json == first | {"duplicate": True}
    other = post(house, MESSAGE | {"title": "Other"}, "m-1")
    assert (other.status_code, fields_of(other)) == (409, {"Idempotency-Key"})
    # A domain that is switched off answers what it answered before, and takes nothing new.
    house.secret.ok("PUT", "/domains/shop.example.com", {"isPushFeatureEnabled": False})
    assert post(house, key="m-1").json == again.json
    refused = post(house, key="m-2")
    assert refused.json is not None and refused.json["error"]["code"] == "domain_disabled"
    assert (refused.status_code, fields_of(refused)) == (409, {"domain"})


@pytest.mark.parametrize("domain", ["unknown.example.com", "other.example.com"])
def test_another_s_domain_is_unknown(house: House, domain: str) -> None:
    for method, path, body in (
        ("POST", "/message", MESSAGE),
        ("POST", "/visitors/v-1/message", MESSAGE),
        ("POST", "/visitors/message", MESSAGE | {"visitors": [{"visitorGuid": "v-1"}]}),
        ("GET", "/messages", None),
        ("GET", "/messages.csv", None),
        ("GET", "/messages/m-1/details", None),
        ("GET", "/messages/m-1/history", None),
    ):
        answered = house.secret.call(method, f"/push-contacts/{domain}{path}", body)
        assert answered.status_code == 404, path
        assert answered.json is not None and answered.json["error"]["code"] == "unknown_domain"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"onClickLink": "http://shop.example.com"}, "onClickLink"),
        ({"imageUrl": "http://shop.example.com/a.png"}, "imageUrl"),
        ({"iconUrl": "javascript:alert(1)"}, "iconUrl"),
        ({"actions": [{"action": "a", "title": "A", "link": "http://shop.example.com"}]}, "actions.0.link"),
        ({"actions": [{"action": "a", "title": "A", "icon": "data:image/png,"}]}, "actions.0.icon"),
        ({"actions": [{"action": "a", "title": "A"}, {"action": "a", "title": "B"}]}, "actions.1.action"),
        ({"actions": [{"action": f"a{n}", "title": "A"} for n in range(5)]}, "actions"),
        ({"title": "Hello [[[name]]]"}, "title"),
        ({"body": None}, "body"),
        ({"on_click_link": "https://shop.example.com"}, "on_click_link"),
        ({"visitors": [{"visitorGuid": "v"}]}, "visitors"),
        ({"sendAt": "2026-11-21T10:00:00"}, "sendAt"),
        ({"sendAt": "2028-11-21T10:00:00Z"}, "sendAt"),
    ],
)
def test_what_is_wrong_with_a_message_is_named_as_on_the_wire(house: House, change: Any, field: str) -> None:
    refused = post(house, MESSAGE | change)
    assert (refused.status_code, fields_of(refused)) == (422, {field})


def test_visitors_get_their_own_fields_and_the_answer_says_who_lacks_some(house: House) -> None:
    body = {"title": "Hello [[[First_Name]]] from [[[city]]]", "body": "At [[[timezone]]], [[[brackets]]]"}
    visitors = [
        {"visitorGuid": "v-1", "fields": {"first_name": "Ada", "CITY": "London"}},
        {"visitorGuid": "v-2", "fields": {"city": "Paris"}},
        {"visitorGuid": "v-3"},
    ]
    path = PATH + "/visitors/message"
    asked = {**body, "visitors": visitors}
    answered = post(house, asked, "m-1", path)
    assert answered.status_code == 202 and answered.json is not None
    missing = [
        {"visitorGuid": "v-2", "fields": ["first_name"]},
        {"visitorGuid": "v-3", "fields": ["first_name", "city"]},
    ]
    assert (answered.json["missingFields"], answered.json["missingFieldsCount"]) == (missing, 2)
    row = stored(house, "m-1")
    assert row.body["visitors"] == [
        {"visitor_guid": "v-1", "fields": {"first_name": "Ada", "CITY": "London"}},
        {"visitor_guid": "v-2", "fields": {"city": "Paris"}},
        {"visitor_guid": "v-3"},
    ]
    made = parse(row)
    assert made.audience.visitors[2] == Visitor("v-3", {})
    refused = post(house, asked | {"replacementIsMandatory": True}, "m-2", path)
    assert refused.status_code == 422 and refused.json is not None
    assert refused.json["error"]["code"] == "missing_fields"
    assert fields_of(refused) == {
        "visitors.1.fields.first_name",
        "visitors.2.fields.first_name",
        "visitors.2.fields.city",
    }
    assert requests.get_by_notification(house.services.ledger, house.mine.tenant, "m-2") is None
    whole = asked | {"visitors": visitors[:1], "replacementIsMandatory": True}
    assert post(house, whole, "m-3", path).json == {
        "messageId": "m-3",
        "requestId": stored(house, "m-3").request_id,
        "statusUrl": f"/requests/{stored(house, 'm-3').request_id}",
        "duplicate": False,
        "missingFields": [],
        "missingFieldsCount": 0,
    }


def test_one_visitor_is_a_list_of_one(house: House) -> None:
    body = MESSAGE | {"title": "Hello [[[name]]]", "fields": {"name": "Ada"}}
    assert post(house, body, "m-1", PATH + "/visitors/v-1/message").status_code == 202
    listed = MESSAGE | {"title": "Hello [[[name]]]", "visitors": [{"visitorGuid": "v-1", "fields": {"name": "Ada"}}]}
    assert post(house, listed, "m-2", PATH + "/visitors/message").status_code == 202
    assert stored(house, "m-1").body == stored(house, "m-2").body
    mandatory = body | {"fields": {}, "replacementIsMandatory": True}
    refused = post(house, mandatory, "m-3", PATH + "/visitors/v-1/message")
    assert (refused.status_code, fields_of(refused)) == (422, {"fields.name"})


@pytest.mark.parametrize(
    ("visitors", "field"),
    [
        ([], "visitors"),
        ([{"visitorGuid": "a"}, {"visitorGuid": "b"}, {"visitorGuid": "a"}], "visitors.2.visitorGuid"),
        ([{"visitorGuid": ".."}], "visitors.0.visitorGuid"),
        ([{"visitorGuid": "a", "fields": {"x": 1}}], "visitors.0.fields.x"),
        ([{"visitorGuid": "a", "fields": {"x": "y" * (MAX_VALUE + 1)}}], "visitors.0.fields.x"),
        ([{"visitorGuid": "a", "fields": {f"x{n}": "" for n in range(MAX_FIELDS + 1)}}], "visitors.0.fields"),
        ([{"visitorGuid": "a", "fields": {"x": "", "X": ""}}], "visitors.0.fields.X"),
        ([{"visitorGuid": "a", "fields": {"x y": ""}}], "visitors.0.fields.x y"),
    ],
)
def test_what_is_wrong_with_visitors_is_named(house: House, visitors: Any, field: str) -> None:
    refused = post(house, MESSAGE | {"visitors": visitors}, path=PATH + "/visitors/message")
    assert (refused.status_code, fields_of(refused)) == (422, {field})


def test_a_long_list_of_faults_is_cut(house: House) -> None:
    many = MESSAGE | {"visitors": [{"visitorGuid": "a"}] * 100}
    assert len(fields_of(post(house, many, path=PATH + "/visitors/message"))) == MAX_DETAILS + 1
    most = house.services.settings.max_audience_list
    long = MESSAGE | {"visitors": [{"visitorGuid": f"v{n}"} for n in range(most + 1)]}
    assert fields_of(post(house, long, path=PATH + "/visitors/message")) == {"visitors"}
    lacking = MESSAGE | {"title": "[[[x]]]", "visitors": [{"visitorGuid": f"v{n}"} for n in range(150)]}
    answered = post(house, lacking, path=PATH + "/visitors/message").json
    assert answered is not None
    assert (len(answered["missingFields"]), answered["missingFieldsCount"]) == (100, 150)


def test_details_tell_what_became_of_a_message(house: House) -> None:
    at = "2026-11-22T09:00:00Z"
    post(house, WHOLE | {"sendAt": at}, "m-1")
    details = house.secret.ok("GET", PATH + "/messages/m-1/details")
    assert details == {
        "domain": "shop.example.com",
        "messageId": "m-1",
        "title": "Sale",
        "body": "Half the price",
        "type": "sale",
        "state": "accepted",
        "reason": None,
        "acceptedAt": "2026-11-21T06:33:59.123456Z",
        "sendAt": at,
        "finishedAt": None,
        "sent": 0,
        "delivered": 0,
        "notDelivered": 0,
        "pending": 0,
        "acceptedByBeacon": 0,
        "received": 0,
        "clicked": 0,
        "actionClicks": {},
        "receivedThrough": None,
    }
    ended(house, "m-1", {"fcm": {"audience": 9, "pending": 2, "accepted": 4, "invalid_recipient": 3}})
    details = house.secret.ok("GET", PATH + "/messages/m-1/details")
    assert [details[name] for name in ("sent", "delivered", "notDelivered", "pending")] == [7, 4, 3, 2]
    # A message is its own domain's, and no other send is a message.
    house.secret.ok("PUT", "/domains/second.example.com", {"isPushFeatureEnabled": True})
    for path in ("/push-contacts/second.example.com/messages/m-1", PATH + "/messages/n-1"):
        for what in ("/details", "/history"):
            assert house.secret.call("GET", path + what).status_code == 404


@given(
    counts=st.dictionaries(
        st.sampled_from(["fcm", "webpush", "none"]),
        st.dictionaries(st.sampled_from([*Outcome, "pending"]), st.integers(0, 10**9)),
    )
)
def test_sent_is_always_delivered_and_not_delivered(counts: dict[str, dict[str, int]]) -> None:
    figures = SentCounts()
    for values in counts.values():
        values["audience"] = sum(values.values())
    figures.add(counts)
    assert figures.sent == figures.delivered + figures.not_delivered
    dry = sum(values.get(Outcome.DRY_RUN, 0) for values in counts.values())
    assert figures.sent + figures.pending + dry == sum(values["audience"] for values in counts.values())


def test_the_report_lists_a_domain_s_messages_in_a_range(house: House) -> None:
    moments = []
    for number in range(5):
        moments.append(house.clock().isoformat().replace("+00:00", "Z"))
        post(house, MESSAGE | {"title": f"Sale {number}"}, f"m-{number}")
        house.clock.advance(hours=1)
    found, cursor = [], ""
    while True:
        page = house.secret.ok("GET", f"{PATH}/messages?limit=2{cursor}")
        found += page["items"]
        if page["nextCursor"] is None:
            break
        cursor = f"&cursor={page['nextCursor']}"
    assert [each["messageId"] for each in found] == [f"m-{number}" for number in reversed(range(5))]
    assert found[0] == house.secret.ok("GET", PATH + "/messages/m-4/details")
    span = f"from={moments[1]}&until={moments[3]}"
    page = house.secret.ok("GET", f"{PATH}/messages?{span}")
    assert [each["messageId"] for each in page["items"]] == ["m-2", "m-1"]
    text = house.secret.call("GET", f"{PATH}/messages.csv?{span}").get_data(as_text=True)
    lines = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [line["messageId"] for line in lines] == ["m-2", "m-1"]
    assert fields_of(house.secret.call("GET", f"{PATH}/messages?from={moments[3]}&until={moments[1]}")) == {"until"}


def test_the_export_goes_on_beyond_a_page_and_holds_no_formula(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest_api.domain_messages.reading._CSV_PAGE", 2)
    titles = ["=1+1", "+1", "-1", "@cmd", '"quoted", and\r\nbroken', "Ünïcode", "\ttab"]
    for number, title in enumerate(titles):
        post(house, MESSAGE | {"title": title}, f"m-{number}")
        house.clock.advance(seconds=1)
    answered = house.secret.call("GET", PATH + "/messages.csv")
    assert answered.content_type == "text/csv; charset=utf-8"
    rows = list(csv.reader(io.StringIO(answered.data.decode(), newline="")))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert [row[2] for row in reversed(rows[1:])] == [f"'{t}" if t[0] in "=+-@\t" else t for t in titles]
    assert answered.data.endswith(b"\r\n")


@given(cells=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x00")), min_size=1, max_size=4))
def test_any_text_survives_as_a_cell(cells: list[str]) -> None:
    (row,) = csv.reader(io.StringIO(csv_lines([[*cells, "end"]]).decode(), newline=""))
    assert len(row) == len(cells) + 1
    for read, cell in zip(row, cells, strict=False):
        assert read in (cell, f"'{cell}")
        assert not read.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


def test_a_contact_s_history_is_its_owner_s_to_read(house: House) -> None:
    house.secret.ok("POST", "/devices", {"token": "t-1", "platform": "web"})
    assert house.secret.call("GET", "/push-contacts/t-1/history").status_code == 404
    change(house.services.ledger, update(DEVICES).values(domain="shop.example.com"))
    nothing = {"items": [], "complete": True, "nextCursor": None}
    assert house.secret.ok("GET", "/push-contacts/t-1/history") == nothing
    assert house.secret.ok("GET", "/push-contacts/t-1/history?until=0001-01-02T00:00:00Z") == nothing
    assert house.stranger.call("GET", "/push-contacts/t-1/history").status_code == 404
