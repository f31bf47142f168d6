"""What became of sends: one, lists of them, and their history."""

from typing import Any

from notify_pipeline.core.ids import from_micros
from notify_pipeline.core.ledger import requests
from notify_pipeline.core.vocabulary import RequestState
from tests.ingest_api.conftest import House, send


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
    assert (shown["state"], shown["reason"]) == ("failed", "why")


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
