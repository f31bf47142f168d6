"""Beacons become log lines."""

import gzip
from pathlib import Path
from typing import Any

import orjson
import pytest

from notify_pipeline.core.ids import DeliveryIds
from tests.ingest_api.conftest import House, fields_of


def beacon(house: House, **changes: str) -> str:
    d = DeliveryIds(house.services.delivery_secret, house.mine.tenant, "n-1", "fcm").of("token")
    values = {"notificationId": "n-1", "platform": "android", "provider": "fcm", "d": d} | changes
    return "&".join(f"{name}={value}" for name, value in values.items() if value != "...")


def logged(house: House) -> dict[str, list[dict[str, Any]]]:
    """Return the lines of every delivered log file."""
    house.services.receipts.deliver_now()
    root = Path(house.services.settings.logs)
    return {
        str(path.parent.relative_to(root)): [orjson.loads(line) for line in gzip.open(path)]
        for path in root.rglob("*.log.gz")
    }


@pytest.mark.parametrize("event", ["received", "opened", "clicked"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_beacon_is_logged_as_the_cdn_would(house: House, event: str, method: str) -> None:
    query = beacon(house)
    answered = house.anonymous.call(method, f"/notification/{event}?{query}", headers={"User-Agent": "App/1"})
    assert (answered.status_code, answered.data) == (204, b"")
    assert logged(house) == {
        "ingress/date=2026-11-21/hour=06": [
            {
                "datetime": "2026-11-21T06:33:59.123Z",
                "event": f"/notification/{event}",
                "querystring": query,
                "method": method,
                "status": 204,
                "user_agent": "App/1",
            }
        ]
    }


def test_lines_go_to_the_hour_of_their_moment(house: House) -> None:
    path = f"/notification/received?{beacon(house)}"
    for _ in range(3):
        house.anonymous.ok("GET", path)
        house.clock.advance(minutes=20)
    assert {hour: len(lines) for hour, lines in logged(house).items()} == {
        "ingress/date=2026-11-21/hour=06": 2,
        "ingress/date=2026-11-21/hour=07": 1,
    }


def test_a_forged_delivery_is_400_and_not_logged(house: House) -> None:
    answered = house.anonymous.call("GET", f"/notification/received?{beacon(house, d='0' * 40)}")
    assert (answered.status_code, fields_of(answered)) == (400, {"d"})
    assert logged(house) == {}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"d": "..."}, "d"),
        ({"d": "zz"}, "d"),
        ({"d": ""}, "d"),
        ({"notificationId": "..."}, "notificationId"),
        ({"notificationId": "a%00"}, "notificationId"),
        ({"notificationId": "x" * 200}, "notificationId"),
        ({"platform": "symbian"}, "platform"),
        ({"provider": "a%0ab"}, "provider"),
        ({"provider": "x" * 65}, "provider"),
        ({"cachebuster": "1"}, "cachebuster"),
    ],
)
def test_a_bad_beacon_names_its_parameter(house: House, changes: dict[str, str], field: str) -> None:
    answered = house.anonymous.call("GET", f"/notification/received?{beacon(house, **changes)}")
    assert (answered.status_code, fields_of(answered)) == (422, {field})
    assert logged(house) == {}


def test_a_click_may_name_the_action_and_nothing_else_may(house: House) -> None:
    query = beacon(house, action="read-later")
    house.anonymous.ok("GET", f"/notification/clicked?{query}")
    house.anonymous.ok("POST", f"/notification/clicked?{query}")
    for path, asked in (("received", query), ("opened", query), ("clicked", beacon(house, action="read%20later"))):
        answered = house.anonymous.call("GET", f"/notification/{path}?{asked}")
        assert (answered.status_code, fields_of(answered)) == (422, {"action"})
    assert [line["querystring"] for lines in logged(house).values() for line in lines] == [query, query]


def test_a_preview_is_no_receipt(house: House) -> None:
    answered = house.anonymous.call("HEAD", f"/notification/received?{beacon(house)}")
    assert (answered.status_code, answered.headers["Allow"]) == (405, "GET, POST")
    assert logged(house) == {}


def test_what_cannot_be_stored_is_not_answered_204(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(house.services.receipts, "append", full)
    answered = house.anonymous.call("GET", f"/notification/received?{beacon(house)}")
    assert answered.status_code == 503
    assert answered.headers["Retry-After"]
    fields_of(answered)
