"""Processes that tests let die: forked from one that has imported all they need, which takes each of them a second.

Belongs here: starting one and waiting for its end. Does not belong here: what they do.
"""

import multiprocessing
from collections.abc import Callable
from typing import Any

from tests.waiting import PATIENCE_S

_IMPORTED = ["tests.delivery.event_mover", "tests.delivery.mover"]


def exit_code_of(target: Callable[..., object], *arguments: Any) -> int:
    """Call in a process of its own; return its exit code, or minus the signal that ended it."""
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(_IMPORTED)
    process = forks.Process(target=target, args=arguments)
    process.start()
    process.join(PATIENCE_S)
    code = process.exitcode
    if code is None:
        process.kill()
        raise AssertionError(f"{target} has not ended within {PATIENCE_S} s")
    return code
