"""Seconds to parse log files into Parquet ÷ seconds of ``zcat | wc -l``, and of chdb, over the same files and CPUs.

The logs are in the form that Fastly services write: 5 M lines in 8 gzip files, beacons of 200 notifications with
status, user agent, address and location, 2 % other traffic, 0.1 % garbage. Ours is the whole of ``process_hour``: read,
inflate, parse, check, write and fsync the Parquet files; its first round also starts a fork server, which a system has
since its start, as chdb's start is not counted. Rounds alternate; the ratio is the median of the rounds'
ratios. Beside the plain ``zcat | wc -l`` of all files, one is measured that runs a zcat per CPU. chdb (ClickHouse) does
the same work as well as SQL can say it (``receipts_chdb``); ``make bench-receipts`` installs it.

The same requests are also written as CloudFront's and NGINX' lines, and each is compared with its own zcat.

    python -m benchmarks.receipts [--lines 5000000] [--rounds 5] [--chdb folder of its packages]
"""

import argparse
import gzip
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.partitions import partition
from notify_pipeline.core.receipt_log import receipt_line
from notify_pipeline.receipts.hours import process_hour
from notify_pipeline.receipts.logs import Logs
from notify_pipeline.receipts.w3c import LEGACY

HOUR = datetime(2026, 11, 1, 10, tzinfo=UTC)
FILES = 8
NOTIFICATIONS = 200
TARGETS = (("ios", "apns"), ("android", "fcm"))
POPS = ("LCY", "LHR", "FRA", "AMS", "IAD")
LEVEL = 6  # gzip's default, and what CDNs offer as their default


Render = Callable[[dict[str, Any]], bytes]


def make_log(path: Path, lines: int, draws: random.Random, render: Render | None = None) -> None:
    """Write one log file; the draws say which requests, ``render`` how they are written, by default as Fastly does."""
    render = render or orjson.dumps
    notifications = [f"{draws.getrandbits(128):032x}" for _ in range(NOTIFICATIONS)]
    agents = [f"News/{n}.{n % 7} (iPhone; iOS 19.{n % 4}; Scale/3.00) CFNetwork/1568" for n in range(60)]
    with gzip.open(path, "wb", compresslevel=LEVEL) as file:
        for start in range(0, lines, 10_000):
            batch = [_line(draws, notifications, agents, render) for _ in range(min(10_000, lines - start))]
            file.write(b"\n".join([*batch, b""]))


def _line(draws: random.Random, notifications: list[str], agents: list[str], render: Render) -> bytes:
    moment = HOUR + timedelta(milliseconds=draws.randrange(3_600_000))
    kind = draws.random()
    if kind < 0.02:
        more = {
            "status": 200,
            "user_agent": draws.choice(agents),
            "client_ip": "203.0.113.0",
            "pop": draws.choice(POPS),
        }
        return render(orjson.loads(receipt_line("/article", f"id={draws.getrandbits(32)}", moment, **more)))
    platform, provider = draws.choice(TARGETS)
    event = "received" if kind < 0.9 else "opened" if kind < 0.97 else "clicked"
    query = (
        f"notificationId={draws.choice(notifications)}&platform={platform}&provider={provider}"
        f"&d={draws.getrandbits(160):040x}"
    )
    more = {
        "status": 204,
        "user_agent": draws.choice(agents),
        "client_ip": f"{draws.randrange(1, 224)}.{draws.randrange(256)}.{draws.randrange(256)}.0",
        "pop": draws.choice(POPS),
    }
    line = render(orjson.loads(receipt_line(f"/notification/{event}", query, moment, **more)))
    return line[: draws.randrange(len(line))] if draws.random() < 0.001 else line


def as_cloudfront(request: dict[str, Any]) -> bytes:
    """Write a request as CloudFront's legacy standard log does."""
    moment = datetime.fromisoformat(request["datetime"])
    number = hash(request["querystring"]) & (1 << 64) - 1
    values = {
        "date": f"{moment:%Y-%m-%d}",
        "time": f"{moment:%H:%M:%S}",
        "x-edge-location": f"{request['pop']}50-C1",
        "sc-bytes": "321",
        "c-ip": request["client_ip"],
        "cs-method": "GET",
        "cs(Host)": "d111111abcdef8.cloudfront.net",
        "cs-uri-stem": request["event"],
        "sc-status": str(request["status"]),
        "cs(User-Agent)": request["user_agent"].replace(" ", "%20"),
        "cs-uri-query": request["querystring"],
        "x-edge-result-type": "Hit",
        "x-edge-request-id": f"{number:020d}-{number:032x}==",
        "x-host-header": "beacons.example.com",
        "cs-protocol": "https",
        "time-taken": f"0.{number % 100:03d}",
        "ssl-protocol": "TLSv1.3",
        "ssl-cipher": "TLS_AES_128_GCM_SHA256",
        "cs-protocol-version": "HTTP/2.0",
        "c-port": str(number % 60_000),
    }
    return "\t".join(values.get(name, "-") for name in LEGACY.split()).encode()


