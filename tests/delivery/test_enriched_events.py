"""Events that are enriched by a real service on their way: once, with patience, and in nobody else's way."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import event_replays, requests, users
from notify_pipeline.core.ledger.engine import Ledger, utc_now
from notify_pipeline.core.ledger.event_lists import EventFilter
from notify_pipeline.core.ledger.event_replays import EventReplay
from notify_pipeline.core.vocabulary import EventState
from notify_pipeline.delivery import event_router
from tests.delivery.fakes import TENANT, context
from tests.delivery.service import Question, Reply, Service
from tests.delivery.test_event_router import found, post, put, run_until, waiting

OTHER = "t2"


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as started:
        yield started


def order(service: Service, path: str = "/orders/{detail.order}", **config: Any) -> dict[str, Any]:
    return {"name": "order", "enricher": "http", "config": {"url": service.url + path, **config}}


def settings(service: Service, **more: Any) -> dict[str, Any]:
    return {
        "enrichment_hosts": service.host,
        "enrichment_allow_private": True,
        "enrichment_retry_base_s": 0.05,
        "enrichment_retry_cap_s": 0.1,
        **more,
    }


def titles(ledger: Ledger, event_id: str) -> list[str]:
    """Return the titles of an event's sends."""
    sends = [requests.get_by_notification(ledger, TENANT, each) for each in found(ledger, event_id).notification_ids]
    return [send.body["content"]["title"] for send in sends if send is not None]


def test_an_event_waits_for_its_service_and_each_recipient_is_told_their_own(
    ledger: Ledger, tmp_path: Path, service: Service
) -> None:
    replies = iter([Reply(status=503), Reply(b"", status=500)])
    service.reply = lambda _: next(replies, Reply({"total": 12, "lines": ["Hat"]}))
    for name in ("ada", "bob"):
        users.put(ledger, TENANT, name, users.Profile(attributes={"name": name.title()}), "k", utc_now())
    greeting = "{{ enrichment.user.name }}: {{ enrichment.order.total }} for {{ enrichment.order.lines|join }}"
    lookups = [{"name": "user", "enricher": "user", "config": {}}, order(service)]
    put(ledger, "r", enrichment=lookups, per_recipient=True, content={"title": greeting})
    event_id = post(ledger, recipients={"users": ["ada", "bob"]})
    run_until(context(ledger, Lake(str(tmp_path)), **settings(service)), lambda: not waiting(ledger))
    row = found(ledger, event_id)
    assert (row.state, row.attempt_no, len(service.questions)) == (EventState.ROUTED, 3, 3)
    assert sorted(titles(ledger, event_id)) == ["Ada: 12 for Hat", "Bob: 12 for Hat"]


def test_an_event_dies_of_what_will_not_pass_and_is_replayed(
    sqlite_ledger: Ledger, tmp_path: Path, service: Service
) -> None:
    ledger, ctx = sqlite_ledger, context(sqlite_ledger, Lake(str(tmp_path)), **settings(service, enrichment_attempts=2))
    put(ledger, "r", enrichment=[order(service)], content={"title": "{{ enrichment.order.total }}"})
    service.reply = lambda question: Reply(status=404 if question.path == "/orders/1" else 503)
    dead = [post(ledger, detail={"order": number}) for number in (1, 2)]
    run_until(ctx, lambda: not waiting(ledger))
    assert [found(ledger, each).reason for each in dead] == [
        "order: 127.0.0.1 answered 404",
        "order: 127.0.0.1 answered 503 (attempt 2, the last)",
    ]
    assert {found(ledger, each).state for each in dead} == {EventState.DEAD}
    service.reply = lambda _: Reply({"total": 5})
    event_replays.replay(ledger, EventReplay(TENANT, "k", utc_now(), tuple(dead), EventFilter(), 10))
    run_until(ctx, lambda: not waiting(ledger))
    assert [titles(ledger, each) for each in dead] == [["5"], ["5"]]


def test_a_slow_service_keeps_no_other_event_waiting(
    sqlite_ledger: Ledger, tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_router, "_MOST_HELD", 5)
    monkeypatch.setattr(event_router, "_BATCH", 8)
    monkeypatch.setattr(event_router, "_PUT_OFF_S", (0.05, 0.05))

    def reply(question: Question) -> Reply:
        if question.path.startswith("/slow"):
            service.released.wait()
        return Reply({"total": 5})

    ledger, service.reply = sqlite_ledger, reply
    put(ledger, "slow", enrichment=[order(service, "/slow/{detail.order}")])
    put(ledger, "plain", match={"source": "plain", "type": "*"})
    put(ledger, "quick", tenant=OTHER, enrichment=[order(service)])
    slow = [post(ledger, detail={"order": number}) for number in range(40)]
    mine, others = post(ledger, source="plain"), post(ledger, tenant=OTHER)
    looked = []

    def done() -> bool:
        states = {found(ledger, mine).state, found(ledger, others, OTHER).state}
        if states == {EventState.ROUTED} and not looked:
            looked.append({found(ledger, each).state for each in slow})
            service.released.set()
        return bool(looked) and not waiting(ledger)

    run_until(context(ledger, Lake(str(tmp_path)), **settings(service, enrichment_timeout_s=60.0)), done)
    assert looked == [{EventState.ACCEPTED}]
    assert {found(ledger, each).state for each in slow} == {EventState.ROUTED}
