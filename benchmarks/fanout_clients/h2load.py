"""h2load, the C client that nghttp2 comes with, as the benchmark's yardstick.

It encodes each request's headers and checks statuses, and knows nothing of bodies, time-outs or lost connections: what
it uses is about the least that HTTP/2 over TLS costs.
"""

import re
import resource
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.fanout_clients.meter import Measurement, read_kib
from benchmarks.fanout_clients.workload import APNS, Job, apns_token, fcm_path, headers, requests

# Different paths that are sent in turn: enough that none is in the peer's table.
_PATHS = 10_000
_POLL_S = 0.005
_TIMEOUT_S = 120
_RATE = re.compile(r"finished in .*, ([\d.]+) req/s")
_GOOD = re.compile(r"status codes: (\d+) 2xx")


def run(job: Job) -> Measurement:
    """Send a job's requests.

    What its start and handshake use is measured by a run of one request and taken off, as the others are warm.

    Raises:
        subprocess.TimeoutExpired: It hung.
        RuntimeError: It printed nothing that can be read.
    """
    with tempfile.TemporaryDirectory(prefix="bench-fanout-") as folder:
        command = _command(job, Path(folder))
        _, start_s, start_peak = _measure([*command[:2], "1", *command[3:]])
        output, cpu_s, peak = _measure(command)
    rate, good = _RATE.search(output), _GOOD.search(output)
    if rate is None or good is None:
        raise RuntimeError(f"h2load said:\n{output}")
    answered = int(good.group(1))
    seconds = job.count / float(rate.group(1)) if float(rate.group(1)) else float("inf")
    cpu_s, grown = max(cpu_s - start_s, 0.0), max(peak - start_peak, 0)
    return Measurement(job.count, job.count - answered, seconds, cpu_s, peak, grown)


def _command(job: Job, folder: Path) -> list[str]:
    body = folder / "body"
    body.write_bytes(next(requests(job.shape, job.target, 1)).body)
    command = ["h2load", "-n", str(job.count), "-c", "1", "-m", str(job.in_flight), "-d", str(body)]
    for name, value in headers(job.shape, job.target):
        command += ["-H", f"{name}: {value}"]
    url = job.target.url(job.shape)
    if job.shape != APNS:
        return [*command, url + fcm_path(job.target)]
    paths = folder / "paths"
    paths.write_text("".join(f"{url}/3/device/{apns_token(number)}\n" for number in range(min(job.count, _PATHS))))
    return [*command, "-i", str(paths)]


def _measure(command: list[str]) -> tuple[str, float, int]:
    """Return the output, CPU seconds and peak memory in bytes of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        deadline = time.monotonic() + _TIMEOUT_S
        peak = 0
        while process.poll() is None:
            if time.monotonic() > deadline:
                process.kill()
                raise subprocess.TimeoutExpired(command, _TIMEOUT_S)
            peak = max(peak, _peak(process.pid))
            time.sleep(_POLL_S)
        output, _ = process.communicate()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return output, cpu_s, peak * 1024


def _peak(pid: int) -> int:
    try:
        return read_kib(Path(f"/proc/{pid}/status"), "VmHWM:")
    except (OSError, ValueError):
        return 0  # it has just ended
