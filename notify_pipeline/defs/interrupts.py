"""Lets a long op end in an orderly way when its run is cancelled or its process is told to stop.

Belongs here: turning Dagster's interrupt into a stop event. Does not belong here: the work.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import TypeVar

import dagster as dg

T = TypeVar("T")

# An interrupt arrives while the main thread runs Python code: it looks up this often.
_LOOK_UP_S = 0.2


def is_cancelled(context: dg.OpExecutionContext) -> bool:
    """Tell whether somebody cancelled the run, as opposed to its process being told to stop with the whole system."""
    run = context.instance.get_run_by_id(context.run_id)
    return run is not None and run.status is dg.DagsterRunStatus.CANCELING


def run_stoppable(work: Callable[[threading.Event], T], may_end: Callable[[], bool] = lambda: False) -> T:
    """Run work that watches a stop event, in a thread; an interrupt sets the event and waits for the work to end.

    Dagster raises its interrupt in the main thread, wherever that is: in the middle of recording an answer, if the work
    ran there.

    Args:
        work: Takes the stop event. Must return soon after it is set.
        may_end: Asked when an interrupt ended the work: True makes that a good end like any other.

    Returns:
        What the work returns.

    Raises:
        dagster.DagsterExecutionInterruptedError: After the work has ended, when an interrupt ended it.
        Exception: Whatever the work raised.
    """
    stop = threading.Event()
    future: Future[T] = Future()
    thread = threading.Thread(target=_work, args=(work, stop, future), name="op")
    try:
        with _signals_held():
            thread.start()
        while not future.done():
            wait([future], timeout=_LOOK_UP_S)
    except dg.DagsterExecutionInterruptedError:
        stop.set()
        thread.join()
        if future.exception() is not None:
            future.result()  # it did not end in an orderly way: that is what the operator must see
        if not may_end():
            raise
    return future.result()


def _work(work: Callable[[threading.Event], T], stop: threading.Event, future: "Future[T]") -> None:
    try:
        future.set_result(work(stop))
    except BaseException as error:  # handed to the main thread whole
        future.set_exception(error)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Hold signals back for a moment: one in the middle of a thread's start leaves it neither started nor not.

    The new thread inherits this, so that signals go on reaching the main thread.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
