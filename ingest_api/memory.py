"""What one process remembers of the ledger for a moment, so that it is not asked for every request.

Belongs here: remembering, and being sure that all processes have forgotten. Does not belong here: what is remembered
(``keys``, ``domains.book``).
"""

import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

# What was read is read again after this long, and a change takes this long. Reading a key for every request costs a
# tenth of the ingress's rate; four reads a second cost nothing.
CACHE_S = 0.25
# How far two hosts' clocks may drift apart within that time, many times over (RFC 5905 reckons with 15 in a million).
_MARGIN_S = 0.01
# Far more than are asked for within that time; beyond it the memory is forgotten at once, which costs one read each.
MOST_REMEMBERED = 4_096

Name = TypeVar("Name")
Thing = TypeVar("Thing")


class Memory(Generic[Name, Thing]):
    """Remembers good things for a moment, each from the time that its reading began."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._known: dict[Name, tuple[float, Thing]] = {}
        self._guard = threading.Lock()

    def __len__(self) -> int:
        return len(self._known)

    def now(self) -> float:
        """Return the time from which on what is read next may be remembered: ask before reading."""
        return self._monotonic()

    def recall(self, name: Name) -> Thing | None:
        """Return what is remembered, or None."""
        known = self._known.get(name)
        return known[1] if known is not None and self._monotonic() < known[0] else None

    def keep(self, name: Name, thing: Thing | None, since: float) -> None:
        """Remember a good thing; None forgets it. Bad ones are not kept: whoever guesses shall not fill the memory."""
        with self._guard:
            if thing is None:
                self._known.pop(name, None)
                return
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            self._known[name] = (since + CACHE_S, thing)

    def clear(self) -> None:
        """Forget everything."""
        with self._guard:
            self._known.clear()


def forget_everywhere(*memories: Memory[Any, Any]) -> None:
    """Return when no process, on whatever host, remembers anything from before this call.

    Whoever makes something bad calls this between that commit and the answer. It takes no more than waiting: what is
    remembered was read after its time began to run, so what is still remembered after that time was read after the
    commit. Clocks that go at the same rate are all that is needed.
    """
    for memory in memories:
        memory.clear()
    time.sleep(CACHE_S + _MARGIN_S)
