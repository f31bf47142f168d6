"""Work in several processes: results and errors as in threads, and no process that outlives its work."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from notify_pipeline.receipts import side_by_side
from tests.waiting import wait_for


def tell(task: int) -> tuple[int, int, int]:
    """Return the task, and the process and its niceness."""
    return task, os.getpid(), os.nice(0)


def refuse(path: str) -> None:
    if path.endswith("1"):
        raise ValueError(path)
    Path(path).touch()


def leave_a_mark(folder: str) -> None:
    """Say which process works, and go on for ever."""
    (Path(folder) / f"{os.getpid()}.pid").touch()
    threading.Event().wait()


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_much_is_done_in_processes_as_nice_as_this_one_and_little_in_this_one() -> None:
    for size, apart in ((side_by_side.MUCH, True), (side_by_side.MUCH - 1, False)):
        found = side_by_side.run(tell, range(6), 2, size)
        assert [task for task, _, _ in found] == list(range(6))
        pids = {pid for _, pid, _ in found}
        assert {nice for _, _, nice in found} == {os.nice(0)}
        assert os.getpid() not in pids if apart else pids == {os.getpid()}
        assert len(pids) <= 2


@pytest.mark.parametrize("size", [0, side_by_side.MUCH])
def test_an_error_is_the_one_that_the_work_raised_and_all_else_is_done(size: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1$"):
        side_by_side.run(refuse, [str(tmp_path / str(number)) for number in range(4)], 2, size)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "2", "3"]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_processes_end_with_whoever_began_them(tmp_path: Path) -> None:
    code = (
        "from notify_pipeline.receipts import side_by_side; from tests.receipts.test_side_by_side import leave_a_mark;"
        f" side_by_side.run(leave_a_mark, [{str(tmp_path)!r}] * 2, 2, side_by_side.MUCH)"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        try:
            wait_for(lambda: len(list(tmp_path.glob("*.pid"))) == 2, what="both at work")
        finally:
            process.send_signal(signal.SIGKILL)
    pids = [int(path.stem) for path in tmp_path.glob("*.pid")]
    wait_for(lambda: not any(map(is_alive, pids)), what="their end")
