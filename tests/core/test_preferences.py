"""What users said, as it is stored."""

from datetime import UTC, datetime, timedelta

import orjson
from sqlalchemy import select

from notify_pipeline.core.consents import Pair, Said
from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import preferences
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.outbox_tables import OUTBOX
from notify_pipeline.core.ledger.preferences import Change

NOW = datetime(2026, 11, 21, tzinfo=UTC)
ADA = "user:ada"


def say(ledger: Ledger, said: dict[Pair, bool | None], hours: int = 0, **more: bool) -> dict[Pair, Said]:
    return preferences.change(ledger, Change("t1", ADA, said, "api", "k", **more), NOW + timedelta(hours=hours))


def at(hours: int) -> int:
    return to_micros(NOW + timedelta(hours=hours))


def test_each_word_is_kept_until_another_takes_its_place(ledger: Ledger) -> None:
    say(ledger, {("", "email"): False, ("offers", ""): False})
    say(ledger, {("", "email"): False, ("", "sms"): True}, 1)
    now = say(ledger, {("offers", ""): None, ("news", "sms"): None, ("", "sms"): False}, 2)
    # Saying the same again is no news, and taking back what was not said is nothing.
    assert now == {("", "email"): Said(False, "api", at(0)), ("", "sms"): Said(False, "api", at(2))}
    assert preferences.get(ledger, "t1", ADA) == now
    assert preferences.get(ledger, "t2", ADA) == {}
    assert say(ledger, {("news", ""): True, ("offers", ""): None}, 3, whole=True) == {
        ("news", ""): Said(True, "api", at(3))
    }
    assert say(ledger, {}, 4, whole=True) == {}


def test_those_who_said_anything_are_found_together(ledger: Ledger) -> None:
    say(ledger, {("", "email"): False, ("offers", "sms"): True})
    with ledger.read() as conn:
        assert preferences.any_of(conn, ["t1", "t2"]) == {"t1"}
        found = preferences.find(conn, "t1", [ADA, "user:bob"])
    assert {who: set(said) for who, said in found.items()} == {ADA: {("", "email"), ("offers", "sms")}}


def test_nobody_said_anything(ledger: Ledger) -> None:
    with ledger.read() as conn:
        assert preferences.any_of(conn, ["t1", "t2"]) == set()


def test_every_change_is_audited_without_an_address(ledger: Ledger) -> None:
    say(ledger, {("", "email"): False})
    say(ledger, {("", "email"): False})
    whom = "device:ada@example.com"
    preferences.change(ledger, Change("t1", whom, {("offers", "email"): False}, "one_click", "x"), NOW)
    with ledger.read() as conn:
        rows = conn.execute(select(OUTBOX.c.rows).order_by(OUTBOX.c.seq)).scalars().all()
    told = [orjson.loads(each["detail"]) for row in rows for each in orjson.loads(row)]
    assert told[0] == {
        "user_id": "ada",
        "source": "api",
        "changed": [{"category": "", "channel": "email", "enabled": False}],
    }
    assert len(told) == 2 and told[1]["source"] == "one_click" and "ada@" not in str(told[1])
