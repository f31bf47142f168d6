"""The servers that play FCM and APNs, and which of them there is.

Belongs here: starting and stopping them on a core of their own. Does not belong here: what is sent (``workload``).

nghttpd plays FCM without latency: it is the fastest, and its frames are as few as a provider's. It can neither wait nor
make an id per answer, so nginx with its lua module plays the rest. Where one is missing the other takes its part, or
else the sandbox.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import firebase_admin.credentials
import orjson
import requests

from benchmarks.fanout_clients import nginx
from benchmarks.fanout_clients.workload import Target, fcm_path
from notify_pipeline.sandbox import credentials

# Least latency and what is added to it at most, uniformly, in milliseconds.
LATENCIES = {"0ms": (0, 0), "50ms": (25, 50)}
_START_S = 20.0
# The sandbox waits ten seconds for its devices.
_STOP_S = 20.0
_KEYS = "keys"
# As long as Google's access tokens are; the sandbox wants a real one.
_BEARER = "ya29." + "x" * 200
_ANSWER = b'{\n  "name": "projects/bench/messages/0:1700000000000000%0000000000000000"\n}\n'


# The best first.
SERVERS = ("nginx", "nghttpd", "sandbox")


def best_server() -> str:
    """Return the best that there is."""
    with tempfile.TemporaryDirectory(prefix="bench-fanout-") as name:
        folder = Path(name)
        _keys(folder)
        config = nginx.configure(folder, _KEYS, dict(zip(_free_ports(len(LATENCIES)), LATENCIES.values(), strict=True)))
        if config is not None and nginx.takes(config):
            return "nginx"
    return "nghttpd" if shutil.which("nghttpd") else "sandbox"


@dataclass(frozen=True)
class Stage:
    """Where to send at one latency, and who answers there."""

    target: Target
    fcm_server: str
    apns_server: str

    @property
    def is_slow(self) -> bool:
        """Whether the sandbox answers: a Python server, slower than the clients."""
        return "sandbox" in (self.fcm_server, self.apns_server)


@contextlib.contextmanager
def stages(core: int, server: str) -> Iterator[dict[str, Stage]]:
    """Start one of ``SERVERS`` on a core, and nghttpd beside it for its part; yield a stage per latency."""
    with tempfile.TemporaryDirectory(prefix="bench-fanout-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        if server == "nginx":
            found = stack.enter_context(_nginx_stages(folder, core))
        else:
            found = {key: stack.enter_context(sandbox(folder / key, ms, core)) for key, ms in LATENCIES.items()}
        if server != "sandbox" and shutil.which("nghttpd"):
            target, keys, both = found["0ms"].target, _keys(folder), folder / "both.pem"
            url = stack.enter_context(_nghttpd(folder, fcm_path(target), core))
            both.write_bytes(Path(target.ca).read_bytes() + keys.ca.read_bytes())
            found["0ms"] = replace(
                found["0ms"], target=replace(target, fcm_url=url, ca=str(both)), fcm_server="nghttpd"
            )
        yield found


def _keys(folder: Path) -> credentials.Credentials:
    """Make the sandbox's keys and certificates for another server. No access token is fetched with them."""
    return credentials.prepare(folder / _KEYS, "http://127.0.0.1/token", datetime.now(UTC))


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


@contextlib.contextmanager
def _started(
    command: Sequence[str], core: int, ports: Sequence[int], env: dict[str, str] | None = None
) -> Iterator[None]:
    """Run a server on a core until the end; it listens on all its ports when this yields."""
    here = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})  # children inherit it
    try:
        process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
    finally:
        os.sched_setaffinity(0, here)
    try:
        for port in ports:
            _wait(process, port)
        yield
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def _wait(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise SystemExit(f"{process.args!r} does not listen")


@contextlib.contextmanager
def _nginx_stages(folder: Path, core: int) -> Iterator[dict[str, Stage]]:
    keys, ports = _keys(folder), _free_ports(len(LATENCIES))
    config = nginx.configure(folder, _KEYS, dict(zip(ports, LATENCIES.values(), strict=True)))
    if config is None:
        raise SystemExit("there is no nginx with HTTP/2 and lua (Debian: nginx-light, libnginx-mod-http-lua)")
    with _started(nginx.command(config), core, ports):
        found = {}
        for latency, port in zip(LATENCIES, ports, strict=True):
            url = f"https://127.0.0.1:{port}"
            key, topic = str(keys.apns_key), credentials.APNS_TOPIC
            ids = credentials.APNS_KEY_ID, credentials.APNS_TEAM_ID
            target = Target(url, url, str(keys.ca), credentials.PROJECT, _BEARER, key, *ids, topic)
            found[latency] = Stage(target, "nginx", "nginx")
        yield found


@contextlib.contextmanager
def _nghttpd(folder: Path, path: str, core: int) -> Iterator[str]:
    documents = folder / "documents"
    document = documents / path.removeprefix("/")
    document.parent.mkdir(parents=True)
    document.write_bytes(_ANSWER)
    (port,) = _free_ports(1)
    command = ["nghttpd", "-d", str(documents), "-m", "1000", "-a", "127.0.0.1", str(port)]
    with _started([*command, *(str(folder / _KEYS / name) for name in nginx.KEY_AND_CERTIFICATE)], core, [port]):
        yield f"https://127.0.0.1:{port}"


@contextlib.contextmanager
def sandbox(home: Path, latency: tuple[int, int], core: int) -> Iterator[Stage]:
    """Run the sandbox with this latency; yield it as a stage."""
    (port,) = _free_ports(1)
    env = {**os.environ, "NOTIFY_HOME": str(home), "NOTIFY_SANDBOX_PORT": str(port), "NOTIFY_LOGS": str(home / "logs")}
    with (
        _started([sys.executable, "-m", "notify_pipeline.cli", "sandbox"], core, [port], env),
        requests.Session() as http,
    ):
        http.trust_env = False
        url = f"http://127.0.0.1:{port}"
        said = http.get(f"{url}/", timeout=_START_S).json()
        provider = {"latency_ms": latency[0], "latency_jitter_ms": latency[1]}
        faults = {"fcm": provider, "apns": provider, "devices": {"receive": 0}}
        http.put(f"{url}/faults", data=orjson.dumps(faults), timeout=_START_S).raise_for_status()
        token = firebase_admin.credentials.Certificate(said["service_account"]).get_access_token().access_token
        target = Target(
            said["fcm_url"],
            said["apns_url"],
            said["ca"],
            said["fcm_project"],
            token,
            said["apns_key"],
            said["apns_key_id"],
            said["apns_team_id"],
            said["apns_topic"],
        )
        yield Stage(target, "sandbox", "sandbox")
