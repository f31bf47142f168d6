"""Client CPU per push request: our HTTP/2 transport beside h2load and libcurl, against nghttpd.

Run ``python -m benchmarks.fanout``; it needs nghttpd and h2load (Debian: nghttp2-server, nghttp2-client). The server
has one core and the client the other; the clients take turns in every round, so that a noisy machine disturbs all
alike. CPU is what the client's process used, user and system, between the first request and the last end; h2load's is
that of its whole run. The last line is JSON.
"""

import argparse
import asyncio
import contextlib
import os
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

from benchmarks.fanout_clients.curl import CurlClient
from notify_pipeline.channels.transport import Answer, End, Request, Transport
from notify_pipeline.channels.wire.transport import WireTransport

IN_FLIGHT = 256
PATH = "/v1/projects/project/messages:send"
# The size of FCM's answer, and of what we send to it for a usual notification.
ANSWER = b'{\n  "name": "projects/project/messages/0:1700000000000000%0000000000000000"\n}\n'
BODY_BYTES = 700
HEADERS = (("authorization", "Bearer ya29." + "x" * 200), ("content-type", "application/json"))
_START_S = 10.0
_STATISTICS = re.compile(r"(\d+) succeeded, (\d+) failed")


@contextlib.contextmanager
def nghttpd(folder: Path, core: int) -> Iterator[int]:
    """Run the server on a core; yield its port."""
    document = folder / PATH.removeprefix("/")
    document.parent.mkdir(parents=True)
    document.write_bytes(ANSWER)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    keys = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    out = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "ca.pem"), "-days", "2"]
    subprocess.run(["openssl", "req", "-x509", *keys, *names, *out], check=True, capture_output=True)
    command = ["nghttpd", "-d", str(folder), "-m", "1000", "-a", "127.0.0.1", str(port)]
    with subprocess.Popen([*command, str(folder / "key.pem"), str(folder / "ca.pem")]) as process:
        os.sched_setaffinity(process.pid, {core})
        try:
            _wait(port)
            yield port
        finally:
            process.terminate()


def _wait(port: int) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise SystemExit("nghttpd does not listen")


def _requests(count: int) -> Iterator[Request]:
    body = b'{"message":{"token":"%0100d"}}'
    filler = b"x" * (BODY_BYTES - 130)
    for number in range(count):
        yield Request(number, PATH, HEADERS, body % number + filler)


async def _post(transport: Transport, count: int) -> float:
    """Return CPU microseconds per request; all must be answered, each once."""
    answered = bytearray(count)

    def on_end(number: int, end: End) -> None:
        if type(end) is Answer and end.status == 200 and end.body == ANSWER:
            answered[number] += 1

    started = _own_cpu()
    await transport.post_many(_requests(count), on_end)
    used = _own_cpu() - started
    if set(answered) != {1}:
        raise SystemExit(f"{count - answered.count(1)} of {count} requests were not answered once")
    return used / count * 1e6


def _own_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def ours(url: str, ca: Path, count: int) -> float:
    """Run our transport; its connection is warm before it is measured."""

    async def run() -> float:
        transport = WireTransport(url, ca=ca, max_in_flight=IN_FLIGHT, timeout_s=20)
        await _post(transport, 300)
        used = await _post(transport, count)
        await transport.aclose()
        return used

    return asyncio.run(run())


def pycurl(url: str, ca: Path, count: int) -> float:
    """Run libcurl; its connection is warm before it is measured."""
    client = CurlClient(url, ca, IN_FLIGHT, read_headers=False)
    client.post_many(_requests(300), lambda _number, _status, _body: None)
    answered = bytearray(count)

    def on_end(number: int, status: int, body: bytes) -> None:
        if status == 200 and body == ANSWER:
            answered[number] += 1

    started = _own_cpu()
    client.post_many(_requests(count), on_end)
    used = _own_cpu() - started
    client.close()
    if set(answered) != {1}:
        raise SystemExit(f"{count - answered.count(1)} of {count} requests were not answered once")
    return used / count * 1e6


def h2load(url: str, ca: Path, count: int) -> float:
    """Run h2load with the same body; its start and TLS handshake count, and the requests are many."""
    body = ca.parent / "body"
    body.write_bytes(next(_requests(1)).body)
    headers = [argument for name, value in HEADERS for argument in ("-H", f"{name}: {value}")]
    command = ["h2load", "-n", str(count), "-c", "1", "-m", str(IN_FLIGHT), "-d", str(body), *headers, url + PATH]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    succeeded = _STATISTICS.search(done.stdout)
    if succeeded is None or succeeded.group(1) != str(count):
        raise SystemExit(f"h2load failed:\n{done.stdout}")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used / count * 1e6


CLIENTS: dict[str, tuple[Callable[[str, Path, int], float], int]] = {
    "h2load": (h2load, 4),
    "ours": (ours, 4),
    "pycurl": (pycurl, 1),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000, help="per client and round, for the slower clients")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if not shutil.which("nghttpd") or not shutil.which("h2load"):
        raise SystemExit("needs nghttpd and h2load (Debian: nghttp2-server, nghttp2-client)")
    cores = sorted(os.sched_getaffinity(0))
    figures: dict[str, list[float]] = {name: [] for name in CLIENTS}
    with tempfile.TemporaryDirectory() as name, nghttpd(Path(name), cores[0]) as port:
        os.sched_setaffinity(0, {cores[-1]})
        for _ in range(arguments.rounds):
            for client, (run, times) in CLIENTS.items():
                used = run(f"https://127.0.0.1:{port}", Path(name) / "ca.pem", arguments.requests * times)
                figures[client].append(used)
                print(f"{client}: {used:.2f} µs", file=sys.stderr)
    _show(figures)


def _show(figures: dict[str, list[float]]) -> None:
    medians = {client: statistics.median(values) for client, values in figures.items()}
    table = Table("client", "CPU µs per request", "lowest", "highest", title="POSTs over HTTP/2 to nghttpd")
    for client, values in figures.items():
        table.add_row(client, f"{medians[client]:.2f}", f"{min(values):.2f}", f"{max(values):.2f}")
    Console().print(table)
    # Each round's ratio, then their median: the rounds differ more than the clients within one.
    ratios = {
        f"cpu_vs_{client}": round(statistics.median(map(float.__truediv__, figures["ours"], figures[client])), 3)
        for client in ("h2load", "pycurl")
    }
    cpu = {f"cpu_us_{client}": round(value, 2) for client, value in medians.items()}
    print(orjson.dumps({"part": "fanout", **ratios, **cpu}).decode())


if __name__ == "__main__":
    main()
