"""A provider that asks for a pause: who waits, what arrives meanwhile, and what comes after."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest

from notify_pipeline.channels.base import HELD, NOT_PROCESSED
from notify_pipeline.core.ids import DeliveryIds
from notify_pipeline.core.rates import RAMP_S, STARTING_PER_S
from notify_pipeline.core.records import AttemptResult, Recipient
from notify_pipeline.core.vocabulary import Outcome
from tests.channels.harness import APNS_IOS, FCM_ANDROID, Harness, apns_error, notification, send
from tests.channels.peer import Action, Reply, Seen

ACCEPTED = Reply(200, b'{"name": "projects/p/messages/1"}')
IN_FLIGHT = 16  # of the harness's transports


def quota(retry_after_s: int | None, description: str | None = "Message rate exceeded.") -> Reply:
    """FCM's 429."""
    details: list[dict[str, object]] = [
        {"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": "QUOTA_EXCEEDED"}
    ]
    if description is not None:
        violation = {"subject": "x", "description": description}
        details.append({"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]})
    body = {"error": {"code": 429, "message": "…", "status": "RESOURCE_EXHAUSTED", "details": details}}
    headers = () if retry_after_s is None else (("retry-after", str(retry_after_s)),)
    return Reply(429, orjson.dumps(body), headers)


@dataclass
class Provider:
    """Accepts ``before`` requests, then refuses all for ``pause_s``, telling each how long is left, then accepts."""

    before: int
    pause_s: int
    arrivals: list[tuple[float, str, int]] = field(default_factory=list)  # when, for whom, with which answer
    until: float = 0.0

    def __call__(self, request: Seen) -> Action:
        now = time.monotonic()
        if len(self.arrivals) == self.before:
            self.until = now + self.pause_s
        answer: Action = ACCEPTED
        if now < self.until:
            answer = quota(max(1, round(self.until - now)))
        token = str(orjson.loads(request.body)["message"]["token"])
        self.arrivals.append((now, token, answer.status if isinstance(answer, Reply) else 0))
        return answer


async def keep_sending(harness: Harness, count: int) -> dict[str, tuple[float, AttemptResult]]:
    """Send to all until all are accepted, as the engine does: nothing while held, nobody before their time.

    Returns:
        By address, from when on it might be sent to, and its last result.
    """
    message = harness.sender.prepare(notification(), harness.platform)
    ids = DeliveryIds(b"s" * 32, "tenant-1", "notification-1", harness.sender.name)
    due = {harness.address(number): 0.0 for number in range(count)}
    results: dict[str, tuple[float, AttemptResult]] = {}
    while due:
        now = time.monotonic()
        ready = [address for address, at in due.items() if at <= now]
        if harness.sender.held_for_s or not ready:
            await asyncio.sleep(0.02)
            continue

        def report(index: int, result: AttemptResult, ready: list[str] = ready) -> None:
            address = ready[index]
            results[address] = (due.pop(address), result)
            if result.outcome is not Outcome.ACCEPTED:
                assert result.outcome is Outcome.THROTTLED
                assert result.retry_after_s is not None
                due[address] = time.monotonic() + result.retry_after_s

        recipients = [Recipient(address, harness.platform) for address in ready]
        await harness.sender.send(message, recipients, [ids.of(address) for address in ready], report)
    return results


@pytest.mark.parametrize("pause_s", [2, pytest.param(60, marks=pytest.mark.long)])
def test_nothing_comes_before_its_time_and_no_burst_after(tmp_path: Path, pause_s: int) -> None:
    count = 300

    async def main() -> None:
        async with FCM_ANDROID(tmp_path) as harness:
            provider = Provider(100, pause_s)
            harness.peer.script = provider
            results = await keep_sending(harness, count)
            assert len(results) == count
            refused = [(at, token) for at, token, status in provider.arrivals if status == 429]
            assert 1 <= len(refused) <= IN_FLIGHT, "those under way, and then nothing until the pause is over"
            accepted = [token for _, token, status in provider.arrivals if status == 200]
            assert sorted(accepted) == sorted(results), "everybody, and nobody twice"
            for at, token, _ in provider.arrivals:
                assert at >= results[token][0] or at < provider.until, "before its time"
            after = [at for at, _, _ in provider.arrivals if at > refused[-1][0]]
            assert min(after) >= refused[0][0] + pause_s - 0.01
            # The ramp: a tenth of the pace, rising. A stock that a sleepy machine saved up is half a second's worth.
            for first, at in enumerate(after):
                window = sum(other < at + 0.1 for other in after[first:])
                elapsed = at + 0.1 - min(after)
                rate = STARTING_PER_S * (0.1 + 0.9 * min(1.0, elapsed / RAMP_S))
                assert window <= rate * 0.5 + IN_FLIGHT

    asyncio.run(main())


def channel(opened: Callable[[Path], object], folder: Path, body: Callable[[Harness], Awaitable[None]]) -> None:
    async def main() -> None:
        async with opened(folder) as harness:  # type: ignore[attr-defined]
            await body(harness)

    asyncio.run(main())


def test_who_was_not_drawn_is_reported_at_once_and_was_never_called(tmp_path: Path) -> None:
    async def body(harness: Harness) -> None:
        harness.peer.script = lambda _: quota(7)
        begun = time.monotonic()
        results = await send(harness, 500)
        assert time.monotonic() - begun < 5
        assert {result.outcome for result in results} == {Outcome.THROTTLED}
        held = [result for result in results if result.provider_code == HELD]
        assert len(held) == 500 - harness.calls
        assert harness.calls <= IN_FLIGHT
        for result in held:
            assert result.retry_after_s is not None
            assert 2 < result.retry_after_s <= 7
            assert result.answered_at == result.sent_at
        assert 2 < harness.sender.held_for_s <= 7
        calls = harness.calls
        assert {result.provider_code for result in await send(harness, 3)} == {HELD}
        assert harness.calls == calls, "another send is held too"

    channel(FCM_ANDROID, tmp_path, body)
    assert HELD.startswith(NOT_PROCESSED), "nobody could have got it"


def test_without_a_retry_after_the_pause_is_a_minute(tmp_path: Path) -> None:
    async def body(harness: Harness) -> None:
        harness.peer.script = lambda _: quota(None)
        (result,) = await send(harness, 1)
        assert result.retry_after_s == 60
        assert 55 < harness.sender.held_for_s <= 60

    channel(FCM_ANDROID, tmp_path, body)


def test_a_short_pause_is_waited_for(tmp_path: Path) -> None:
    async def body(harness: Harness) -> None:
        provider = Provider(20, 1)
        harness.peer.script = provider
        results = await send(harness, 100)
        assert HELD not in {result.provider_code for result in results}
        refused = [at for at, _, status in provider.arrivals if status == 429]
        assert 1 <= len(refused) <= IN_FLIGHT
        assert len(provider.arrivals) == 100, "a sender never tries again by itself"
        assert min(at for at, _, _ in provider.arrivals if at > refused[-1]) >= refused[0] + 0.99

    channel(FCM_ANDROID, tmp_path, body)


def test_a_send_that_began_before_is_held_too(tmp_path: Path) -> None:
    async def body(harness: Harness) -> None:
        slow = Reply(200, ACCEPTED.body, delay_s=0.05)
        harness.peer.script = lambda request: slow if len(harness.peer.seen) < 40 else quota(7)
        first, second = await asyncio.gather(send(harness, 300), send(harness, 300))
        assert all(HELD in {result.provider_code for result in results} for results in (first, second))
        assert harness.calls <= 40 + IN_FLIGHT

    channel(FCM_ANDROID, tmp_path, body)


@pytest.mark.parametrize(
    ("description", "held"),
    [("Device message rate exceeded.", False), ("Message rate exceeded.", True), (None, True)],
)
def test_a_devices_own_rate_holds_nobody_else(tmp_path: Path, description: str | None, held: bool) -> None:
    async def body(harness: Harness) -> None:
        harness.peer.script = lambda _: quota(5, description)
        (result,) = await send(harness, 1)
        assert (result.outcome, result.retry_after_s) == (Outcome.THROTTLED, 5)
        assert (harness.sender.held_for_s > 0) is held

    channel(FCM_ANDROID, tmp_path, body)


def test_an_overloaded_server_holds_nobody_else(tmp_path: Path) -> None:
    async def body(harness: Harness) -> None:
        harness.peer.script = lambda _: Reply(503, b"{}", (("retry-after", "9"),))
        results = await send(harness, 50)
        assert {(result.outcome, result.retry_after_s) for result in results} == {(Outcome.TRANSIENT, 9)}
        assert harness.calls == 50
        assert harness.sender.held_for_s == 0

    channel(FCM_ANDROID, tmp_path, body)


def test_apns_refuses_one_device_or_the_whole_team(tmp_path: Path) -> None:
    async def body(harness: Harness) -> None:
        harness.peer.script = lambda _: apns_error(429, "TooManyRequests", (("retry-after", "9"),))
        results = await send(harness, 50)
        assert {(result.outcome, result.retry_after_s) for result in results} == {(Outcome.THROTTLED, 9)}
        assert harness.calls == 50
        assert harness.sender.held_for_s == 0
        harness.peer.script = lambda _: apns_error(429, "TooManyProviderTokenUpdates")
        results = await send(harness, 50)
        assert harness.calls <= 50 + IN_FLIGHT
        assert {result.provider_code for result in results} == {"TooManyProviderTokenUpdates", HELD}
        assert 55 < harness.sender.held_for_s <= 60

    channel(APNS_IOS, tmp_path, body)


def test_a_cancelled_send_that_waits_reports_nobody_twice(tmp_path: Path) -> None:
    async def body(harness: Harness) -> None:
        harness.peer.script = lambda _: quota(1)
        task = asyncio.create_task(send(harness, 100))
        while not harness.sender.held_for_s:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        calls = harness.calls
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(max(0.0, harness.sender.held_for_s) + 0.1)
        assert harness.calls == calls, "those who waited were certainly not sent to"

    channel(FCM_ANDROID, tmp_path, body)
