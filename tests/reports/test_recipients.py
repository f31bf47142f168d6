"""Recipients of sends, read while they are sent and afterwards: each once, and in sum what the ledger has counted."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from notify_pipeline.core.compaction import compact
from notify_pipeline.core.ledger import audit, deliveries, requests, retaining, routing
from notify_pipeline.core.ledger.progress import AUDIENCE, NO_CHANNEL, PENDING
from notify_pipeline.core.schemas import ATTEMPTS
from notify_pipeline.core.vocabulary import Channel, Outcome, Platform, RequestState
from notify_pipeline.delivery import broadcast, notifications, planning
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.delivery.known import find_known
from notify_pipeline.reports import reading_broadcasts, reading_recipients
from notify_pipeline.reports.reading_attempts import RecipientFilter, RecipientRow
from tests.delivery.fakes import TENANT, FakeSender, accept, land, rows_of
from tests.reports.sends import broadcast_of, drained, flaky, hold, register

EVERYBODY = RecipientFilter()


def listed(
    ctx: DeliveryContext, request_id: str, where: RecipientFilter = EVERYBODY, limit: int = 7, complete: bool = True
) -> list[RecipientRow]:
    """Return the recipients on all pages."""
    found: list[RecipientRow] = []
    after = None
    while True:
        page = reading_recipients.page(ctx.ledger, ctx.lake, request_id, where, limit, after, ctx.clock(), 0.2)
        assert page.complete is complete
        assert len(page.rows) <= limit
        found += page.rows
        if page.following is None:
            return found
        after = page.following


def counted(rows: Sequence[RecipientRow]) -> Counter[tuple[str, str]]:
    return Counter((each.channel or NO_CHANNEL, each.outcome or PENDING) for each in rows)


def told(ctx: DeliveryContext, request_id: str) -> Counter[tuple[str, str]]:
    """Return what the request's counts say, in the same form."""
    request = requests.get(ctx.ledger, TENANT, request_id)
    assert request is not None
    return Counter(
        {
            (channel, name): number
            for channel, values in request.counts.items()
            for name, number in values.items()
            if name != AUDIENCE and number
        }
    )


def check(ctx: DeliveryContext, request_id: str) -> list[RecipientRow]:
    """Return the recipients, after checking that every way to list them agrees with the ledger."""
    everybody = listed(ctx, request_id)
    assert len({each.delivery_id for each in everybody}) == len(everybody)
    assert counted(everybody) == told(ctx, request_id)
    assert listed(ctx, request_id, limit=500) == everybody
    for outcome in Outcome:
        mine = [each for each in everybody if each.outcome == outcome]
        assert listed(ctx, request_id, RecipientFilter(outcome=outcome)) == mine
    pending = [each for each in everybody if each.outcome is None]
    assert listed(ctx, request_id, RecipientFilter(pending=True)) == pending
    apns = [each for each in everybody if each.channel == "apns"]
    assert listed(ctx, request_id, RecipientFilter(channel=Channel.APNS)) == apns
    return everybody


def test_a_small_send_is_followed_from_the_queue_into_the_lake(small: DeliveryContext, fcm: FakeSender) -> None:
    for n in range(12):
        register(small.ledger, f"a{n:03d}", user_id=f"u{n}")
    register(small.ledger, "tablet", Platform.IOS, user_id="u1")
    users = [f"u{n}" for n in range(12)]
    request_id = accept(small.ledger, users=users)
    assert listed(small, request_id) == []
    other = accept(small.ledger, devices=["a001", "stranger"])
    rows = routing.claim(small.ledger, "p", datetime.now(UTC), 5, 10)
    known = find_known(small.ledger, map(notifications.parse, rows))
    rules = planning.Rules(frozenset(Channel), 100, small.delivery_secret, "plan")
    plans = [planning.plan(notifications.parse(r), known[r.request_id], rules, datetime.now(UTC)) for r in rows]
    assert all(routing.store(small.ledger, "p", plans, datetime.now(UTC)))
    # Queued: everybody is pending, and whom nobody knows is missing until that has landed.
    assert {each.attempts for each in check(small, request_id)} == {0}
    assert [each.recipient for each in listed(small, other, complete=False)] == ["a001"]
    land(small.ledger, small.lake)
    skipped = [each for each in check(small, other) if each.outcome]
    assert [(s.recipient, s.outcome, s.provider_code, s.channel) for s in skipped] == [
        ("stranger", "skipped", "unregistered", None)
    ]
    fcm.answer = flaky
    claimed = deliveries.claim(small.ledger, "fcm", "somebody", datetime.now(UTC), 0.01, 5)
    begun = {each.delivery_id: each.attempts for each in listed(small, request_id)}
    assert sum(begun.values()) == sum(each.request_id == request_id for each in claimed)
    drained(small, request_id)
    assert listed(small, request_id, complete=False) is not None
    land(small.ledger, small.lake)
    everybody = check(small, request_id)
    assert {each.user_id for each in everybody} == set(users)
    retried = {each.recipient: each for each in everybody if each.outcome == "transient"}
    assert retried and {each.attempts for each in retried.values()} == {small.settings.retry_attempts}
    assert {each.provider_code for each in retried.values()} == {"fake_transient"}


