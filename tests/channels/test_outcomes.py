"""One suite for every channel: what a send may come to, by a real sender and a server that answers as it is told.

Does not belong here: what only one channel's provider does (that channel's tests), HTTP/2's odd ends
(``test_contract``).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from notify_pipeline.channels.base import HELD, NO_ANSWER, NOT_PROCESSED, PAYLOAD_TOO_LARGE, TTL, ContentRejected
from notify_pipeline.core.ids import DeliveryIds, to_micros
from notify_pipeline.core.records import AttemptResult, Notification, Recipient
from notify_pipeline.core.vocabulary import Channel, Outcome
from tests.channels.harness import notification, utc_now
from tests.channels.harnesses import CANNOT, HARNESSES
from tests.channels.outcomes import OUTCOMES, Case, Harness
from tests.waiting import PATIENCE_S

MANY = 50

ANSWERS = [
    (name, case)
    for name in HARNESSES
    for case in Case
    if case in OUTCOMES and case.is_answer and (name, case) not in CANNOT
]


def on(name: str, folder: Path, body: Callable[[Harness], Awaitable[None]]) -> None:
    """Run a test's body on an open channel."""

    async def main() -> None:
        async with HARNESSES[name][1](folder) as harness:
            await body(harness)

    asyncio.run(main())


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.DEBUG, "notify_pipeline")


