"""Users: what is told of them is kept until something else is, and every change is one audit row."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import select

from notify_pipeline.core.ledger import users
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.tables import AUDIT

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
TOKYO = users.Profile(timezone="Asia/Tokyo")
ADA = users.Profile("ada@example.com", "+447700900123", "en-GB", "Europe/London", {"name": "Ada"})
NIGHT = {"from": "22:00", "until": "07:00", "timezone": None}


def test_a_time_zone_and_quiet_hours_are_kept_apart(ledger: Ledger) -> None:
    assert users.get(ledger, "t1", "u") is None
    users.put_quiet_hours(ledger, "t1", "u", NIGHT, "k", NOW)
    users.put(ledger, "t1", "u", TOKYO, "k", NOW)
    assert users.get(ledger, "t1", "u") == users.StoredUser("u", TOKYO, NIGHT, NOW)
    assert users.find(ledger, "t1", ["u", "v"]) == {"u": users.UserRow("u", "Asia/Tokyo", NIGHT, NOW)}
    assert users.get(ledger, "t2", "u") is None
    assert users.remove_quiet_hours(ledger, "t1", "u", "k", NOW)
    assert not users.remove_quiet_hours(ledger, "t1", "u", "k", NOW)
    assert users.get(ledger, "t1", "u") == users.StoredUser("u", TOKYO, None, NOW)


def test_only_a_change_is_told(ledger: Ledger) -> None:
    for zone in ("Asia/Tokyo", "Asia/Tokyo", None):
        users.put(ledger, "t1", "u", users.Profile(timezone=zone), "k", NOW)
    users.remove_quiet_hours(ledger, "t1", "u", "k", NOW)
    with ledger.read() as conn:
        assert conn.execute(select(AUDIT.c.event, AUDIT.c.actor)).all() == [("user.changed", "k")] * 2


def test_a_profile_is_replaced_or_changed_and_the_audit_names_fields_without_their_values(ledger: Ledger) -> None:
    assert users.change(ledger, "t1", "u", {"email": "ada@example.com"}, "k", NOW) is None
    users.put(ledger, "t1", "u", ADA, "k", NOW)
    changed = users.change(ledger, "t1", "u", {"email": "a@example.com", "phone": None}, "k", NOW)
    assert changed is not None
    assert changed.profile == replace(ADA, email="a@example.com", phone=None)
    users.change(ledger, "t1", "u", {"email": "a@example.com"}, "k", NOW)
    assert users.put(ledger, "t1", "u", TOKYO, "k", NOW).profile == TOKYO
    with ledger.read() as conn:
        told = [json.loads(row.detail) for row in conn.execute(select(AUDIT.c.detail).order_by(AUDIT.c.audit_id))]
    assert [each["changed"] for each in told] == [
        ["attributes", "email", "locale", "phone", "timezone"],
        ["email", "phone"],
        ["attributes", "email", "locale", "timezone"],
    ]
    assert "ada" not in json.dumps(told).lower()


def test_many_are_found_at_once(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "_PIECE", 2)
    told = {"a": ADA, "b": TOKYO, "c": users.Profile(phone="+447700900124"), "d": ADA}
    for name, profile in told.items():
        users.put(ledger, "t1", name, profile, "k", NOW)
    users.put(ledger, "t2", "e", ADA, "k", NOW)
    assert users.profiles(ledger, "t1", ["d", "e", "a", "b", "c", "x", "a"]) == told
    ada = users.Contact("ada@example.com", "+447700900123", ADA.locale, ADA.timezone)
    assert users.contacts(ledger, "t1", ["e", *told]) == {"a": ada, "c": users.Contact(None, "+447700900124"), "d": ada}
    assert users.contacts(ledger, "t1", []) == {}


def test_those_with_a_time_of_their_own_come_in_pieces(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "_PIECE", 10)
    names = [f"u{number:04d}" for number in range(25)]
    for name in names[:5]:
        users.put(ledger, "t1", name, users.Profile(), "k", NOW)
    with ledger.read() as conn:
        assert users.with_quiet_hours(conn, ["t1"]) == set()
    for name in names[5:]:
        users.put(ledger, "t1", name, TOKYO, "k", NOW)
    users.put_quiet_hours(ledger, "t1", names[0], NIGHT, "k", NOW)
    pieces = [[user.user_id for user in piece] for piece in users.with_time(ledger, "t1")]
    assert [name for piece in pieces for name in piece] == [names[0], *names[5:]]
    assert len(users.find(ledger, "t1", names)) == 25
    with ledger.read() as conn:
        assert users.with_quiet_hours(conn, ["t1", "t2"]) == {"t1"}
