"""Waiting in tests: for a condition, never for a time."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

# A limit that only what never comes reaches. A machine with more to do than two cores can may stand still for ten
# seconds; one that starts a whole system beside others' tests has been seen to take minutes.
PATIENCE_S: Final = 200.0


def wait_for(done: Callable[[], T], seconds: float = PATIENCE_S, what: str = "it", every_s: float = 0.05) -> T:
    """Poll until the condition holds and return what it gave; an AssertionError names what never came."""
    deadline = time.monotonic() + seconds
    while True:
        if result := done():
            return result
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(every_s)
