"""Cancelling and editing: what has started stays, what has not is changed for everybody who works on it."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from sqlalchemy import select

from notify_pipeline.core.ledger import audit, broadcasts, changing, requests, routing
from notify_pipeline.core.ledger.accepting import IdReused, NewRequest
from notify_pipeline.core.ledger.changing import AlreadyStarted, EditedMeanwhile
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.outbox_tables import OUTBOX
from notify_pipeline.core.ledger.requests import RequestRow
from notify_pipeline.core.ledger.routing import Plan
from notify_pipeline.core.vocabulary import DeliveryMode, RequestState

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)
BODY = {"type": "news", "users": ["u1"], "content": {"title": "First"}, "category": "uk"}


def new(body: dict[str, Any] | None = None, due_at: datetime | None = None, **more: Any) -> NewRequest:
    return NewRequest("t1", "n1", BODY if body is None else body, NOW, NOW + timedelta(hours=1), due_at, **more)


def stored(ledger: Ledger) -> RequestRow:
    row = requests.get_by_notification(ledger, "t1", "n1")
    assert row is not None
    return row


def events(ledger: Ledger) -> list[str]:
    return [entry.event for entry in audit.page(ledger, stored(ledger).request_id)]


def route(ledger: Ledger, owner: str, *states: RequestState, mode: DeliveryMode | None = None) -> bool:
    return routing.store(ledger, owner, [Plan(stored(ledger).request_id, 1, states, mode)], LATER)[0]


def test_a_cancelled_request_is_nobodys_any_more(ledger: Ledger) -> None:
    request_id = requests.accept(ledger, new()).request_id
    assert len(routing.claim(ledger, "planner", NOW, 60, 10)) == 1
    assert changing.cancel(ledger, "t2", "n1", "key", LATER) is None
    assert changing.cancel(ledger, "t1", "n1", "key", LATER) == request_id
    assert changing.cancel(ledger, "t1", "n1", "key", LATER) == request_id
    assert not route(ledger, "planner", RequestState.ROUTED, RequestState.SENDING, mode=DeliveryMode.DRAIN)
    assert routing.claim(ledger, "planner", LATER, 60, 10) == []
    assert stored(ledger).state is RequestState.CANCELLED
    assert events(ledger) == ["request.accepted", "request.cancelled"]
    assert requests.accept(ledger, new()).duplicate
    with pytest.raises(AlreadyStarted, match="cancelled"):
        changing.edit(ledger, stored(ledger), new(), LATER)


@pytest.mark.parametrize(
    "states",
    [
        (RequestState.ROUTED, RequestState.SENDING),
        (RequestState.DONE,),
        (RequestState.EXPIRED,),
        (RequestState.UNROUTED,),
        (RequestState.FAILED,),
    ],
)
def test_what_has_started_or_ended_stays(ledger: Ledger, states: tuple[RequestState, ...]) -> None:
    requests.accept(ledger, new())
    before = stored(ledger)
    routing.claim(ledger, "planner", NOW, 60, 10)
    assert route(ledger, "planner", *states, mode=DeliveryMode.DRAIN)
    for attempt in (
        lambda: changing.cancel(ledger, "t1", "n1", "key", LATER),
        lambda: changing.edit(ledger, before, new({**BODY, "type": "sport"}), LATER),
    ):
        with pytest.raises(AlreadyStarted) as error:
            attempt()
        assert error.value.state is states[-1]
    assert (stored(ledger).state, stored(ledger).body) == (states[-1], BODY)


def test_a_broadcast_is_cancelled_until_its_audience_is_fixed(ledger: Ledger) -> None:
    request_id = requests.accept(ledger, new()).request_id
    routing.claim(ledger, "planner", NOW, 60, 10)
    assert route(ledger, "planner", RequestState.ROUTED, mode=DeliveryMode.BROADCAST)
    with pytest.raises(AlreadyStarted):
        changing.edit(ledger, stored(ledger), new({**BODY, "type": "sport"}), LATER)
    assert changing.cancel(ledger, "t1", "n1", "key", LATER) == request_id
    assert not broadcasts.start(ledger, broadcasts.Snapshot(request_id, (), (), LATER))
    assert broadcasts.due(ledger, LATER) == []
    assert broadcasts.finish(ledger, request_id, LATER) is RequestState.CANCELLED


def test_an_edit_is_for_everybody_and_its_history_is_kept(ledger: Ledger) -> None:
    first = requests.accept(ledger, new())
    claimed = routing.claim(ledger, "planner", NOW, 60, 10)
    edited = {"type": "sport", "users": ["u2"], "content": {"title": "Second"}, "priority": "high"}
    due = NOW + timedelta(minutes=5)
    changing.edit(ledger, claimed[0], new(edited, due, actor="key-1"), LATER)
    row = stored(ledger)
    assert (row.body, row.type, row.priority, row.category) == (edited, "sport", "high", None)
    assert (row.revision, row.due_at, row.accepted_at, row.state) == (1, due, NOW, RequestState.ACCEPTED)
    assert not route(ledger, "planner", RequestState.ROUTED, RequestState.SENDING, mode=DeliveryMode.DRAIN)
    assert routing.claim(ledger, "planner", LATER, 60, 10) == []
    # Not even for the planner that has it again: its plan is of what it was before.
    assert len(routing.claim(ledger, "planner", due, 60, 10)) == 1
    assert not route(ledger, "planner", RequestState.ROUTED, RequestState.SENDING, mode=DeliveryMode.DRAIN)
    entry = audit.page(ledger, row.request_id)[-1]
    assert (entry.event, entry.actor) == ("request.edited", "key-1")
    assert entry.detail == {
        "before": {
            "type": "news",
            "users": ["u1"],
            "content": {"title": "First"},
            "category": "uk",
            "priority": None,
        },
        "after": {
            "type": "sport",
            "users": ["u2"],
            "content": {"title": "Second"},
            "category": None,
            "priority": "high",
        },
    }
    # A repetition is of what was first asked for.
    assert requests.accept(ledger, new()).request_id == first.request_id
    with pytest.raises(IdReused):
        requests.accept(ledger, new(edited, due))
    with pytest.raises(EditedMeanwhile):
        changing.edit(ledger, claimed[0], new(), LATER)


def test_an_edit_to_the_same_leaves_no_trace(ledger: Ledger) -> None:
    requests.accept(ledger, new())
    changing.edit(ledger, stored(ledger), new(), LATER)
    assert (stored(ledger).revision, events(ledger)) == (0, ["request.accepted"])


def test_the_lake_learns_each_revision(ledger: Ledger) -> None:
    request_id = requests.accept(ledger, new()).request_id
    for title in ("Second", "Third"):
        changing.edit(ledger, stored(ledger), new({**BODY, "content": {"title": title}}), LATER)
    with ledger.read() as conn:
        found = conn.execute(select(OUTBOX.c.rows).where(OUTBOX.c.lake_table == "requests")).scalars()
        rows = [row for each in found for row in orjson.loads(each)]
    rows.sort(key=lambda row: row.get("revision") or 0)
    assert [(row.get("revision"), row["title"], row["request_id"]) for row in rows] == [
        (None, "First", request_id),
        (1, "Second", request_id),
        (2, "Third", request_id),
    ]
    assert len({row["accepted_at"] for row in rows}) == 1


def test_of_many_edits_and_cancellations_at_once_each_tells_the_truth(ledger: Ledger) -> None:
    requests.accept(ledger, new())
    told: list[str] = []

    def change(number: int) -> None:
        try:
            if number == 7:
                changing.cancel(ledger, "t1", "n1", "key", LATER)
                told.append("cancelled")
            else:
                changing.edit(ledger, stored(ledger), new({**BODY, "collapse_key": str(number)}), LATER)
                told.append("edited")
        except (EditedMeanwhile, AlreadyStarted) as error:
            told.append(type(error).__name__)

    threads = [threading.Thread(target=change, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 16
    assert stored(ledger).state is RequestState.CANCELLED
    assert stored(ledger).revision == told.count("edited") == events(ledger).count("request.edited")
    assert events(ledger).count("request.cancelled") == told.count("cancelled") == 1
