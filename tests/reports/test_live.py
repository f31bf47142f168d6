"""Reports of running sends: the ledger's figures laid over the published version, on both stores."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import broadcasts, live, shards
from notify_pipeline.core.ledger.broadcasts import SettledChunk
from notify_pipeline.core.ledger.chunk_rows import NewChunk
from notify_pipeline.core.records import Recipient
from notify_pipeline.core.vocabulary import Outcome, Platform, RequestState
from notify_pipeline.delivery import broadcast
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.reports import reading_live
from notify_pipeline.reports.reading_live import COUNTED, LEDGER, PUBLISHED
from tests.delivery.fakes import TENANT, FakeSender, accept, land, result
from tests.delivery.test_broadcast import routed
from tests.delivery.test_drain import drain_until, register
from tests.reports.desk import Desk, passed

OWNER = "a test"


@pytest.fixture
def desk(large: DeliveryContext, tmp_path: Path) -> Desk:
    return Desk(large.lake, tmp_path / "reports")


def counted(row: dict[str, Any]) -> dict[str, int]:
    """Return what is not 0 of a row's counts."""
    return {name: row[name] for name in COUNTED if row[name]}


def publish(ctx: DeliveryContext, desk: Desk) -> None:
    land(ctx.ledger, ctx.lake)
    assert passed(desk.update())


def published(desk: Desk, name: str) -> dict[str, Any]:
    return desk.report(name, TENANT)


def settle(ctx: DeliveryContext, request_id: str, chunk: int, channel: str, **what: Any) -> None:
    """Send a chunk of the first shard of a channel, as far as the ledger knows of it."""
    at = to_micros(datetime.now(UTC))
    (shard, *_) = (each for each in shards.shards(ctx.ledger, request_id) if each.channel == channel)
    shards.hold_shard(ctx.ledger, request_id, shard.shard, OWNER, datetime.now(UTC), 60)
    ordinals, attempts = what.pop("ordinals"), what.pop("attempts")
    new = NewChunk(request_id, shard.shard, chunk, ordinals, attempts, at, "run", f"chunk-{channel}-{chunk}")
    broadcasts.intend(ctx.ledger, OWNER, new)
    counts, retries = what.pop("counts"), what.pop("retries", ())
    assert broadcasts.settle(
        ctx.ledger, SettledChunk(request_id, shard.shard, chunk, channel, False, counts, retries, {}, at)
    )


def test_a_broadcast_moves_between_two_versions(large: DeliveryContext, desk: Desk) -> None:
    request_id = routed(large, notification_id="n", topics=["t"])
    assert live.token(large.ledger, TENANT, "elsewhere") == "-"
    before = reading_live.unpublished(large.ledger, TENANT, "n")
    assert before is not None
    assert (before["state"], before["title"], before["topics"]) == (RequestState.ROUTED, "Hello", ["t"])
    assert counted(before["totals"]) == {}
    broadcast.snapshot(large, request_id)
    publish(large, desk)
    seen = {live.token(large.ledger, TENANT, "n")}
    open_ = {live.token_of_open(large.ledger, [TENANT])}

    def shown() -> dict[str, Any]:
        (report,) = reading_live.overlay(large.ledger, [published(desk, "n")])
        seen.add(live.token(large.ledger, TENANT, "n"))
        open_.add(live.token_of_open(large.ledger, [TENANT]))
        return report

    due = to_micros(datetime.now(UTC))
    settle(
        large, request_id, 0, "fcm", ordinals=range(10), attempts=[1] * 10,
        counts={Outcome.ACCEPTED: 6, Outcome.INVALID_RECIPIENT: 1}, retries=[(7, due), (8, due), (9, due)],
    )  # fmt: skip
    report = shown()
    assert report["figures_from"] == LEDGER
    assert counted(report["totals"]) == {"audience": 110, "attempted": 10, "accepted": 6, "failed": 3, "invalid": 1}
    android, ios = report["platforms"]
    assert (android["platform"], counted(android)) == ("android", {**counted(report["totals"]), "audience": 95})
    assert (ios["platform"], counted(ios)) == ("ios", {"audience": 15})
    # Two of the three are tried again beside a fresh one: that one is accepted, of the two one is given up.
    settle(
        large, request_id, 1, "fcm", ordinals=[8, 9, 10], attempts=[2, 2, 1],
        counts={Outcome.ACCEPTED: 2, Outcome.PERMANENT: 1},
    )  # fmt: skip
    assert counted(shown()["totals"]) == {"audience": 110, "attempted": 11, "accepted": 8, "failed": 2, "invalid": 1}
    settle(large, request_id, 0, "apns", ordinals=range(15), attempts=[1] * 15, counts={Outcome.SKIPPED: 15})
    report = shown()
    assert counted(report["platforms"][1]) == {"audience": 15, "skipped": 15}
    assert len(seen) == len(open_) == 4
    # Only one platform's figures were asked for.
    (narrow,) = reading_live.overlay(large.ledger, [published(desk, "n")], platform="ios")
    assert [row["platform"] for row in narrow["platforms"]] == ["ios"]


