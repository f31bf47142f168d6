"""The demo's own running system: ``notify up`` as a child process in a home of its own.

Belongs here: starting it, knowing when it is ready, stopping it. Does not belong here: what it consists of (``up``).
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson

from notify_pipeline.commands.demo.traffic import Api

_READY_S = 120.0
_STOP_S = 60.0


class SystemNotReadyError(Exception):
    """The system ended, or took too long, before it was ready."""


class RunningSystem:
    """A system that lives as long as the with block. Its ports are free ones unless the environment names them."""

    def __init__(self, home: Path, **settings: str) -> None:
        """Start nothing yet.

        Args:
            home: Its NOTIFY_HOME.
            settings: More environment variables for it.
        """
        self.home = home.resolve()
        self._settings = settings
        self.addresses: dict[str, str] = {}
        self._output = self.home.parent / f"{self.home.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.home.parent.mkdir(parents=True, exist_ok=True)
        free = {f"NOTIFY_{name}_PORT": "0" for name in ("HTTP", "DAGSTER", "SANDBOX", "GATEWAY", "TOKEN_DESK")}
        environment = {**free, **os.environ, **self._settings, "NOTIFY_HOME": str(self.home)}
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                [sys.executable, "-m", "notify_pipeline.cli", "up"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        assert self._process is not None  # noqa: S101 - set by __enter__
        return self._process.pid

    def stop(self) -> int:
        """Ask it to stop and return its exit code. Raises TimeoutExpired when it does not."""
        assert self._process is not None  # noqa: S101 - set by __enter__
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise

    def output(self) -> str:
        """Return what it printed so far."""
        return self._output.read_text()

    def wait_until_ready(self) -> None:
        """Wait for run.json. Raises SystemNotReadyError with the end of the output."""
        assert self._process is not None  # noqa: S101 - set by __enter__
        path = self.home / "run.json"
        deadline = time.monotonic() + _READY_S
        while not path.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise SystemNotReadyError(f"the system did not start:\n{self.output()[-4000:]}")
            time.sleep(0.1)
        self.addresses = orjson.loads(path.read_bytes())

    def api(self, key: str | None) -> Api:
        """Return a client of the ingress with this key, or with none."""
        return Api(self.addresses["http"], key)
