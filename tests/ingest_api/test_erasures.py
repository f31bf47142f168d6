"""Erasures over HTTP: nothing of the ledger names the person any more, and everybody else keeps what they had."""

from typing import Any

import orjson
import pytest
from sqlalchemy import func, select

from ingest_api.erasures.models import ErasureAccepted, ErasurePage, ErasureShown
from notify_pipeline.core.ledger import preferences, suppressions
from notify_pipeline.core.ledger.inbox import NewItem
from notify_pipeline.core.ledger.schema import METADATA
from notify_pipeline.core.ledger.tables import AUDIT, DEVICES
from notify_pipeline.core.vocabulary import Channel
from tests.ingest_api.conftest import House, fields_of, registration, send
from tests.ingest_api.furnished import add_item
from tests.ingest_api.test_dead_letters import died

ADA, BOB = "ada-lovelace", "bob-hope"
MAIL, PHONE, TOKEN, BROWSER = "Ada@Example.com", "+447700900123", "dGhl:APA91bAdasOwn", "browser-of-hers"
GUID, PICTURE = "6f9619ff-8b86-d011", "https://example.com/people/hers.png"
NAMES = (ADA, MAIL.lower(), PHONE, TOKEN, BROWSER, GUID, PICTURE)


def live(house: House) -> None:
    """Let two people do everything that leaves a trace."""
    api = house.secret
    for user, token, mail, phone in (
        (ADA, TOKEN, MAIL, PHONE),
        (BOB, "bobs-token", "bob@example.com", "+447700900999"),
    ):
        api.ok("POST", "/devices", registration(token=token, user_id=user, topics=["breaking/uk"]))
        profile = {"email": mail, "phone": phone, "timezone": "Asia/Tokyo"}
        if user == ADA:
            profile |= {"attributes": {"image_url": PICTURE}}
        api.ok("PUT", f"/users/{user}", profile)
        api.ok("PUT", f"/users/{user}/quiet-hours", {"from": "22:00", "until": "07:00"})
        api.ok("PATCH", f"/users/{user}/preferences", {"preferences": {"offers": {"email": False}}})
        api.ok("PUT", f"/looks/look-of-{user[:3]}", {"owner_id": user})
        api.ok("POST", "/email-subscriptions", {"email": mail, "topics": ["letters"]})
        add_item(house.services.ledger, NewItem(house.mine.tenant, user, "n-0", "news", {"title": "Hi"}), house.clock())
        api.ok(
            "PUT",
            f"/connections/c-{user[:3]}",
            {"user_id": user, "endpoint": "https://a.execute-api.eu-west-1.amazonaws.com/p"},
        )
    api.ok("POST", "/likes", {"look_id": "look-of-bob", "customer_id": ADA})
    api.ok("POST", "/likes", {"look_id": "look-of-ada", "customer_id": BOB})
    api.ok("POST", "/suppressions", {"channel": "sms", "address": PHONE, "detail": f"{PHONE} asked"})
    api.ok("PUT", "/domains/shop.example.org", {"isPushFeatureEnabled": True})
    for token, guid, mail in ((BROWSER, GUID, MAIL), ("bobs-browser", "guid-of-bob", "bob@example.com")):
        contact = {"domain": "shop.example.org", "deviceToken": token, "visitorGuid": guid, "email": mail}
        api.ok("POST", "/push-contacts", contact)
    at = {"send_at": "2026-11-23T00:00:00Z", "topics": ...}
    api.ok("POST", "/notifications", send(id="hers", users=[ADA], content={"title": "Dear Countess"}, **at))
    api.ok("POST", "/notifications", send(id="both", users=[ADA, BOB], content={"title": f"{ADA} met {BOB}"}, **at))
    api.ok("PATCH", "/notifications/both", {"content": {"title": f"{ADA} wrote {BOB}"}})
    api.ok(
        "POST", "/notifications", send(id="mail", emails=[MAIL.lower(), "bob@example.com"], channels=["email"], **at)
    )
    visitors = [
        {"visitorGuid": GUID, "fields": {"name": "Countess"}},
        {"visitorGuid": "guid-of-bob", "fields": {"name": "B"}},
    ]
    message = {"title": "Hello [[[name]]]", "body": "b", "onClickLink": "https://example.org/", "visitors": visitors}
    api.ok("POST", "/push-contacts/shop.example.org/visitors/message", message, headers={"Idempotency-Key": "m-1"})
    api.ok(
        "POST", "/events", {"source": "shop", "type": "order", "detail": {"street": "1 Dorset St"}, "recipients": [ADA]}
    )
    api.ok("POST", "/events", {"source": "shop", "type": "met", "detail": {"customer_id": ADA}, "recipients": [BOB]})
    died(house, api, "dead", [TOKEN, "bobs-token"], users=[BOB], topics=...)


def dump(house: House, *without: str) -> dict[str, str]:
    """Return all rows of all tables as text."""
    with house.services.ledger.read() as conn:
        return {
            name: "\n".join(str(tuple(row)) for row in conn.execute(select(table)))
            for name, table in METADATA.tables.items()
            if name not in without
        }


def naming(house: House, names: tuple[str, ...], *without: str) -> set[tuple[str, str]]:
    return {
        (table, name) for table, rows in dump(house, *without).items() for name in names if name.lower() in rows.lower()
    }


