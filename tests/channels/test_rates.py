"""The gate of a credential: what it lets through, and pauses across processes."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest

from notify_pipeline.channels.rates import SHORT_PAUSE_S, Bucket, Gate, SharedBucket
from notify_pipeline.core.ledger.engine import Ledger, LedgerClosed
from notify_pipeline.core.ledger.rates import Taken
from notify_pipeline.core.rates import STARTING_PER_S, Limits, State
from tests.channels.buckets import OwnBucket
from tests.waiting import PATIENCE_S

NAME = "fcm:project"
NO_LIMIT = Limits(None)


def utc_now() -> datetime:
    return datetime.now(UTC)


class Counting:
    """A bucket that counts visits."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self.takes = 0
        self.reads = 0
        self.holds = 0

    async def take(self, limits: Limits, now: int, wanted: int, rank: int) -> Taken:
        self.takes += 1
        return await self._bucket.take(limits, now, wanted, rank)

    async def hold(self, now: int, until: int, pace: float) -> State:
        self.holds += 1
        return await self._bucket.hold(now, until, pace)

    async def read(self) -> State | None:
        self.reads += 1
        return await self._bucket.read()


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await body()

    asyncio.run(main())


def past_the_ramp(per_minute: float) -> OwnBucket:
    """A bucket that has been at work for minutes."""
    bucket, now = OwnBucket(), time.time_ns() // 1000
    bucket._state = State(0.0, now, now - 200_000_000)
    return bucket


def test_without_a_limit_everything_passes_and_the_row_is_looked_at_a_few_times_a_second() -> None:
    async def body() -> None:
        bucket = Counting(OwnBucket())
        gate = Gate(bucket, NO_LIMIT, utc_now)
        until, rounds = time.monotonic() + 0.6, 0
        while time.monotonic() < until:
            assert await gate.take(1000) == 1000
            rounds += 1
            await asyncio.sleep(0)
        assert rounds > 20
        assert bucket.takes == 0
        assert 1 <= bucket.reads <= 4
        assert gate.held_for_s == 0.0
        await gate.aclose()

    run(body)


def test_with_a_limit_the_ledger_is_asked_now_and_then_and_the_rate_is_kept(sqlite_ledger: Ledger) -> None:
    async def body() -> None:
        shared = SharedBucket(sqlite_ledger, NAME)
        now = time.time_ns() // 1000
        await shared.hold(now - 200_000_000, now - 100_000_000, 0.0)
        await shared.take(Limits(600_000.0), now - 41_000_000, 1, 0)  # past the ramp, and not idle
        buckets = [Counting(shared), Counting(shared)]
        gates = [Gate(bucket, Limits(600_000.0), utc_now) for bucket in buckets]
        taken: list[tuple[float, int]] = []

        async def sender(gate: Gate, until: float) -> None:
            while (at := time.monotonic()) < until:
                granted = await gate.take(500)
                taken.append((time.monotonic(), granted))
                assert 1 <= granted <= 500
                await asyncio.sleep(0.01 if at else 0)

        begun = time.monotonic()
        await asyncio.gather(*(sender(gate, begun + 1.0) for gate in gates for _ in range(4)))
        lasted = time.monotonic() - begun
        total = sum(granted for _, granted in taken)
        # Two stocks of a fifth of a second may still be spent when the last are counted.
        assert total <= 10_000 * (lasted + 0.5)
        assert total >= 10_000 * lasted * 0.4, "the limit can be used"
        for bucket in buckets:
            assert bucket.takes <= 25 * lasted + 5, "tens, where thousands are sent"
        for gate in gates:
            await gate.aclose()

    run(body)


def test_a_light_sender_leaves_the_rate_to_a_heavy_one() -> None:
    async def body() -> None:
        bucket = Counting(past_the_ramp(60_000.0))
        light, heavy = Gate(bucket, Limits(60_000.0), utc_now), Gate(bucket, Limits(60_000.0), utc_now)
        until, total = time.monotonic() + 0.8, 0

        async def lightly() -> None:
            while time.monotonic() < until:
                assert await light.take(1) == 1
                await asyncio.sleep(0.05)

        async def heavily() -> int:
            total = 0
            while time.monotonic() < until:
                total += await heavy.take(10_000)
            return total

        _, total = await asyncio.gather(lightly(), heavily())
        assert total >= 1_000 * 0.8 * 0.4

    run(body)


def test_a_short_pause_is_waited_for_and_a_long_one_is_not() -> None:
    async def body() -> None:
        gate = Gate(OwnBucket(), NO_LIMIT, utc_now)
        assert await gate.take(10) == 10
        begun = time.monotonic()
        gate.hold(0.3)
        assert 0 < gate.held_for_s <= 0.3
        assert await gate.take(1) == 1
        assert time.monotonic() - begun >= 0.3
        gate.hold(SHORT_PAUSE_S + 5)
        assert await gate.take(1) == 0
        gate.hold(0.5)
        assert gate.held_for_s > SHORT_PAUSE_S, "a shorter one changes nothing"
        await gate.aclose()

    run(body)


