"""Many sends in one request: each as if it had been posted alone, all in one transaction."""

import threading
from typing import Any

import orjson
import pytest
from sqlalchemy import func, select

from ingest_api.notifications.answers import BulkAnswer
from ingest_api.notifications.models import MAX_BULK
from notify_pipeline.core.ledger.tables import REQUESTS
from tests.ingest_api.conftest import House, send


def bulk(house: House, *items: Any, **options: Any) -> list[dict[str, Any]]:
    answered = house.secret.ok("POST", "/notifications/bulk", {"notifications": list(items)}, **options)
    BulkAnswer.model_validate(answered)
    results: list[dict[str, Any]] = answered["results"]
    return results


def fields(result: dict[str, Any]) -> set[str]:
    return {detail["field"] for detail in result["error"]["details"]}


def count(house: House) -> int:
    with house.services.ledger.read() as conn:
        return conn.execute(select(func.count()).select_from(REQUESTS)).scalar_one()


def test_each_gets_its_own_result_in_order(any_house: House) -> None:
    any_house.secret.ok("POST", "/notifications", send(id="old"))
    items = [
        send(id="b"),
        send(id="old"),
        send(id="bad", content={}),
        "nothing",
        send(id="old", type="sport"),
        send(id="b"),
        send(id="b", type="sport"),
        send(id=...),
        send(id="a"),
        {**send(id="c"), "unknown": 1},
    ]
    results = bulk(any_house, *items)
    assert [result["status"] for result in results] == [202, 202, 422, 422, 409, 202, 409, 202, 202, 422]
    duplicates = [result.get("duplicate") for result in results]
    assert duplicates == [False, True, None, None, None, True, None, False, False, None]
    assert [fields(result) for result in results if "error" in result] == [
        {"content"},
        {"body"},
        {"id"},
        {"id"},
        {"unknown"},
    ]
    assert results[5] == results[0] | {"duplicate": True}
    assert results[0]["status_url"] == f"/requests/{results[0]['request_id']}"
    assert count(any_house) == 4
    for name, kind in (("a", "news"), ("b", "news"), ("old", "news")):
        assert any_house.secret.ok("GET", f"/notifications/{name}")["type"] == kind


def test_a_repetition_replays_each(any_house: House) -> None:
    items = [send(id=f"n-{number}") for number in range(40)]
    first = bulk(any_house, *items)
    any_house.clock.advance(hours=1)
    assert bulk(any_house, *reversed(items)) == [result | {"duplicate": True} for result in reversed(first)]
    # Alone it is the same send.
    assert any_house.secret.ok("POST", "/notifications", items[7])["request_id"] == first[7]["request_id"]


def test_a_key_names_what_has_no_name(house: House) -> None:
    items = [send(id=...), send(id="mine"), send(id=...)]
    headers = {"Idempotency-Key": "import-1"}
    first = bulk(house, *items, headers=headers)
    assert [result["notification_id"] for result in first] == ["import-1:0", "mine", "import-1:2"]
    assert bulk(house, *items, headers=headers) == [result | {"duplicate": True} for result in first]
    # A key that leaves them no room refuses those that it names.
    long = bulk(house, *items, headers={"Idempotency-Key": "x" * 127})
    assert [result["status"] for result in long] == [422, 202, 422]
    assert fields(long[0]) == {"Idempotency-Key"}
    assert count(house) == 3


@pytest.mark.parametrize("body", [{"notifications": []}, {"notifications": [send()] * (MAX_BULK + 1)}, {}, []])
def test_the_whole_is_bounded(house: House, body: Any) -> None:
    assert house.secret.call("POST", "/notifications/bulk", body).status_code == 422
    assert count(house) == 0


def test_a_body_beyond_the_limit_is_refused_whole(house: House) -> None:
    big = send(content={"title": "x", "body": "y" * 20_000})
    limit = house.services.settings.max_body_bytes
    items = [{**big, "id": str(number)} for number in range(limit // 20_000 + 1)]
    assert house.secret.call("POST", "/notifications/bulk", {"notifications": items}).status_code == 413
    assert count(house) == 0


def test_odd_values_are_refused_one_by_one(house: House) -> None:
    good = orjson.dumps(send(id="good")).decode()
    odd = ['{"ttl": 1e999}', '{"ttl": 99999999999999999999999999}', '{"type": NaN}', "[[[[]]]]", "null"]
    body = '{"notifications": [' + ",".join([*odd, good]) + "]}"
    answered = house.secret.call("POST", "/notifications/bulk", body.encode())
    if answered.status_code == 200:
        assert [result["status"] for result in answered.json["results"]] == [422] * len(odd) + [202]
    else:
        # NaN is no JSON.
        assert answered.status_code == 400


def test_bulks_with_the_same_ids_in_any_order_at_once(any_house: House) -> None:
    items = [send(id=f"n-{number}") for number in range(50)]
    answers: list[list[dict[str, Any]]] = []

    def post(order: list[Any]) -> None:
        client = any_house.client.application.test_client()
        answered = client.post(
            "/notifications/bulk",
            json={"notifications": order},
            headers={"Authorization": f"Bearer {any_house.mine.secret_key}"},
        )
        assert answered.status_code == 200, answered.text
        answers.append(answered.json["results"])

    threads = [threading.Thread(target=post, args=(items[::step],)) for step in (1, -1) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    flat = [result for results in answers for result in results]
    assert all(result["status"] == 202 for result in flat)
    assert sum(not result["duplicate"] for result in flat) == 50 == count(any_house)
    assert len({(result["notification_id"], result["request_id"]) for result in flat}) == 50
