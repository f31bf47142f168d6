"""Finding and killing the parts of a running system."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Process:
    """One process below a supervisor: its id, its kernel name, its command line and both of its parent's."""

    pid: int
    comm: str
    command: str
    parent_comm: str
    parent: str

    def kill(self) -> bool:
        """Send SIGKILL; tell whether it was still there."""
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True


def processes(root: int) -> Iterator[Process]:
    """Yield all descendants of a process."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    queue = [(root, "", "")]
    while queue:
        pid, parent_comm, parent = queue.pop()
        try:
            raw = Path(f"/proc/{pid}/cmdline").read_bytes()
            comm = Path(f"/proc/{pid}/comm").read_text().strip()
        except (FileNotFoundError, ProcessLookupError):
            continue
        command = raw.replace(b"\0", b" ").decode(errors="replace").strip()
        queue.extend((child, comm, command) for child in children.get(pid, ()))
        if pid != root:
            yield Process(pid, comm, command, parent_comm, parent)


def of_this_home(home: Path) -> list[str]:
    """The command lines of all processes that have this home in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if f"NOTIFY_HOME={home}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found
