"""How soon a log file that arrives is in the report, at rest and while a broadcast is sent, and how the report moves.

``python -m benchmarks.freshness``: `notify up` runs as it does anywhere, pushes go to the stand-in of
``benchmarks.million`` (with ``--sandbox`` to the sandbox). Log files hold the beacons of deliveries that the lake has
by then. They are put where a CDN puts its own: at rest one after the other, as soon as the report has the one before;
while a broadcast is sent every few seconds, whatever the report has. A file is in the report when ``GET
/reports/{id}`` has received all beacons of it and of those before it. Everything uses the same cores, and whatever
else they do. The last line is JSON:

- ``rest_p50_s``, ``rest_max_s``: from a file's arrival to the report, at rest
- ``sending_p50_s``, ``sending_max_s``, ``sending_s``: likewise, of files that came while a broadcast was sent
- ``longest_stand_s``: the longest time for which the report of a broadcast under way stood still, from the POST on
- ``cpu_s``: processor time by kind of process, while broadcasts were sent
- ``load``: the load average before, and the largest one seen
- ``slowest``: of the file that took longest, seconds from its arrival to each step of its way
"""

import argparse
import gzip
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import orjson
import polars as pl
import urllib3
from rich.console import Console

from benchmarks.million import devices
from benchmarks.million.__main__ import providers
from benchmarks.million.watch import Watch
from notify_pipeline.commands.demo.system import RunningSystem
from notify_pipeline.commands.demo.traffic import Api
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import tenants
from notify_pipeline.core.ledger.engine import Ledger, utc_now
from notify_pipeline.core.partitions import partition
from notify_pipeline.core.receipt_log import receipt_line
from notify_pipeline.core.settings import Settings

PROMISE_S: Final = 30.0
STAND_S: Final = 5.0
# Just more than the drain takes: a broadcast whose report is then at rest.
SMALL: Final = 2_500
_BEACONS: Final = 50
_POLL_S: Final = 0.25
_LATEST_S: Final = 900.0
_REST_S: Final = 8.0
_RUNS: Final = """
query Runs($job: String!) { runsOrError(filter: {pipelineName: $job}) {
  ... on Runs { results { status creationTime startTime endTime } } } }
"""


@dataclass
class Drop:
    """A log file that came: when (seconds since the epoch), what the report is to have received, when it had."""

    at: float
    received: int
    seen: float | None = None

    @property
    def took(self) -> float:
        """Seconds from its arrival to the report."""
        return _LATEST_S if self.seen is None else self.seen - self.at


@dataclass
class Followed:
    """A notification's report, asked for time and again, and the log files that came for it."""

    api: Api
    home: Path
    name: str
    drops: list[Drop] = field(default_factory=list)
    load: float = 0.0
    state: str = ""
    longest_stand: float = 0.0
    _figures: tuple[object, ...] = ()
    _moved: float = field(default_factory=time.time)
    _deliveries: list[tuple[str, str]] = field(default_factory=list)
    _used: set[str] = field(default_factory=set)
    _read: set[Path] = field(default_factory=set)

    def look(self) -> None:
        """Ask once."""
        answer = self.api.call("GET", f"/reports/{self.name}")
        now = time.time()
        self.load = max(self.load, os.getloadavg()[0])
        if answer.status != 200:
            return
        totals = answer.body["totals"]
        self.state = answer.body["state"]
        for drop in self.drops:
            if drop.seen is None and totals["received"] >= drop.received:
                drop.seen = now
        figures = (self.state, *(totals[name] for name in ("audience", "attempted", "accepted")))
        if figures != self._figures:
            self.longest_stand = max(self.longest_stand, now - self._moved)
            self._figures, self._moved = figures, now

    @property
    def is_over(self) -> bool:
        """Whether the send is at its end."""
        return self.state in ("done", "failed", "cancelled", "expired")

    @property
    def waits(self) -> bool:
        """Whether a file is not in the report yet."""
        return any(drop.seen is None for drop in self.drops)

    def drop(self) -> bool:
        """Put a log file of beacons where it is looked for; False when the lake has no delivery for it yet."""
        taken = self._take(_BEACONS)
        if not taken:
            return False
        now = datetime.now(UTC)
        lines = [receipt_line("/notification/received", self._query(*one), now, status=204) for one in taken]
        folder = self.home / "logs" / "bench" / partition(now)
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{now:%Y%m%dT%H%M%S%f}.log.gz"
        (folder / f".{name}").write_bytes(gzip.compress(b"\n".join([*lines, b""])))
        (folder / f".{name}").rename(folder / name)
        before = self.drops[-1].received if self.drops else 0
        self.drops.append(Drop(time.time(), before + len(taken)))
        return True

    def _query(self, delivery_id: str, platform: str) -> str:
        provider = "apns" if platform == "ios" else "fcm"
        return urlencode({"notificationId": self.name, "platform": platform, "provider": provider, "d": delivery_id})

    def _take(self, count: int) -> list[tuple[str, str]]:
        """Return deliveries that no file has named yet."""
        if len(self._deliveries) < count:
            self._deliveries += self._landed()
        taken, self._deliveries = self._deliveries[:count], self._deliveries[count:]
        return taken

    def _landed(self) -> Iterator[tuple[str, str]]:
        for path in sorted((self.home / "lake").glob("attempts/**/*.parquet")):
            if path in self._read:
                continue
            try:
                rows = pl.read_parquet(path, columns=["notification_id", "delivery_id", "platform"])
            except FileNotFoundError:  # compacted
                continue
            self._read.add(path)
            mine = rows.filter(pl.col("notification_id") == self.name).unique("delivery_id", maintain_order=True)
            for _, delivery_id, platform in mine.head(1_000).rows():
                if delivery_id not in self._used:
                    self._used.add(delivery_id)
                    yield delivery_id, platform


