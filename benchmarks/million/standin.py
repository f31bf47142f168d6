"""A fast stand-in for FCM and APNs on this machine: one nginx each, which takes any push and counts its requests.

It reads and throws away the body, and answers with the shapes that the providers answer with: FCM a message name, APNs
an ``apns-id`` that no other answer has. It does not look at tokens or credentials.
"""

import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROGRAM = "nginx"
_START_S = 10.0
_REQUESTS = re.compile(r"\s*\d+ \d+ (\d+)")
# FCM and APNs allow some hundred to a thousand streams; neither closes a connection after a thousand requests.
_CONFIGURATION = """
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log warn;
{user}
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000000;
  keepalive_timeout 3600s;
  http2_max_concurrent_streams 1000;
  map $request_id $answer_id {{ "~^(.{{8}})(.{{4}})(.{{4}})(.{{4}})(.{{12}})$" "$1-$2-$3-$4-$5"; }}
  server {{
    listen 127.0.0.1:{port} ssl http2;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    location /v1/projects/ {{
      default_type application/json;
      return 200 '{{"name":"projects/stand-in/messages/$request_id"}}';
    }}
    location /3/device/ {{ add_header apns-id $answer_id; return 200; }}
  }}
  server {{ listen 127.0.0.1:{counter_port}; location / {{ stub_status; }} }}
}}
"""


@dataclass
class Server:
    """One nginx: where pushes go, and how many came."""

    url: str
    pid: int | None
    _counter: str
    _asked: int = 0

    def requests(self) -> int:
        """How many requests it has taken, other than this question."""
        with urllib.request.urlopen(self._counter, timeout=5) as answer:
            text = answer.read().decode()
        self._asked += 1
        found = _REQUESTS.search(text)
        if found is None:
            raise SystemExit(f"{PROGRAM}'s status is unreadable: {text!r}")
        return int(found[1]) - self._asked


@dataclass
class Sandbox:
    """One of the sandbox's providers, where nginx is missing. The sandbox is among the system's own processes."""

    _control: str
    _provider: str
    pid: int | None = None

    def requests(self) -> int:
        """How many pushes it has taken."""
        with urllib.request.urlopen(f"{self._control}/stats", timeout=30) as answer:
            return int(json.load(answer)[self._provider].get("processed", 0))


def is_there() -> bool:
    """Tell whether this machine has it."""
    return shutil.which(PROGRAM) is not None


@contextlib.contextmanager
def running(folder: Path, certificate: Path, key: Path) -> Iterator[Server]:
    """Run one, with a TLS certificate and its key, until the with block ends."""
    folder.mkdir()
    port, counter_port = _free_port(), _free_port()
    text = _CONFIGURATION.format(
        folder=folder,
        user="user root;" if Path("/proc/self").stat().st_uid == 0 else "",
        port=port,
        counter_port=counter_port,
        certificate=certificate,
        key=key,
    )
    (folder / "nginx.conf").write_text(text)
    command = [PROGRAM, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
    with subprocess.Popen(command) as process:
        try:
            server = Server(f"https://127.0.0.1:{port}", process.pid, f"http://127.0.0.1:{counter_port}/")
            _wait(counter_port, process)
            yield server
        finally:
            process.send_signal(signal.SIGTERM)


def _wait(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise SystemExit(f"{PROGRAM} does not listen")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
