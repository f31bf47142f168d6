"""A run's process has a name and a niceness of its own; the process of a test keeps both."""

import multiprocessing
import os
import sys
from pathlib import Path

import pytest

from notify_pipeline.defs.process import is_worker, name_process, yield_to_delivery
from tests.waiting import PATIENCE_S


def _in_worker(queue: "multiprocessing.Queue[tuple[bool, int, str]]") -> None:
    name_process("notify-a-name-that-is-too-long")
    yield_to_delivery()
    yield_to_delivery()
    queue.put((is_worker(), os.nice(0), Path("/proc/self/comm").read_text().strip()))


@pytest.mark.skipif(sys.platform != "linux", reason="names and /proc are Linux's")
def test_a_worker_is_named_and_nice() -> None:
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue[tuple[bool, int, str]] = context.Queue()
    worker = context.Process(target=_in_worker, args=(queue,))
    worker.start()
    assert queue.get(timeout=PATIENCE_S) == (True, max(10, os.nice(0)), "notify-a-name-t")
    worker.join()


def test_nobody_else_is() -> None:
    before = os.nice(0)
    yield_to_delivery()
    assert os.nice(0) == before
    assert not is_worker()
