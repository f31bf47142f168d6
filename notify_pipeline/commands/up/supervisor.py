"""Starts the children, keeps them alive, and ends them.

Belongs here: the loop over the children. Does not belong here: which they are (``stack``), what one is (``processes``).
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import orjson

from notify_pipeline.commands.up.processes import Child, ChildSpec, Guard, end_children

# Which processes there are now, for `notify status`.
STATE_FILE = "state.json"
_STEP_S = 0.1
_PROBE_S = 0.3
# Six Python processes with large imports start on two cores; a loaded machine takes several times its usual 10 s.
_READY_S = 180.0
# A child that dies this often before it was ever ready will not get ready.
_HOPELESS_DEATHS = 3
# Long enough for a provider request in flight to be answered and recorded (10 s by default), on a loaded machine too.
# Who does not want to wait asks a second time.
_STOP_S = 45.0
# Who outlives others has what those left of it, and this at least: a database that hangs keeps all of them until they
# are killed, and whoever asked for the end shall not wait for that twice.
_LAST_S = 5.0
_TRIM_S = 60.0


class StartError(Exception):
    """The system could not be started. The message says which process, and its last words."""


class Supervisor:
    """The children of one running system."""

    def __init__(self, specs: Sequence[ChildSpec], output: Path, guard: Guard, say: Callable[[str], None]) -> None:
        """Take the list; nothing starts yet.

        Args:
            specs: The children, in starting order.
            output: Folder of their output files.
            guard: Ends them if this process dies.
            say: Takes a line for the operator.
        """
        self.children = [Child(spec, output / f"{spec.name}.log", guard) for spec in specs]
        self._state_file = output / STATE_FILE
        self._state: dict[str, dict[str, int | None]] = {}
        self._say = say
        self._stop = threading.Event()
        self._signals = 0

    @contextmanager
    def signals_handled(self) -> Iterator[None]:
        """Let SIGINT, SIGTERM and SIGHUP stop the system; a second one stops it without waiting."""
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, self._on_signal) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @property
    def stopping(self) -> bool:
        """True once a signal asked for the end."""
        return self._stop.is_set()

    def start(self, progress: Callable[[str, str], None], until: Callable[[], bool]) -> bool:
        """Start all children and wait until they are ready.

        Args:
            progress: Takes a child's name and what it does now: starting, ready.
            until: A last condition, asked once all children are ready.

        Returns:
            True when all is ready; False when a signal came first.

        Raises:
            StartError: A child keeps dying, or it took too long.
        """
        deadline = time.monotonic() + _READY_S
        while not self.stopping:
            self._start_what_may(progress)
            self._restart_dead(self._give_up_on_hopeless)
            if self._probe(progress) and until():
                return True
            if time.monotonic() > deadline:
                late = next((child for child in self.children if not child.ready), self.children[-1])
                raise StartError(f"{late.spec.name} is not ready after {_READY_S:.0f} s:\n{late.last_words()}")
            self._stop.wait(_PROBE_S)
        return False

    def watch(self) -> None:
        """Keep the children alive until a signal asks for the end."""
        trim_at = time.monotonic() + _TRIM_S
        while not self._stop.wait(_STEP_S):
            self._restart_dead(lambda child: None)
            if time.monotonic() > trim_at:
                trim_at = time.monotonic() + _TRIM_S
                for child in self.children:
                    child.trim_output()

    def stop(self) -> None:
        """End all children and their descendants."""
        signals = self._signals
        killed = []
        deadline = time.monotonic() + _STOP_S
        for outlives in (False, True):
            stage = [child for child in self.children if child.spec.outlives is outlives]
            left_s = max(_LAST_S, deadline - time.monotonic())
            killed += end_children(stage, left_s, lambda: self._signals > signals)
        if killed:
            self._say(f"had to be killed: {', '.join(sorted(killed))}")

    def _start_what_may(self, progress: Callable[[str, str], None]) -> None:
        ready = {child.spec.name for child in self.children if child.ready}
        for child in self.children:
            if child.pid is None and child.restart_at is None and ready.issuperset(child.spec.needs):
                child.start()
                progress(child.spec.name, "starting")

    def _restart_dead(self, on_death: Callable[[Child], None]) -> None:
        for child in self.children:
            code = child.check()
            if code is not None and not self.stopping:
                how = f"signal {-code}" if code < 0 else f"exit code {code}"
                self._say(f"{child.spec.name} died ({how}); starting it again")
                on_death(child)
            if child.restart_at is not None and time.monotonic() >= child.restart_at:
                child.start()
        self._write_state()

    def _write_state(self) -> None:
        state = {child.spec.name: {"pid": child.pid, "deaths": child.deaths} for child in self.children}
        if state != self._state:
            self._state = state
            scratch = self._state_file.with_suffix(".tmp")
            scratch.write_bytes(orjson.dumps(state))
            scratch.replace(self._state_file)

    def _give_up_on_hopeless(self, child: Child) -> None:
        if child.deaths >= _HOPELESS_DEATHS:
            raise StartError(f"{child.spec.name} dies again and again:\n{child.last_words()}")

    def _probe(self, progress: Callable[[str, str], None]) -> bool:
        for child in self.children:
            if child.pid is not None and not child.ready and child.spec.ready():
                child.ready = True
                progress(child.spec.name, "ready")
        return all(child.ready for child in self.children)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1
        self._stop.set()
