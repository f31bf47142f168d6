"""The channels against the sandbox's own reading of the providers' rules; its log is the truth to compare with."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests

from notify_pipeline.channels.base import HELD, ChannelSender
from notify_pipeline.channels.registry import ChannelsMisconfigured, open_channels
from notify_pipeline.core.ids import DeliveryIds
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.records import AttemptResult, Content, Notification, Recipient
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.vocabulary import Channel, Outcome, Platform, Priority
from notify_pipeline.sandbox.faults import Faults, ProviderFaults
from notify_pipeline.sandbox.server import Sandbox
from notify_pipeline.sandbox.tokens import apns_token, fcm_token
from tests.channels.harness import DEVIATIONS, notification
from tests.waiting import PATIENCE_S

TOKENS = {Platform.ANDROID: fcm_token, Platform.WEB: fcm_token, Platform.IOS: apns_token}


_PUSHED = (Platform.ANDROID, Platform.IOS, Platform.WEB)


@pytest.fixture(params=["wire", "library"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def opened(
    folder: Path, **changes: object
) -> AsyncIterator[tuple[Sandbox, Settings, dict[Channel, ChannelSender]]]:
    settings = Settings(home=folder, sandbox_port=0)
    async with Sandbox(settings) as sandbox:
        settings = settings.model_copy(update={"sandbox_url": sandbox.addresses["control_url"], **changes})
        with Ledger.open(settings.ledger_dsn) as ledger:
            async with open_channels(settings, ledger) as channels:
                yield sandbox, settings, channels


async def send(sender: ChannelSender, platform: Platform, count: int, sent: Notification) -> dict[str, AttemptResult]:
    addresses = [TOKENS[platform](str(number)) for number in range(count)]
    ids = DeliveryIds(b"s" * 32, sent.tenant, sent.notification_id, sender.name)
    results: dict[str, AttemptResult] = {}

    def report(index: int, result: AttemptResult) -> None:
        assert addresses[index] not in results
        results[addresses[index]] = result

    recipients = [Recipient(address, platform) for address in addresses]
    message = sender.prepare(sent, platform)
    await sender.send(message, recipients, [ids.of(address) for address in addresses], report)
    assert len(results) == count
    return results


async def truth(sandbox: Sandbox) -> list[dict[str, Any]]:
    response = await asyncio.to_thread(
        requests.get, sandbox.addresses["control_url"] + "/log?since=0", timeout=PATIENCE_S
    )
    return [orjson.loads(line) for line in response.text.splitlines()]


def test_the_stand_ins_accept_what_we_send(transport: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with opened(tmp_path, transport=transport) as (sandbox, _, channels):
            assert {Channel.FCM, Channel.APNS} <= set(channels)
            for platform in _PUSHED:
                for content in (Content("Tïtle", "Body"), Content(data={"k": "v"})):
                    for priority in Priority:
                        sent = notification(content=content, priority=priority, category="c")
                        results = await send(channels[platform.channel], platform, 5, sent)
                        assert {result.outcome for result in results.values()} == {Outcome.ACCEPTED}
            lines = await truth(sandbox)
            assert len(lines) == len(_PUSHED) * 2 * len(Priority) * 5
            assert {line["notification_id"] for line in lines} == {"notification-1"}
            assert len({line["d"] for line in lines}) == 10, "the same in every attempt"
            receipt = lines[0]["body"]["message"]["data"]["receipt"]
            assert receipt.startswith(sandbox.addresses["receipt_url"] + "/notification/received?")

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    said = [record.message for record in caplog.records if "no credentials are set" in record.message]
    assert len(said) == 2


def test_the_largest_payload_that_we_let_through_is_accepted(transport: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, transport=transport) as (_, _, channels):
            for platform, size in ((Platform.ANDROID, 3500), (Platform.WEB, 3400), (Platform.IOS, 3400)):
                sent = notification(content=Content("T", "x" * size))
                results = await send(channels[platform.channel], platform, 1, sent)
                assert {result.outcome for result in results.values()} == {Outcome.ACCEPTED}

    asyncio.run(main())


def test_a_dry_run_reaches_no_device(transport: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, transport=transport) as (sandbox, _, channels):
            for platform in _PUSHED:
                results = await send(channels[platform.channel], platform, 3, notification(dry_run=True))
                assert {result.outcome for result in results.values()} == {Outcome.DRY_RUN}
            lines = await truth(sandbox)
            assert [line["dry_run"] for line in lines] == [True] * 6
            assert {line["channel"] for line in lines} == {"fcm"}

    asyncio.run(main())


@pytest.mark.parametrize("platform", [Platform.ANDROID, Platform.IOS])
def test_under_faults_our_record_agrees_with_the_truth(transport: str, tmp_path: Path, platform: Platform) -> None:
    """No request is sent twice, nothing accepted was not processed, nothing processed is called anything else."""

    async def main() -> None:
        faults = ProviderFaults(
            unregistered=0.05,
            # FCM's 429 would hold everybody: see below.
            throttled=0.0 if platform is Platform.ANDROID else 0.05,
            unavailable=0.1 if platform is Platform.ANDROID else 0.05,
            internal=0.02,
            reset=0.02,
            reset_after_processing=0.02,
            hang=0.01,
            retry_after_s=3,
            latency_ms=1,
        )
        async with opened(tmp_path, transport=transport, request_timeout_s=1.0, max_in_flight=32) as (
            sandbox,
            _,
            channels,
        ):
            sandbox.book.set(Faults(fcm=faults, apns=faults))
            count = 1500 if transport == "wire" else 300  # the libraries need milliseconds for each
            hidden = DEVIATIONS.get((platform.channel, "retry_after")) if transport == "library" else None
            results = await send(channels[platform.channel], platform, count, notification())
            seen: Counter[str] = Counter()
            processed: Counter[str] = Counter()
            dead: set[str] = set()
            for line in await truth(sandbox):
                if line["recipient"] is not None:
                    seen[line["recipient"]] += 1
                    processed[line["recipient"]] += line["processed"]
                    if line["status"] in (404, 410):
                        dead.add(line["recipient"])
            if transport == "wire":  # httpcore may send a request again that a GOAWAY overtook
                assert max(seen.values()) == 1
            for address, result in results.items():
                if result.outcome is Outcome.ACCEPTED:
                    assert processed[address] == 1
                elif result.outcome is not Outcome.AMBIGUOUS:
                    assert processed[address] == 0, result
                assert not result.drop_token or address in dead
                if result.outcome is Outcome.THROTTLED:
                    assert result.retry_after_s == (hidden[0] if hidden else 3)
            outcomes = {result.outcome for result in results.values()}
            assert outcomes == {
                Outcome.ACCEPTED,
                Outcome.AMBIGUOUS,
                Outcome.INVALID_RECIPIENT,
                Outcome.TRANSIENT,
                *([Outcome.THROTTLED] if faults.throttled else []),
            }

    asyncio.run(main())


def test_a_quota_that_is_used_up_holds_the_project_in_every_process(transport: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, transport=transport, max_in_flight=16) as (sandbox, settings, channels):
            sandbox.book.set(Faults(fcm=ProviderFaults(throttled=1, retry_after_s=30, latency_ms=5)))
            fcm = channels[Channel.FCM]
            results = await send(fcm, Platform.ANDROID, 500, notification())
            assert {result.outcome for result in results.values()} == {Outcome.THROTTLED}
            asked = len(await truth(sandbox))
            assert 1 <= asked <= 32, "those under way when the first answer came, and no more"
            held = [result for result in results.values() if result.provider_code == HELD]
            assert len(held) == 500 - asked
            assert all(15 < (result.retry_after_s or 0) <= 30 for result in held)
            assert 15 < fcm.held_for_s <= 30
            assert channels[Channel.APNS].held_for_s == 0
            await asyncio.sleep(0.5)  # until the ledger knows
            with Ledger.open(settings.ledger_dsn) as ledger:
                async with open_channels(settings, ledger) as others:
                    assert 10 < others[Channel.FCM].held_for_s <= 30, "known before anything is sent"
                    again = await send(others[Channel.FCM], Platform.ANDROID, 10, notification())
                    assert {result.provider_code for result in again.values()} == {HELD}
            assert len(await truth(sandbox)) == asked

    asyncio.run(main())


def test_a_limit_is_kept(tmp_path: Path) -> None:
    """From idle, 60,000 per minute begin with 100 per second."""

    async def main() -> None:
        async with opened(tmp_path, transport="wire", fcm_per_minute=60_000) as (_, _, channels):
            begun = time.monotonic()
            results = await send(channels[Channel.FCM], Platform.ANDROID, 150, notification())
            assert {result.outcome for result in results.values()} == {Outcome.ACCEPTED}
            times = sorted(result.sent_at for result in results.values())
            assert time.monotonic() - begun > 0.9, "150 take a second and a half, less a burst"
            for first, at in enumerate(times):
                in_reach = sum(at <= other <= at + 500_000 for other in times[first:])
                assert in_reach <= 150 * 0.5 + 60, "half a second's worth, and a burst"

    asyncio.run(main())


def test_real_mode_needs_credentials(tmp_path: Path, sqlite_ledger: Ledger) -> None:
    async def main(settings: Settings, message: str) -> None:
        with pytest.raises(ChannelsMisconfigured, match=message):
            async with open_channels(settings, sqlite_ledger):
                pass

    asyncio.run(main(Settings(home=tmp_path, provider_mode="real"), "no channel has credentials"))
    half = Settings(home=tmp_path, provider_mode="real", apns_key=tmp_path / "k.p8", apns_key_id="K")
    asyncio.run(main(half, "NOTIFY_APNS_TEAM_ID"))


def test_credentials_lead_to_the_real_service_or_where_the_settings_say(tmp_path: Path, sqlite_ledger: Ledger) -> None:
    async def main() -> None:
        async with opened(tmp_path) as (sandbox, settings, _):
            told = sandbox.addresses
            settings = settings.model_copy(
                update={
                    "provider_mode": "real",
                    "sandbox_url": "http://127.0.0.1:1",
                    "apns_key": Path(told["apns_key"]),
                    "apns_key_id": told["apns_key_id"],
                    "apns_team_id": told["apns_team_id"],
                    "apns_topic": told["apns_topic"],
                    "apns_url": told["apns_url"],
                    "provider_ca": Path(told["ca"]),
                    "receipt_url": "https://cdn.example/",
                }
            )
            async with open_channels(settings, sqlite_ledger) as channels:
                assert set(channels) == {Channel.APNS, Channel.WEBSOCKET}
                results = await send(channels[Channel.APNS], Platform.IOS, 2, notification())
                assert {result.outcome for result in results.values()} == {Outcome.ACCEPTED}
            (first, _) = await truth(sandbox)
            assert first["body"]["receipt"].startswith("https://cdn.example/notification/received?")

    asyncio.run(main())
