"""A sandbox for tests that send from other processes or without an event loop of their own."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from notify_pipeline.core.settings import Settings
from notify_pipeline.sandbox.server import run
from tests.waiting import PATIENCE_S


@contextmanager
def running_sandbox(settings: Settings) -> Iterator[str]:
    """Run a sandbox in a thread, at ports of its own, in the settings' home; yield its control address."""
    stop, ready = threading.Event(), queue.Queue[dict[str, str]]()
    mine = settings.model_copy(update={"sandbox_port": 0})
    thread = threading.Thread(target=run, args=(mine, stop, ready.put))
    thread.start()
    try:
        yield ready.get(timeout=PATIENCE_S)["control_url"]
    finally:
        stop.set()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