def _body(name: str, size: int) -> dict[str, object]:
    content = {"title": "Parliament dissolved", "body": "A general election will be held in six weeks."}
    topics = [devices.topic(size)]
    return {"id": name, "type": "news", "topics": topics, "priority": "high", "ttl": 3600, "content": content}


def _until(followed: Followed, is_so: Any, what: str) -> None:
    deadline = time.monotonic() + _LATEST_S
    while not is_so():
        if time.monotonic() > deadline:
            raise SystemExit(f"{followed.name}: {what} took longer than {_LATEST_S:.0f} s")
        time.sleep(_POLL_S)
        followed.look()


def at_rest(api: Api, home: Path, files: int) -> Followed:
    """Send to a few, and put one file after the other."""
    api.expect(202, "POST", "/notifications", _body("rest", SMALL))
    followed = Followed(api, home, "rest")
    _until(followed, lambda: followed.is_over, "sending")
    for number in range(files):
        # Looks are not to keep step with the sensors.
        time.sleep(_REST_S + 0.7 * (number % 10))
        if not followed.drop():
            raise SystemExit("the lake has no deliveries of a send that is over")
        _until(followed, lambda: not followed.waits, "a log file")
    return followed


def while_sending(api: Api, home: Path, size: int, every: float, number: int) -> Followed:
    """Send to many, and put a file every few seconds while that lasts."""
    time.sleep(_REST_S)
    followed = Followed(api, home, f"sending-{number}")
    api.expect(202, "POST", "/notifications", _body(followed.name, size))
    due = time.monotonic()

    def look() -> bool:
        nonlocal due
        if not followed.is_over and time.monotonic() >= due and followed.drop():
            due = time.monotonic() + every
        return followed.is_over

    _until(followed, look, "sending")
    _until(followed, lambda: not followed.waits, "the last log file")
    return followed


def _runs(dagster: str, job: str) -> list[dict[str, float]]:
    body = orjson.dumps({"query": _RUNS, "variables": {"job": job}})
    answer = urllib3.request("POST", f"{dagster}/graphql", body=body, headers={"Content-Type": "application/json"})
    runs: list[dict[str, Any]] = orjson.loads(answer.data)["data"]["runsOrError"]["results"]
    return sorted((run for run in runs if run["status"] == "SUCCESS"), key=lambda run: run["creationTime"])


def way(drop: Drop, dagster: str) -> dict[str, float]:
    """Seconds from a file's arrival to the steps of its way, as far as Dagster's runs tell them.

    The reading run is the first that was asked for after the arrival, the building one the first that began after it.
    """
    moments: dict[str, float] = {}
    after, since = drop.at, "creationTime"
    for job, word in (("process_receipts", "reading"), ("build_reports", "building")):
        run = next((run for run in _runs(dagster, job) if run[since] >= after), None)
        if run is None:
            break
        moments |= {f"{word} asked for": run["creationTime"], f"{word} began": run["startTime"]}
        moments[f"{word} ended"] = after = run["endTime"]
        since = "startTime"
    moments["in the report"] = drop.at + drop.took
    return {name: round(moment - drop.at, 1) for name, moment in moments.items()}


