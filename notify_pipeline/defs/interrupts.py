"""Lets a long op end in an orderly way when its run is cancelled or its process is told to stop.

Belongs here: turning Dagster's interrupt into a stop event. Does not belong here: the work.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import dagster as dg

T = TypeVar("T")

# An interrupt arrives while the main thread runs Python code: it looks up this often.
_LOOK_UP_S = 0.2


def run_stoppable(work: Callable[[threading.Event], T]) -> T:
    """Run work that watches a stop event, in a thread; an interrupt sets the event and waits for the work to end.

    Dagster raises its interrupt in the main thread, wherever that is: in the middle of recording an answer, if the work
    ran there.

    Args:
        work: Takes the stop event. Must return soon after it is set.

    Returns:
        What the work returns.

    Raises:
        dagster.DagsterExecutionInterruptedError: After the work has ended, when an interrupt ended it.
        Exception: Whatever the work raised.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="op") as pool:
        future = pool.submit(work, stop)
        try:
            while True:
                try:
                    return future.result(timeout=_LOOK_UP_S)
                except TimeoutError:
                    if future.done():  # it ended just now, or the work itself raised a time-out
                        return future.result()
        except dg.DagsterExecutionInterruptedError:
            stop.set()
            future.result()
            raise
        finally:
            stop.set()
