"""What a run says about its process: its name and its urgency to the operating system, its imports to the collector.

Belongs here: those. Does not belong here: starting or ending processes.
"""

import ctypes
import gc
import multiprocessing
import os
import sys

_PR_SET_NAME = 15  # linux/prctl.h
# A process of niceness 0 gets about nine times as much of a busy core. See sched(7).
_LESS_URGENT = 10


def name_process(name: str) -> None:
    """Give this process a name of at most 15 characters in ``ps`` and ``top`` (Linux; elsewhere nothing happens)."""
    if is_worker() and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def yield_to_delivery() -> None:
    """Let processes that send go first: receipts, reports and maintenance may take their time."""
    if is_worker() and os.nice(0) < _LESS_URGENT:
        os.nice(_LESS_URGENT - os.nice(0))


def spare_imports() -> None:
    """Keep what is loaded by now out of garbage collections: beside Dagster's modules they took a fifth of the CPU."""
    if is_worker():
        gc.freeze()


def is_worker() -> bool:
    """Tell whether this process was started for a run or a step; a run may also be executed in somebody else's."""
    return multiprocessing.parent_process() is not None
