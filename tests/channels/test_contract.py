"""The one contract that every channel keeps, whoever its provider is."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from notify_pipeline.channels.base import CREDENTIALS, NO_ANSWER, NOT_PROCESSED, ContentRejected
from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.records import Content, Recipient
from notify_pipeline.core.vocabulary import Outcome
from tests.channels.harness import CHANNELS, Harness, Open, notification, send, utc_now
from tests.channels.peer import Hang

Run = Callable[[Callable[[Harness], Awaitable[None]]], None]


@pytest.fixture(params=list(CHANNELS.values()), ids=list(CHANNELS))
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Runs a coroutine function on the channel, open."""
    opened: Open = request.param

    def run(body: Callable[[Harness], Awaitable[None]]) -> None:
        async def main() -> None:
            async with opened(tmp_path) as harness:
                await body(harness)

        asyncio.run(main())

    return run


def test_accepted(run: Run) -> None:
    async def body(harness: Harness) -> None:
        before = to_micros(utc_now())
        results = await send(harness, 200)
        after = to_micros(utc_now())
        assert {result.outcome for result in results} == {Outcome.ACCEPTED}
        assert harness.calls == 200
        for result in results:
            assert result.provider_message_id
            assert result.provider_code is None
            assert not result.drop_token
            assert result.answered_at is not None
            assert before <= result.sent_at <= result.answered_at <= after

    run(body)


def test_throttled_says_how_long_to_wait(run: Run) -> None:
    async def body(harness: Harness) -> None:
        harness.answer("throttled")
        (result,) = await send(harness)
        assert result.outcome is Outcome.THROTTLED
        assert result.retry_after_s == 7
        assert result.provider_code
        assert harness.calls == 1, "a channel never tries again by itself"

    run(body)


def test_transient(run: Run) -> None:
    async def body(harness: Harness) -> None:
        harness.answer("transient")
        (result,) = await send(harness)
        assert result.outcome is Outcome.TRANSIENT
        assert result.retry_after_s == 3
        assert harness.calls == 1

    run(body)


def test_permanent_drops_nothing(run: Run) -> None:
    async def body(harness: Harness) -> None:
        harness.answer("permanent")
        (result,) = await send(harness)
        assert result.outcome is Outcome.PERMANENT
        assert not result.drop_token
        assert result.retry_after_s is None

    run(body)


def test_invalid_recipient_on_the_providers_word_drops_the_address(run: Run) -> None:
    async def body(harness: Harness) -> None:
        harness.answer("invalid_recipient")
        (result,) = await send(harness)
        assert result.outcome is Outcome.INVALID_RECIPIENT
        assert result.drop_token
        assert result.provider_code

    run(body)


def test_an_address_that_cannot_be_one_is_not_sent_and_not_dropped(run: Run) -> None:
    async def body(harness: Harness) -> None:
        results = await send(
            harness, addresses=[harness.address(0), harness.bad_address, "", "x\n", harness.address(1)]
        )
        assert [result.outcome for result in results] == [
            Outcome.ACCEPTED,
            *[Outcome.INVALID_RECIPIENT] * 3,
            Outcome.ACCEPTED,
        ]
        assert not any(result.drop_token for result in results), "only a provider's word drops"
        assert harness.calls == 2

    run(body)


def test_ambiguous_when_no_answer_comes(run: Run) -> None:
    async def body(harness: Harness) -> None:
        harness.answer("ambiguous")
        (result,) = await send(harness)
        assert result.outcome is Outcome.AMBIGUOUS
        assert result.provider_code is not None
        assert result.provider_code.startswith(NO_ANSWER)
        assert result.answered_at is None
        assert harness.calls == 1

    run(body)


def test_a_provider_that_cannot_be_reached_is_transient(tmp_path: Path) -> None:
    async def main(opened: Open) -> None:
        async with opened(tmp_path) as harness:
            await harness.sender.aclose()
            (result,) = await send(harness)
            assert result.outcome is Outcome.TRANSIENT
            assert result.provider_code == f"{NOT_PROCESSED}:closed"
            assert harness.calls == 0

    for opened in CHANNELS.values():
        asyncio.run(main(opened))