def test_the_ledgers_figures_are_those_of_the_next_version(large: DeliveryContext, desk: Desk, fcm: FakeSender) -> None:
    codes = {"a001": Outcome.INVALID_RECIPIENT, "a002": Outcome.PERMANENT, "a003": Outcome.TRANSIENT}

    def answer(recipient: Recipient, number: int) -> Outcome:
        return codes.get(
            recipient.address, Outcome.ACCEPTED if number > 1 or recipient.address > "a010" else Outcome.THROTTLED
        )

    fcm.answer = answer
    request_id = routed(large, notification_id="n", topics=["t"])
    refs = broadcast.snapshot(large, request_id)
    publish(large, desk)
    # Three times, however many shards there are: each is a version to build.
    for part in (refs[:1], refs[1:2], refs[2:]):
        stale = published(desk, "n")
        assert part
        assert all(broadcast.send_shard(large, request_id, ref.shard).done for ref in part)
        (shown,) = reading_live.overlay(large.ledger, [stale])
        publish(large, desk)
        fresh = published(desk, "n")
        assert counted(shown["totals"]) == counted(fresh["totals"])
        assert [counted(row) for row in shown["platforms"]] == [counted(row) for row in fresh["platforms"]]
        assert shown["figures_from"] == LEDGER
    stale = published(desk, "n")
    token = live.token_of_open(large.ledger, [TENANT])
    assert broadcast.finish(large, request_id) is RequestState.DONE
    assert live.token_of_open(large.ledger, [TENANT]) != token
    (shown,) = reading_live.overlay(large.ledger, [stale])
    publish(large, desk)
    fresh = published(desk, "n")
    assert (shown["state"], shown["finished_at"]) == (fresh["state"], fresh["finished_at"])
    assert shown["finished_at"] is not None
    # What is published as final costs nothing and says nothing else.
    assert reading_live.overlay(large.ledger, [fresh]) == [{**fresh, "figures_from": PUBLISHED}]


def test_a_version_that_knows_more_is_left_alone(large: DeliveryContext, desk: Desk) -> None:
    request_id = routed(large, notification_id="n", topics=["t"])
    broadcast.snapshot(large, request_id)
    publish(large, desk)
    report = published(desk, "n")
    # Devices proved that three have it whose call got no answer.
    proven = {**report["totals"], "attempted": 5, "accepted": 3, "ambiguous": 2}
    settle(large, request_id, 0, "fcm", ordinals=range(5), attempts=[1] * 5, counts={Outcome.AMBIGUOUS: 5})
    (shown,) = reading_live.overlay(large.ledger, [{**report, "totals": proven}])
    assert (shown["figures_from"], shown["totals"]) == (PUBLISHED, proven)
    assert shown["state"] is RequestState.SENDING
    # Sending goes on: nothing that was shown falls back, though the ledger never hears of what was proven.
    settle(large, request_id, 1, "fcm", ordinals=range(5, 10), attempts=[1] * 5, counts={Outcome.ACCEPTED: 5})
    proven |= {"accepted_by_beacon": 3, "failed": 0, "throttled": 2}
    (shown,) = reading_live.overlay(large.ledger, [{**report, "totals": proven}])
    assert shown["figures_from"] == LEDGER
    assert counted(shown["totals"]) == {"audience": 110, "attempted": 10, "accepted": 8, "ambiguous": 2}
    assert shown["totals"]["throttled"] == 0  # of those who failed nobody is left


def test_a_small_send_is_known_by_platform(large: DeliveryContext, fcm: FakeSender) -> None:
    register(large.ledger, "phone", user_id="u1")
    register(large.ledger, "browser", Platform.WEB, user_id="u1")
    register(large.ledger, "tablet", Platform.IOS, user_id="u1")
    fcm.answer = lambda recipient, number: (
        Outcome.ACCEPTED if recipient.address == "phone" else result(Outcome.TRANSIENT, "down", retry_after_s=600.0)
    )
    accept(large.ledger, "n", users=["u1"])

    def tried() -> bool:
        report = reading_live.unpublished(large.ledger, TENANT, "n")
        return report is not None and report["totals"]["attempted"] == 3

    drain_until(large, tried)
    report = reading_live.unpublished(large.ledger, TENANT, "n")
    assert report is not None
    assert (report["figures_from"], report["state"], report["finished_at"]) == (LEDGER, RequestState.SENDING, None)
    assert [(row["platform"], row["provider"], counted(row)) for row in report["platforms"]] == [
        ("android", "fcm", {"audience": 1, "attempted": 1, "accepted": 1}),
        ("ios", "apns", {"audience": 1, "attempted": 1, "accepted": 1}),
        ("web", "fcm", {"audience": 1, "attempted": 1, "failed": 1}),
    ]
