"""kill -9 in and after every transaction that touches events: nothing is lost, and each route sends once."""

import itertools
from collections import Counter
from pathlib import Path

from sqlalchemy import select

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.tables import AUDIT
from notify_pipeline.core.vocabulary import EventState
from tests.delivery import event_mover
from tests.delivery.fakes import TENANT, land, rows_of
from tests.delivery.test_event_router import LOOKS_UP, found, post, put, sends
from tests.forked import exit_code_of

SIGKILLED = -9


def live(when: str, at: str, folder: Path, url: str) -> int:
    return exit_code_of(event_mover.main, when, at, str(folder), url)


def test_a_process_dies_around_each_transaction(ledger: Ledger, ledger_url: str, tmp_path: Path) -> None:
    put(ledger, "all", match={"source": "*", "type": "*"}, content={"title": "{{ type }}"})
    put(ledger, "paid", per_recipient=True, recipients="['ada', 'bob']")
    looked_up = {"title": "{{ enrichment.who.name }}"}
    put(ledger, "late", match={"source": "shop", "type": "late"}, enrichment=LOOKS_UP, content=looked_up)
    expected: dict[str, list[str]] = {}
    for _ in range(3):
        expected[event_id := post(ledger)] = ["all", "paid", "paid"]
        expected[post(ledger, type="other")] = ["all"]
        expected[post(ledger, type="late")] = ["all", "late"]
    nobody = post(ledger, type="order.lost", detail={})
    lives = list(itertools.product(("before", "after"), ("claim", "settle", "begin")))
    codes = [live(when, at, tmp_path, ledger_url) for when, at in lives]
    assert SIGKILLED in codes[:3] and SIGKILLED in codes[3:]
    assert set(codes) <= {0, SIGKILLED}
    assert live("never", "claim", tmp_path, ledger_url) == 0
    made = Counter(each.split(":")[0] for each in sends(ledger))
    for event_id, routes in expected.items():
        row = found(ledger, event_id)
        assert row.state is EventState.ROUTED, row
        assert sorted(each.split(":")[1] for each in row.notification_ids) == routes
        assert made.pop(event_id) == len(routes)
    assert not made, "nothing else was sent"
    assert found(ledger, nobody).state is EventState.DEAD
    with ledger.read() as conn:
        audited = Counter(conn.execute(select(AUDIT.c.event).where(AUDIT.c.tenant == TENANT)).scalars())
    sent = sum(map(len, expected.values()))
    assert audited.items() >= {"event.routed": len(expected), "event.dead": 1, "request.accepted": sent}.items()
    lake = Lake(str(tmp_path / "lake"))
    land(ledger, lake)
    moves = Counter((each["event_id"], each["state"]) for each in rows_of(lake, "events"))
    assert set(moves.values()) == {1}
    assert {event_id for event_id, state in moves if state in ("routed", "dead")} == {*expected, nobody}