def as_combined(request: dict[str, Any]) -> bytes:
    """Write a request as NGINX does."""
    stamp = datetime.fromisoformat(request["datetime"]).strftime("%d/%b/%Y:%H:%M:%S +0000")
    target = f"{request['event']}?{request['querystring']}"
    line = f'{request["client_ip"]} - - [{stamp}] "GET {target} HTTP/2.0" {request["status"]} 0 "-"'
    return f'{line} "{request["user_agent"]}"'.encode()


OTHER_FORMATS: dict[str, Render] = {"cloudfront": as_cloudfront, "combined": as_combined}


def shell(command: str) -> float:
    """Return the seconds that a shell pipeline takes."""
    begin = time.perf_counter()
    subprocess.run(["bash", "-c", command], check=True, capture_output=True)
    return time.perf_counter() - begin


def chdb(root: Path, packages: Path) -> float:
    """Return the seconds that chdb takes for the same work, not counting its start; tell what it found."""
    shutil.rmtree(root / "chdb", ignore_errors=True)
    files, latest = root / "logs" / "fastly" / partition(HOUR) / "*.gz", HOUR + timedelta(hours=2)
    command = [sys.executable, "-m", "benchmarks.receipts_chdb", str(files), str(root / "chdb"), f"{latest:%F %T}"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(packages), str(Path.cwd())))}
    done = subprocess.run(command, check=True, capture_output=True, env=environment)
    said = orjson.loads(done.stdout)
    print(f"  chdb: {said['events']} events, {said['quarantine']} quarantined")
    return float(said["seconds"])


def ours(root: Path, logs: str = "logs") -> tuple[float, int, int]:
    """Return seconds, events and quarantined lines of one run into an empty lake."""
    shutil.rmtree(root / "lake", ignore_errors=True)
    begin = time.perf_counter()
    report = process_hour(Lake(str(root / "lake")), Logs(str(root / logs)), HOUR)
    return time.perf_counter() - begin, report.events, report.quarantined


def ratio(times: dict[str, list[float]], to: str) -> float:
    """Return the median over the rounds of ours ÷ another, each round's two having run one after the other."""
    return statistics.median(ours_s / other_s for ours_s, other_s in zip(times["ours"], times[to], strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--chdb", type=Path, help="The folder of chdb's packages; without, it is left out.")
    arguments = parser.parse_args()
    cpus = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, cpus)
    with tempfile.TemporaryDirectory(prefix="bench-receipts-") as folder:
        others = measure_others(Path(folder), arguments.lines // 5, arguments.rounds)
        measure(Path(folder), arguments.lines, arguments.rounds, len(cpus), arguments.chdb, others)


def measure_others(root: Path, lines: int, rounds: int) -> dict[str, float]:
    """Return the ratio to zcat of the other formats, each over a fifth of the lines."""
    ratios = {}
    for name, render in OTHER_FORMATS.items():
        folder = root / name / name / partition(HOUR)
        folder.mkdir(parents=True)
        for number in range(FILES):
            make_log(folder / f"{number}.log.gz", lines // FILES, random.Random(number), render)
        found = []
        for _ in range(rounds):
            zcat = shell(f"zcat {folder}/*.gz | wc -l")
            seconds, events, quarantined = ours(root, name)
            found.append(seconds / zcat)
            print(f"{name}: zcat {zcat:.2f} s, ours {seconds:.2f} s, {events} events, {quarantined} quarantined")
        ratios[f"ratio_to_zcat_wc_{name}"] = round(statistics.median(found), 3)
        shutil.rmtree(root / name)
    return ratios


def measure(root: Path, lines: int, rounds: int, cpus: int, packages: Path | None, others: dict[str, float]) -> None:
    """Make the logs, alternate the runs, print every round and the result."""
    logs = root / "logs" / "fastly" / partition(HOUR)
    logs.mkdir(parents=True)
    for number in range(FILES):
        make_log(logs / f"{number}.log.gz", lines // FILES, random.Random(number))
        print(f"made file {number + 1} of {FILES}", flush=True)
    times: dict[str, list[float]] = {"ours": [], "zcat": [], "parallel": []}
    events = quarantined = 0
    for number in range(rounds):
        times["zcat"].append(shell(f"zcat {logs}/*.gz | wc -l"))
        seconds, events, quarantined = ours(root)
        times["ours"].append(seconds)
        if packages is not None:
            times.setdefault("chdb", []).append(chdb(root, packages))
        times["parallel"].append(shell(f"ls {logs}/*.gz | xargs -P {cpus} -n 1 sh -c 'zcat \"$0\" | wc -l'"))
        print(f"round {number + 1}: " + ", ".join(f"{name} {values[-1]:.2f} s" for name, values in times.items()))
    middle = {name: statistics.median(values) for name, values in times.items()}
    result = {
        "ratio_to_zcat_wc": round(ratio(times, "zcat"), 3),
        "ratio_to_parallel_zcat_wc": round(ratio(times, "parallel"), 3),
        "lines": lines,
        "events": events,
        "quarantined": quarantined,
        "seconds": round(middle["ours"], 2),
        "zcat_wc_seconds": round(middle["zcat"], 2),
        "cpus": cpus,
        **others,
    }
    if "chdb" in times:
        result |= {"ratio_to_chdb": round(ratio(times, "chdb"), 3), "chdb_seconds": round(middle["chdb"], 2)}
    print(orjson.dumps(result).decode())


if __name__ == "__main__":
    main()
