"""The servers that play FCM and APNs, and which of them there is.

Belongs here: starting and stopping them on a core of their own. Does not belong here: what is sent (``workload``).

nginx with its lua module plays both, with any latency. Where it is missing, nghttpd plays FCM without latency, and the
sandbox everything else; where that is missing too, the sandbox plays all.
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
from pathlib import Path

import firebase_admin.credentials
import orjson
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.fanout_clients import nginx
from benchmarks.fanout_clients.workload import Target, fcm_path

# Least latency and what is added to it at most, uniformly, in milliseconds.
LATENCIES = {"0ms": (0, 0), "50ms": (25, 50)}
_START_S = 20.0
_STOP_S = 10.0
_ANSWER = b'{\n  "name": "projects/bench/messages/0:1700000000000000%0000000000000000"\n}\n'


# The best first.
SERVERS = ("nginx", "nghttpd", "sandbox")


def best_server() -> str:
    """Return the best that there is."""
    if nginx.lua_modules() is not None:
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
    """Start one of ``SERVERS`` on a core; yield a stage per latency."""
    with tempfile.TemporaryDirectory(prefix="bench-fanout-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        ca = certify(folder)
        if server == "nginx":
            modules = nginx.lua_modules()
            if modules is None:
                raise SystemExit("there is no nginx with HTTP/2 and lua (Debian: nginx-light, libnginx-mod-http-lua)")
            yield stack.enter_context(_nginx_stages(folder, ca, modules, core))
            return
        found = {key: stack.enter_context(sandbox(folder / key, ms, core)) for key, ms in LATENCIES.items()}
        if server == "nghttpd":
            target = found["0ms"].target
            url = stack.enter_context(_nghttpd(folder, ca, fcm_path(target), core))
            both = folder / "both.pem"
            both.write_bytes(Path(target.ca).read_bytes() + ca.read_bytes())
            found["0ms"] = Stage(replace(target, fcm_url=url, ca=str(both)), "nghttpd", "sandbox")
        yield found


def certify(folder: Path) -> Path:
    """Make ``key.pem`` and ``ca.pem``, a certificate for this machine that is its own authority; return the latter."""
    keys = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    out = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "ca.pem"), "-days", "2"]
    subprocess.run(["openssl", "req", "-x509", *keys, *names, *out], check=True, capture_output=True)
    return folder / "ca.pem"


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
        process.wait(_STOP_S)


def _wait(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise SystemExit(f"{process.args!r} does not listen")


@contextlib.contextmanager
def _nginx_stages(folder: Path, ca: Path, modules: list[Path], core: int) -> Iterator[dict[str, Stage]]:
    ports = _free_ports(len(LATENCIES))
    config = nginx.configure(folder, modules, dict(zip(ports, LATENCIES.values(), strict=True)))
    command = [nginx.find() or "nginx", "-p", str(folder), "-e", "stderr", "-c", str(config)]
    key = folder / "apns.p8"
    private = ec.generate_private_key(ec.SECP256R1())
    pem, pkcs8, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key.write_bytes(private.private_bytes(pem, pkcs8, plain))
    with _started(command, core, ports):
        found = {}
        for latency, port in zip(LATENCIES, ports, strict=True):
            url = f"https://127.0.0.1:{port}"
            target = Target(
                url,
                url,
                str(ca),
                "bench",
                "ya29." + "x" * 200,
                str(key),
                "BENCHKEY01",
                "BENCHTEAM1",
                "com.example.news",
            )
            found[latency] = Stage(target, "nginx", "nginx")
        yield found


@contextlib.contextmanager
def _nghttpd(folder: Path, ca: Path, path: str, core: int) -> Iterator[str]:
    documents = folder / "documents"
    document = documents / path.removeprefix("/")
    document.parent.mkdir(parents=True)
    document.write_bytes(_ANSWER)
    (port,) = _free_ports(1)
    command = ["nghttpd", "-d", str(documents), "-m", "1000", "-a", "127.0.0.1", str(port)]
    with _started([*command, str(folder / "key.pem"), str(ca)], core, [port]):
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
