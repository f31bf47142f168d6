"""What a client's process used between its first request and the last answer.

Belongs here: CPU, memory and time of this process. Does not belong here: what it does with them.
"""

import contextlib
import resource
import time
from dataclasses import dataclass
from pathlib import Path

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Measurement:
    """One client's turn.

    Attributes:
        requests: Sent.
        failed: Of these, not answered as they should have been.
        seconds: From the first request to the last answer.
        cpu_s: User and system time of the process in that time.
        resident_bytes: Most resident memory in that time.
        grown_bytes: The same beyond what there was after imports and warm-up.
    """

    requests: int
    failed: int
    seconds: float
    cpu_s: float
    resident_bytes: int
    grown_bytes: int

    @property
    def cpu_us(self) -> float:
        """CPU microseconds per request."""
        return self.cpu_s / self.requests * 1e6

    @property
    def rate(self) -> float:
        """Answered requests per second."""
        return (self.requests - self.failed) / self.seconds


def read_kib(status: Path, field: str) -> int:
    """Read one of the memory figures of a process, in KiB.

    Raises:
        OSError: There is no such process any more.
        ValueError: It has no such figure.
    """
    for line in status.read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise ValueError(f"{status} has no {field}")


def own_cpu() -> float:
    """User and system time of this process in seconds."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Meter:
    """Starts measuring when it is made."""

    def __init__(self) -> None:
        # 5 resets the peak to what is resident now (proc(5)); where that is forbidden, the peak since the process's
        # start is taken, which is never smaller.
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        self._resident = read_kib(_STATUS, "VmRSS:")
        self._began = time.perf_counter()
        self._cpu = own_cpu()

    def stop(self, requests: int, answered: int) -> Measurement:
        """Return what was used; ``answered`` counts requests that were answered once and well."""
        cpu = own_cpu() - self._cpu
        seconds = time.perf_counter() - self._began
        peak = read_kib(_STATUS, "VmHWM:")
        grown = max(0, peak - self._resident)
        return Measurement(requests, requests - answered, seconds, cpu, peak * 1024, grown * 1024)
