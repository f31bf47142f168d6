"""What our side adds to a library that sends one: bounds, turns, time-outs, and one end for each request."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notify_pipeline.channels.library.pool import LibraryTransport
from notify_pipeline.channels.transport import Answer, End, NotProcessed, Request
from tests.waiting import PATIENCE_S

Body = Callable[[int], Awaitable[End]]


class Library(LibraryTransport):
    """Ends each request as a test's function says; counts how many are under way."""

    def __init__(self, body: Body, *, max_in_flight: int = 4, timeout_s: float = PATIENCE_S) -> None:
        super().__init__(max_in_flight=max_in_flight, timeout_s=timeout_s)
        self.body = body
        self.under_way = 0
        self.most = 0
        self.closed = 0

    async def _post(self, request: Request) -> End:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            return await self.body(request.number)
        finally:
            self.under_way -= 1

    async def _close(self) -> None:
        assert self.under_way == 0
        self.closed += 1


async def answer(_: int) -> End:
    await asyncio.sleep(0)
    return Answer(200, {}, b"")


async def never(_: int) -> End:
    await asyncio.Event().wait()
    raise AssertionError


class Ends(dict[int, End]):
    def end(self, number: int, end: End) -> None:
        assert number not in self, f"{number} ended twice"
        self[number] = end

    def kinds(self) -> Counter[str]:
        return Counter(f"{type(end).__name__} {getattr(end, 'reason', '')}".strip() for end in self.values())


def requests(count: int, first: int = 0) -> Iterator[Request]:
    for number in range(first, first + count):
        yield Request(number, "/", (), b"{}")


def test_callers_share_the_bound_and_take_turns() -> None:
    async def main() -> None:
        library = Library(answer, max_in_flight=3)
        long, short, order = Ends(), Ends(), []
        tasks = [asyncio.create_task(library.post_many(requests(300), long.end))]
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(library.post_many(requests(5, 1000), short.end)))
        tasks[1].add_done_callback(lambda _: order.append(len(long)))
        await asyncio.gather(*tasks)
        assert library.most == 3
        assert (len(long), len(short)) == (300, 5)
        assert order[0] < 50, "the short one waited for the long one"
        await library.aclose()

    asyncio.run(main())


def test_a_request_without_an_answer_ends_in_its_time_out() -> None:
    async def main() -> None:
        library = Library(never, timeout_s=0.05)
        ends = Ends()
        await library.post_many(requests(6), ends.end)
        assert ends.kinds() == {"Unknown timeout": 6}
        await library.aclose()

    asyncio.run(main())


def test_a_peer_that_is_down_is_not_asked_once_per_request() -> None:
    async def refused(_: int) -> End:
        return NotProcessed("connect")

    async def main() -> None:
        library = Library(refused, max_in_flight=2)
        ends = Ends()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await library.post_many(requests(1000), ends.end)
        assert len(ends) == 2
        await library.aclose()

    asyncio.run(main())


def test_closing_ends_what_is_under_way_and_refuses_the_rest() -> None:
    async def main() -> None:
        library = Library(never, max_in_flight=3)
        ends, later = Ends(), Ends()
        task = asyncio.create_task(library.post_many(requests(10), ends.end))
        while library.under_way < 3:
            await asyncio.sleep(0)
        await library.aclose()
        await task
        assert ends.kinds() == {"Unknown closed": 3, "NotProcessed closed": 7}
        await library.post_many(requests(2), later.end)
        assert later.kinds() == {"NotProcessed closed": 2}
        await library.aclose()
        assert library.closed == 1

    asyncio.run(main())


class Trouble(NamedTuple):
    """The numbers at which things go wrong, and the turn of the event loop in which the caller is cancelled."""

    draw: int | None
    report: int | None
    post: int | None
    cancel: int | None

    def drawing(self, count: int, drawn: list[int]) -> Iterator[Request]:
        for request in requests(count):
            if request.number == self.draw:
                raise KeyError("draw")
            drawn.append(request.number)
            yield request

    async def posting(self, number: int) -> End:
        for _ in range(number % 5):
            await asyncio.sleep(0)
        if number == self.post:
            raise KeyError("post")
        return Answer(200, {}, b"")

    def reporting(self, ends: Ends, number: int, end: End) -> None:
        ends.end(number, end)
        if number == self.report:
            raise KeyError("report")

    async def cancelling(self, task: "asyncio.Task[None]") -> None:
        if self.cancel is not None:
            for _ in range(self.cancel):
                await asyncio.sleep(0)
            task.cancel()


NUMBERS = st.none() | st.integers(0, 30)


@settings(deadline=None)
@given(count=st.integers(0, 30), bound=st.integers(1, 8), trouble=st.builds(Trouble, *[NUMBERS] * 4))
def test_whatever_happens_what_was_drawn_ends_once(count: int, bound: int, trouble: Trouble) -> None:
    async def main() -> None:
        library, ends, drawn = Library(trouble.posting, max_in_flight=bound), Ends(), list[int]()
        task = asyncio.create_task(library.post_many(trouble.drawing(count, drawn), partial(trouble.reporting, ends)))
        await trouble.cancelling(task)
        (result,) = await asyncio.gather(task, return_exceptions=True)
        assert sorted(ends) == sorted(drawn)
        assert library.under_way == 0
        if result is None:
            assert ends.kinds() == ({"Answer": count} if count else {})
        else:
            assert isinstance(result, KeyError | asyncio.CancelledError)
        library.body = answer
        again = Ends()
        await library.post_many(requests(2 * bound), again.end)
        assert again.kinds() == {"Answer": 2 * bound}, "it lost its room"
        assert library.most <= bound
        await library.aclose()

    asyncio.run(main())