def test_a_pause_that_grows_while_it_is_waited_for_is_seen() -> None:
    async def body() -> None:
        gate = Gate(OwnBucket(), NO_LIMIT, utc_now)
        gate.hold(0.9)
        waiting = asyncio.create_task(gate.take(1))
        await asyncio.sleep(0.05)
        gate.hold(30)
        assert await waiting == 0
        await gate.aclose()

    run(body)


def test_after_a_pause_there_is_no_burst_even_without_a_limit() -> None:
    async def body() -> None:
        gate = Gate(OwnBucket(), NO_LIMIT, utc_now)
        await gate.take(1)
        gate.hold(0.2)
        begun, taken = time.monotonic() + 0.2, []
        while (at := time.monotonic()) < begun + 0.7:
            granted = await gate.take(10_000)
            taken.append((time.monotonic(), granted))
            assert at
        assert min(at for at, _ in taken) >= begun
        in_all = sum(granted for _, granted in taken)
        lasted = taken[-1][0] - begun
        # From a tenth of the starting rate, rising by 1.5 % of it per second.
        assert in_all <= STARTING_PER_S * (0.1 * lasted + 0.0075 * lasted**2) + 1
        assert in_all >= 100 * lasted * 0.4
        for first, (at, _) in enumerate(taken):
            window = sum(granted for other, granted in taken[first:] if other < at + 0.1)
            assert window <= STARTING_PER_S * 0.12 * 0.5, "half a second's worth at most, if the loop slept as long"
        await gate.aclose()

    run(body)


def test_many_answers_that_ask_for_one_pause_write_it_once() -> None:
    async def body() -> None:
        bucket = Counting(OwnBucket())
        gate = Gate(bucket, NO_LIMIT, utc_now)
        for _ in range(256):
            gate.hold(2.0)
            await asyncio.sleep(0.0005)
        assert bucket.holds == pytest.approx(1, abs=1)
        assert gate.held_for_s > 1.5, "the last one counts"
        await gate.aclose()

    run(body)


def test_a_pause_reaches_other_processes_through_the_ledger(ledger: Ledger, ledger_url: str) -> None:
    async def body() -> None:
        with Ledger.open(ledger_url) as other_ledger:
            gate = Gate(SharedBucket(ledger, NAME), NO_LIMIT, utc_now)
            other = Gate(SharedBucket(other_ledger, NAME), NO_LIMIT, utc_now)
            assert await other.take(1) == 1
            gate.hold(6.0)
            await asyncio.sleep(0.5)  # twice the time between two looks
            assert await other.take(1) == 0
            assert 2.0 < other.held_for_s <= 6.0
            gate.hold(20.0)
            await asyncio.sleep(0.7)
            assert other.held_for_s > 15, "it looks on while it waits"
            late = Gate(SharedBucket(other_ledger, NAME), NO_LIMIT, utc_now)
            await late.look()
            assert late.held_for_s > 15
            for each in (gate, other, late):
                await each.aclose()

    run(body)


def test_a_pause_stands_where_the_ledger_cannot_be_written(
    sqlite_ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        gate = Gate(SharedBucket(sqlite_ledger, NAME), NO_LIMIT, utc_now)
        sqlite_ledger.close()
        gate.hold(30.0)
        await asyncio.sleep(0.1)
        assert gate.held_for_s > 29
        assert await gate.take(1) == 0
        fresh = Gate(SharedBucket(sqlite_ledger, NAME), Limits(60_000.0), utc_now)
        with pytest.raises(LedgerClosed):
            await fresh.take(1)
        await gate.aclose()

    run(body)
    assert "other processes do not learn of a pause" in caplog.text


def test_a_cancelled_waiter_stands_in_nobodys_way() -> None:
    async def body() -> None:
        gate = Gate(OwnBucket(), Limits(60.0), utc_now)  # one a second, from a tenth of that
        waiting = asyncio.create_task(gate.take(1))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate.hold(10.0)
        assert await gate.take(1) == 0
        await gate.aclose()

    run(body)


def test_where_tokens_are_scarce_high_priority_waits_for_no_lower_one() -> None:
    """Two processes, one bucket: in each, a crowd of low priority wants far more than there is."""

    async def body() -> None:
        bucket = past_the_ramp(60_000.0)
        gates = [Gate(bucket, Limits(60_000.0), utc_now) for _ in range(2)]
        order: list[int] = []

        async def take(gate: Gate, wanted: int, rank: int) -> None:
            while wanted > 0:
                granted = await gate.take(wanted, rank)
                wanted -= granted
                order.extend([rank] * granted)

        async with asyncio.TaskGroup() as crowd:
            low = [crowd.create_task(take(gate, 200, 2)) for gate in gates for _ in range(10)]
            while len(order) < 300:
                await asyncio.sleep(0.01)
            async with asyncio.TaskGroup() as high:
                for gate in gates:
                    for _ in range(30):
                        high.create_task(take(gate, 10, 0))
            assert not all(task.done() for task in low)
            until_high_was_done = len(order) - 300
        assert order.count(0) == 600
        assert until_high_was_done < 600 + 2_000, "low priority got its share of the time, and no more"

    run(body)
