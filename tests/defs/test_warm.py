"""The fork server that runs and steps share."""

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from tests.waiting import PATIENCE_S

# Allocators' threads, which they start again after a fork; and polars' for files that it spilled, which it does not
# start again: nothing here lets it spill.
_THREADS = {"python", "jemalloc_bg_thd", "polars-ooc-clea"}


def _python(code: str) -> list[object]:
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=PATIENCE_S)
    answer: list[object] = orjson.loads(result.stdout)
    return answer


def test_what_was_forked_forks_from_the_same_server() -> None:
    mine, its = _python("from tests.defs import forked; print(list(forked.ask(False)))")
    assert mine == its
    assert mine != os.getpid()


def test_where_the_server_died_a_process_starts_one_of_its_own() -> None:
    mine, its = _python("from tests.defs import forked; print(list(forked.ask(True)))")
    assert mine != its


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the server is a new process from the start")
def test_the_server_is_a_copy_of_who_started_it_and_one_that_died_is_replaced() -> None:
    (first, name), (second, other_name) = _python(
        "from tests.defs import forked; import orjson; print(orjson.dumps(forked.ask_twice()).decode())"
    )
    assert first != second
    assert name == "notify-forks" != other_name


def test_forked_processes_draw_different_jitter() -> None:
    one, another = _python("from tests.defs import forked; print(forked.ask_jitter())")
    assert one != another


def test_imports_start_no_thread_that_a_fork_would_lose() -> None:
    python, *names = _python(
        "import importlib, os, threading, orjson\n"
        "from notify_pipeline.defs import warm\n"
        "for name in warm.PRELOAD: importlib.import_module(name)\n"
        "tasks = [open(f'/proc/self/task/{task}/comm').read().strip() for task in os.listdir('/proc/self/task')]\n"
        "print(orjson.dumps([threading.active_count(), *tasks]).decode())"
    )
    assert python == 1
    assert set(names) <= _THREADS | {Path(sys.executable).name[:15]}, names