def test_a_broadcast_is_followed_while_it_is_sent(large: DeliveryContext, fcm: FakeSender) -> None:
    request_id = broadcast_of(large)
    assert check(large, request_id) == []
    refs = broadcast.snapshot(large, request_id)
    assert {each.attempts for each in check(large, request_id)} == {0}
    fcm.answer = flaky
    assert broadcast.send_shard(large, request_id, refs[1].shard).done
    mine = {each.delivery_id: each for each in check(large, request_id) if each.outcome}
    assert len(mine) == refs[1].recipients
    # Somebody intends a chunk of the next shard, and dies.
    hold(large, request_id, refs[2].shard)
    begun = {each.recipient for each in check(large, request_id) if each.outcome is None and each.attempts}
    assert len(begun) == 10
    for ref in refs:
        assert broadcast.send_shard(large, request_id, ref.shard).done
    assert broadcast.finish(large, request_id) is RequestState.DONE
    everybody = check(large, request_id)
    assert len(everybody) == 110
    (last,) = (entry.detail for entry in audit.page(large.ledger, request_id) if entry.to_state == "done")
    tried = Counter(each["channel"] for each in rows_of(large.lake, "attempts"))
    assert last is not None and last["attempts"] == {
        channel: {"attempts": tried[channel], "retries": tried[channel] - sum(e.channel == channel for e in everybody)}
        for channel in ("fcm", "apns")
    }
    assert {each.recipient: each.user_id for each in everybody if each.channel == "fcm"} == {
        f"a{n:03d}": f"u{n}" for n in range(95)
    }
    assert {each.attempts for each in everybody if each.outcome == "transient"} == {large.settings.retry_attempts}
    # The dead one's recipients were called again, as their second attempt.
    assert {each.attempts for each in everybody if each.recipient in begun and each.outcome == "permanent"} <= {2}
    before = everybody
    later = datetime.now(UTC) + timedelta(hours=2)
    report = compact(large.ledger, large.lake, ATTEMPTS, timedelta(minutes=5), later)
    assert report.adopted > 10 and report.compacted >= 1
    assert check(large, request_id) == before
    assert compact(large.ledger, large.lake, ATTEMPTS, timedelta(minutes=5), later + timedelta(hours=1)).deleted
    assert [f for f in large.lake.list("attempts") if "bc-" in f.path] == []
    assert check(large, request_id) == before
    # What is not kept any more cannot be shown, and is no error.
    paths = [file.path for file in large.lake.list("attempts")]
    assert retaining.forget_files(large.ledger, "attempts", paths, later + timedelta(days=1)) == set()
    large.lake.delete(paths)
    assert listed(large, request_id) == []
    large.lake.delete(file.path for file in large.lake.list("snapshots"))
    assert listed(large, request_id) == listed(large, request_id, RecipientFilter(outcome=Outcome.ACCEPTED)) == []


def test_a_small_send_survives_compaction(small: DeliveryContext, fcm: FakeSender) -> None:
    fcm.answer = flaky
    for n in range(12):
        register(small.ledger, f"a{n:03d}", user_id="u")
    ids: list[str] = []
    hours: list[int] = []
    while len(hours) == len(set(hours)):  # a compaction puts together what is in one hour
        ids.append(
            accept(small.ledger, users=["u"], devices=["stranger"]) if not ids else accept(small.ledger, users=["u"])
        )
        drained(small, ids[-1])
        land(small.ledger, small.lake)
        hours.append(datetime.now(UTC).hour)
    before = [check(small, request_id) for request_id in ids]
    later = datetime.now(UTC) + timedelta(hours=2)
    assert compact(small.ledger, small.lake, ATTEMPTS, timedelta(minutes=5), later).compacted >= 1
    compact(small.ledger, small.lake, ATTEMPTS, timedelta(minutes=5), later + timedelta(hours=1))
    assert [check(small, request_id) for request_id in ids] == before


def test_a_page_of_a_filter_that_hardly_fits_is_short(
    large: DeliveryContext, fcm: FakeSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_broadcasts, "_WINDOW", 4)
    monkeypatch.setattr(reading_broadcasts, "_MOST_WINDOWS", 2)
    fcm.answer = flaky
    request_id = broadcast_of(large)
    for ref in broadcast.snapshot(large, request_id):
        assert broadcast.send_shard(large, request_id, ref.shard).done
    broadcast.finish(large, request_id)
    check(large, request_id)
    where = RecipientFilter(outcome=Outcome.PERMANENT)
    first = reading_recipients.page(large.ledger, large.lake, request_id, where, 100, None, large.clock())
    assert first.following is not None and len(first.rows) < 10
