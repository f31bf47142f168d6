"""What became of sends: one, lists of them, and their history."""

from typing import Any

from notify_pipeline.core.ids import from_micros
from notify_pipeline.core.ledger import requests
from notify_pipeline.core.vocabulary import RequestState
from tests.ingest_api.conftest import ADMIN, Api, House, fields_of, send


def test_the_history_is_shown_page_by_page(house: House) -> None:
    request_id = house.secret.ok("POST", "/notifications", send())["request_id"]

    def moves(conn: Any, items: Any) -> list[None]:
        for number, state in enumerate(items[0]):
            came = (RequestState.ACCEPTED, RequestState.ROUTED)
            requests.move(conn, request_id, came, state, now=from_micros(number), actor="test", reason="why")
        return [None]

    house.services.ledger.write(moves, (RequestState.ROUTED, RequestState.FAILED))
    events: list[tuple[str, Any, Any]] = []
    cursor = ""
    for _ in range(4):
        page = house.secret.ok("GET", f"/requests/{request_id}/audit?limit=1{cursor}")
        events += [(e["event"], e["from_state"], e["to_state"]) for e in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert events == [
        ("request.accepted", None, "accepted"),
        ("request.routed", "accepted", "routed"),
        ("request.failed", "routed", "failed"),
    ]
    shown = house.secret.ok("GET", f"/requests/{request_id}")
    assert (shown["state"], shown["reason"], shown["tenant"]) == ("failed", "why", house.mine.tenant)
    assert (shown["routed_at"], shown["sending_at"]) == ("1970-01-01T00:00:00Z", None)
    assert shown["ended_at"] == "1970-01-01T00:00:00.000001Z"


def test_a_send_shows_the_time_that_was_asked_for(house: House) -> None:
    moment, local = {"send_at": "2026-11-22T09:00:00Z"}, {"send_at_local": "2026-11-22T09:00:00"}
    for n, asked in enumerate(({}, moment, local)):
        house.secret.ok("POST", "/notifications", send(id=f"n-{n}", **asked))
        shown = house.secret.ok("GET", f"/notifications/n-{n}")
        assert {name: shown[name] for name in (*moment, *local)} == {"send_at": None, "send_at_local": None, **asked}


def test_lists_are_paged_newest_first_and_filtered(house: House) -> None:
    for n in range(5):
        # Two share a moment: the order must be whole all the same.
        house.clock.advance(seconds=n % 2)
        house.secret.ok("POST", "/notifications", send(id=f"n-{n}", type="even" if n % 2 == 0 else "odd"))
    whole = [item["notification_id"] for item in house.secret.ok("GET", "/notifications")["items"]]
    assert sorted(whole) == [f"n-{n}" for n in range(5)]
    assert whole[-1] == "n-0"
    paged: list[str] = []
    path = "/notifications?limit=2"
    for _ in range(3):
        page = house.secret.ok("GET", path)
        paged += [item["notification_id"] for item in page["items"]]
        path = f"/notifications?limit=2&cursor={page['next_cursor']}"
    assert page["next_cursor"] is None
    assert paged == whole
    odd = house.secret.ok("GET", "/notifications?type=odd&state=accepted")["items"]
    assert {item["notification_id"] for item in odd} == {"n-1", "n-3"}
    assert house.secret.ok("GET", "/notifications?state=done")["items"] == []


def test_every_filter_of_the_list(house: House) -> None:
    house.secret.ok("POST", "/notifications", send(id="n-1", category="politics", priority="high"))
    house.clock.advance(hours=1)
    house.secret.ok("POST", "/notifications", send(id="n-2", category="x"))
    for query, expected in {
        "category=politics": ["n-1"],
        "priority=normal": ["n-2"],
        "channel=fcm": [],
        "from=2026-11-21T07:00:00Z": ["n-2"],
        "until=2026-11-21T07:00:00Z": ["n-1"],
        "until=2026-11-21T08:00:00%2B01:00&state=accepted&type=news": ["n-1"],
        "state=failed": [],
    }.items():
        items = house.secret.ok("GET", f"/notifications?{query}")["items"]
        assert [item["notification_id"] for item in items] == expected, query
    for query, field in {"from=yesterday": "from", "channel=pigeon": "channel", "cursor=WyJhIl0": "cursor"}.items():
        answered = house.secret.call("GET", f"/notifications?{query}")
        assert (answered.status_code, fields_of(answered)) == (422, {field})


def test_a_product_sees_its_organizations_sends(house: House) -> None:
    branch = house.mine.organizations[0]
    mine = house.secret.ok("POST", "/notifications", send(id="n-1"))["request_id"]
    house.clock.advance(seconds=1)
    theirs = house.api(branch.secret_key).ok("POST", "/notifications", send(id="n-2"))["request_id"]
    shown = house.secret.ok("GET", f"/requests/{theirs}")
    assert (shown["tenant"], shown["notification_id"]) == (branch.tenant, "n-2")
    history = house.secret.ok("GET", f"/requests/{theirs}/audit")["items"]
    assert [(entry["event"], entry["tenant"]) for entry in history] == [("request.accepted", branch.tenant)]

    def listed(key: str, query: str = "?include_organizations=true") -> list[str]:
        return [item["request_id"] for item in house.api(key).ok("GET", f"/notifications{query}")["items"]]

    assert listed(house.mine.secret_key) == [theirs, mine]
    assert listed(house.mine.secret_key, "") == [mine]
    assert listed(branch.secret_key) == [theirs]
    assert listed(house.other.secret_key) == []
    assert house.api(branch.secret_key).call("GET", f"/requests/{mine}").status_code == 404
    assert house.secret.call("GET", "/notifications/n-2").status_code == 404


def audited(api: Api, query: str = "") -> list[tuple[str, str | None]]:
    """Return event and tenant of every entry, by pages of two."""
    found: list[tuple[str, str | None]] = []
    cursor = ""
    while True:
        page = api.ok("GET", f"/audit?limit=2{query}{cursor}")
        found += [(entry["event"], entry["tenant"]) for entry in page["items"]]
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"


def test_the_whole_history_is_shown_to_whom_it_concerns(any_house: House) -> None:
    house = any_house
    branch, mine = house.mine.organizations[0], house.mine.tenant
    house.clock.advance(seconds=1)
    request_id = house.secret.ok("POST", "/notifications", send())["request_id"]
    house.clock.advance(seconds=1)
    house.api(branch.secret_key).ok("POST", "/notifications", send())
    created = ("tenant.created", mine)
    sent, branch_sent = ("request.accepted", mine), ("request.accepted", branch.tenant)
    own = audited(house.secret)
    assert own[0] == sent and created in own
    assert {tenant for _, tenant in own} == {mine}
    assert audited(house.secret, "&order=oldest") == own[::-1]
    assert audited(house.secret, "&include_organizations=true")[:2] == [branch_sent, sent]
    assert audited(house.secret, f"&tenant={branch.tenant}") == audited(house.api(branch.secret_key))
    acting = {"Notify-Organization": branch.tenant}
    assert house.secret.ok("GET", "/audit", headers=acting)["items"][0]["tenant"] == branch.tenant
    assert audited(house.secret, "&event=request.accepted") == [sent]
    assert audited(house.secret, f"&request_id={request_id}") == [sent]
    assert audited(house.secret, "&until=2026-11-21T06:34:00Z") == own[1:]
    assert audited(house.secret, "&from=2026-11-21T06:34:00Z") == [sent]
    everybodys = audited(house.api(ADMIN), "&order=oldest")
    assert {tenant for _, tenant in everybodys} >= {mine, house.other.tenant}
    assert audited(house.api(ADMIN)) == everybodys[::-1]
    assert audited(house.api(ADMIN), f"&tenant={mine}") == own
    assert audited(house.stranger, f"&request_id={request_id}") == []
    for key in (house.other.secret_key, branch.secret_key):
        answered = house.api(key).call("GET", f"/audit?tenant={mine}")
        assert (answered.status_code, b"mine" in answered.data) == (404, False)


def test_recipients_and_messages_are_shown(any_house: House) -> None:
    house = any_house
    request_id = house.secret.ok("POST", "/notifications", send())["request_id"]
    for path in (f"/requests/{request_id}/recipients?outcome=pending&channel=fcm", "/users/u-1/messages?channel=apns"):
        assert house.secret.ok("GET", path) == {"items": [], "complete": True, "next_cursor": None}
    assert house.secret.ok("GET", "/notifications?user=u-1")["items"] == []
    for path, field in {
        f"/requests/{request_id}/recipients?outcome=lost": "outcome",
        f"/requests/{request_id}/recipients?cursor=WzFd": "cursor",
        "/users/u-1/messages?from=now": "from",
        "/notifications?user=u-1&include_organizations=true": "include_organizations",
    }.items():
        answered = house.secret.call("GET", path)
        assert (answered.status_code, fields_of(answered)) == (422, {field})
