"""The one contract that every channel keeps, whoever its provider is."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import orjson
import pytest
from h2.errors import ErrorCodes

from notify_pipeline.channels.base import CREDENTIALS, NO_ANSWER, NOT_PROCESSED, ContentRejected
from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.records import Action as Button
from notify_pipeline.core.records import Audience, Content, Notification, Recipient, Visitor
from notify_pipeline.core.vocabulary import Outcome, Priority
from tests.channels.harness import CHANNELS, LIBRARY, WIRE, Harness, Open, notification, patience, send, utc_now
from tests.channels.peer import Action, GoAway, Hang, Reply, Reset, Seen

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
        assert result.retry_after_s == harness.expected("retry_after", 7)
        assert result.provider_code
        assert harness.calls == 1, "a channel never tries again by itself"

    run(body)


def test_transient(run: Run) -> None:
    async def body(harness: Harness) -> None:
        harness.answer("transient")
        (result,) = await send(harness)
        assert result.outcome is Outcome.TRANSIENT
        assert result.retry_after_s == harness.expected("retry_after", 3)
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


# What a peer may do other than answer in full, and what the contract calls it.
ODD_ENDS: dict[str, tuple[Action, Outcome]] = {
    "reset": (Reset(), Outcome.AMBIGUOUS),
    "refused_stream": (Reset(ErrorCodes.REFUSED_STREAM), Outcome.TRANSIENT),
    "goaway_above": (GoAway(refuse=True), Outcome.TRANSIENT),
    "no_reason": (Reply(503, b""), Outcome.TRANSIENT),
    "plain_error": (Reply(503, b"later"), Outcome.TRANSIENT),
    "not_json": (Reply(200, b"fine"), Outcome.ACCEPTED),
    "long_body": (Reply(503, b" " * 20_000 + b"{}"), Outcome.TRANSIENT),
}


@pytest.mark.parametrize("case", ODD_ENDS)
@pytest.mark.parametrize("name", CHANNELS)
def test_an_odd_end_is_called_what_it_is_and_spoils_nothing(name: str, case: str, tmp_path: Path) -> None:
    action, kept = ODD_ENDS[case]

    async def main() -> None:
        async with CHANNELS[name](tmp_path, timeout_s=patience(name)) as harness:
            await send(harness)
            odd = False

            def once(_: Seen) -> Action:
                nonlocal odd
                first, odd = not odd, True
                return action if first else harness.answers["accepted"]

            harness.script(once)
            (result,) = await send(harness)
            assert result.outcome is harness.expected(case, kept), result
            assert harness.calls == 2, "a channel never tries again by itself"
            after = await send(harness, 5)
            assert {result.outcome for result in after} == {Outcome.ACCEPTED}

    asyncio.run(main())


@pytest.mark.parametrize("name", CHANNELS)
def test_more_error_bodies_than_a_window_holds(name: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with CHANNELS[name](tmp_path, timeout_s=patience(name)) as harness:
            harness.script(lambda _: Reply(503, b'{"reason": "ServiceUnavailable", "_": "%b"}' % (b"x" * 10_000)))
            results = await send(harness, 12)
            assert {result.outcome for result in results} == harness.expected("much_data", {Outcome.TRANSIENT})

    asyncio.run(main())


def test_a_provider_that_cannot_be_reached_is_transient(run: Run) -> None:
    async def body(harness: Harness) -> None:
        harness.peer.leave()
        (result,) = await send(harness)
        assert result.outcome is Outcome.TRANSIENT
        assert result.provider_code == f"{NOT_PROCESSED}:connect"
        assert harness.calls == 0

    run(body)


def test_a_closed_sender_sends_nothing(run: Run) -> None:
    async def body(harness: Harness) -> None:
        await harness.sender.aclose()
        results = await send(harness, 3)
        assert {result.outcome for result in results} == {Outcome.TRANSIENT}
        assert {result.provider_code for result in results} == {f"{NOT_PROCESSED}:closed"}
        assert harness.calls == 0

    run(body)


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
        harness.script(lambda seen: refused if seen.headers["authorization"].endswith("-1") else accepted)
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
        harness.script(lambda seen: drop if len(harness.peer.seen) > 20 else refused)
        with caplog.at_level(logging.WARNING, "notify_pipeline.channels"):
            await send(harness, 40)
        assert 1 <= len(caplog.records) <= 6
        for number in range(40):
            assert harness.address(number) not in caplog.text
        assert "token-1" not in caplog.text

    run(body)


def test_cancelling_reports_what_was_under_way(run: Run) -> None:
    async def body(harness: Harness) -> None:
        harness.script(lambda _: Hang())
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


CONTENTS = {
    "everything": Content(
        "Tïtle 🎉", 'B"ody\n%s', "https://example.com/a", "https://example.com/i.png", {"key": "v\\"}
    ),
    "a title": Content("Title"),
    "personal": Content("For [[[user_id]]]", "[[[locale]]]", data={"who": "[[[user_id]]]"}),
    "data only": Content(data={"k": "1"}),
    "a link of the app's": Content("Title", "Body", "app://here"),
    "buttons": Content(
        "Title",
        icon_url="https://example.com/i.png",
        actions=(Button("read", "R", "https://example.com/1", "https://example.com/r.png"), Button("mute", "M")),
    ),
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("name", WIRE)
def test_both_transports_bring_the_same_to_the_peer(name: str, content: Content, tmp_path: Path) -> None:
    now = utc_now()

    async def seen_by(opened: Open, sent: Notification) -> tuple[Seen, Harness]:
        async with opened(tmp_path, clock=lambda: now) as harness:
            await send(harness, 1, harness.sender.prepare(sent, harness.platform))
            (seen,) = harness.peer.seen
            return seen, harness

    async def main() -> None:
        own = Audience(domain="example.com", visitors=(Visitor("guid", {}),))
        odd = {"priority": Priority.LOW, "collapse_key": "key ü", "category": "c", "audience": own}
        for changes in ({}, odd, {"dry_run": True}):
            sent = notification(content=content, expires_at=now + timedelta(hours=1), **changes)
            if sent.dry_run and name == "apns-ios":
                continue  # it reaches no provider
            ours, _ = await seen_by(WIRE[name], sent)
            theirs, harness = await seen_by(LIBRARY[name], sent)
            assert theirs.path == ours.path
            assert orjson.loads(theirs.body) == orjson.loads(ours.body)
            assert (b'": ' in theirs.body) is harness.expected("spaces", False)
            for header, value in ours.headers.items():
                if header == "authorization" or header.startswith("apns-"):
                    got = theirs.headers[header]
                    late = int(got) - int(value) if header == "apns-expiration" else 0
                    # aioapns counts it from the moment of sending, in whole seconds.
                    assert got == value or 0 <= late <= 5, header

    asyncio.run(main())
