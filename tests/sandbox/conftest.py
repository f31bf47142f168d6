"""A sandbox per test, in a thread of its own, spoken to over real sockets."""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from notify_pipeline.core.settings import Settings
from notify_pipeline.sandbox.server import run
from tests.sandbox.client import Peer
from tests.waiting import PATIENCE_S

Start = Callable[..., AbstractContextManager[Peer]]


@contextmanager
def _running(home: Path, flush_s: float = 3600, **settings: Any) -> Iterator[Peer]:
    stop = threading.Event()
    found: queue.Queue[dict[str, str] | BaseException] = queue.Queue()
    failed: list[BaseException] = []

    def serve() -> None:
        try:
            run(Settings(home=home, sandbox_port=0, sandbox_cdn_flush_s=flush_s, **settings), stop, found.put)
        except BaseException as error:
            failed.append(error)
            found.put(error)

    thread = threading.Thread(target=serve, name="sandbox")
    thread.start()
    try:
        first = found.get(timeout=PATIENCE_S)
        if isinstance(first, BaseException):
            raise first
        yield Peer(first)
    finally:
        stop.set()
        thread.join(timeout=PATIENCE_S)
        assert not thread.is_alive(), "the sandbox did not stop"
        assert not failed, failed


@pytest.fixture
def start() -> Start:
    return _running


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Peer]:
    with _running(tmp_path) as peer:
        yield peer
