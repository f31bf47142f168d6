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
# Three times as much: beside what yields to delivery altogether, this still comes first.
_LATER = 5


def name_process(name: str) -> None:
    """Give this process a name in ``ps`` and ``top``, unless a run is executed in somebody else's process."""
    if is_worker():
        set_name(name)


def set_name(name: str) -> None:
    """Give this process a name of at most 15 characters (Linux; elsewhere nothing happens)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def yield_to_delivery() -> None:
    """Let processes that send go first: receipts, reports and maintenance may take their time."""
    _be_as_nice_as(_LESS_URGENT)


def yield_to_higher_priority() -> None:
    """Let the ingress and processes that send with higher priority go first: a broadcast of low priority may wait."""
    _be_as_nice_as(_LATER)


def spare_imports() -> None:
    """Keep what is loaded by now out of garbage collections: beside Dagster's modules they took a fifth of the CPU."""
    if is_worker():
        gc.freeze()


def is_worker() -> bool:
    """Tell whether this process was started for a run or a step; a run may also be executed in somebody else's."""
    return multiprocessing.parent_process() is not None


def _be_as_nice_as(niceness: int) -> None:
    if is_worker() and os.nice(0) < niceness:
        os.nice(niceness - os.nice(0))
