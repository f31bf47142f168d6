"""Waiting in tests: for a condition, never for a time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(done: Callable[[], T], seconds: float = 30.0, what: str = "it", every_s: float = 0.05) -> T:
    """Poll until the condition holds and return what it gave; an AssertionError names what never came."""
    deadline = time.monotonic() + seconds
    while True:
        if result := done():
            return result
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(every_s)
