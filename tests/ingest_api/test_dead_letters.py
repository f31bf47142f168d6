"""Dead letters over HTTP: listing, showing and replaying them, and whose they are."""

from collections.abc import Sequence
from typing import Any

import pytest

from ingest_api.dead_letters.models import LetterPage, LetterShown, ReplayAnswer
from notify_pipeline.core.ids import DeliveryIds, to_micros
from notify_pipeline.core.ledger import dead_letters
from notify_pipeline.core.ledger.dead_letters import DeadLetter
from notify_pipeline.core.vocabulary import DeadLetterReason, Outcome
from tests.ingest_api.conftest import Api, House, fields_of, send
from tests.ingest_api.test_limits import limit


def died(
    house: House, api: Api, notification_id: str, addresses: Sequence[str], **changes: Any
) -> tuple[str, list[str]]:
    """Send a notification whose deliveries to these addresses die; return its request and the deliveries."""
    request_id = api.ok("POST", "/notifications", send(id=notification_id, **changes))["request_id"]
    ids = DeliveryIds(b"s", api.key or "", notification_id, "fcm").of_all(addresses)
    reason = DeadLetterReason.ATTEMPTS
    rows = [
        DeadLetter(delivery_id, "android", address, f"u-{address}", Outcome.TRANSIENT, "UNAVAILABLE", reason, 6)
        for delivery_id, address in zip(ids, addresses, strict=True)
    ]

    def add(conn: Any, items: Any) -> list[None]:
        for item in items:
            dead_letters.add(conn, "fcm", {request_id: item}, to_micros(house.clock()))
        return [None for _ in items]

    house.services.ledger.write(add, rows)
    return request_id, ids


def test_a_dead_letter_is_listed_and_shown(any_house: House) -> None:
    request_id, (delivery_id,) = died(any_house, any_house.secret, "n-1", ["a"], category="politics")
    page = any_house.secret.ok("GET", "/dead-letters")
    LetterPage.model_validate(page)
    (item,) = page["items"]
    assert item == {
        "delivery_id": delivery_id,
        "tenant": any_house.mine.tenant,
        "request_id": request_id,
        "notification_id": "n-1",
        "type": "news",
        "category": "politics",
        "channel": "fcm",
        "platform": "android",
        "recipient": "a",
        "user_id": "u-a",
        "outcome": "transient",
        "provider_code": "UNAVAILABLE",
        "reason": "attempts_exhausted",
        "attempts": 6,
        "died_at": "2026-11-21T06:33:59.123456Z",
        "replayed_at": None,
        "replayed_as": None,
    }
    shown = any_house.secret.ok("GET", f"/dead-letters/{delivery_id}")
    LetterShown.model_validate(shown)
    assert shown == item
    assert any_house.stranger.call("GET", f"/dead-letters/{delivery_id}").status_code == 404
    assert any_house.stranger.ok("GET", "/dead-letters") == {"items": [], "next_cursor": None}


def test_lists_are_filtered_and_paged_newest_first(house: House) -> None:
    all_: list[str] = []
    for number in range(4):
        house.clock.advance(minutes=1)
        _, ids = died(house, house.secret, f"n-{number}", ["a", "b"], type="even" if number % 2 == 0 else "odd")
        all_ += sorted(ids)
    whole = [item["delivery_id"] for item in house.secret.ok("GET", "/dead-letters")["items"]]
    assert whole == all_[::-1]
    paged: list[str] = []
    path = "/dead-letters?limit=3"
    for _ in range(3):
        page = house.secret.ok("GET", path)
        paged += [item["delivery_id"] for item in page["items"]]
        path = f"/dead-letters?limit=3&cursor={page['next_cursor']}"
    assert page["next_cursor"] is None and paged == whole

    def found(query: str) -> set[tuple[str, str]]:
        items = house.secret.ok("GET", f"/dead-letters?{query}")["items"]
        return {(item["notification_id"], item["recipient"]) for item in items}

    assert found("notification_id=n-1") == found("type=odd&until=2026-11-21T06:37:00Z") == {("n-1", "a"), ("n-1", "b")}
    assert found("user=u-b&from=2026-11-21T06:37:30Z") == {("n-3", "b")}
    assert found("replayed=true") == found("channel=apns") == found("reason=permanent") == set()
    assert len(found("replayed=false&provider_code=UNAVAILABLE&platform=android")) == 8


def test_a_replay_over_http(any_house: House) -> None:
    request_id, ids = died(any_house, any_house.secret, "n-1", ["a", "b", "c"])
    response = any_house.secret.call("POST", "/dead-letters/replay", {"ids": ids[:1]})
    assert response.status_code == 202 and "Idempotent-Replayed" not in response.headers
    body = response.json
    assert body is not None
    ReplayAnswer.model_validate(body)
    (made,) = body["requests"]
    assert (made["replay_of"], made["channel"], made["dead_letters"]) == (request_id, "fcm", 1)
    shown = any_house.secret.ok("GET", f"/notifications/{made['notification_id'].replace('~', '%7E')}")
    assert shown["request"]["devices"] == ["a"]
    assert any_house.secret.ok("GET", f"/dead-letters/{ids[0]}")["replayed_as"] == made["request_id"]
    rest = any_house.secret.ok("POST", "/dead-letters/replay", {"filter": {"request_id": request_id}, "limit": 1})
    assert ([each["dead_letters"] for each in rest["requests"]], rest["left"]) == ([1], 1)
    again = any_house.secret.ok("POST", "/dead-letters/replay", {"ids": ids[:1]})
    assert again["requests"] == []
    assert again["already_replayed"] == [{"delivery_id": ids[0], "replayed_as": made["request_id"]}]


