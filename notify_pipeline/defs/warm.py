"""One fork server for all runs and steps of a code server: what it has imported, they need not.

Belongs here: the list of imports, starting the fork server, and sharing it with what was forked from it. Does not
belong here: who uses it (``code_server``, and Dagster's multiprocess executor).

Python's own comment on ``ensure_running`` says that a child process reuses its parent's fork server. It does not: a
process that was forked from the server knows its address, but starts another one, because it does not know the
server's process id. A run that began in a few milliseconds would spend seconds on that before its first step.
"""

import multiprocessing
import select
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any

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
    """Start this process's fork server; it goes on importing what runs need when this returns."""
    multiprocessing.set_forkserver_preload(list(PRELOAD))
    forkserver.ensure_running()


def share() -> None:
    """Make processes that are forked from this one share the fork server that they know of."""
    forkserver._forkserver.__class__ = SharedForkServer  # the module's functions are bound to this very instance
