"""Client CPU per push: our HTTP/2 transport beside h2load, pycurl, aioapns, firebase-admin and @parse/node-apn.

Run ``python -m benchmarks.fanout``. The server has one core and the client the other; every client is a process of its
own and they take turns in every round, so that a noisy machine disturbs all alike. All speak HTTP/2 over TLS to the
same server on one warm connection, with bodies of the same size, at 0 and at 50 ± 25 ms of server latency. CPU is what
the client's process used, user and system, between its first request and its last answer; every answer is checked.

Each library is compared with us on its own provider's requests: pycurl and firebase-admin on FCM's, aioapns and
node-apn on APNs', h2load on both. Clients whose programs are missing are left out and named. The last line is JSON.
There ``cpu_vs_X`` is our CPU per request by X's: the median of the rounds' ratios, at whichever latency it is worse;
``cpu_vs_X_0ms`` and ``cpu_vs_X_50ms`` are the two. ``peak_mib`` is a process's most resident memory, and
``peak_mib_over_base`` what of it came after imports and warm-up.

Belongs here: who runs when, and the figures. Does not belong here: the clients and the servers (``fanout_clients``).
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import orjson
from rich.console import Console
from rich.table import Table

from benchmarks.fanout_clients import h2load, node
from benchmarks.fanout_clients.meter import Measurement
from benchmarks.fanout_clients.servers import LATENCIES, SERVERS, Stage, best_server, stages
from benchmarks.fanout_clients.workload import APNS, FCM, Job

IN_FLIGHT = {"0ms": 256, "50ms": 1000}
TARGETS = {
    "cpu_vs_h2load": 3.0,
    "cpu_vs_pycurl": 1 / 3,
    "cpu_vs_aioapns": 1 / 40,
    "cpu_vs_firebase_admin": 1 / 100,
}
# The sandbox is a Python server: fewer requests there, or the run takes many minutes.
_SLOW_SHARE = 0.05
_LEAST = 200
_TIMEOUT_S = 120
_TABLE_WIDTH = 100
# What it uses then is its polling, no measure of a request.
_STUCK = "it stays at the one stream that the sandbox, like APNs, allows until the first request"


@dataclass(frozen=True)
class Client:
    """One row of the table.

    Attributes:
        name: As the figures call it.
        shape: Whose requests it sends.
        count: Requests per round at 0 ms; half of it at 50 ms. The slower a client, the fewer.
        warm_up: Requests before it is measured.
    """

    name: str
    shape: str
    count: int
    warm_up: int = 1000

    @property
    def key(self) -> str:
        """Its name in the last line."""
        return f"{self.name}_{self.shape}".replace("-", "_")


CLIENTS = (
    Client("h2load", FCM, 60_000),
    Client("ours", FCM, 60_000),
    Client("pycurl", FCM, 15_000),
    Client("firebase-admin", FCM, 800, 100),
    Client("h2load", APNS, 60_000),
    Client("ours", APNS, 60_000),
    Client("aioapns", APNS, 3_000),
    Client("node-apn", APNS, 6_000),
)
# What is compared with our requests of which shape, under which key.
RATIOS = {
    "cpu_vs_h2load": ("h2load", FCM),
    "cpu_vs_h2load_apns": ("h2load", APNS),
    "cpu_vs_pycurl": ("pycurl", FCM),
    "cpu_vs_aioapns": ("aioapns", APNS),
    "cpu_vs_firebase_admin": ("firebase-admin", FCM),
    "cpu_vs_node_apn": ("node-apn", APNS),
}
# Where a client is not measured as the others are, or has less under way than we ask of it.
_NOTES = {"firebase-admin": "takes 500 a call; httpx has 100 under way"}
# By latency, client and requests: what each round gave; a round in which the client broke down is missing.
Figures = Mapping[tuple[str, str, str], dict[int, Measurement]]


def in_own_process(job: Job) -> Measurement:
    """Run one of the Python clients."""
    command = [sys.executable, "-m", "benchmarks.fanout_clients.run", orjson.dumps(job).decode()]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=_TIMEOUT_S)
    return Measurement(**orjson.loads(done.stdout))


_RUN: Mapping[str, Callable[[Job], Measurement]] = {"h2load": h2load.run, "node-apn": node.run}


def _missing() -> dict[str, str]:
    """Return the clients that cannot run here, each with the reason."""
    found = {}
    if shutil.which("h2load") is None:
        found["h2load"] = "there is no h2load (Debian: nghttp2-client)"
    if (reason := node.prepare()) is not None:
        found["node-apn"] = reason
    return found


def _job(client: Client, latency: str, stage: Stage) -> Job:
    count = client.count if latency == "0ms" else client.count // 2
    if stage.is_slow:
        count = max(_LEAST, int(count * _SLOW_SHARE))
    return Job(client.name, client.shape, count, min(count, client.warm_up), IN_FLIGHT[latency], stage.target)


def _run(client: Client, latency: str, stage: Stage) -> Measurement | None:
    """Return a client's measurement, None where it had none to give: that it failed is printed."""
    job = _job(client, latency, stage)
    try:
        measurement = _RUN.get(client.name, in_own_process)(job)
    except (subprocess.SubprocessError, RuntimeError) as error:
        print(f"{latency} {client.key}: failed: {str(error)[-300:]}", file=sys.stderr)
        return None
    failures = f", {measurement.failed} of {measurement.requests} FAILED" if measurement.failed else ""
    print(f"{latency} {client.key}: {measurement.cpu_us:.2f} µs, {measurement.rate:,.0f}/s{failures}", file=sys.stderr)
    return measurement


