"""Events that were over long ago are forgotten, and nothing else is."""

from datetime import UTC, datetime, timedelta

import pytest

from notify_pipeline.core.ledger import event_claims, event_forgetting, event_moves, event_replays, events
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.event_claims import EventsWanted
from notify_pipeline.core.ledger.event_lists import EventFilter
from notify_pipeline.core.ledger.event_moves import Settled
from notify_pipeline.core.ledger.event_replays import EventReplay
from notify_pipeline.core.ledger.event_rows import get
from notify_pipeline.core.ledger.events import NewEvent
from notify_pipeline.core.vocabulary import EventState


def test_only_what_is_over_and_old_is_forgotten(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_forgetting, "_PIECE", 2)
    now = datetime.now(UTC)
    states = (EventState.ROUTED, EventState.UNROUTED, EventState.DEAD, EventState.UNROUTED, EventState.UNROUTED)
    ids = [
        events.accept(ledger, NewEvent("t", "shop", "x", {}, now, id=str(number))).event_id
        for number in range(len(states))
    ]
    rows = event_claims.claim(ledger, EventsWanted("r", 10), now, 6.0)
    event_moves.settle(ledger, "r", [Settled(row, state) for row, state in zip(rows, states, strict=True)], now)
    waiting = events.accept(ledger, NewEvent("t", "shop", "x", {}, now)).event_id
    later = now + timedelta(days=1)
    event_replays.replay(ledger, EventReplay("t", "k", later, (ids[3],), EventFilter(), 1))
    assert event_forgetting.forget(ledger, now - timedelta(seconds=1)) == 0
    assert event_forgetting.forget(ledger, later) == 4
    left = [each for each in (*ids, waiting) if get(ledger, ("t",), each) is not None]
    assert left == [ids[3], waiting]
    assert not events.accept(ledger, NewEvent("t", "shop", "x", {"other": 1}, later, id="0")).duplicate