def figures(rest: Followed | None, sending: list[Followed], dagster: str) -> dict[str, Any]:
    """Return what the last line says."""
    meanwhile = [drop for each in sending for drop in each.drops]
    found: dict[str, Any] = {}
    for name, drops in (("rest", rest.drops if rest else []), ("sending", meanwhile)):
        if drops:
            found[f"{name}_p50_s"] = round(statistics.median(drop.took for drop in drops), 1)
            found[f"{name}_max_s"] = round(max(drop.took for drop in drops), 1)
            found[f"{name}_s"] = [round(drop.took, 1) for drop in drops]
    if meanwhile:
        found["slowest"] = way(max(meanwhile, key=lambda drop: drop.took), dagster)
        found["longest_stand_s"] = round(max(each.longest_stand for each in sending), 1)
    found["promise_s"], found["stand_promise_s"] = PROMISE_S, STAND_S
    return found


def run(arguments: argparse.Namespace, console: Console, folder: Path) -> int:
    """Measure, print, and return the exit code."""
    size, home, load = arguments.devices, folder / "home", os.getloadavg()[0]
    settings = Settings(home=home)
    if ours := [name for name in ("NOTIFY_LEDGER_URL", "NOTIFY_LAKE_ROOT", "NOTIFY_LOGS_ROOT") if name in os.environ]:
        raise SystemExit(f"{', '.join(ours)}: this measures the default home; unset them")
    with console.status("registering devices"), Ledger.open(settings.ledger_dsn) as ledger:
        product = tenants.create_product(ledger, "Freshness", (), utc_now())
        devices.register(Lake(settings.lake), ledger, product.tenant, (SMALL, size))
    folder.joinpath("providers").mkdir()
    with (
        providers(folder / "providers", home) as (addresses, _),
        RunningSystem(home, **({} if arguments.sandbox else addresses)) as system,
    ):
        system.wait_until_ready()
        api, dagster = system.api(product.secret_key), system.addresses["dagster"]
        rest = at_rest(api, home, arguments.rest) if arguments.rest else None
        _tell(console, dagster, rest)
        sending: list[Followed] = []
        with Watch([system.pid]) as watch:
            for number in range(arguments.rounds):
                sending.append(while_sending(api, home, size, arguments.every, number))
                _tell(console, dagster, sending[-1])
        found = figures(rest, sending, dagster)
        found["cpu_s"] = {kind: round(cpu_s, 1) for kind, cpu_s in sorted(watch.usage.cpu_s.items())}
    found |= {"devices": size, "load": [round(load, 1), round(max((each.load for each in sending), default=0.0), 1)]}
    print(orjson.dumps(found).decode())
    return 0 if max(found.get("rest_max_s", 0.0), found.get("sending_max_s", 0.0)) <= PROMISE_S else 1


def _tell(console: Console, dagster: str, followed: Followed | None) -> None:
    if followed is None:
        return
    console.print(f"{followed.name}: stood for {followed.longest_stand:.1f} s at most, load {followed.load:.1f}")
    for drop in followed.drops:
        steps = (f"{name} {value:g}" for name, value in way(drop, dagster).items())
        console.print("  " + " · ".join(steps), soft_wrap=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=600_000, help="of a broadcast; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="broadcasts; default: %(default)s")
    parser.add_argument("--rest", type=int, default=10, help="log files at rest; default: %(default)s")
    parser.add_argument("--every", type=float, default=4.0, help="seconds between log files; default: %(default)s")
    parser.add_argument("--sandbox", action="store_true", help="push to the sandbox, which is slower than nginx")
    parser.add_argument("--keep", type=Path, help="use this folder, which must not exist yet, and leave it there")
    arguments = parser.parse_args()
    if arguments.keep is not None:
        arguments.keep.mkdir(parents=True)
        return run(arguments, Console(stderr=True), arguments.keep)
    with tempfile.TemporaryDirectory(prefix="bench-freshness-") as folder:
        return run(arguments, Console(stderr=True), Path(folder))


if __name__ == "__main__":
    sys.exit(main())
