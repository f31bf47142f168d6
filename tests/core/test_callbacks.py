"""Callbacks and their messages in the ledger: who is told of what, once, in the transaction that made it true."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from sqlalchemy import Connection, event, func, select

from notify_pipeline.core.ledger import callback_messages, callbacks, requests, tenants
from notify_pipeline.core.ledger.callbacks import TooManyCallbacks, new_secret
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.requests import NewRequest
from notify_pipeline.core.ledger.tables import AUDIT
from notify_pipeline.core.ledger.tenant_tables import CALLBACK_MESSAGES
from notify_pipeline.core.vocabulary import FINAL_STATES, CallbackEvent, RequestState
from tests.waiting import PATIENCE_S

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ALL = list(CallbackEvent)


def accept(ledger: Ledger, tenant: str, notification_id: str = "n-1") -> str:
    body = {"type": "news", "category": "sport", "content": {"title": "x"}}
    new = NewRequest(tenant, notification_id, body, NOW, NOW + timedelta(hours=1))
    return requests.accept(ledger, new).request_id


def move(ledger: Ledger, request_id: str, to_state: RequestState, reason: str | None = None) -> bool:
    def handler(conn: Connection, items: Any) -> list[bool]:
        froms = [RequestState.ACCEPTED, RequestState.ROUTED]
        return [requests.move(conn, i, froms, to_state, now=NOW, actor="test", reason=reason) for i in items]

    return ledger.write(handler, request_id)


def create(ledger: Ledger, tenant: str, events: Any = ALL, **more: Any) -> str:
    url = more.pop("url", "https://example.com/hook?token=t")
    return callbacks.create(ledger, tenant, url, events, new_secret(), "k", NOW).callback_id


def messages(ledger: Ledger, callback_id: str) -> list[callback_messages.Message]:
    return callback_messages.page(ledger, callback_id, None, 500, None)


def events_of(ledger: Ledger) -> list[str]:
    with ledger.read() as conn:
        found = conn.execute(select(AUDIT.c.event).order_by(AUDIT.c.audit_id)).scalars()
        return [each for each in found if each.startswith("callback")]


def test_the_events_are_the_final_states() -> None:
    assert {state.name for state in FINAL_STATES} == {each.name for each in CallbackEvent}
    assert all(each.value == f"notification.{RequestState[each.name]}" for each in CallbackEvent)


@pytest.mark.parametrize("state", sorted(FINAL_STATES))
def test_an_end_is_told_once_with_what_it_was(ledger: Ledger, state: RequestState) -> None:
    tenant = tenants.create_product(ledger, "P", [], NOW).tenant
    callback_id = create(ledger, tenant)
    request_id = accept(ledger, tenant)
    assert messages(ledger, callback_id) == []
    assert move(ledger, request_id, state, "because")
    assert not move(ledger, request_id, state)
    (message,) = messages(ledger, callback_id)
    assert (message.event, message.state, message.attempts) == (f"notification.{state}", "waiting", 0)
    assert message.request_id == request_id
    assert orjson.loads(message.payload) == {
        "type": f"notification.{state}",
        "timestamp": "2026-11-21T12:00:00Z",
        "data": {
            "tenant": tenant,
            "request_id": request_id,
            "notification_id": "n-1",
            "type": "news",
            "category": "sport",
            "state": str(state),
            "reason": "because",
            "channels": {},
            "accepted_at": "2026-11-21T12:00:00Z",
            "ended_at": "2026-11-21T12:00:00Z",
            "replay_of": None,
        },
    }


def test_moves_on_the_way_are_not_told(ledger: Ledger) -> None:
    tenant = tenants.create_product(ledger, "P", [], NOW).tenant
    callback_id = create(ledger, tenant)
    move(ledger, accept(ledger, tenant), RequestState.ROUTED)
    assert messages(ledger, callback_id) == []


def test_who_is_told(ledger: Ledger) -> None:
    product = tenants.create_product(ledger, "P", ["A", "B"], NOW)
    first, second = (each.tenant for each in product.organizations)
    stranger = tenants.create_product(ledger, "Q", ["A"], NOW)
    ids = {
        "product": create(ledger, product.tenant),
        "first": create(ledger, first),
        "second": create(ledger, second),
        "failures": create(ledger, first, [CallbackEvent.FAILED]),
        "inactive": create(ledger, first),
        "stranger": create(ledger, stranger.tenant),
        "their part": create(ledger, stranger.organizations[0].tenant),
    }
    callbacks.change(ledger, first, ids["inactive"], "k", NOW, active=False)
    removed = create(ledger, first)
    assert callbacks.remove(ledger, first, removed, "k", NOW)
    move(ledger, accept(ledger, first), RequestState.DONE)
    told = {name for name, callback_id in ids.items() if messages(ledger, callback_id)}
    assert told == {"product", "first"}
    move(ledger, accept(ledger, product.tenant), RequestState.FAILED)
    assert {name: len(messages(ledger, each)) for name, each in ids.items() if messages(ledger, each)} == {
        "product": 2,
        "first": 1,
    }
    assert messages(ledger, removed) == []


def test_nobody_listening_costs_one_query_at_an_end_and_none_before(sqlite_ledger: Ledger) -> None:
    ledger = sqlite_ledger
    tenant = tenants.create_product(ledger, "P", [], NOW).tenant
    asked: list[str] = []

    def note(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "callback" in statement:
            asked.append(statement)

    event.listen(ledger._engine, "before_cursor_execute", note)
    request_id = accept(ledger, tenant)
    move(ledger, request_id, RequestState.ROUTED)
    assert asked == []
    move(ledger, request_id, RequestState.DONE)
    assert len(asked) == 1
    with ledger.read() as conn:
        values = (tenant,)
        text = asked[0].split(" ORDER BY")[0]
        plan = conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values).all()
    assert all("SEARCH" in step[3] for step in plan), plan


_KILLED = """
import os, sys
from tests.core import test_callbacks as t
from notify_pipeline.core.ledger import callback_messages, moves
from notify_pipeline.core.ledger.engine import Ledger
url, request_id, when = sys.argv[1:]
queue = callback_messages.queue
def dying(*arguments):
    if when == "before":
        os.kill(os.getpid(), 9)
    queue(*arguments)
    os.kill(os.getpid(), 9)
