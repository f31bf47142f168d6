"""One fork server for all runs and steps of a code server: what it has imported, they need not.

Belongs here: the list of imports, starting the fork server, and sharing it with what was forked from it. Does not
belong here: who uses it (``code_server``, and Dagster's multiprocess executor).

The fork server is itself a copy of the code server, because both need Dagster and the definitions: importing them takes
two seconds of a core. (Elsewhere than on Linux, where a fork is not safe, it is a new process.)

Python's own comment on ``ensure_running`` says that a child process reuses its parent's fork server. It does not: a
process that was forked from the server knows its address, but starts another one, because it does not know the
server's process id. A run that began in a few milliseconds would spend seconds on that before its first step.
"""

import gc
import multiprocessing
import os
import select
import sys
import threading
import traceback
from collections.abc import Sequence
from importlib import import_module
from multiprocessing import forkserver, resource_tracker, util
from pathlib import Path
from typing import Any

from notify_pipeline.defs.process import set_name

# None of these may start a thread when it is imported: a fork copies only one. A test counts them.
PRELOAD = (
    "notify_pipeline.definitions",
    "notify_pipeline.delivery.broadcast",
    "notify_pipeline.delivery.drain",
    "notify_pipeline.channels.registry",
    "notify_pipeline.reports.build",
    "notify_pipeline.reports.checks",
    "notify_pipeline.receipts.files",
    "notify_pipeline.defs.launcher",
    "dagster._grpc.impl",
    "dagster._core.executor.in_process",
    "dagster._core.executor.multiprocess",
    # Dagster imports these by name when a process opens its storage, which takes 0.4 s of a core.
    "dagster._core.storage.sqlite_storage",
    "dagster._core.storage.migration.utils",
    "dagster._core.storage.noop_compute_log_manager",
    "dagster._core.secrets.env_file",
    "dagster._core.workspace.context",
    "upath.implementations.local",
    # What is forked after this shares the server.
    "notify_pipeline.defs.warm_child",
)


class SharedForkServer(forkserver.ForkServer):
    """A process's view of fork servers: the one that it was forked from while that lives, else one of its own."""

    _forkserver_pid: Any
    _forkserver_address: Any
    _forkserver_alive_fd: Any

    def ensure_running(self) -> None:
        """Start a server, unless this process was forked from one that still lives."""
        if self._forkserver_pid is None and self._forkserver_alive_fd is not None and self._lives():
            resource_tracker.ensure_running()
        else:
            super().ensure_running()

    def _lives(self) -> bool:
        """Ask the pipe that keeps the server alive whether its other end is open; a connection would be a request."""
        poll = select.poll()
        poll.register(self._forkserver_alive_fd, 0)
        return not poll.poll(0) and Path(self._forkserver_address).exists()


def start() -> None:
    """Import what runs need and start this process's fork server; call it before anything starts a thread."""
    multiprocessing.set_forkserver_preload(list(PRELOAD))
    if sys.platform != "linux":
        forkserver.ensure_running()
        return
    gc.disable()  # nothing of what is imported goes away
    for module in PRELOAD[:-1]:  # the last one is for the fork server alone
        import_module(module)
    gc.freeze()
    gc.enable()
    resource_tracker.ensure_running()  # which is started in the same way, but not by a copy
    spawn = util.spawnv_passfds
    util.spawnv_passfds = _fork
    try:
        forkserver.ensure_running()
    finally:
        util.spawnv_passfds = spawn  # a fork server that died is replaced by a new process


def _fork(path: bytes, args: Sequence[Any], passfds: Sequence[int]) -> int:
    """Do what ``multiprocessing.util.spawnv_passfds`` does, by a copy of this process instead of a new interpreter.

    Args:
        path: An interpreter, which is not needed.
        args: Its arguments; the last one is what it would run.
        passfds: What it would inherit. The copy inherits everything, and must not hold what keeps a fork server alive.

    Returns:
        The copy's process id.
    """
    pid = os.fork()
    if pid:
        return pid
    try:
        set_name("notify-forks")
        _close_other_ends(passfds)
        forkserver._forkserver._lock = threading.Lock()  # type: ignore[attr-defined]  # our parent holds its own
        exec(args[-1], {})  # noqa: S102 - multiprocessing's own line: it serves until nobody needs it
    except SystemExit:
        pass
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _close_other_ends(passed: Sequence[int]) -> None:
    """Close the other ends of these pipes, as exec would."""
    folder = Path("/proc/self/fd")
    open_files = {int(entry.name): str(entry.readlink()) for entry in folder.iterdir() if entry.is_symlink()}
    pipes = {open_files[number] for number in passed if open_files[number].startswith("pipe:")}
    for number, file in open_files.items():
        if file in pipes and number not in passed:
            os.close(number)


def share() -> None:
    """Make processes that are forked from this one share the fork server that they know of."""
    forkserver._forkserver.__class__ = SharedForkServer  # the module's functions are bound to this very instance
