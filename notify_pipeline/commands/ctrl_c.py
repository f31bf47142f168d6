"""Ctrl-C for a command that has a thread at work: an exception where one can be borne, a request everywhere else.

Belongs here: SIGINT's handlers. Does not belong here: what is stopped (``sql_output``), how a command then ends
(``sql``).

Python runs the handler of a signal in the main thread, between any two instructions of it, whichever thread the signal
came to and whatever the main thread masks. A ``KeyboardInterrupt`` out of there can leave a thread running that nobody
waits for any more (``Thread.join`` of Python 3.11, interrupted, even takes it for ended); a thread that is in DuckDB
when the interpreter ends aborts the process. So the handlers here raise nothing while a thread is at work.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self


class CtrlC:
    """SIGINT's handler for a command: raises ``KeyboardInterrupt`` once per ``raised`` block, and nowhere else."""

    def __init__(self) -> None:
        """Nothing is changed before ``with``."""
        self._raises = False

    def __enter__(self) -> Self:
        """Handle SIGINT; main thread only."""
        self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        """Leave it to whoever had it."""
        signal.signal(signal.SIGINT, self._before)

    @contextmanager
    def raised(self) -> Iterator[None]:
        """Let the first Ctrl-C of this block raise; further ones do not cut short what then has to be done."""
        self._raises = True
        try:
            yield
        finally:
            self._raises = False

    def ignore(self) -> None:
        """Ignore it to the very end of the process: Python gives handlers up before, and the next one would kill."""
        self._before = signal.SIG_IGN
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _handle(self, _signal: int, _frame: FrameType | None) -> None:
        if self._raises:
            self._raises = False
            raise KeyboardInterrupt


class Stop:
    """Whether Ctrl-C came within a ``held`` block."""

    asked = False


@contextmanager
def held() -> Iterator[Stop]:
    """Keep Ctrl-C from raising in this block; where it came, it is handed on at the block's end. Main thread only."""
    stop = Stop()

    def handle(_signal: int, _frame: FrameType | None) -> None:
        stop.asked = True

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
        if stop.asked:
            signal.raise_signal(signal.SIGINT)