def test_nothing_but_what_the_lake_is_still_to_be_told_names_an_erased_user(any_house: House) -> None:
    live(any_house)
    assert {name for _, name in naming(any_house, NAMES, "outbox")} == set(NAMES)
    answer = any_house.secret.call("DELETE", f"/users/{ADA}")
    assert answer.status_code == 202
    made = ErasureAccepted.model_validate(answer.json)
    # Until the lake is rewritten, the erasure knows whom it erases, and tombstones know their tokens.
    left = naming(any_house, NAMES, "outbox", "erasures")
    assert left <= {("devices", TOKEN), ("devices", BROWSER), ("devices", MAIL.lower())}
    assert "Countess" not in str(dump(any_house, "outbox")), "her sends' texts, and fields"
    assert "Dorset" not in str(dump(any_house, "outbox"))
    shown = any_house.secret.ok("GET", made.status_url)
    ErasureShown.model_validate(shown)
    assert shown["state"] == "ledger_done" and shown["removed"]["ledger"]["users"] == 1
    ErasurePage.model_validate(any_house.secret.ok("GET", "/erasures?state=ledger_done"))
    assert any_house.stranger.call("GET", made.status_url).status_code == 404
    again = any_house.secret.ok("DELETE", f"/users/{ADA}")
    assert again == answer.json, "one at a time"


def test_everybody_else_keeps_what_they_had(house: House) -> None:
    live(house)
    api = house.secret
    before = {path: api.ok("GET", path) for path in (f"/users/{BOB}", f"/users/{BOB}/preferences", f"/inbox/{BOB}")}
    api.ok("DELETE", f"/users/{ADA}")
    assert {path: api.ok("GET", path) for path in list(before)[:2]} == dict(list(before.items())[:2])
    assert api.ok("GET", "/devices/bobs-token")["user_id"] == BOB
    items = api.ok("GET", f"/inbox/{BOB}")["items"]
    assert len(items) == len(before[f"/inbox/{BOB}"]["items"])
    assert api.ok("GET", "/notifications/hers")["state"] == "cancelled"
    both = api.ok("GET", "/notifications/both")
    assert both["state"] == "accepted"
    assert both["request"]["users"] == [BOB] and both["request"]["content"]["title"] == f"erased wrote {BOB}"
    assert api.ok("GET", "/notifications/mail")["request"]["emails"] == ["bob@example.com"]
    assert api.call("GET", f"/devices/{TOKEN}").status_code == 404
    dead = api.ok("GET", "/dead-letters")["items"]
    assert [each["recipient"] for each in dead] == ["bobs-token"]


def test_what_an_erased_address_refused_still_holds(any_house: House) -> None:
    live(any_house)
    api, ledger = any_house.secret, any_house.services.ledger
    api.ok("DELETE", f"/users/{ADA}")
    with ledger.read() as conn:
        found = suppressions.find(conn, any_house.mine.tenant, Channel.SMS, [PHONE, "+447700900999"])
    assert set(found) == {PHONE}
    assert len(api.ok("GET", "/suppressions")["items"]) == 1
    assert api.call("DELETE", f"/suppressions/sms/{PHONE}").status_code == 204, "its owner may come back"
    with ledger.read() as conn:
        assert not suppressions.find(conn, any_house.mine.tenant, Channel.SMS, [PHONE])
        said = preferences.find(conn, any_house.mine.tenant, [f"device:{MAIL.lower()}"])
        assert not said[f"device:{MAIL.lower()}"]["offers", "email"].enabled


@pytest.mark.parametrize(
    ("body", "gone"),
    [
        ({"email": "ada@EXAMPLE.com"}, (MAIL,)),
        ({"phone": "+44 7700 900123"}, (PHONE,)),
        ({"device_token": BROWSER}, (BROWSER,)),
        ({"domain": "shop.example.org", "visitor_guid": GUID}, (GUID, BROWSER)),
    ],
)
def test_a_bare_name_is_erased_and_its_user_is_not(house: House, body: dict[str, Any], gone: tuple[str, ...]) -> None:
    live(house)
    assert {name for _, name in naming(house, gone, "outbox")} == set(gone)
    house.secret.ok("POST", "/erasures", body)
    assert {table for table, _ in naming(house, gone, "outbox", "erasures")} <= {"devices"}, "its tombstone"
    assert house.secret.ok("GET", f"/users/{ADA}")["user_id"] == ADA
    assert house.secret.ok("GET", f"/devices/{TOKEN}")["user_id"] == ADA


def test_who_is_nobody_or_two_is_refused(house: House) -> None:
    for body, field in (
        ({}, "user_id"),
        ({"email": MAIL, "phone": PHONE}, "phone"),
        ({"visitor_guid": GUID}, "domain"),
        ({"email": MAIL, "domain": "shop.example.org"}, "visitor_guid"),
    ):
        answer = house.secret.call("POST", "/erasures", body)
        assert answer.status_code == 422 and fields_of(answer) == {field}
    assert house.secret.call("DELETE", "/users/whom-nobody-knows").status_code == 202


def test_the_audit_says_what_was_done_and_to_whom_only_by_a_digest(house: House) -> None:
    live(house)
    with house.services.ledger.read() as conn:
        rows = conn.execute(select(func.count()).select_from(AUDIT)).scalar_one()
    house.secret.ok("DELETE", f"/users/{ADA}")
    with house.services.ledger.read() as conn:
        entry = conn.execute(select(AUDIT).where(AUDIT.c.event == "erasure.requested")).one()
        assert orjson.loads(entry.detail)["rows"]["devices"] == 3
        assert conn.execute(select(func.count()).select_from(AUDIT)).scalar_one() > rows, "none is lost"
        assert not conn.execute(select(DEVICES.c.token).where(DEVICES.c.user_id == ADA)).all()