def test_a_replay_may_carry_other_content(house: House) -> None:
    _, ids = died(house, house.secret, "n-1", ["a"], overrides={"fcm": {"title": "For Android"}})
    body = {"ids": ids, "content": {"body": "Shorter"}}
    (made,) = house.secret.ok("POST", "/dead-letters/replay", body)["requests"]
    shown = house.secret.ok("GET", f"/notifications/{made['notification_id']}")["request"]
    assert shown["content"] == {"body": "Shorter"} and "overrides" not in shown
    wrong = house.secret.call("POST", "/dead-letters/replay", {"ids": ids, "content": {"data": {"aps": "x"}}})
    assert (wrong.status_code, fields_of(wrong)) == (422, {"content.data.aps"})


def test_a_replay_is_held_to_the_tenants_limits_as_a_whole(any_house: House) -> None:
    died(any_house, any_house.secret, "n-1", ["a", "b", "c"])
    before = any_house.secret.ok("GET", "/dead-letters")
    limit(any_house, any_house.mine.tenant, daily_requests=1, max_audience=2, max_content_bytes=50)
    refused = any_house.secret.call("POST", "/dead-letters/replay", {"filter": {}})
    assert refused.status_code == 429 and refused.json is not None
    assert refused.json["error"]["code"] == "quota_exceeded"
    large = any_house.secret.call("POST", "/dead-letters/replay", {"filter": {}, "content": {"title": "x" * 60}})
    assert (large.status_code, fields_of(large)) == (422, {"content"})
    assert any_house.secret.ok("GET", "/dead-letters") == before
    limit(any_house, any_house.mine.tenant, max_audience=2)
    done = any_house.secret.ok("POST", "/dead-letters/replay", {"filter": {}})
    assert [each["dead_letters"] for each in done["requests"]] == [2, 1]


def test_a_key_makes_a_replay_safe_to_repeat(any_house: House) -> None:
    _, ids = died(any_house, any_house.secret, "n-1", ["a", "b"])
    keyed: dict[str, Any] = {"headers": {"Idempotency-Key": '"k-1"'}}
    path = "/dead-letters/replay"
    first = any_house.secret.call("POST", path, {"filter": {}, "limit": 1}, **keyed)
    second = any_house.secret.call("POST", path, {"filter": {}, "limit": 1}, **keyed)
    assert (first.json, second.json) == (second.json, first.json)
    assert second.headers["Idempotent-Replayed"] == "true"
    assert any_house.secret.call("POST", path, {"ids": ids}, **keyed).status_code == 409
    assert any_house.stranger.ok("POST", path, {"filter": {}, "limit": 1}, **keyed)["requests"] == []
    bad = any_house.secret.call("POST", path, {"ids": ids}, headers={"Idempotency-Key": "a/b"})
    assert (bad.status_code, fields_of(bad)) == (422, {"Idempotency-Key"})


def test_a_product_sees_its_organizations_letters_and_acts_for_one(any_house: House) -> None:
    branch = any_house.mine.organizations[0]
    of_branch = any_house.api(branch.secret_key)
    _, theirs = died(any_house, of_branch, "n-1", ["a"])
    _, ours = died(any_house, any_house.secret, "n-1", ["b"])

    def listed(api: Api, path: str = "/dead-letters", **options: Any) -> set[str]:
        return {item["delivery_id"] for item in api.ok("GET", path, **options)["items"]}

    spanning = "/dead-letters?include_organizations=true"
    assert listed(any_house.secret) == set(ours)
    assert listed(any_house.secret, spanning) == {*ours, *theirs}
    assert listed(of_branch, spanning) == set(theirs) and listed(any_house.stranger, spanning) == set()
    assert any_house.secret.ok("GET", f"/dead-letters/{theirs[0]}")["tenant"] == branch.tenant
    assert of_branch.call("GET", f"/dead-letters/{ours[0]}").status_code == 404
    acting: dict[str, Any] = {"headers": {"Notify-Organization": branch.tenant}}
    assert listed(any_house.secret, **acting) == set(theirs)
    refused = any_house.secret.call("POST", "/dead-letters/replay", {"ids": [*ours, *theirs]})
    assert (refused.status_code, fields_of(refused)) == (404, {"ids.1"})
    done = any_house.secret.ok("POST", "/dead-letters/replay", {"ids": theirs}, **acting)
    assert of_branch.ok("GET", f"/requests/{done['requests'][0]['request_id']}")["state"] == "accepted"


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"ids"}),
        ({"ids": ["0" * 40], "filter": {}}, {"filter"}),
        ({"ids": ["0" * 40], "limit": 5}, {"limit"}),
        ({"ids": []}, {"ids"}),
        ({"ids": ["x"]}, {"ids.0"}),
        ({"filter": {"replayed": True}}, {"filter.replayed"}),
        ({"filter": {"since": "2026-11-21T06:33:59Z"}}, {"filter.since"}),
        ({"filter": {"from": "yesterday"}}, {"filter.from"}),
        ({"filter": {}, "limit": 2_001}, {"limit"}),
        ({"filter": {"reason": "bored"}}, {"filter.reason"}),
    ],
)
def test_a_replay_that_makes_no_sense_is_refused(house: House, body: dict[str, Any], fields: set[str]) -> None:
    response = house.secret.call("POST", "/dead-letters/replay", body)
    assert (response.status_code, fields_of(response)) == (422, fields)


def test_only_a_secret_key_may(house: House) -> None:
    for method, path in (
        ("GET", "/dead-letters"),
        ("GET", f"/dead-letters/{'0' * 40}"),
        ("POST", "/dead-letters/replay"),
    ):
        assert house.publishable.call(method, path, {} if method == "POST" else None).status_code == 403
        assert house.anonymous.call(method, path).status_code == 401
