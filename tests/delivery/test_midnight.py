"""A send whose retries go on after midnight (UTC): one report, of the day of its acceptance, exact on both days."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.partitions import partition
from notify_pipeline.core.records import AttemptResult, Recipient
from notify_pipeline.core.vocabulary import Outcome, RequestState
from notify_pipeline.delivery.context import DeliveryContext
from notify_pipeline.receipts.hours import process_hour
from notify_pipeline.receipts.logs import Logs
from tests.delivery.clocks import Clock, accept_at
from tests.delivery.fakes import TENANT, FakeSender, context, land, rows_of
from tests.delivery.test_drain import drain_to_end, drain_until, found, register
from tests.receipts.samples import line, log
from tests.reports.desk import Desk, passed

EVENING = datetime(2026, 11, 21, 23, 59, 50, tzinfo=UTC)
ANSWER = timedelta(microseconds=1)
MORNING = datetime(2026, 11, 22, 0, 0, 30, tzinfo=UTC)


@pytest.fixture
def ctx(ledger: Ledger, folder_lake: Lake, fcm: FakeSender, apns: FakeSender, clock: Clock) -> DeliveryContext:
    clock.set(EVENING)
    return context(ledger, folder_lake, fcm, apns, clock=clock)


def read_log(lake: Lake, root: Path, hour: datetime, name: str, beacons: list[tuple[str, str, datetime]]) -> None:
    """Put a log file of an hour with a notification's beacons (event, delivery, time), and read it."""
    path = root / "cdn" / partition(hour) / "a.log.gz"
    path.parent.mkdir(parents=True)
    query = f"notificationId={name}&platform=android&provider=fcm&d="
    path.write_bytes(log(*(line(query + each, f"/notification/{event}", at) for event, each, at in beacons)))
    assert process_hour(lake, Logs(str(root)), hour).events == len(beacons)


def test_a_retry_after_midnight_is_of_the_day_of_its_send(
    ctx: DeliveryContext, fcm: FakeSender, clock: Clock, tmp_path: Path
) -> None:

    def answer(recipient: Recipient, number: int) -> AttemptResult:
        at = to_micros(clock())
        if number == 1 and recipient.address == "late":
            return AttemptResult(Outcome.THROTTLED, "429", at, at + 1, retry_after_s=30)
        return AttemptResult(Outcome.ACCEPTED, None, at, at + 1)

    fcm.answer = answer
    for token in ("soon", "late"):
        register(ctx.ledger, token, user_id="u")
    request_id = accept_at(ctx.ledger, clock(), users=["u"])
    name = found(ctx.ledger, request_id).notification_id

    def both_landed() -> bool:
        land(ctx.ledger, ctx.lake)
        return len(rows_of(ctx.lake, "attempts")) == 2

    drain_until(ctx, both_landed)
    ids = {recipient: delivery_id for recipient, delivery_id, _ in fcm.calls}
    desk = Desk(ctx.lake, tmp_path / "reports")
    read_log(ctx.lake, tmp_path / "logs", EVENING, name, [("received", ids["soon"], EVENING + timedelta(seconds=4))])
    assert passed(desk.update())
    evening = desk.report(name, TENANT)["totals"]
    assert [evening[each] for each in ("audience", "attempted", "accepted", "throttled", "received")] == [2, 2, 1, 1, 1]

    clock.set(MORNING)
    drain_to_end(ctx, request_id)
    land(ctx.ledger, ctx.lake)
    assert sorted((row["attempt_no"], row["sent_at"].date().day) for row in rows_of(ctx.lake, "attempts")) == [
        (1, 21), (1, 21), (2, 22)
    ]  # fmt: skip
    shown = MORNING + timedelta(seconds=10)
    again = [("received", ids["soon"], shown), ("clicked", ids["soon"], shown), ("received", ids["late"], shown)]
    read_log(ctx.lake, tmp_path / "logs", MORNING, name, again)
    assert passed(desk.update())
    report = desk.report(name, TENANT)
    totals = report["totals"]
    assert (report["state"], report["accepted_at"]) == (RequestState.DONE, EVENING)
    assert [totals[each] for each in ("audience", "attempted", "accepted", "failed", "throttled")] == [2, 2, 2, 0, 0]
    assert [totals[each] for each in ("received", "clicked", "hits")] == [2, 1, 3]
    assert (totals["first_accepted_at"], totals["last_accepted_at"]) == (EVENING + ANSWER, MORNING + ANSWER)
    # Of 4 and 50 s since acceptance, on whichever day (quantiles between them).
    assert [totals[each] for each in ("p50_s", "p99_s")] == pytest.approx([27, 49.54], abs=0.01)
    days = "SELECT DISTINCT accepted_at::DATE::VARCHAR FROM facts.notifications"
    assert desk.query(days) == [("2026-11-21",)]
    tables = [desk.query(f"SELECT * FROM facts.{each} ORDER BY ALL") for each in ("platform_reports", "timeline")]
    assert passed(desk.update(full=True))
    assert tables == [
        desk.query(f"SELECT * FROM facts.{each} ORDER BY ALL") for each in ("platform_reports", "timeline")
    ]
