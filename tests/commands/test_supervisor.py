"""The supervisor with small real processes: order, restarts, giving up, ending descendants, and dying itself."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from notify_pipeline.commands.up import guard as guard_module
from notify_pipeline.commands.up import supervisor as supervising
from notify_pipeline.commands.up.processes import Child, ChildSpec, Guard, adopt_orphans, end_children
from notify_pipeline.commands.up.supervisor import StartError, Supervisor
from tests.waiting import wait_for

# Writes its own and a child's process id, then sleeps; both ignore nothing.
FAMILY = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open(sys.argv[1] + ".part", "w") as file:
    file.write(f"{os.getpid()} {child.pid}")
os.replace(sys.argv[1] + ".part", sys.argv[1])
time.sleep(600)
"""


def alive(pid: int) -> bool:
    """A zombie is dead: whoever inherited it may be slow to collect it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def family(path: Path) -> list[int]:
    return [int(pid) for pid in path.read_text().split()]


def spec(name: str, code: str, *arguments: str, ready: Callable[[], bool] = lambda: True, **more: object) -> ChildSpec:
    return ChildSpec(name, [sys.executable, "-c", code, *arguments], dict(os.environ), ready, **more)  # type: ignore[arg-type]


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[Guard]:
    with (tmp_path / "lock").open("w") as lock:
        keeper = Guard(lock.fileno())
        yield keeper
        keeper.close()


@pytest.fixture(autouse=True)
def adopting() -> Iterator[None]:
    """As the real supervisor does: whoever else inherits the dead may be slow to collect them."""
    adopt_orphans()
    yield
    adopt_orphans(False)


@pytest.fixture
def said() -> list[str]:
    return []


def test_ends_children_and_their_children(tmp_path: Path, guard: Guard, said: list[str]) -> None:
    pids = tmp_path / "pids"
    supervisor = Supervisor([spec("family", FAMILY, str(pids), ready=pids.exists)], tmp_path, guard, said.append)
    assert supervisor.start(lambda name, state: None, lambda: True)
    members = family(pids)
    assert all(alive(pid) for pid in members)
    supervisor.stop()
    assert [pid for pid in members if alive(pid)] == []
    assert said == []


def test_a_child_starts_after_those_it_needs(tmp_path: Path, guard: Guard, said: list[str]) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    touch = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(600)"
    look = (
        "import pathlib, sys, time; pathlib.Path(sys.argv[2]).write_text(str(pathlib.Path(sys.argv[1]).exists()));"
        "time.sleep(600)"
    )
    specs = [
        spec("second", look, str(first), str(second), ready=second.exists, needs=("first",)),
        spec("first", touch, str(first), ready=first.exists),
    ]
    supervisor = Supervisor(specs, tmp_path, guard, said.append)
    events: list[tuple[str, str]] = []
    assert supervisor.start(lambda name, state: events.append((name, state)), lambda: True)
    supervisor.stop()
    assert events == [("first", "starting"), ("first", "ready"), ("second", "starting"), ("second", "ready")]
    assert second.read_text() == "True"


def test_a_dead_child_is_started_again_and_its_orphans_are_ended(tmp_path: Path, guard: Guard, said: list[str]) -> None:
    pids = tmp_path / "pids"
    supervisor = Supervisor([spec("family", FAMILY, str(pids), ready=pids.exists)], tmp_path, guard, said.append)
    supervisor.start(lambda name, state: None, lambda: True)
    watcher = threading.Thread(target=supervisor.watch)
    watcher.start()
    try:
        leader, orphan = family(pids)
        pids.unlink()
        os.kill(leader, signal.SIGKILL)
        wait_for(pids.exists)
        assert not alive(orphan)
        assert family(pids)[0] != leader
        assert said == ["family died (signal 9); starting it again"]
    finally:
        supervisor._stop.set()
        watcher.join()
        supervisor.stop()


def test_gives_up_on_a_child_that_keeps_dying_and_shows_its_last_words(
    tmp_path: Path, guard: Guard, said: list[str]
) -> None:
    doomed = spec("doomed", "import sys; sys.exit('the port is taken')", ready=lambda: False)
    supervisor = Supervisor([doomed], tmp_path, guard, said.append)
    with pytest.raises(StartError, match="(?s)doomed dies again and again.*the port is taken"):
        supervisor.start(lambda name, state: None, lambda: True)
    supervisor.stop()


STUBBORN = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(sys.argv[1]).touch()
time.sleep(600)
"""


def test_a_child_that_ignores_sigterm_is_killed_and_named(tmp_path: Path, guard: Guard, said: list[str]) -> None:
    ready = tmp_path / "ready"
    supervisor = Supervisor([spec("stubborn", STUBBORN, str(ready), ready=ready.exists)], tmp_path, guard, said.append)
    supervisor.start(lambda name, state: None, lambda: True)
    pid = supervisor.children[0].pid
    assert pid is not None
    assert end_children(supervisor.children, 0.2, lambda: False) == ["stubborn"]
    assert not alive(pid)


def test_those_that_outlive_others_that_hang_have_little_time_left(
    tmp_path: Path, guard: Guard, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that hangs keeps all of them: an end takes its limit once, not for each stage."""
    given: list[float] = []

    def ending(children: Sequence[Child], grace_s: float, hurry: Callable[[], bool]) -> list[str]:
        given.append(grace_s)
        return end_children(children, grace_s, hurry)

    monkeypatch.setattr(supervising, "_STOP_S", 0.5)
    monkeypatch.setattr(supervising, "_LAST_S", 0.125)
    monkeypatch.setattr(supervising, "end_children", ending)
    paths = [tmp_path / "first", tmp_path / "last"]
    specs = [spec(path.name, STUBBORN, str(path), ready=path.exists, outlives=path.name == "last") for path in paths]
    supervisor = Supervisor(specs, tmp_path, guard, said.append)
    assert supervisor.start(lambda name, state: None, lambda: True)
    supervisor.stop()
    assert given[1] == 0.125
    assert said == ["had to be killed: first, last"]


def test_output_past_the_limit_moves_aside(
    tmp_path: Path, guard: Guard, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notify_pipeline.commands.up.processes._MAX_OUTPUT_BYTES", 10)
    supervisor = Supervisor([spec("talker", "")], tmp_path, guard, said.append)
    child = supervisor.children[0]
    child.output.write_text("twelve bytes")
    child.trim_output()
    assert child.output.read_text() == ""
    assert child.output.with_name("talker.log.1").read_text() == "twelve bytes"


def test_when_the_supervisor_is_killed_the_guard_ends_the_families(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    parent = f"""
    import pathlib, sys, time
    from notify_pipeline.commands.up.processes import Child, ChildSpec, Guard
    lock = open({str(tmp_path / "lock")!r}, "w")
    spec = ChildSpec("family", [sys.executable, "-c", {FAMILY!r}, {str(pids)!r}], {{}}, lambda: True)
    child = Child(spec, pathlib.Path({str(tmp_path / "out.log")!r}), Guard(lock.fileno()))
    child.start()
    time.sleep(600)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(parent)])
    wait_for(pids.exists)
    members = family(pids)
    process.kill()
    process.wait()
    wait_for(lambda: not any(alive(pid) for pid in members))


def test_ending_a_group_that_is_gone_is_no_error() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""], start_new_session=True)
    process.wait()
    assert guard_module.end_groups({process.pid}) == set()