moves.callback_messages.queue = queue if when == "after" else dying
ledger = Ledger.open(url)
t.move(ledger, request_id, t.RequestState.DONE)
os.kill(os.getpid(), 9)
"""


def test_a_process_killed_at_the_move_leaves_both_or_neither(ledger: Ledger, ledger_url: str) -> None:
    tenant = tenants.create_product(ledger, "P", [], NOW).tenant
    callback_id = create(ledger, tenant)
    request_id = accept(ledger, tenant)
    for when, expected in (("before", 0), ("within", 0), ("after", 1)):
        ended = subprocess.run(
            [sys.executable, "-c", _KILLED, ledger_url, request_id, when], timeout=PATIENCE_S, check=False
        )
        assert ended.returncode == -9
        row = requests.get(ledger, tenant, request_id)
        assert row is not None and row.state.is_final == bool(expected)
        assert len(messages(ledger, callback_id)) == expected
    assert not move(ledger, request_id, RequestState.DONE)
    assert len(messages(ledger, callback_id)) == 1


def test_a_tenant_has_only_so_many(ledger: Ledger) -> None:
    product = tenants.create_product(ledger, "P", ["A"], NOW)
    for _ in range(callbacks.MAX_CALLBACKS):
        last = create(ledger, product.tenant)
    with pytest.raises(TooManyCallbacks):
        create(ledger, product.tenant)
    create(ledger, product.organizations[0].tenant)
    assert callbacks.remove(ledger, product.tenant, last, "k", NOW)
    create(ledger, product.tenant)


def test_another_tenants_callback_is_not_there(ledger: Ledger) -> None:
    mine = tenants.create_product(ledger, "P", [], NOW).tenant
    other = tenants.create_product(ledger, "Q", [], NOW).tenant
    callback_id = create(ledger, mine)
    assert callbacks.get(ledger, other, callback_id) is None
    assert callbacks.change(ledger, other, callback_id, "k", NOW, active=False) is None
    assert callbacks.rotate(ledger, other, callback_id, new_secret(), NOW, "k", NOW) is None
    assert not callbacks.remove(ledger, other, callback_id, "k", NOW)
    assert callback_messages.test(ledger, other, callback_id, "k", NOW) is None
    assert callbacks.list_of(ledger, other) == []
    (stored,) = callbacks.list_of(ledger, mine)
    assert stored.active and stored.old_secret_until is None


def test_what_is_done_to_a_callback_is_audited_without_its_secrets(ledger: Ledger) -> None:
    tenant = tenants.create_product(ledger, "P", [], NOW).tenant
    secret, newer = new_secret(), new_secret()
    made = callbacks.create(ledger, tenant, "https://example.com/h?token=private", ALL, secret, "k", NOW)
    callbacks.rotate(ledger, tenant, made.callback_id, newer, NOW, "k", NOW)
    message = callback_messages.test(ledger, tenant, made.callback_id, "k", NOW)
    assert message is not None
    callback_messages.send_again(ledger, tenant, made.callback_id, message.message_id, "k", NOW)
    callbacks.change(ledger, tenant, made.callback_id, "k", NOW, active=False)
    callbacks.remove(ledger, tenant, made.callback_id, "k", NOW)
    assert events_of(ledger) == [
        f"callback.{each}" for each in ("created", "rotated", "tested", "retried", "changed", "removed")
    ]
    with ledger.read() as conn:
        details = " ".join(conn.execute(select(AUDIT.c.detail)).scalars())
        assert conn.execute(select(func.count()).select_from(CALLBACK_MESSAGES)).scalar_one() == 0
    assert "https://example.com/h" in details
    assert not any(word in details for word in ("private", "whsec", secret[6:], newer[6:]))


def test_what_waits_for_a_callback_that_is_switched_off_has_failed(ledger: Ledger) -> None:
    tenant = tenants.create_product(ledger, "P", [], NOW).tenant
    callback_id = create(ledger, tenant)
    move(ledger, accept(ledger, tenant), RequestState.DONE)
    callbacks.change(ledger, tenant, callback_id, "k", NOW, active=False)
    (message,) = messages(ledger, callback_id)
    assert (message.state, message.error) == ("failed", callbacks.INACTIVE)
    for refused in (
        lambda: callback_messages.send_again(ledger, tenant, callback_id, message.message_id, "k", NOW),
        lambda: callback_messages.test(ledger, tenant, callback_id, "k", NOW),
    ):
        with pytest.raises(callback_messages.CallbackInactive):
            refused()
    callbacks.change(ledger, tenant, callback_id, "k", NOW, active=True)
    again = callback_messages.send_again(ledger, tenant, callback_id, message.message_id, "k", NOW)
    assert again is not None
    assert (again.state, again.payload, again.ended_at) == ("waiting", message.payload, None)
