"""The sender of channels that call once per recipient: whatever its carrier does, each is reported as it should be."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notify_pipeline.channels.base import (
    BAD_ADDRESS,
    CREDENTIALS,
    HELD,
    NO_ANSWER,
    NOT_PROCESSED,
    TTL,
    Clock,
    CredentialsRejected,
    Message,
    Verdict,
)
from notify_pipeline.channels.each import EachSender, NoAnswer, NotCalled
from notify_pipeline.channels.rates import Bucket, Gate
from notify_pipeline.core.ledger.group_commit import LedgerError
from notify_pipeline.core.ledger.rates import Taken
from notify_pipeline.core.rates import Limits, State
from notify_pipeline.core.records import AttemptResult, Notification, Recipient
from notify_pipeline.core.vocabulary import Channel, Outcome, Platform, Priority
from tests.channels.buckets import OwnBucket
from tests.channels.harness import notification, utc_now
from tests.waiting import PATIENCE_S

ACCEPTED = Verdict(Outcome.ACCEPTED, message_id="m")
NO_CALL = f"{NOT_PROCESSED}:"

Call = Callable[[int], Awaitable[Verdict]]


class Script:
    """A carrier that does what the test says; addresses are numbers."""

    name = Channel.EMAIL
    provider = "script"

    def __init__(self, call: Call) -> None:
        self._call = call
        self.called: list[int] = []
        self.now = 0
        self.most = 0

    def prepare(self, notification: Notification, platform: Platform) -> Message:
        return Message(notification, platform)

    def is_address(self, address: str) -> bool:
        return int(address) >= 0

    async def call(self, message: Message, recipient: Recipient, delivery_id: str) -> Verdict:
        number = int(recipient.address)
        assert delivery_id == f"d{number}"
        self.called.append(number)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            return await self._call(number)
        finally:
            self.now -= 1

    async def aclose(self) -> None:
        pass


def opened(
    call: Call, at_once: int = 4, clock: Clock = utc_now, bucket: Bucket | None = None
) -> tuple[EachSender[Message], Script, Gate]:
    carrier = Script(call)
    gate = Gate(bucket or OwnBucket(), Limits(None), clock)
    return EachSender(carrier, gate, clock, at_once), carrier, gate


Reported = dict[int, AttemptResult]


def sending(
    sender: EachSender[Message], numbers: range, into: Reported, **changes: object
) -> Coroutine[Any, Any, None]:
    """Send to these; every report must be the first of its recipient."""

    def report(index: int, result: AttemptResult) -> None:
        assert numbers[index] not in into, f"{numbers[index]} was reported twice"
        into[numbers[index]] = result

    message = sender.prepare(notification(**changes), Platform.EMAIL)
    recipients = [Recipient(str(number), Platform.EMAIL) for number in numbers]
    return sender.send(message, recipients, [f"d{abs(number)}" for number in numbers], report)


async def until(done: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not done():
            await asyncio.sleep(0)


async def accept(number: int) -> Verdict:
    return ACCEPTED


async def accept_later(number: int) -> Verdict:
    await asyncio.sleep(0)
    return ACCEPTED


async def hang(number: int) -> Verdict:
    await asyncio.Event().wait()
    raise AssertionError


def codes(reported: Reported) -> set[tuple[Outcome, str | None]]:
    return {(result.outcome, result.provider_code) for result in reported.values()}


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_everybody_is_called_once_and_no_more_at_once_than_allowed(at_once: int) -> None:
    async def main() -> None:
        async def call(number: int) -> Verdict:
            for _ in range(number % 5):
                await asyncio.sleep(0)
            return ACCEPTED

        sender, carrier, _ = opened(call, at_once)
        first, second = Reported(), Reported()
        # Two sends share the room.
        await asyncio.gather(
            sending(sender, range(50), first, priority=Priority.HIGH),
            sending(sender, range(50, 100), second, priority=Priority.HIGH),
        )
        assert sorted(carrier.called) == list(range(100))
        assert list(range(50)) == sorted(first)
        assert list(range(50, 100)) == sorted(second)
        assert codes(first | second) == {(Outcome.ACCEPTED, None)}
        # A fifth of them ends without waiting for anything.
        assert at_once * 0.7 <= carrier.most <= at_once

    asyncio.run(main())


@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("turns", range(25))
def test_cancelled_at_any_moment_who_was_called_is_reported_and_nobody_else(at_once: int, turns: int) -> None:
    async def main() -> None:
        async def call(number: int) -> Verdict:
            for _ in range(3):
                await asyncio.sleep(0)
            return ACCEPTED

        sender, carrier, _ = opened(call, at_once)
        reported = Reported()
        task = asyncio.create_task(sending(sender, range(40), reported))
        for _ in range(turns):
            await asyncio.sleep(0)
        under_way = task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert under_way
        assert set(reported) == set(carrier.called)
        assert len(set(carrier.called)) == len(carrier.called) < 40
        assert codes(reported) <= {(Outcome.ACCEPTED, None), (Outcome.AMBIGUOUS, f"{NO_ANSWER}:cancelled")}
        again = Reported()
        await sending(sender, range(40, 43), again)
        assert codes(again) == {(Outcome.ACCEPTED, None)}, "no place was lost"

    asyncio.run(main())


@pytest.mark.parametrize("tasks", [1, 3])
@pytest.mark.parametrize("way", ["not called", "answered after all"])
def test_a_carrier_that_makes_something_of_a_cancellation_is_believed_and_calls_nobody_else(
    way: str, tasks: int
) -> None:
    async def main() -> None:
        async def call(number: int) -> Verdict:
            try:
                return await hang(number)
            except asyncio.CancelledError:
                if way == "not called":
                    raise NotCalled("cancelled") from None
                return ACCEPTED

        sender, carrier, _ = opened(call, tasks)
        reported = Reported()
        task = asyncio.create_task(sending(sender, range(6), reported, priority=Priority.HIGH))
        await until(lambda: len(carrier.called) == tasks)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(carrier.called) == tasks
        assert set(reported) == set(carrier.called)
        expected = (Outcome.ACCEPTED, None) if way != "not called" else (Outcome.TRANSIENT, NO_CALL + "cancelled")
        assert codes(reported) == {expected}

    asyncio.run(main())


ENDS: dict[str, tuple[BaseException, tuple[Outcome, str]]] = {
    "not called": (NotCalled("connect", "refused"), (Outcome.TRANSIENT, NO_CALL + "connect")),
    "no answer": (NoAnswer("timeout"), (Outcome.AMBIGUOUS, f"{NO_ANSWER}:timeout")),
    "credentials": (CredentialsRejected("login", "x"), (Outcome.TRANSIENT, f"{CREDENTIALS}:login")),
    "a mistake": (KeyError("ada@example.com"), (Outcome.AMBIGUOUS, f"{NO_ANSWER}:error")),
    "a library's own cancelling": (asyncio.CancelledError(), (Outcome.AMBIGUOUS, f"{NO_ANSWER}:cancelled")),
}


@pytest.mark.parametrize("at_once", [1, 4])
@pytest.mark.parametrize("end", ENDS)
def test_what_a_carrier_raises_is_one_recipients_trouble(
    end: str, at_once: int, caplog: pytest.LogCaptureFixture
) -> None:
    error, expected = ENDS[end]

    async def main() -> None:
        async def call(number: int) -> Verdict:
            await asyncio.sleep(0)
            if number % 2:
                raise error
            return ACCEPTED

        sender, carrier, _ = opened(call, at_once)
        reported = Reported()
        await sending(sender, range(10), reported)
        assert sorted(carrier.called) == sorted(reported) == list(range(10))
        for number, result in reported.items():
            assert (result.outcome, result.provider_code) == (expected if number % 2 else (Outcome.ACCEPTED, None))
            assert (result.answered_at is None) is (result.outcome is Outcome.AMBIGUOUS)

    with caplog.at_level(logging.DEBUG):
        asyncio.run(main())
    said = [record for record in caplog.records if record.name.startswith("notify_pipeline")]
    assert len(said) == (0 if "cancelling" in end else 1), "once per kind and send"
    assert "ada@" not in caplog.text
    if end == "a mistake":
        assert "KeyError" in caplog.text
        assert "test_each.py" in caplog.text, "it says where"


def test_addresses_that_are_none_and_a_check_that_fails_concern_nobody_else() -> None:
    async def main() -> None:
        sender, carrier, _ = opened(accept)
        reported = Reported()
        message = sender.prepare(notification(), Platform.EMAIL)
        recipients = [Recipient(address, Platform.EMAIL) for address in ("1", "-1", "ada", "2")]
        await sender.send(message, recipients, ["d1", "d1", "d1", "d2"], reported.__setitem__)
        assert [(reported[n].outcome, reported[n].provider_code) for n in range(4)] == [
            (Outcome.ACCEPTED, None),
            (Outcome.INVALID_RECIPIENT, BAD_ADDRESS),
            (Outcome.TRANSIENT, NO_CALL + "error"),
            (Outcome.ACCEPTED, None),
        ]
        assert sorted(carrier.called) == [1, 2]
        assert not any(result.drop_token for result in reported.values())

    asyncio.run(main())


class _BrokenBucket(OwnBucket):
    async def read(self) -> State | None:
        raise LedgerError("the disk is full")

    async def take(self, limits: Limits, now: int, wanted: int, rank: int = 0) -> Taken:
        raise LedgerError("the disk is full")


def test_without_the_gates_ledger_nobody_is_called() -> None:
    async def main() -> None:
        sender, carrier, _ = opened(accept, bucket=_BrokenBucket())
        reported = Reported()
        await sending(sender, range(10), reported)
        assert carrier.called == []
        assert len(reported) == 10
        assert codes(reported) == {(Outcome.TRANSIENT, NO_CALL + "error")}

    asyncio.run(main())


def test_an_answer_that_asks_for_a_pause_holds_everybody_not_called_yet() -> None:
    async def main() -> None:
        async def call(number: int) -> Verdict:
            await asyncio.sleep(0)
            return Verdict(Outcome.THROTTLED, "slow down", retry_after_s=30.0, hold=True)

        sender, carrier, gate = opened(call, 4)
        reported = Reported()
        await sending(sender, range(20), reported, priority=Priority.HIGH)
        assert len(carrier.called) == 4
        assert sorted(reported) == list(range(20))
        assert {reported[number].provider_code for number in carrier.called} == {"slow down"}
        held = [result for result in reported.values() if result.provider_code == HELD]
        assert len(held) == 16
        assert all(25 < (result.retry_after_s or 0) <= 30 for result in held)
        await gate.aclose()

    asyncio.run(main())


def test_a_short_pause_is_waited_for() -> None:
    async def main() -> None:
        sender, carrier, gate = opened(accept)
        gate.hold(0.2)
        reported = Reported()
        await sending(sender, range(3), reported)
        assert codes(reported) == {(Outcome.ACCEPTED, None)}
        await gate.aclose()

    asyncio.run(main())


def test_who_expires_while_waiting_is_not_called() -> None:
    async def main() -> None:
        start = utc_now()
        now = [start]
        sender, carrier, gate = opened(accept, clock=lambda: now[0])
        gate.hold(0.3)
        reported = Reported()
        task = asyncio.create_task(sending(sender, range(3), reported, expires_at=start + timedelta(seconds=1)))
        await asyncio.sleep(0)
        assert not reported, "it waits at the gate"
        now[0] = start + timedelta(seconds=1)
        await task
        assert carrier.called == []
        assert codes(reported) == {(Outcome.EXPIRED, TTL)}
        await gate.aclose()

    asyncio.run(main())


def test_a_clock_that_is_set_back_gives_no_answer_before_its_call() -> None:
    moment = utc_now()
    times = iter(range(1_000))

    def clock() -> datetime:
        return moment - timedelta(seconds=next(times))

    async def main() -> None:
        async def call(number: int) -> Verdict:
            await asyncio.sleep(0)
            if number:
                return ACCEPTED
            raise NotCalled("connect")

        sender, _, _ = opened(call, clock=clock)
        reported = Reported()
        await sending(sender, range(5), reported)
        assert all(result.answered_at == result.sent_at for result in reported.values())

    asyncio.run(main())


def test_low_priorities_leave_room_and_the_next_place_is_the_highest_ones() -> None:
    async def main() -> None:
        ends: dict[int, asyncio.Event] = {number: asyncio.Event() for number in range(200)}

        async def call(number: int) -> Verdict:
            await ends[number].wait()
            return ACCEPTED

        sender, carrier, _ = opened(call, 16)
        reported = Reported()
        low = asyncio.create_task(sending(sender, range(100), reported, priority=Priority.LOW))
        await until(lambda: len(carrier.called) == 12)
        for _ in range(20):
            await asyncio.sleep(0)
        assert carrier.called == list(range(12)), "a broadcast does not fill the room"
        high = asyncio.create_task(sending(sender, range(100, 110), reported, priority=Priority.HIGH))
        await until(lambda: len(carrier.called) == 16)
        assert sorted(carrier.called[12:]) == [100, 101, 102, 103]
        for number in range(4):
            ends[number].set()
        await until(lambda: len(carrier.called) == 20)
        assert sorted(carrier.called[16:]) == [104, 105, 106, 107], "whoever leaves makes room for the highest"
        for end in ends.values():
            end.set()
        await asyncio.gather(low, high)
        assert sorted(reported) == list(range(110))

    asyncio.run(main())


def test_tenants_take_turns() -> None:
    async def main() -> None:
        sender, carrier, _ = opened(accept_later, 1)
        reported = Reported()
        many = asyncio.create_task(sending(sender, range(40), reported, tenant="a"))
        few = asyncio.create_task(sending(sender, range(40, 43), reported, tenant="b"))
        await asyncio.gather(many, few)
        places = [carrier.called.index(number) for number in range(40, 43)]
        assert places[0] <= 2
        assert all(later - earlier <= 2 for earlier, later in pairwise(places))

    asyncio.run(main())


def test_a_closed_sender_calls_nobody_and_says_so() -> None:
    async def main() -> None:
        sender, carrier, _ = opened(accept)
        await sender.aclose()
        reported = Reported()
        await sending(sender, range(-1, 3), reported)
        assert carrier.called == []
        assert codes(reported) == {
            (Outcome.INVALID_RECIPIENT, BAD_ADDRESS),
            (Outcome.TRANSIENT, NO_CALL + "closed"),
        }

    asyncio.run(main())


def test_what_is_raised_by_a_report_ends_the_send() -> None:
    async def main() -> None:
        sender, carrier, _ = opened(accept)

        def report(index: int, result: AttemptResult) -> None:
            raise ZeroDivisionError

        message = sender.prepare(notification(), Platform.EMAIL)
        recipients = [Recipient(str(number), Platform.EMAIL) for number in range(9)]
        with pytest.raises(ZeroDivisionError):
            await sender.send(message, recipients, [f"d{number}" for number in range(9)], report)
        assert len(carrier.called) < 9

    asyncio.run(main())


def test_a_mistake_of_the_caller_is_an_error() -> None:
    async def main() -> None:
        sender, carrier, _ = opened(accept)
        message = sender.prepare(notification(), Platform.EMAIL)
        for ids in ([], ['"}'], ["x" * 41]):
            with pytest.raises(ValueError, match="delivery id"):
                await sender.send(message, [Recipient("1", Platform.EMAIL)], ids, lambda i, r: None)
        await sender.send(message, [], [], lambda i, r: pytest.fail("there is nobody"))
        assert carrier.called == []

    asyncio.run(main())


@given(
    ends=st.lists(st.sampled_from([ACCEPTED, *[error for error, _ in ENDS.values()]]), max_size=12),
    turns=st.lists(st.integers(0, 3), min_size=12, max_size=12),
    at_once=st.integers(1, 5),
    cancel_after=st.none() | st.integers(0, 15),
)
def test_whatever_happens_who_was_called_is_reported_once(
    ends: list[Verdict | BaseException], turns: list[int], at_once: int, cancel_after: int | None
) -> None:
    async def main() -> None:
        async def call(number: int) -> Verdict:
            for _ in range(turns[number]):
                await asyncio.sleep(0)
            if isinstance(end := ends[number], BaseException):
                raise end
            return end

        sender, carrier, _ = opened(call, at_once)
        reported = Reported()
        task = asyncio.create_task(sending(sender, range(len(ends)), reported))
        if cancel_after is None:
            await task
            assert sorted(reported) == list(range(len(ends)))
        else:
            for _ in range(cancel_after):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        assert set(carrier.called) == set(reported)
        assert len(carrier.called) == len(reported)

    asyncio.run(main())