def test_dry_run_delivers_nothing(run: Run) -> None:
    async def body(harness: Harness) -> None:
        message = harness.sender.prepare(notification(dry_run=True), harness.platform)
        results = await send(harness, 3, message)
        assert {result.outcome for result in results} == {Outcome.DRY_RUN}
        assert harness.calls == (3 if harness.can_dry_run else 0)
        assert all(b'"validate_only":true' in seen.body for seen in harness.peer.seen)
        if harness.can_dry_run:
            harness.answer("invalid_recipient")
            (result,) = await send(harness, 1, message)
            assert result.outcome is Outcome.INVALID_RECIPIENT
            assert not result.drop_token, "a dry run changes nothing"

    run(body)


def test_expired_is_not_sent(run: Run) -> None:
    async def body(harness: Harness) -> None:
        message = harness.sender.prepare(notification(expires_at=utc_now() - timedelta(seconds=1)), harness.platform)
        results = await send(harness, 3, message)
        assert {(result.outcome, result.provider_code) for result in results} == {(Outcome.EXPIRED, "ttl")}
        assert harness.calls == 0

    run(body)


def test_oversized_content_is_rejected_before_anything_is_sent(run: Run) -> None:
    async def body(harness: Harness) -> None:
        content = Content("Title", "ä" * 3000)
        with pytest.raises(ContentRejected) as caught:
            harness.sender.prepare(notification(content=content), harness.platform)
        assert caught.value.code == "payload_too_large"

    run(body)


def test_text_that_is_not_unicode_is_rejected(run: Run) -> None:
    async def body(harness: Harness) -> None:
        for content in (Content("a lone \ud800"), Content("t", data={"k": "\udfff"})):
            with pytest.raises(ContentRejected):
                harness.sender.prepare(notification(content=content), harness.platform)

    run(body)


def test_refused_credentials_are_renewed_once_and_drop_nothing(run: Run) -> None:
    async def body(harness: Harness) -> None:
        refused, accepted = harness.answers["credentials"], harness.answers["accepted"]
        harness.peer.script = lambda seen: refused if seen.headers["authorization"].endswith("-1") else accepted
        results = await send(harness, 40)
        assert {result.outcome for result in results} == {Outcome.ACCEPTED}
        assert harness.calls == 80
        assert harness.credentials.refused == ["token-1"]

        harness.answer("credentials")
        results = await send(harness, 40)
        assert {result.outcome for result in results} == {Outcome.TRANSIENT}
        assert all(str(result.provider_code).startswith(f"{CREDENTIALS}:") for result in results)
        assert not any(result.drop_token for result in results)
        assert harness.credentials.refused == ["token-1", "token-2"]
        assert harness.calls == 160

    run(body)


def test_trouble_is_logged_once_per_kind_and_shows_no_address(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def body(harness: Harness) -> None:
        drop, refused = harness.answers["ambiguous"], harness.answers["credentials"]
        harness.peer.script = lambda seen: drop if len(harness.peer.seen) > 20 else refused
        with caplog.at_level(logging.WARNING, "notify_pipeline.channels"):
            await send(harness, 40)
        assert 1 <= len(caplog.records) <= 6
        for number in range(40):
            assert harness.address(number) not in caplog.text
        assert "token-1" not in caplog.text

    run(body)


def test_cancelling_reports_what_was_under_way(run: Run) -> None:
    async def body(harness: Harness) -> None:
        harness.peer.script = lambda _: Hang()
        message = harness.sender.prepare(notification(), harness.platform)
        recipients = [Recipient(harness.address(n), harness.platform) for n in range(100)]
        reported: dict[int, Outcome] = {}
        task = asyncio.create_task(
            harness.sender.send(message, recipients, ["d"] * 100, lambda i, r: reported.update({i: r.outcome}))
        )
        while harness.calls < 16:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(reported) == 16
        assert set(reported.values()) == {Outcome.AMBIGUOUS}
        harness.answer("accepted")
        assert {result.outcome for result in await send(harness, 20)} == {Outcome.ACCEPTED}

    run(body)


def test_a_mistake_of_the_caller_is_an_error(run: Run) -> None:
    async def body(harness: Harness) -> None:
        message = harness.sender.prepare(notification(), harness.platform)
        recipients = [Recipient(harness.address(0), harness.platform)]
        for ids in ([], ['"}'], ["x" * 41]):
            with pytest.raises(ValueError, match="delivery id"):
                await harness.sender.send(message, recipients, ids, lambda i, r: None)
        assert harness.calls == 0

    run(body)


def test_nobody_is_no_trouble(run: Run) -> None:
    async def body(harness: Harness) -> None:
        message = harness.sender.prepare(notification(), harness.platform)
        await harness.sender.send(message, [], [], lambda i, r: pytest.fail("there is nobody"))
        assert harness.calls == 0

    run(body)
