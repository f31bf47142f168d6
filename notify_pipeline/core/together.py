"""Puts together what many asyncio tasks ask for at the same time, so that a store is asked once for all of them.

Belongs here: the waiting and the handing out. Does not belong here: what is asked (the caller's function).
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Together(Generic[Item, Result]):
    """Runs a blocking function in a thread, each time for everything that was asked since it began last.

    A lone caller waits for nobody; while the function runs, others gather. Use it in one event loop.

    Args:
        work: Takes several items and returns a result for each, in order. What it raises, all of its callers get.
        most: Items that it takes at once, at most.
    """

    def __init__(self, work: Callable[[Sequence[Item]], Sequence[Result]], most: int) -> None:
        self._work = work
        self._most = most
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._task: asyncio.Task[None] | None = None

    async def ask(self, item: Item) -> Result:
        """Return this item's result; what the function raises is raised."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            try:
                results = await asyncio.to_thread(self._work, [item for item, _ in batch])
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():  # its caller was cancelled
                    future.set_result(result)

    async def aclose(self) -> None:
        """Wait until what was asked is done."""
        if self._task is not None:
            await asyncio.wait([self._task])
