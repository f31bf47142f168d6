"""Work on several files side by side: in threads, or, where there is much of it, in processes.

Belongs here: that choice, and processes that end with whoever began them. Does not belong here: the work (``hours``).

Threads of one process wait for each other, for Python's lock and for fresh memory, a fifth of the time. Processes do
not, but cost some 20 ms each where they are forked from a warm server, and a second elsewhere.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

# As compressed, bytes whose parse takes about a second, on one core.
MUCH: Final = 32 * 1024 * 1024
# What the fork server of a process that has none yet imports, once for all.
_PRELOAD: Final = ("notify_pipeline.receipts.files",)


def run(work: Callable[[Task], Result], tasks: Iterable[Task], at_once: int, size: int) -> list[Result]:
    """Do some work for each task, so many at once.

    Args:
        work: The work; it, the tasks and the results are pickled where that is done in processes.
        tasks: What it is done for.
        at_once: How many, at the most.
        size: Bytes that all tasks are about.

    Returns:
        The results, in the tasks' order.

    Raises:
        Exception: The first that the work raised, once all other tasks have been tried.
        BrokenProcessPool: A process was killed.
    """
    found = list(tasks)
    at_once = min(at_once, len(found))
    apart = at_once > 1 and size >= MUCH and _may_have_processes()
    with _processes(at_once) if apart else ThreadPoolExecutor(max(1, at_once)) as pool:
        futures = [pool.submit(work, task) for task in found]
    return [future.result() for future in futures]


def _may_have_processes() -> bool:
    """Tell whether this process may start others: a daemon of ``multiprocessing`` may not."""
    return "forkserver" in multiprocessing.get_all_start_methods() and not multiprocessing.current_process().daemon


def _processes(number: int) -> Executor:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_PRELOAD))
    # A server's children have its niceness and environment, not ours.
    return ProcessPoolExecutor(number, context, partial(_begin, os.nice(0), dict(os.environ)))


def _begin(niceness: int, environment: dict[str, str]) -> None:
    """Be as whoever began this process, and end when they do, however that is."""
    os.nice(max(0, niceness - os.nice(0)))
    os.environ.update(environment)
    # Ctrl-C goes to all processes of a terminal. Whoever began this one says what is to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
