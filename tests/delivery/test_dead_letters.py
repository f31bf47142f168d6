"""Which deliveries leave dead letters, from the drain and from broadcasts, over both ledgers."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from notify_pipeline.core.ids import from_micros
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import chunks, dead_letters, deliveries, letters, policies, replays
from notify_pipeline.core.ledger.dead_letters import DeadLetter
from notify_pipeline.core.ledger.engine import Ledger, utc_now
from notify_pipeline.core.ledger.letters import Filter, Letter
from notify_pipeline.core.records import Recipient
from notify_pipeline.core.vocabulary import DeadLetterReason, Outcome, PolicyKind, RequestState
from notify_pipeline.delivery import attempts, broadcast
from notify_pipeline.delivery.context import DeliveryContext
from tests.delivery.fakes import TENANT, FakeSender, accept, context, result
from tests.delivery.lakes import Landing, row
from tests.delivery.test_broadcast import intended, routed, run
from tests.delivery.test_drain import drain_to_end, drain_until, found, register

SIZES = {"inline_limit": 3, "shard_min": 40, "chunk_size": 10}


def dead(ctx: DeliveryContext, **wanted: Any) -> list[Letter]:
    return letters.page(ctx.ledger, [TENANT], Filter(**wanted), 1_000).rows


@pytest.fixture
def ctx(ledger: Ledger, folder_lake: Lake, fcm: FakeSender) -> DeliveryContext:
    return context(ledger, folder_lake, fcm, **SIZES)


@pytest.mark.parametrize(
    ("outcome", "body", "reason", "lives"),
    [
        (Outcome.TRANSIENT, {}, "attempts_exhausted", 3),
        (Outcome.THROTTLED, {"retry": False}, "retry_not_wanted", 1),
        (Outcome.AMBIGUOUS, {}, "attempts_exhausted", 3),
        (Outcome.PERMANENT, {}, "permanent", 1),
        (Outcome.AMBIGUOUS, {"on_ambiguous": "leave"}, None, 1),
        (Outcome.INVALID_RECIPIENT, {}, None, 1),
        (Outcome.EXPIRED, {}, None, 1),
        (Outcome.SKIPPED, {}, None, 1),
        (Outcome.ACCEPTED, {}, None, 1),
        (Outcome.DRY_RUN, {"dry_run": True}, None, 1),
    ],
)
@pytest.mark.parametrize("as_broadcast", [False, True])
def test_which_outcomes_are_dead_letters(
    ctx: DeliveryContext,
    fcm: FakeSender,
    outcome: Outcome,
    body: dict[str, Any],
    reason: str | None,
    lives: int,
    as_broadcast: bool,
) -> None:
    policies.put(ctx.ledger, TENANT, PolicyKind.RETRY, {"attempts": 3, "base_s": 0.01}, "k", utc_now())
    fcm.answer = lambda recipient, number: outcome
    register(ctx.ledger, "phone", user_id="u1")
    wanted = {"users": ["u1"], "category": "politics", **body}
    if as_broadcast:
        request_id = routed(ctx, notification_id="n1", **wanted)
        run(ctx, request_id)
    else:
        request_id = accept(ctx.ledger, "n1", **wanted)
        drain_to_end(ctx, request_id)
    assert len(fcm.calls) == lives
    found = dead(ctx)
    if reason is None:
        assert found == []
        return
    (letter,) = found
    assert letter == Letter(
        delivery_id=fcm.calls[0][1],
        tenant=TENANT,
        request_id=request_id,
        notification_id="n1",
        type="news",
        category="politics",
        channel="fcm",
        platform="android",
        address="phone",
        user_id="u1",
        outcome=outcome,
        provider_code=f"fake_{outcome}",
        reason=DeadLetterReason(reason),
        attempts=lives,
        died_at=letter.died_at,
        replayed_at=None,
        replayed_as=None,
    )
    assert letters.get(ctx.ledger, [TENANT], letter.delivery_id) == letter
    assert letters.get(ctx.ledger, ["t2"], letter.delivery_id) is None


@pytest.mark.parametrize("as_broadcast", [False, True])
def test_a_retry_that_could_not_come_in_time_is_one(ctx: DeliveryContext, fcm: FakeSender, as_broadcast: bool) -> None:
    fcm.answer = lambda recipient, number: result(Outcome.THROTTLED, "429", retry_after_s=7_200)
    register(ctx.ledger, "phone", user_id="u1")
    if as_broadcast:
        run(ctx, routed(ctx, users=["u1"]))
    else:
        drain_to_end(ctx, accept(ctx.ledger, users=["u1"]))
    (letter,) = dead(ctx)
    assert (letter.reason, letter.outcome, letter.provider_code) == ("expires_before_retry", "throttled", "429")


def test_a_retry_whose_turn_came_too_late_is_one(ctx: DeliveryContext, fcm: FakeSender) -> None:
    slow = {"jitter": "none", "base_s": 600, "cap_s": 600}
    policies.put(ctx.ledger, TENANT, PolicyKind.RETRY, slow, "k", utc_now())
    fcm.answer = lambda recipient, number: Outcome.TRANSIENT
    register(ctx.ledger, "phone", user_id="u1")
    request_id = accept(ctx.ledger, users=["u1"])
    drain_until(ctx, lambda: bool(fcm.calls) and deliveries.depths(ctx.ledger) == {"fcm": {"waiting": 1}})
    assert dead(ctx) == []
    drain_to_end(replace(ctx, clock=lambda: utc_now() + timedelta(hours=2), owner="late"), request_id)
    (letter,) = dead(ctx)
    assert (letter.reason, letter.outcome, letter.provider_code) == ("expires_before_retry", "expired", "ttl")
    assert (letter.attempts, len(fcm.calls)) == (2, 1)


def test_content_that_no_provider_takes_is_one_for_everybody(ctx: DeliveryContext, fcm: FakeSender) -> None:
    fcm.rejects = "payload_too_large"
    Landing(ctx.lake, ctx.ledger).land(*(row(f"a{n:03d}", 1, ["t"], user_id=f"u{n}") for n in range(45)))
    request_id = routed(ctx, topics=["t"])
    assert run(ctx, request_id) is RequestState.FAILED
    found = dead(ctx, request_id=request_id, provider_code="payload_too_large", reason="permanent")
    assert sorted(letter.address for letter in found) == [f"a{n:03d}" for n in range(45)]
    assert {letter.address: letter.user_id for letter in found}["a007"] == "u7"


def test_the_dead_of_a_chunk_are_those_that_died_and_no_others(ctx: DeliveryContext, fcm: FakeSender) -> None:
    def answer(recipient: Recipient, number: int) -> Outcome:
        always = {"a004": Outcome.PERMANENT, "a005": Outcome.TRANSIENT, "a006": Outcome.INVALID_RECIPIENT}
        flaky = {"a007": Outcome.TRANSIENT} if number == 1 else {}
        return {**always, **flaky}.get(recipient.address, Outcome.ACCEPTED)

    fcm.answer = answer
    Landing(ctx.lake, ctx.ledger).land(*(row(f"a{n:03d}", 1, ["t"]) for n in range(95)))
    assert run(ctx, routed(ctx, topics=["t"])) is RequestState.DONE
    ids = {address: delivery_id for address, delivery_id, _ in fcm.calls}
    assert sorted((each.address, each.delivery_id, each.reason, each.attempts) for each in dead(ctx)) == [
        ("a004", ids["a004"], "permanent", 1),
        ("a005", ids["a005"], "attempts_exhausted", 6),
    ]


def test_what_a_dead_process_wrote_and_did_not_settle_is_settled_with_its_codes(
    ctx: DeliveryContext, fcm: FakeSender
) -> None:
    Landing(ctx.lake, ctx.ledger).land(*(row(f"a{n:03d}", 1, ["t"]) for n in range(20)))
    request_id = routed(ctx, topics=["t"])
    broadcast.snapshot(ctx, request_id)
    answers = [Outcome.ACCEPTED, Outcome.PERMANENT, Outcome.ACCEPTED]
    results = attempts.by_column([result(outcome, "its_word") for outcome in answers])
    with intended(replace(ctx, run_id="dead", owner="dead/1"), request_id, range(3)) as (dying, chunk):
        (stored,) = chunks.left(ctx.ledger, request_id, 0)
        assert dying._record.write(stored, dying._shard.recipients(chunk), results).is_mine
    assert dead(ctx) == []
    assert broadcast.send_shard(ctx, request_id, 0).done
    (letter,) = dead(ctx)
    assert (letter.provider_code, letter.reason, len(fcm.calls)) == ("its_word", "permanent", 17)


def test_a_delivery_dies_once(ledger: Ledger) -> None:
    request_id = accept(ledger, devices=["phone"])
    one = DeadLetter("d1", "ios", "phone", None, Outcome.PERMANENT, "first", DeadLetterReason.PERMANENT, 1)

    def add(conn: Any, items: Any) -> list[None]:
        for item in items:
            dead_letters.add(conn, "apns", {request_id: item}, 1)
        return [None for _ in items]

    ledger.write(add, [one])
    ledger.write(add, [one._replace(provider_code="again"), one._replace(delivery_id="d2")])
    found = letters.page(ledger, [TENANT], Filter(), 10).rows
    assert {letter.delivery_id: letter.provider_code for letter in found} == {"d1": "first", "d2": "first"}


def test_dead_letters_are_found_by_what_they_are_and_page_by_page(ledger: Ledger) -> None:
    first, second = accept(ledger, "n1", devices=["x"], category="a"), accept(ledger, "n2", devices=["x"], type="likes")

    def add(conn: Any, items: Any) -> list[None]:
        for number, (request_id, reason) in enumerate(items[0]):
            letter = DeadLetter(
                f"d{number}", "android", f"p{number}", f"u{number}", Outcome.PERMANENT, f"code{number}", reason, 1
            )
            dead_letters.add(conn, "fcm" if number % 2 else "apns", {request_id: [letter]}, 1_000 * (number // 2))
        return [None]

    permanent, exhausted = DeadLetterReason.PERMANENT, DeadLetterReason.ATTEMPTS
    ledger.write(add, [(first, permanent), (second, exhausted), (first, exhausted), (second, permanent)])

    def found(**wanted: Any) -> list[str]:
        return [letter.delivery_id for letter in letters.page(ledger, [TENANT], Filter(**wanted), 10).rows]

    assert found() == ["d3", "d2", "d1", "d0"]
    assert found(request_id=first) == found(notification_id="n1") == found(category="a") == ["d2", "d0"]
    assert found(type="likes") == ["d3", "d1"]
    assert found(channel="apns") == ["d2", "d0"] and found(platform="ios") == []
    assert found(reason="permanent") == ["d3", "d0"]
    assert found(provider_code="code2") == found(user_id="u2") == ["d2"]
    assert found(since=from_micros(1_000)) == ["d3", "d2"] and found(until=from_micros(1_000)) == ["d1", "d0"]
    assert found(replayed=True) == [] and len(found(replayed=False)) == 4
    assert letters.page(ledger, ["t2"], Filter(), 10).rows == []
    paged: list[str] = []
    after = None
    while (here := letters.page(ledger, [TENANT, "t2"], Filter(), 1, after)).following:
        paged += [letter.delivery_id for letter in here.rows]
        after = here.following
    assert paged + [letter.delivery_id for letter in here.rows] == found()


def test_a_replay_is_not_counted_again_by_a_frequency_cap(ctx: DeliveryContext, fcm: FakeSender) -> None:
    policies.put(ctx.ledger, TENANT, PolicyKind.FREQUENCY_CAP, {"count": 1, "period_s": 3600}, "k", utc_now())
    fcm.answer = lambda recipient, number: Outcome.PERMANENT if len(fcm.calls) == 1 else Outcome.ACCEPTED
    register(ctx.ledger, "phone", user_id="u1")
    first = accept(ctx.ledger, users=["u1"])
    drain_to_end(ctx, first)
    asked = replays.Replay(TENANT, "k", utc_now(), None, Filter(), 10, 10)
    (made,) = replays.replay(ctx.ledger, asked).answer["requests"]
    drain_to_end(ctx, made["request_id"])
    assert found(ctx.ledger, made["request_id"]).counts["fcm"]["accepted"] == 1
    third = accept(ctx.ledger, users=["u1"])
    drain_to_end(ctx, third)
    assert found(ctx.ledger, third).counts["fcm"] == {"audience": 1, "pending": 0, "skipped": 1}


def test_a_page_is_bounded_and_old_letters_are_forgotten(ledger: Ledger) -> None:
    request_id = accept(ledger, devices=["x"])

    def add(conn: Any, items: Any) -> list[None]:
        for number in items[0]:
            one = DeadLetter(f"d{number}", "ios", "x", None, Outcome.PERMANENT, None, DeadLetterReason.PERMANENT, 1)
            dead_letters.add(conn, "apns", {request_id: [one]}, number)
        return [None]

    ledger.write(add, range(6_000))
    pages = [letters.page(ledger, [TENANT], Filter(user_id="nobody", replayed=False), 10)]
    while following := pages[-1].following:
        pages.append(letters.page(ledger, [TENANT], Filter(user_id="nobody"), 10, following))
    assert len(pages) > 1 and all(page.rows == [] for page in pages), "one page looks at so many and no more"
    assert dead_letters.forget(ledger, from_micros(5_500)) == 5_500
    assert dead_letters.forget(ledger, from_micros(5_500)) == 0
    assert len(letters.page(ledger, [TENANT], Filter(), 10_000).rows) == 500