def assert_nothing_of_an_address(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(MANY):
        assert harness.address(number) not in caplog.text


async def send(harness: Harness, count: int = 1, **changes: object) -> list[AttemptResult]:
    """Send to the first so many; every one must be reported exactly once."""
    sent = notification(**changes)
    results: dict[int, AttemptResult] = {}

    def report(index: int, result: AttemptResult) -> None:
        assert index not in results, f"recipient {index} was reported twice"
        results[index] = result

    await sending(harness, count, sent, report)
    assert sorted(results) == list(range(count))
    return [results[index] for index in range(count)]


async def sending(
    harness: Harness, count: int, sent: Notification, report: Callable[[int, AttemptResult], None]
) -> None:
    ids = DeliveryIds(b"s" * 32, sent.tenant, sent.notification_id, harness.sender.name)
    recipients = [Recipient(harness.address(n), harness.platform, f"user-{n}") for n in range(count)]
    message = harness.sender.prepare(sent, harness.platform)
    await harness.sender.send(message, recipients, [ids.of(each.address) for each in recipients], report)


@pytest.mark.parametrize("channel", Channel)
def test_no_channel_and_no_case_is_forgotten(channel: Channel) -> None:
    names = [name for name, (of, _) in HARNESSES.items() if of is channel]
    for case in Case:
        reasons = [CANNOT.get((name, case)) for name in names or [channel.value]]
        if not names:
            assert all(reasons), f"{channel} has no harness, and nothing says why it cannot be {case}"
        assert all(reason is None or len(reason) > 20 for reason in reasons)
    # Of several providers of a channel at least one does what the channel is for.
    assert not names or any((name, Case.ACCEPTED) not in CANNOT for name in names)


def test_what_cannot_be_names_harnesses_and_channels() -> None:
    assert {name for name, _ in CANNOT} <= {*HARNESSES, *map(str, Channel)}


@pytest.mark.parametrize("name", HARNESSES)
def test_a_harness_is_of_its_channel(name: str, tmp_path: Path) -> None:
    async def body(harness: Harness) -> None:
        assert harness.sender.name is harness.platform.channel is HARNESSES[name][0]
        assert len({harness.address(number) for number in range(100)}) == 100
        assert harness.sender.held_for_s == 0
        assert harness.sender.provider

    on(name, tmp_path, body)


@pytest.mark.parametrize(("name", "case"), ANSWERS)
def test_an_answer_is_called_what_it_is(
    name: str, case: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(harness: Harness) -> None:
        harness.answer(case)
        before = to_micros(utc_now())
        (result,) = await send(harness)
        assert result.outcome is OUTCOMES[case], result
        assert list(harness.called) == [harness.address(0)], "a channel calls once, and never tries again by itself"
        assert before <= result.sent_at <= to_micros(utc_now())
        assert (result.answered_at is None) is (case is Case.AMBIGUOUS)
        assert (result.provider_code is None) is (case is Case.ACCEPTED)
        assert (result.provider_code or "").startswith(NO_ANSWER) is (case is Case.AMBIGUOUS)
        assert (result.provider_message_id is not None) is (harness.gives_ids and case is Case.ACCEPTED)
        assert result.drop_token is (case is Case.INVALID_RECIPIENT), "only the provider's word drops an address"
        if case is Case.THROTTLED:
            assert result.retry_after_s == harness.throttled_s
        if case is not Case.THROTTLED:
            # Whatever came, the next call is none the worse for it.
            harness.answer(Case.ACCEPTED)
            assert [result.outcome for result in await send(harness)] == [Outcome.ACCEPTED]
        assert_nothing_of_an_address(harness, caplog)

    on(name, tmp_path, body)


@pytest.mark.parametrize(("name", "case"), ANSWERS)
def test_each_of_many_is_reported_once(name: str, case: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def body(harness: Harness) -> None:
        harness.answer(case)
        results = await send(harness, MANY)
        called = list(harness.called)
        assert len(set(called)) == len(called), "nobody is called twice"
        for number, result in enumerate(results):
            # A pause, or a connection that broke under others, keeps some from being called at all.
            if harness.address(number) in called and case is not Case.AMBIGUOUS:
                assert result.outcome is OUTCOMES[case], result
            elif harness.address(number) in called:
                assert result.outcome is Outcome.AMBIGUOUS, result
            elif case is Case.AMBIGUOUS:
                assert result.outcome in (Outcome.AMBIGUOUS, Outcome.TRANSIENT), result
            else:
                assert case is Case.THROTTLED, "everybody was to be called"
                assert result.provider_code == HELD
        assert_nothing_of_an_address(harness, caplog)

    on(name, tmp_path, body)


@pytest.mark.parametrize("name", HARNESSES)
def test_a_dry_run_delivers_nothing(name: str, tmp_path: Path) -> None:
    async def body(harness: Harness) -> None:
        results = await send(harness, MANY, dry_run=True)
        assert {result.outcome for result in results} == {Outcome.DRY_RUN}
        assert list(harness.called) == []

    on(name, tmp_path, body)


@pytest.mark.parametrize("name", HARNESSES)
def test_what_has_expired_is_not_sent(name: str, tmp_path: Path) -> None:
    async def body(harness: Harness) -> None:
        results = await send(harness, MANY, expires_at=utc_now() - timedelta(seconds=1))
        assert {(result.outcome, result.provider_code) for result in results} == {(Outcome.EXPIRED, TTL)}
        assert list(harness.called) == []

    on(name, tmp_path, body)


@pytest.mark.parametrize("name", [name for name in HARNESSES if (name, Case.OVERSIZED) not in CANNOT])
def test_oversized_content_is_rejected_before_anybody_is_called(name: str, tmp_path: Path) -> None:
    async def body(harness: Harness) -> None:
        with pytest.raises(ContentRejected) as caught:
            harness.sender.prepare(notification(content=harness.oversized), harness.platform)
        assert caught.value.code == PAYLOAD_TOO_LARGE
        assert list(harness.called) == []

    on(name, tmp_path, body)


@pytest.mark.parametrize("name", HARNESSES)
def test_a_cancelled_send_says_who_may_have_got_it(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def body(harness: Harness) -> None:
        harness.hang()
        reported: dict[int, AttemptResult] = {}

        def report(index: int, result: AttemptResult) -> None:
            assert index not in reported, f"recipient {index} was reported twice"
            reported[index] = result

        task = asyncio.create_task(sending(harness, MANY, notification(), report))
        async with asyncio.timeout(PATIENCE_S):
            while not harness.called:
                await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        called = set(harness.called)
        for number in range(MANY):
            if harness.address(number) in called:
                assert reported[number].outcome is Outcome.AMBIGUOUS
                assert (reported[number].provider_code or "").startswith(NO_ANSWER)
            elif number in reported:
                # It was being called, or it certainly was not: the word says which.
                is_certain = (reported[number].provider_code or "").startswith(NOT_PROCESSED)
                assert reported[number].outcome is (Outcome.TRANSIENT if is_certain else Outcome.AMBIGUOUS)
        assert len(reported) < MANY, "who was not reached is not reported"
        harness.answer(Case.ACCEPTED)
        assert {result.outcome for result in await send(harness, 3)} == {Outcome.ACCEPTED}
        assert_nothing_of_an_address(harness, caplog)

    on(name, tmp_path, body)


@pytest.mark.parametrize("name", HARNESSES)
def test_a_pause_holds_everybody(name: str, tmp_path: Path) -> None:
    async def body(harness: Harness) -> None:
        harness.gate.hold(30.0)
        assert 25 < harness.sender.held_for_s <= 30
        results = await send(harness, MANY)
        assert {(result.outcome, result.provider_code) for result in results} == {(Outcome.THROTTLED, HELD)}
        assert all(25 < (result.retry_after_s or 0) <= 30 for result in results)
        assert list(harness.called) == []

    on(name, tmp_path, body)


@pytest.mark.parametrize("name", HARNESSES)
def test_a_repetition_is_known_by_its_mark(name: str, tmp_path: Path) -> None:
    async def body(harness: Harness) -> None:
        if harness.marks is None:
            return
        harness.answer(Case.AMBIGUOUS)
        await send(harness)
        harness.answer(Case.ACCEPTED)
        await send(harness, 2)
        marks, called = list(harness.marks), list(harness.called)
        assert len(marks) == len(called) == 3
        assert len(set(marks)) == 2
        by_address = dict(zip(called, marks, strict=True))
        assert marks[0] == by_address[harness.address(0)]

    on(name, tmp_path, body)
