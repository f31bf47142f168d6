"""Users: what is told of them is kept until something else is, and every change is one audit row."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import select

from notify_pipeline.core.ledger import users
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.tables import AUDIT

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
NIGHT = {"from": "22:00", "until": "07:00", "timezone": None}


def test_a_time_zone_and_quiet_hours_are_kept_apart(ledger: Ledger) -> None:
    assert users.get(ledger, "t1", "u") is None
    users.put_quiet_hours(ledger, "t1", "u", NIGHT, "k", NOW)
    users.put(ledger, "t1", "u", "Asia/Tokyo", "k", NOW)
    assert users.get(ledger, "t1", "u") == users.UserRow("u", "Asia/Tokyo", NIGHT, NOW)
    assert users.get(ledger, "t2", "u") is None
    assert users.remove_quiet_hours(ledger, "t1", "u", "k", NOW)
    assert not users.remove_quiet_hours(ledger, "t1", "u", "k", NOW)
    assert users.get(ledger, "t1", "u") == users.UserRow("u", "Asia/Tokyo", None, NOW)


def test_only_a_change_is_told(ledger: Ledger) -> None:
    for zone in ("Asia/Tokyo", "Asia/Tokyo", None):
        users.put(ledger, "t1", "u", zone, "k", NOW)
    users.remove_quiet_hours(ledger, "t1", "u", "k", NOW)
    with ledger.read() as conn:
        assert conn.execute(select(AUDIT.c.event, AUDIT.c.actor)).all() == [("user.changed", "k")] * 2


def test_those_with_a_time_of_their_own_come_in_pieces(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "_PIECE", 10)
    names = [f"u{number:04d}" for number in range(25)]
    for name in names[:5]:
        users.put(ledger, "t1", name, None, "k", NOW)
    with ledger.read() as conn:
        assert users.with_quiet_hours(conn, ["t1"]) == set()
    for name in names[5:]:
        users.put(ledger, "t1", name, "Asia/Tokyo", "k", NOW)
    users.put_quiet_hours(ledger, "t1", names[0], NIGHT, "k", NOW)
    pieces = [[user.user_id for user in piece] for piece in users.with_time(ledger, "t1")]
    assert [name for piece in pieces for name in piece] == [names[0], *names[5:]]
    assert len(users.find(ledger, "t1", names)) == 25
    with ledger.read() as conn:
        assert users.with_quiet_hours(conn, ["t1", "t2"]) == {"t1"}