def _play(most: int, seconds: float, found: Mapping[str, Stage], missing: Mapping[str, str]) -> tuple[Figures, int]:
    """Let the clients take turns; return what they gave, and how many rounds there was time for."""
    figures: dict[tuple[str, str, str], dict[int, Measurement]] = {}
    began = time.monotonic()
    for number in range(most):
        spent = time.monotonic() - began
        if number and spent + spent / number > seconds:
            print(f"{number} of {most} rounds: the time is up", file=sys.stderr)
            return figures, number
        for latency, stage in found.items():
            for client in CLIENTS:
                if client.name in missing:
                    continue
                turns = figures.setdefault((latency, client.name, client.shape), {})
                if (measurement := _run(client, latency, stage)) is not None:
                    turns[number] = measurement
    return figures, most


def _show(figures: Figures, rounds: int) -> None:
    table = Table(title=f"POSTs over HTTP/2, medians of {rounds} rounds")
    for column in ("latency", "for", "client"):
        table.add_column(column)
    for column in ("CPU µs", "from–to", "per second", "MiB", "grown", "failed"):
        table.add_column(column, justify="right")
    for (latency, name, shape), by_round in figures.items():
        turns = list(by_round.values())
        if not turns:
            table.add_row(latency, shape, name, "broken")
            continue
        cpu = [turn.cpu_us for turn in turns]
        spread = f"{min(cpu):,.1f}–{max(cpu):,.1f}"
        failed = f"{sum(turn.failed for turn in turns):,}"
        median = f"{statistics.median(cpu):,.2f}"
        memory = f"{_mib(t.resident_bytes for t in turns):.0f}", f"{_mib(t.grown_bytes for t in turns):.1f}"
        table.add_row(latency, shape, name, median, spread, f"{_rate(turns):,.0f}", *memory, failed)
    Console(width=max(Console().width, _TABLE_WIDTH)).print(table)


def _rate(turns: list[Measurement]) -> float:
    return statistics.median(turn.rate for turn in turns)


def _mib(values: Iterable[int]) -> float:
    return round(max(values) / 2**20, 2)


def _ratio(figures: Figures, latency: str, name: str, shape: str) -> float | None:
    """Each round's ratio, then their median: the rounds differ more than the clients within one."""
    ours, theirs = figures.get((latency, "ours", shape), {}), figures.get((latency, name, shape), {})
    both = ours.keys() & theirs.keys()
    return statistics.median(ours[number].cpu_us / theirs[number].cpu_us for number in both) if both else None


def ratios(figures: Figures) -> dict[str, float | None]:
    """Return our CPU by theirs for each latency, and for the worse one where both are known."""
    result: dict[str, float | None] = {}
    for key, (name, shape) in RATIOS.items():
        each = {latency: _ratio(figures, latency, name, shape) for latency in LATENCIES}
        known = [ratio for ratio in each.values() if ratio is not None]
        result[key] = round(max(known), 4) if len(known) == len(LATENCIES) else None
        result |= {f"{key}_{latency}": None if ratio is None else round(ratio, 4) for latency, ratio in each.items()}
    return result


def _details(figures: Figures, rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    result: dict[str, dict[str, dict[str, float]]] = {latency: {} for latency in LATENCIES}
    for (latency, name, shape), by_round in figures.items():
        turns = list(by_round.values())
        details: dict[str, float] = {"broken_rounds": rounds - len(turns)}
        if turns:
            details |= {
                "requests_per_s": round(_rate(turns)),
                "cpu_us": round(statistics.median(turn.cpu_us for turn in turns), 2),
                "peak_mib": _mib(turn.resident_bytes for turn in turns),
                "peak_mib_over_base": _mib(turn.grown_bytes for turn in turns),
                "requests": sum(turn.requests for turn in turns),
                "failed": sum(turn.failed for turn in turns),
            }
        result[latency][Client(name, shape, 0).key] = details
    return result


def _are_ours_sound(figures: Figures, rounds: int) -> bool:
    ours = [by_round for (_, name, _), by_round in figures.items() if name == "ours"]
    return all(len(by_round) == rounds and not any(turn.failed for turn in by_round.values()) for by_round in ours)


def main() -> int:
    """Measure and print; the exit code tells whether one of our own requests failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="at most")
    parser.add_argument("--seconds", type=float, default=180, help="start no round that would end after this")
    parser.add_argument(
        "--server", choices=SERVERS, default=best_server(), help="the best one found here is %(default)s"
    )
    given = parser.parse_args()
    missing = _missing()
    cores = sorted(os.sched_getaffinity(0))
    with stages(cores[0], given.server or best_server()) as found:
        if any(stage.apns_server == "sandbox" for stage in found.values()):
            missing["aioapns"] = _STUCK
        for name, reason in missing.items():
            print(f"{name} is left out: {reason}", file=sys.stderr)
        os.sched_setaffinity(0, {cores[-1]})  # the clients inherit it; this process waits
        figures, rounds = _play(given.rounds, given.seconds, found, missing)
        servers = {latency: {FCM: stage.fcm_server, APNS: stage.apns_server} for latency, stage in found.items()}
    _show(figures, rounds)
    result = {
        "part": "fanout",
        **ratios(figures),
        "targets": {key: round(value, 4) for key, value in TARGETS.items()},
        "clients": _details(figures, rounds),
        "in_flight": IN_FLIGHT,
        "notes": _NOTES,
        "servers": servers,
        "missing": missing,
        "rounds": rounds,
    }
    print(orjson.dumps(result).decode())
    return 0 if _are_ours_sound(figures, rounds) else 1


if __name__ == "__main__":
    sys.exit(main())
