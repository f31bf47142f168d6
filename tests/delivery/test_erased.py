"""Who is erased while sends to them are planned, queued, cut into shards or being made gets nothing more of them."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from notify_pipeline.core.ledger import erasures, users
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.erasure_names import Named
from notify_pipeline.core.ledger.erasures import Erasure
from notify_pipeline.core.ledger.schema import METADATA
from notify_pipeline.core.ledger.users import Profile
from notify_pipeline.core.vocabulary import ErasureKind, Outcome, RequestState
from notify_pipeline.delivery import broadcast
from notify_pipeline.delivery.context import DeliveryContext
from tests.delivery.clocks import NOON, Clock, accept_at
from tests.delivery.fakes import TENANT, FakeSender, accept
from tests.delivery.test_broadcast import routed
from tests.delivery.test_consenting import NAMES, ctx, mail, mail_of, told
from tests.delivery.test_drain import drain_to_end, drain_until, found

__all__ = ["ctx", "mail"]


def erase(ledger: Ledger, name: str, at: datetime | None = None) -> Erasure:
    return erasures.start(ledger, Named(TENANT, ErasureKind.USER, name), "k", at or datetime.now(UTC))


def naming(ledger: Ledger, name: str) -> set[str]:
    with ledger.read() as conn:
        return {
            table.name
            for table in METADATA.tables.values()
            # As a word: ids in hexadecimal have a, b, c, d, e and f.
            if table.name not in ("outbox", "erasures")
            and re.search(rf"\b{name}\b", str(conn.execute(select(table)).all()))
        }


@pytest.mark.parametrize("outcome", [Outcome.TRANSIENT, Outcome.PERMANENT])
def test_who_is_erased_during_their_first_call_gets_no_second(
    ctx: DeliveryContext, mail: FakeSender, outcome: Outcome
) -> None:
    made: list[Erasure] = []

    def answer(recipient: object, number: int) -> Outcome:
        if getattr(recipient, "address", None) != mail_of("ada"):
            return Outcome.ACCEPTED
        made.append(erase(ctx.ledger, "ada"))
        return outcome

    mail.answer = answer
    request_id = accept(ctx.ledger, users=NAMES, channels=["email"])
    drain_to_end(ctx, request_id)
    assert [call[0] for call in mail.calls].count(mail_of("ada")) == 1
    counts = found(ctx.ledger, request_id).counts["email"]
    if outcome is Outcome.TRANSIENT:
        assert counts == {"audience": 4, "pending": 0, "accepted": 3, "skipped": 1}
        assert [row[2] for row in told(ctx, request_id) if row[0].startswith("erased:")] == ["erased"]
        assert naming(ctx.ledger, "ada") == {"devices"}, "the token's tombstone"
        return
    # What the call's own process wrote down when it ended, and what the next pass is for.
    assert naming(ctx.ledger, "ada") == {"devices", "dead_letters"}
    assert erasures.left(ctx.ledger, made[0]) == {"dead_letters": 1}
    assert erasures.again(ctx.ledger, made[0], datetime.now(UTC)) == 1
    assert erasures.left(ctx.ledger, made[0]) == {}


def test_who_is_erased_after_a_broadcast_was_fixed_gets_nothing(ctx: DeliveryContext, mail: FakeSender) -> None:
    request_id = routed(ctx, users=NAMES, channels=["email"])
    refs = broadcast.snapshot(ctx, request_id)
    erase(ctx.ledger, "ada")
    for ref in refs:
        assert broadcast.send_shard(ctx, request_id, ref.shard).done
    assert sorted(call[0] for call in mail.calls) == [mail_of(name) for name in NAMES[1:]]
    assert [row[1:3] for row in told(ctx, request_id) if row[0] == mail_of("ada")] == [("skipped", "erased")]


def test_a_planned_send_goes_on_for_the_others_and_a_new_one_reaches_who_came_back(
    ctx: DeliveryContext, mail: FakeSender, clock: Clock
) -> None:
    ctx = replace(ctx, clock=clock)
    for name in NAMES:
        users.put(ctx.ledger, TENANT, name, Profile(mail_of(name), timezone="UTC"), "k", NOON)
    request_id = accept_at(ctx.ledger, NOON, users=NAMES, channels=["email"], send_at_local="2026-11-22T09:00:00")
    clock.set(NOON + timedelta(hours=12))
    drain_until(ctx, lambda: found(ctx.ledger, request_id).state is RequestState.SENDING)
    erase(ctx.ledger, "ada", clock())
    # The fixture's word of her is younger than the clock of this test.
    assert naming(ctx.ledger, "ada") == {"devices", "audit"}, "the queue has her no more"
    clock.set(NOON + timedelta(hours=21))
    drain_to_end(ctx, request_id)
    assert sorted(call[0] for call in mail.calls) == [mail_of(name) for name in NAMES[1:]]
    mail.calls.clear()
    users.put(ctx.ledger, TENANT, "ada", Profile(mail_of("ada")), "k", clock())
    again = accept_at(ctx.ledger, clock(), users=["ada"], channels=["email"])
    drain_to_end(ctx, again)
    assert [call[0] for call in mail.calls] == [mail_of("ada")]
