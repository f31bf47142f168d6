"""One supervised child: started in a session of its own, its output kept in a file, ended with its descendants.

Belongs here: starting, watching and ending processes. Does not belong here: which processes there are (``stack``), and
when to start them (``supervisor``).
"""

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from notify_pipeline.commands.up import guard

# A child that lived this long did not die of its start: its next restart is immediate again.
_SETTLED_S = 5.0
_FIRST_BACKOFF_S = 0.2
_MAX_BACKOFF_S = 10.0
# One earlier file is kept beside the current one, so a process's output takes at most twice this.
_MAX_OUTPUT_BYTES = 20_000_000
# A leader that died leaves no one to end its descendants in an orderly way; they get this long.
_ORPHAN_GRACE_S = 3.0
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to run.

    Attributes:
        name: Short name, also the output file's.
        argv: Program and arguments.
        env: The whole environment.
        ready: Tells whether the started child does its work. Must be quick and must not raise.
        needs: Names of the children that must be ready before this one starts.
        outlives: Ends only after all that do not: others need it while they end.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    ready: Callable[[], bool]
    needs: tuple[str, ...] = ()
    outlives: bool = False


class Guard:
    """The process that ends our children if we die without doing so. See ``guard``."""

    def __init__(self, keep_open: int) -> None:
        """Start it.

        Args:
            keep_open: A file descriptor that it inherits: the home's lock stays taken until the children are gone.
        """
        self._process = subprocess.Popen(  # noqa: S603 - our own script by our own interpreter
            [sys.executable, "-I", "-S", guard.__file__],
            stdin=subprocess.PIPE,
            start_new_session=True,
            pass_fds=(keep_open,),
        )

    def tell(self, change: str, group: int) -> None:
        """Put a group on the list (``+``) or off it (``-``)."""
        pipe = self._process.stdin
        assert pipe is not None  # noqa: S101 - stdin=PIPE above
        with contextlib.suppress(BrokenPipeError):  # somebody ended the guard: the supervisor still does its own ending
            pipe.write(f"{change}{group}\n".encode())
            pipe.flush()

    def close(self) -> None:
        """Let it go; the list must be empty by now, or what is on it is ended."""
        pipe = self._process.stdin
        assert pipe is not None  # noqa: S101 - stdin=PIPE above
        with contextlib.suppress(BrokenPipeError):
            pipe.close()
        self._process.wait()


@dataclass
class Child:
    """A child as it runs: its current process, and how often it had to be started."""

    spec: ChildSpec
    output: Path
    guard: Guard
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restart_at: float | None = None
    deaths: int = 0
    ready: bool = False
    _backoff_s: float = field(default=_FIRST_BACKOFF_S, repr=False)

    @property
    def pid(self) -> int | None:
        """The leader's process id, None when it is down."""
        return None if self.process is None else self.process.pid

    def start(self) -> None:
        """Start it, with its output appended to its file."""
        self.output.parent.mkdir(parents=True, exist_ok=True)
        with self._open_output() as output:
            self.process = subprocess.Popen(  # noqa: S603 - argv is the supervisor's own, no shell
                list(self.spec.argv),
                env=dict(self.spec.env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.guard.tell("+", self.process.pid)
        self.started_at = time.monotonic()
        self.restart_at = None

    def check(self) -> int | None:
        """Notice a death.

        Returns:
            The exit code when it died since the last look (negative: the signal), else None. Its descendants are
            ended, and ``restart_at`` says when to start it again.
        """
        if self.process is None or (code := self.process.poll()) is None:
            return None
        guard.end_groups({self.process.pid}, _ORPHAN_GRACE_S)
        self.forget()
        lived = time.monotonic() - self.started_at
        self._backoff_s = _FIRST_BACKOFF_S if lived > _SETTLED_S else min(2 * self._backoff_s, _MAX_BACKOFF_S)
        self.restart_at = time.monotonic() + self._backoff_s
        self.ready = False
        self.deaths += 1
        return code

    def forget(self) -> None:
        """Strike an ended child off the guard's list."""
        if self.process is not None:
            self.process.poll()
            self.guard.tell("-", self.process.pid)
            self.process = None

    def last_words(self, lines: int = 15) -> str:
        """The end of its output."""
        with contextlib.suppress(FileNotFoundError), self.output.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 8_192))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
        return ""

    def trim_output(self) -> None:
        """Keep the output file small: past the limit its content moves to ``<name>.log.1`` and it starts empty."""
        if self.output.exists() and self.output.stat().st_size > _MAX_OUTPUT_BYTES:
            shutil.copyfile(self.output, self.output.with_name(self.output.name + ".1"))
            os.truncate(self.output, 0)  # the child appends, so it goes on at the new end

    def _open_output(self) -> IO[bytes]:
        self.trim_output()
        return self.output.open("ab")


def end_children(children: Sequence[Child], grace_s: float, hurry: Callable[[], bool]) -> list[str]:
    """End all children with their descendants: SIGTERM, then SIGKILL.

    Args:
        children: Which.
        grace_s: How long they may take before SIGKILL.
        hurry: Asked again and again; True ends the grace period now.

    Returns:
        The names of those that had to be killed.
    """
    running = {child.pid: child for child in children if child.pid is not None}
    killed = guard.end_groups(set(running), grace_s, hurry)
    for child in running.values():
        child.forget()
    return [running[group].spec.name for group in killed]


def adopt_orphans(adopt: bool = True) -> None:
    """Make this process the one that orphaned descendants belong to, so that it can collect them (Linux; else nothing).

    See prctl(2), PR_SET_CHILD_SUBREAPER. Without it a container's first process inherits them, and may never collect.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(adopt), 0, 0, 0)
