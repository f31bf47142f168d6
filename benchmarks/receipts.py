"""Seconds to parse log files into Parquet ÷ seconds of ``zcat | wc -l`` over the same files, on the same CPUs.

The logs are in the form that Fastly services write: 5 M lines in 8 gzip files, beacons of 200 notifications with
status, user agent, address and location, 2 % other traffic, 0.1 % garbage. Ours is the whole of ``process_hour``: read,
inflate, parse, check, write and fsync the Parquet files. Rounds alternate; the ratio is the median of the rounds'
ratios. Beside the plain ``zcat | wc -l`` of all files, one is measured that runs a zcat per CPU.

    python -m benchmarks.receipts [--lines 5000000] [--rounds 5]
"""

import argparse
import gzip
import os
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.partitions import partition
from notify_pipeline.core.receipt_log import receipt_line
from notify_pipeline.receipts.hours import process_hour
from notify_pipeline.receipts.logs import Logs

HOUR = datetime(2026, 11, 1, 10, tzinfo=UTC)
FILES = 8
NOTIFICATIONS = 200
TARGETS = (("ios", "apns"), ("android", "fcm"))
POPS = ("LCY", "LHR", "FRA", "AMS", "IAD")
LEVEL = 6  # gzip's default, and what CDNs offer as their default


def make_log(path: Path, lines: int, draws: random.Random) -> None:
    """Write one log file."""
    notifications = [f"{draws.getrandbits(128):032x}" for _ in range(NOTIFICATIONS)]
    agents = [f"News/{n}.{n % 7} (iPhone; iOS 19.{n % 4}; Scale/3.00) CFNetwork/1568" for n in range(60)]
    with gzip.open(path, "wb", compresslevel=LEVEL) as file:
        for start in range(0, lines, 10_000):
            batch = [_line(draws, notifications, agents) for _ in range(min(10_000, lines - start))]
            file.write(b"\n".join([*batch, b""]))


def _line(draws: random.Random, notifications: list[str], agents: list[str]) -> bytes:
    moment = HOUR + timedelta(milliseconds=draws.randrange(3_600_000))
    kind = draws.random()
    if kind < 0.02:
        return receipt_line("/article", f"id={draws.getrandbits(32)}", moment, status=200, pop=draws.choice(POPS))
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
    line = receipt_line(f"/notification/{event}", query, moment, **more)
    return line[: draws.randrange(len(line))] if draws.random() < 0.001 else line


def shell(command: str) -> float:
    """Return the seconds that a shell pipeline takes."""
    begin = time.perf_counter()
    subprocess.run(["bash", "-c", command], check=True, capture_output=True)
    return time.perf_counter() - begin


def ours(root: Path) -> tuple[float, int, int]:
    """Return seconds, events and quarantined lines of one run into an empty lake."""
    shutil.rmtree(root / "lake", ignore_errors=True)
    begin = time.perf_counter()
    report = process_hour(Lake(str(root / "lake")), Logs(str(root / "logs")), HOUR)
    return time.perf_counter() - begin, report.events, report.quarantined


def ratio(times: dict[str, list[float]], to: str) -> float:
    """Return the median over the rounds of ours ÷ another, each round's two having run one after the other."""
    return statistics.median(ours_s / other_s for ours_s, other_s in zip(times["ours"], times[to], strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    cpus = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, cpus)
    with tempfile.TemporaryDirectory(prefix="bench-receipts-") as folder:
        measure(Path(folder), arguments.lines, arguments.rounds, len(cpus))


def measure(root: Path, lines: int, rounds: int, cpus: int) -> None:
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
    }
    print(orjson.dumps(result).decode())


if __name__ == "__main__":
    main()
