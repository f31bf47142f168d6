"""The sandbox's mail relay: mailboxes that can be read, faults that are shown, and a log that tells the truth."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import requests

from notify_pipeline.channels.base import HELD
from notify_pipeline.channels.registry import open_channels
from notify_pipeline.core.ids import DeliveryIds
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.records import AttemptResult, Recipient
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.vocabulary import Channel, Outcome, Platform
from notify_pipeline.sandbox.faults import Faults, ProviderFaults
from notify_pipeline.sandbox.server import Sandbox
from tests.channels.harness import notification
from tests.waiting import PATIENCE_S

PEOPLE = [f"p{number}@example.com" for number in range(150)]


async def send(folder: Path, faults: ProviderFaults) -> tuple[dict[str, AttemptResult], list[dict[str, Any]], Any]:
    """Send to all once; return results, the truth and the first one's mailbox."""
    settings = Settings(home=folder, sandbox_port=0)
    async with Sandbox(settings) as sandbox:
        sandbox.book.set(Faults(seed=7, email=faults))
        settings = settings.model_copy(update={"sandbox_url": sandbox.url})
        with Ledger.open(settings.ledger_dsn) as ledger:
            async with open_channels(settings, ledger) as channels:
                sent, email = notification(), channels[Channel.EMAIL]
                message = email.prepare(sent, Platform.EMAIL)
                ids = DeliveryIds(b"s" * 32, sent.tenant, sent.notification_id, "email").of_all(PEOPLE)
                results: dict[int, AttemptResult] = {}
                recipients = [Recipient(address, Platform.EMAIL) for address in PEOPLE]
                await email.send(message, recipients, ids, results.__setitem__)
        ask = lambda path: requests.get(sandbox.url + path, timeout=PATIENCE_S)  # noqa: E731
        log = (await asyncio.to_thread(ask, "/log")).text
        box = (await asyncio.to_thread(ask, f"/mail?to={PEOPLE[0].upper()}")).json()
    truth = [orjson.loads(line) for line in log.splitlines()]
    return {PEOPLE[number]: result for number, result in results.items()}, truth, box


def test_what_is_sent_lies_in_mailboxes_and_in_the_log(tmp_path: Path) -> None:
    results, truth, box = asyncio.run(send(tmp_path, ProviderFaults()))
    assert {result.outcome for result in results.values()} == {Outcome.ACCEPTED}
    assert [mail["to"] for mail in box["items"]] == PEOPLE[:1]
    assert box["items"][0]["subject"] and "<html>" in box["items"][0]["html"]
    assert sorted(line["recipient"] for line in truth) == sorted(PEOPLE)
    sent = notification()
    ids = DeliveryIds(b"s" * 32, sent.tenant, sent.notification_id, "email")
    for line in truth:
        assert (line["channel"], line["notification_id"], line["d"]) == (
            "email",
            sent.notification_id,
            ids.of(line["recipient"]),
        )
        assert (line["status"], line["processed"], line["dry_run"]) == (250, True, False)


def test_faults_are_told_apart_as_the_log_says(tmp_path: Path) -> None:
    faults = ProviderFaults(
        unregistered=0.2, unavailable=0.1, internal=0.1, reset=0.1, reset_after_processing=0.1, hang=0.02
    )
    results, truth, _ = asyncio.run(send(tmp_path, faults))
    processed = Counter(line["recipient"] for line in truth if line["processed"])
    answers = {line["recipient"]: line["status"] for line in truth if line["recipient"]}
    assert max(processed.values()) == 1
    seen = Counter(result.outcome for result in results.values())
    assert set(seen) == {Outcome.ACCEPTED, Outcome.INVALID_RECIPIENT, Outcome.TRANSIENT, Outcome.AMBIGUOUS}
    for address, result in results.items():
        assert (result.outcome in (Outcome.ACCEPTED, Outcome.AMBIGUOUS)) is (address in processed)
        assert (result.outcome is Outcome.INVALID_RECIPIENT) is (answers.get(address) == 550) is result.drop_token


def test_beyond_a_quota_all_mail_waits(tmp_path: Path) -> None:
    results, truth, _ = asyncio.run(send(tmp_path, ProviderFaults(quota=40)))
    seen = Counter((result.outcome, result.provider_code) for result in results.values())
    assert seen[(Outcome.ACCEPTED, None)] == 40
    assert set(seen) == {(Outcome.ACCEPTED, None), (Outcome.THROTTLED, "454"), (Outcome.THROTTLED, HELD)}
    # Those that were under way side by side; the others were held.
    assert seen[(Outcome.THROTTLED, "454")] == sum(line["status"] == 454 for line in truth) <= 16
