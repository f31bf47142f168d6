"""Memory and CPU of a tree of processes, sampled from ``/proc`` while it works.

Memory is PSS: a page that processes share counts once in all, so that a sum over processes is what the machine gives.
Reading it walks a process's page table, so a process is asked again only when its resident size has changed.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

# A look takes some fifteen milliseconds of the cores that are measured; what it looks for lasts a second or more.
EVERY_S = 0.5
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
STAND_IN = "nginx"
# What a process is, by a word of its command line; steps and runs carry names of their own instead.
_KINDS = {
    "granian": "ingress",
    "notify_pipeline.cli lander": "lander",
    "notify_pipeline.cli sandbox": "sandbox",
    "dagster._daemon": "daemon",
    "dagster_webserver": "webserver",
    "notify_pipeline.defs.code_server": "code-server",
    "guard.py": "supervisor",
    "notify_pipeline.cli up": "supervisor",
    "nginx": STAND_IN,
}
# Python's own helpers and workers are named after whoever started them; the code server starts runs.
_STARTED_BY = {"code-server": "run"}


@dataclass
class Usage:
    """What a tree of processes used while it was watched.

    Attributes:
        peak_mib: The greatest sum of PSS at one moment.
        peak_by_kind: That moment's PSS by kind of process, MiB.
        cpu_s: Processor time by kind of process, seconds. Up to a sampling interval of a short process may be missing.
        sampling_s: Processor time of the watching itself.
    """

    peak_mib: float = 0.0
    peak_by_kind: dict[str, float] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)
    sampling_s: float = 0.0


class Watch:
    """Samples the descendants of some processes in a thread, as ``with Watch(pids) as watch``."""

    def __init__(self, roots: list[int], every_s: float = EVERY_S) -> None:
        """Start nothing yet; the roots count too, and so many seconds lie between two looks."""
        self.usage = Usage()
        self._every_s = every_s
        self._roots = roots
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample_until_over, name="watch")
        self._pss: dict[int, tuple[int, int]] = {}
        self._cpu: dict[int, tuple[str, float, float]] = {}
        self._commands: dict[int, str] = {}
        self._first = True

    def __enter__(self) -> Self:
        self._sample()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        for name, first, last in self._cpu.values():
            self.usage.cpu_s[name] = self.usage.cpu_s.get(name, 0.0) + last - first

    def _sample_until_over(self) -> None:
        while not self._over.wait(self._every_s):
            self._sample()

    def _sample(self) -> None:
        began = time.thread_time()
        by_kind: Counter[str] = Counter()
        kinds: dict[int, str] = {}
        for pid, parent, cpu_s in _tree(self._roots):
            try:
                kind = kinds[pid] = self._kind(pid, kinds.get(parent, "supervisor"))
                by_kind[kind] += self._pss_of(pid)
            except (FileNotFoundError, ProcessLookupError):
                continue
            # A process that was there before we looked first did not use all of its time for us.
            first: float = self._cpu[pid][1] if pid in self._cpu else (cpu_s if self._first else 0.0)
            self._cpu[pid] = (kind, first, cpu_s)
        self._first = False
        del by_kind[STAND_IN]  # it uses our cores, but is not ours to answer for
        total = sum(by_kind.values()) / 1024
        if total > self.usage.peak_mib:
            self.usage.peak_mib = total
            self.usage.peak_by_kind = {kind: kib / 1024 for kind, kib in by_kind.items()}
        self.usage.sampling_s += time.thread_time() - began

    def _kind(self, pid: int, parent: str) -> str:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        if name.startswith("notify-"):
            return name
        if pid not in self._commands:
            raw = Path(f"/proc/{pid}/cmdline").read_bytes()
            self._commands[pid] = raw.replace(b"\0", b" ").decode(errors="replace")
        command = self._commands[pid]
        return next((kind for word, kind in _KINDS.items() if word in command), _STARTED_BY.get(parent, parent))

    def _pss_of(self, pid: int) -> int:
        """The process's PSS in KiB."""
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        known = self._pss.get(pid)
        if known is None or known[0] != resident:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    known = (resident, int(line.split()[1]))
                    self._pss[pid] = known
                    break
        return 0 if known is None else known[1]


def _tree(roots: list[int]) -> Iterator[tuple[int, int, float]]:
    """Yield the roots and all their descendants, parents first: each with its parent and its processor time in s."""
    children: dict[int, list[int]] = {}
    cpu: dict[int, float] = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(int(fields[1]), []).append(int(entry.name))
        cpu[int(entry.name)] = (int(fields[11]) + int(fields[12])) * _TICK_S
    queue = [(root, 0) for root in roots]
    while queue:
        pid, parent = queue.pop()
        queue.extend((child, pid) for child in children.get(pid, ()))
        if pid in cpu:
            yield pid, parent, cpu[pid]
