"""A real ingress for tests: granian with several worker processes on a free port, and a plain HTTP client."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import urllib3

from tests.waiting import PATIENCE_S

# After this long its supervisor kills it.
_STOP_S = 30.0


class Server:
    """``granian`` as its supervisor starts it; workers that die are started again."""

    def __init__(self, home: Path, workers: int = 2, threads: int = 16) -> None:
        self.home = home
        self._workers, self._threads = workers, threads
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = home / "granian.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Server":
        """Start it and wait until it is ready."""
        self._spawn()
        return self.wait()

    def wait(self) -> "Server":
        """Wait until it is ready, starting it again as its supervisor would if it gave up.

        It does so when the same worker dies twice within seconds.
        """
        deadline = time.monotonic() + PATIENCE_S
        while True:
            self.tend()
            try:
                if call(self.url, "GET", "/readyz").status == 200:
                    return self
            except urllib3.exceptions.HTTPError:
                pass
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.05)

    def tend(self) -> None:
        """Start it again if it gave up."""
        assert self._process is not None
        if self._process.poll() is not None:
            self._spawn()

    def _spawn(self) -> None:
        command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--factory", "ingest_api.worker:create_app"]
        command += ["--port", str(self.port), "--workers", str(self._workers), "--http", "1", "--no-ws"]
        command += ["--blocking-threads", str(self._threads), "--respawn-failed-workers", "--respawn-interval", "0.1"]
        # A worker that is told to stop while it starts swallows that.
        command += ["--workers-kill-timeout", "3"]
        with self._log.open("ab") as log:
            env = {**os.environ, "NOTIFY_HOME": str(self.home)}
            self._process = subprocess.Popen(command, env=env, stdout=log, stderr=log)

    def stop(self) -> int:
        """Stop it as its supervisor would, by force in the end, and return the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:  # granian, now and then, when a worker dies as it is told to stop
            self.kill()
            return self._process.wait(PATIENCE_S)

    def kill(self) -> None:
        """Kill everything at once, as a crash of the machine's user would."""
        assert self._process is not None
        for pid in [*self.workers(), self._process.pid]:
            _kill(pid)
        self._process.wait(PATIENCE_S)

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        assert self._process is not None
        pid = self._process.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            # The resource tracker of multiprocessing is a child too.
            return [int(child) for child in children if b"granian" in Path(f"/proc/{child}/cmdline").read_bytes()]
        except (FileNotFoundError, ProcessLookupError):
            # One ended while we looked.
            return []

    def kill_worker(self, number: int) -> None:
        """Send SIGKILL to one worker."""
        self.tend()
        workers = self.workers()
        if workers:
            _kill(workers[number % len(workers)])


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def call(
    url: str, method: str, path: str, key: str | None = None, body: object = None, pool: Any = None
) -> urllib3.BaseHTTPResponse:
    """Send one request."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    data = None if body is None else orjson.dumps(body)
    response: urllib3.BaseHTTPResponse = (pool or urllib3.PoolManager(retries=False)).request(
        method, url + path, body=data, headers=headers, timeout=PATIENCE_S
    )
    return response
