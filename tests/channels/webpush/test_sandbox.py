"""Web push as processes open it, against the sandbox's push service and browsers."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests
from pydantic import SecretStr

from notify_pipeline.channels.base import ChannelSender
from notify_pipeline.channels.registry import open_channels
from notify_pipeline.core import vapid
from notify_pipeline.core.ids import DeliveryIds
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.push_subscriptions import Subscription, from_base64url, token_of
from notify_pipeline.core.records import AttemptResult, Content, Notification, Recipient
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.vocabulary import Channel, Outcome, Platform
from notify_pipeline.sandbox.faults import Faults, ProviderFaults
from notify_pipeline.sandbox.server import Sandbox
from tests.channels.harness import notification
from tests.waiting import PATIENCE_S


@asynccontextmanager
async def opened(folder: Path, **changes: object) -> AsyncIterator[tuple[Sandbox, Ledger, ChannelSender]]:
    settings = Settings(home=folder, sandbox_port=0)
    async with Sandbox(settings) as sandbox:
        settings = settings.model_copy(update={"sandbox_url": sandbox.addresses["control_url"], **changes})
        with Ledger.open(settings.ledger_dsn) as ledger:
            async with open_channels(settings, ledger) as channels:
                yield sandbox, ledger, channels[Channel.WEBPUSH]


async def subscribe(sandbox: Sandbox, key: str | None = None) -> str:
    """Subscribe a browser as a page would; return the token that the registration has."""
    url = f"{sandbox.addresses['webpush_url']}/subscriptions"
    answer = await asyncio.to_thread(requests.post, url, json={"applicationServerKey": key}, timeout=PATIENCE_S)
    assert answer.status_code == 201
    made = answer.json()
    keys = {name: from_base64url(value) for name, value in made["keys"].items()}
    return token_of(Subscription(made["endpoint"], **keys))


async def lines(sandbox: Sandbox, log: str) -> list[dict[str, Any]]:
    url = f"{sandbox.addresses['control_url']}{log}?since=0"
    response = await asyncio.to_thread(requests.get, url, timeout=PATIENCE_S)
    return [orjson.loads(line) for line in response.text.splitlines()]


async def send(sender: ChannelSender, addresses: list[str], sent: Notification) -> dict[str, AttemptResult]:
    ids = DeliveryIds(b"s" * 32, sent.tenant, sent.notification_id, sender.name)
    results: dict[str, AttemptResult] = {}
    recipients = [Recipient(address, Platform.WEBPUSH) for address in addresses]
    message = sender.prepare(sent, Platform.WEBPUSH)

    def report(index: int, result: AttemptResult) -> None:
        assert addresses[index] not in results
        results[addresses[index]] = result

    await sender.send(message, recipients, [ids.of(address) for address in addresses], report)
    assert len(results) == len(addresses)
    return results


def test_what_is_sent_is_opened_shown_and_beaconed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with opened(tmp_path) as (sandbox, ledger, sender):
            key = vapid.public_text(vapid.installation_key(Settings(), ledger))
            tokens = [await subscribe(sandbox, key), await subscribe(sandbox)]
            results = await send(sender, tokens, notification(content=Content("Tïtle", "Body", data={"k": "v"})))
            assert {result.outcome for result in results.values()} == {Outcome.ACCEPTED}
            said = {line["recipient"]: line for line in await lines(sandbox, "/log")}
            assert set(said) == set(tokens)
            for token, line in said.items():
                assert line["body"]["title"] == "Tïtle"
                assert line["body"]["k"] == "v"
                assert (line["channel"], line["status"], line["processed"]) == ("webpush", 201, True)
                assert line["notification_id"] == "notification-1"
                assert line["d"] == line["body"]["d"]
                assert line["message_id"] == results[token].provider_message_id
                assert line["headers"]["urgency"] == "high"
            assert await sandbox.devices.drain(10)
            shown = await lines(sandbox, "/devices/log")
            assert {line["recipient"]: line["beacons"] for line in shown} == dict.fromkeys(tokens, ["received"])
            beacons = await lines(sandbox, "/cdn/log")
            assert {line["d"] for line in beacons} == {line["d"] for line in said.values()}

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert sum("no real browser" in record.message for record in caplog.records) == 1


def test_another_installations_subscription_is_a_matter_of_credentials(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as (sandbox, _, sender):
            token = await subscribe(sandbox, vapid.public_text(vapid.key_of(b"another".ljust(32))))
            (result,) = (await send(sender, [token], notification())).values()
            assert (result.outcome, result.provider_code) == (Outcome.TRANSIENT, "credentials:http_403")

    asyncio.run(main())


def test_an_operators_own_key_is_used(tmp_path: Path) -> None:
    text = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"

    async def main() -> None:
        async with opened(tmp_path, vapid_private_key=SecretStr(text)) as (sandbox, _, sender):
            token = await subscribe(sandbox, vapid.public_text(vapid.read_key(text)))
            (result,) = (await send(sender, [token], notification())).values()
            assert result.outcome is Outcome.ACCEPTED

    asyncio.run(main())


def test_a_subject_lets_the_channel_speak_to_any_service(tmp_path: Path) -> None:
    async def main() -> None:
        changes = {"vapid_subject": "https://example.com/contact", "webpush_allow_private": True}
        async with opened(tmp_path, **changes) as (sandbox, _, sender):
            results = await send(sender, [await subscribe(sandbox)], notification())
            assert {result.outcome for result in results.values()} == {Outcome.ACCEPTED}
        async with opened(tmp_path, vapid_subject="mailto:ops@example.com") as (sandbox, _, sender):
            results = await send(sender, [await subscribe(sandbox)], notification())
            assert {result.outcome for result in results.values()} == {Outcome.INVALID_RECIPIENT}, "it is a private one"

    asyncio.run(main())


def test_under_faults_our_record_agrees_with_the_truth(tmp_path: Path) -> None:
    async def main() -> None:
        faults = ProviderFaults(
            unregistered=0.1, unavailable=0.1, internal=0.1, reset=0.1, reset_after_processing=0.1, hang=0.02
        )
        async with opened(tmp_path, request_timeout_s=1.0) as (sandbox, _, sender):
            tokens = [await subscribe(sandbox) for _ in range(150)]
            sandbox.book.set(Faults(webpush=faults))
            results = await send(sender, tokens, notification())
            seen: Counter[str] = Counter()
            processed: Counter[str] = Counter()
            for line in await lines(sandbox, "/log"):
                seen[line["recipient"]] += 1
                processed[line["recipient"]] += line["processed"]
            assert set(seen.values()) == {1}
            for token, result in results.items():
                if result.outcome is Outcome.ACCEPTED:
                    assert processed[token] == 1
                elif result.outcome is not Outcome.AMBIGUOUS:
                    assert processed[token] == 0, result
                assert result.drop_token is (result.outcome is Outcome.INVALID_RECIPIENT)
            outcomes = {result.outcome for result in results.values()}
            expected = {Outcome.ACCEPTED, Outcome.AMBIGUOUS, Outcome.INVALID_RECIPIENT, Outcome.TRANSIENT}
            assert outcomes == expected

    asyncio.run(main())


def test_a_quota_that_is_used_up_holds_the_rest(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, webpush_connections=4) as (sandbox, _, sender):
            tokens = [await subscribe(sandbox) for _ in range(30)]
            sandbox.book.set(Faults(webpush=ProviderFaults(quota=10, quota_window_s=60)))
            results = await send(sender, tokens, notification())
            codes = Counter(result.provider_code for result in results.values())
            assert codes[None] == 10, codes
            assert 1 <= codes["http_429"] <= 4, codes
            assert sum(codes.values()) == 30
            assert all(result.retry_after_s for result in results.values() if result.provider_code)

    asyncio.run(main())
