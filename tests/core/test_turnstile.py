"""Who is let through a turnstile, in which order."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from notify_pipeline.core.turnstile import Turnstile
from tests.waiting import PATIENCE_S


def test_the_higher_priority_is_let_in_first_and_tenants_take_turns() -> None:
    comers = [(2, "a"), (1, "a"), (1, "a"), (1, "a"), (1, "b"), (0, "z"), (2, "c")]

    async def run() -> list[tuple[int, str]]:
        gate, entered = Turnstile((1, 1, 1)), list[tuple[int, str]]()

        async def come(rank: int, tenant: str) -> None:
            async with gate.passed(rank, tenant):
                entered.append((rank, tenant))

        async with asyncio.TaskGroup() as group, gate.passed(2, "first"):
            for each in comers:
                group.create_task(come(*each))
            await asyncio.sleep(0)
        return entered

    assert asyncio.run(run()) == [(0, "z"), (1, "a"), (1, "b"), (1, "a"), (1, "a"), (2, "a"), (2, "c")]


def test_one_place_is_kept_for_high_priority() -> None:
    async def run() -> list[str]:
        gate, entered = Turnstile((2, 1, 1)), list[str]()

        async def come(rank: int, name: str) -> None:
            async with gate.passed(rank, name):
                entered.append(name)

        async with asyncio.TaskGroup() as group, gate.passed(2, "long"):
            group.create_task(come(1, "normal"))
            group.create_task(come(0, "high"))
            for _ in range(5):
                await asyncio.sleep(0)
            assert entered == ["high"]
        return entered

    assert asyncio.run(run()) == ["high", "normal"]


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from("abc"), st.booleans()), max_size=30),
    st.sampled_from([(3, 2, 2), (1, 1, 1), (4, 3, 1)]),
)
def test_nobody_is_forgotten_and_it_never_overflows(
    comers: list[tuple[int, str, bool]], most: tuple[int, int, int]
) -> None:
    """Some give up while they wait, or as they are let in."""

    async def run() -> int:
        gate, inside, done = Turnstile(most), 0, 0

        async def come(rank: int, tenant: str) -> None:
            nonlocal inside, done
            async with gate.passed(rank, tenant):
                inside += 1
                try:
                    assert inside <= most[rank]
                    await asyncio.sleep(0)
                    done += 1
                finally:
                    inside -= 1

        tasks = [asyncio.create_task(come(rank, tenant)) for rank, tenant, _ in comers]
        await asyncio.sleep(0)
        for task, (_, _, gives_up) in zip(tasks, comers, strict=True):
            if gives_up:
                task.cancel()
        ends = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), PATIENCE_S)
        assert not [end for end in ends if isinstance(end, Exception)], ends
        assert gate._inside == 0
        return done

    assert asyncio.run(run()) >= sum(not gives_up for _, _, gives_up in comers)
