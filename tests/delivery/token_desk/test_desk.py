"""The token desk before a provider that answers as it is told: what it makes of it, and how often it asks."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest

from notify_pipeline.core.records import AttemptResult
from notify_pipeline.core.token_desk import TokenState
from notify_pipeline.core.vocabulary import Outcome, Platform
from notify_pipeline.delivery.token_desk.desk import AT_ONCE, BUSY, HELD, NOT_OPEN, REST_S, RESTING, TIMEOUT, Desk
from notify_pipeline.delivery.token_desk.judging import judge
from notify_pipeline.delivery.token_desk.memory import BAD_FOR_S, GOOD_FOR_S, Memory
from tests.channels import harness as channels
from tests.channels.harness import Harness, fcm_error, utc_now
from tests.channels.peer import Action, Hang, Reply, Seen

LIMIT_S = 10.0
_NAMED = [{"field": "message.token", "description": "Invalid registration token"}]
_SAID = "The registration token is not a valid FCM registration token"
ANSWERS: dict[str, tuple[Action, TokenState]] = {
    "valid": (Reply(200, b'{"name": "projects/p/messages/fake_message_id"}'), TokenState(True)),
    "unregistered": (fcm_error(404, "NOT_FOUND", "UNREGISTERED"), TokenState(False, "UNREGISTERED")),
    "token named": (
        fcm_error(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", fieldViolations=_NAMED),
        TokenState(False, "INVALID_ARGUMENT"),
    ),
    "token spoken of": (
        Reply(400, orjson.dumps({"error": {"code": 400, "message": _SAID, "status": "INVALID_ARGUMENT"}})),
        TokenState(False, "INVALID_ARGUMENT"),
    ),
    "another named": (
        fcm_error(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", fieldViolations=[{"field": "message.data"}]),
        TokenState(None, "INVALID_ARGUMENT"),
    ),
    "nothing named": (fcm_error(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT"), TokenState(None, "INVALID_ARGUMENT")),
    "another project's": (
        fcm_error(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH"),
        TokenState(False, "SENDER_ID_MISMATCH"),
    ),
    "broken": (fcm_error(500, "INTERNAL", "INTERNAL"), TokenState(None, "INTERNAL")),
    "credentials": (Reply(403, b"{}"), TokenState(None, "credentials:http_403")),
    # The last one: it begins a pause.
    "throttled": (fcm_error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"), TokenState(None, "QUOTA_EXCEEDED")),
}
OK = ANSWERS["valid"][0]


class Seconds:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def opened(
    folder: Path, seconds: Seconds, name: str = "fcm-web-wire", timeout_s: float = 5.0, limit_s: float = LIMIT_S
) -> AsyncIterator[tuple[Desk, Harness]]:
    async with channels.CHANNELS[name](folder, timeout_s=timeout_s) as harness:
        desk = Desk(limit_s, utc_now, seconds)
        desk.sender = harness.sender
        yield desk, harness
        await desk.ended()


def run(folder: Path, body: Callable[[Desk, Harness, Seconds], Awaitable[None]], **options: object) -> None:
    async def main() -> None:
        seconds = Seconds()
        async with opened(folder, seconds, **options) as (desk, harness):  # type: ignore[arg-type]
            await body(desk, harness, seconds)

    asyncio.run(main())


def _result(outcome: Outcome, code: str) -> AttemptResult:
    return AttemptResult(outcome, code, 1, 2)


@pytest.mark.parametrize("name", ["fcm-web-wire", "fcm-android-library"])
def test_what_an_answer_says_of_a_token(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "notify_pipeline")

    async def main() -> None:
        async with channels.CHANNELS[name](tmp_path) as harness:
            for number, (case, (action, expected)) in enumerate(ANSWERS.items()):
                desk = Desk(LIMIT_S, utc_now)
                desk.sender = harness.sender
                harness.script(lambda _, action=action: action)
                token = harness.address(number)
                assert await desk.check(harness.platform, token) == expected, case
                assert token not in caplog.text

    asyncio.run(main())


@pytest.mark.parametrize("outcome", Outcome)
def test_only_the_provider_s_word_of_the_token_makes_it_bad(outcome: Outcome) -> None:
    found = judge(_result(outcome, "SOMETHING"))
    good, bad = {Outcome.ACCEPTED, Outcome.DRY_RUN}, {Outcome.INVALID_RECIPIENT}
    assert found.is_valid is (True if outcome in good else False if outcome in bad else None)
    assert judge(_result(outcome, "SENDER_ID_MISMATCH")).is_valid is (
        False if outcome is Outcome.PERMANENT else found.is_valid
    )


def test_a_check_shows_nothing_to_anybody(tmp_path: Path) -> None:
    async def body(desk: Desk, harness: Harness, _: Seconds) -> None:
        assert (await desk.check(Platform.WEB, harness.address(1))).is_valid
        assert (await desk.check(Platform.ANDROID, harness.address(2))).is_valid
        for seen in harness.peer.seen:
            asked = orjson.loads(seen.body)
            assert asked["validate_only"] is True
            assert "notification" not in asked["message"] | asked["message"].get("webpush", {})
            assert not {"title", "body"} & set(asked["message"]["data"])

    run(tmp_path, body)


def test_others_platforms_and_a_closed_channel_are_not_asked(tmp_path: Path) -> None:
    async def body(desk: Desk, harness: Harness, _: Seconds) -> None:
        assert await desk.check(Platform.IOS, "0" * 64) == TokenState(None, NOT_OPEN)
        desk.sender = None
        assert await desk.check(Platform.WEB, harness.address(1)) == TokenState(None, NOT_OPEN)
        assert harness.calls == 0

    run(tmp_path, body)


def test_a_good_token_is_remembered_for_minutes_and_a_bad_one_for_seconds(tmp_path: Path) -> None:
    async def body(desk: Desk, harness: Harness, seconds: Seconds) -> None:
        good, bad, unknown = (harness.address(number) for number in range(3))
        words = {good: OK, bad: ANSWERS["unregistered"][0], unknown: ANSWERS["broken"][0]}
        harness.script(lambda seen: words[orjson.loads(seen.body)["message"]["token"]])

        async def calls() -> list[int]:
            made = []
            for token, is_valid in ((good, True), (bad, False), (unknown, None)):
                before = harness.calls
                assert (await desk.check(Platform.WEB, token)).is_valid is is_valid
                made.append(harness.calls - before)
            return made

        assert await calls() == [1, 1, 1]
        assert await calls() == [0, 0, 1]
        before = harness.calls
        assert not (await desk.check(Platform.WEB, bad, anew=True)).is_valid
        assert harness.calls == before
        assert (await desk.check(Platform.WEB, good, anew=True)).is_valid
        assert harness.calls == before + 1
        seconds.now += BAD_FOR_S
        assert await calls() == [0, 1, 1]
        seconds.now += GOOD_FOR_S
        assert await calls() == [1, 1, 1]

    run(tmp_path, body)


def test_what_is_remembered_is_bounded() -> None:
    seconds = Seconds()
    memory = Memory(seconds, most=3)
    for number in range(5):
        memory.put(bytes([number]), TokenState(True))
        memory.put(b"unknown", TokenState(None))
    assert [memory.get(bytes([number])) is not None for number in range(5)] == [False, False, True, True, True]
    seconds.now += GOOD_FOR_S
    assert memory.get(b"\x04") is None
    assert len(memory) == 2, "what is too old goes when it is asked for"


def test_a_token_that_is_asked_about_already_is_not_asked_about_again(tmp_path: Path) -> None:
    async def body(desk: Desk, harness: Harness, _: Seconds) -> None:
        harness.script(lambda _: Reply(200, b'{"name": "n"}', delay_s=0.2))
        token = harness.address(1)
        gone = asyncio.create_task(desk.check(Platform.WEB, token))
        await asyncio.sleep(0)
        gone.cancel()
        found = await asyncio.gather(*(desk.check(Platform.WEB, token) for _ in range(20)))
        assert found == [TokenState(True)] * 20
        assert harness.calls == 1

    run(tmp_path, body)


def test_no_more_than_so_many_wait_for_the_provider(tmp_path: Path) -> None:
    async def body(desk: Desk, harness: Harness, _: Seconds) -> None:
        harness.script(lambda _: Reply(200, b'{"name": "n"}', delay_s=0.2))
        found = await asyncio.gather(*(desk.check(Platform.WEB, harness.address(n)) for n in range(AT_ONCE + 3)))
        assert found == [TokenState(True)] * AT_ONCE + [TokenState(None, BUSY)] * 3
        assert harness.calls == AT_ONCE

    run(tmp_path, body)


def test_while_the_provider_has_asked_for_a_pause_nothing_is_asked(tmp_path: Path) -> None:
    async def body(desk: Desk, harness: Harness, _: Seconds) -> None:
        harness.script(lambda _: ANSWERS["throttled"][0])
        assert (await desk.check(Platform.WEB, harness.address(1))).is_valid is None
        assert harness.sender.held_for_s > 50, "as FCM asks of all that is sent for the project"
        assert await desk.check(Platform.WEB, harness.address(2)) == TokenState(None, HELD)
        assert harness.calls == 1

    run(tmp_path, body)


def test_a_provider_that_hangs_is_waited_for_once_in_a_while(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def body(desk: Desk, harness: Harness, seconds: Seconds) -> None:
        def late(_: Seen) -> Action:
            seconds.now += LIMIT_S
            return ANSWERS["broken"][0]

        async def codes(count: int, start: int) -> list[str | None]:
            return [(await desk.check(Platform.WEB, harness.address(start + n))).code for n in range(count)]

        harness.script(late)
        assert await codes(5, 0) == ["INTERNAL"] * 3 + [RESTING] * 2
        seconds.now += REST_S
        assert await codes(2, 10) == ["INTERNAL", RESTING]
        seconds.now += REST_S
        harness.script(lambda _: OK)
        assert caplog.text.count("answers too late") == 1
        assert await codes(1, 20) == [None]
        assert caplog.text.count("answers in time again") == 1
        harness.script(late)
        assert await codes(4, 30) == ["INTERNAL"] * 3 + [RESTING]

    run(tmp_path, body)


@pytest.mark.parametrize(
    ("timeout_s", "limit_s", "code"), [(0.2, 20.0, "no_answer:timeout"), (20.0, 0.2, f"no_answer:cancelled|{TIMEOUT}")]
)
def test_a_token_whose_check_takes_too_long_is_unknown(
    timeout_s: float, limit_s: float, code: str, tmp_path: Path
) -> None:
    async def body(desk: Desk, harness: Harness, _: Seconds) -> None:
        harness.script(lambda _: Hang())
        found = await desk.check(Platform.WEB, harness.address(1))
        assert found.is_valid is None
        assert found.code in code.split("|")

    run(tmp_path, body, timeout_s=timeout_s, limit_s=limit_s)
