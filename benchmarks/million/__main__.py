"""One notification to a million devices through the whole running system: ``python -m benchmarks.million``.

``notify up`` runs as it does anywhere: ingress, lander, Dagster, a broadcast run, reports. Pushes go to a fast stand-in
for the providers on this machine: nginx, where it is installed, else the sandbox, which is much slower. The wall time
runs from just before ``POST /notifications`` to the first ``GET /reports/{id}`` that shows the state done and every
device accepted; the stand-in, this program and its sampling use the same cores. Not included: registering the devices
over HTTP (``devices``), and starting the system. Nothing counts unless the report, the attempts in the lake and the
stand-in's own count agree. The last line is JSON:

- ``seconds``, ``devices_per_s``: of the million
- ``peak_mib_over_base``: the greatest sum of PSS over all of the system's processes at one moment while the million was
  sent, less the same while ``BASE`` devices were: one process less that sends, and no report built at the same time.
  ``BASE`` devices were sent to once before: what processes open and import only once is in the base
- ``us_per_device``: wall time ÷ devices, by size, the fixed costs included; ``us_per_device_sending``: first to last
  attempt ÷ devices
- ``phases``: seconds from just before the POST, of the million
"""

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from benchmarks.million import devices, phases, standin
from benchmarks.million.watch import EVERY_S, Usage, Watch
from notify_pipeline.commands.demo.system import RunningSystem
from notify_pipeline.commands.demo.traffic import Api
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import tenants
from notify_pipeline.core.ledger.engine import Ledger, utc_now
from notify_pipeline.core.settings import Settings
from notify_pipeline.sandbox import credentials

# Just more than the drain takes: the smallest broadcast there is.
BASE = 2_500
SIZES = (10_000, 100_000, 1_000_000)
# So short a broadcast has a peak for some tenths of a second only; its own time is not what is measured.
_BASE_EVERY_S = 0.1
# Between two sends: reports of the one before are built, and nothing is under way.
_REST_S = 8.0
_POLL_S = 0.2
_LATEST_S = 600.0
# The sandbox writes its service account anew when it starts; it is the certificates that must be there before.
_NO_TOKENS = "http://127.0.0.1:9/token"


@dataclass
class Sent:
    """One broadcast, measured."""

    devices: int
    seconds: float
    usage: Usage
    phases: dict[str, float]
    wrong: list[str]


@contextlib.contextmanager
def providers(folder: Path, home: Path) -> Iterator[tuple[dict[str, str], list[standin.Server]]]:
    """Run the stand-ins for FCM and APNs; yield the settings that lead to them. None where nginx is missing."""
    if not standin.is_there():
        yield {}, []
        return
    keys = home / "sandbox" / "keys"
    credentials.prepare(keys, _NO_TOKENS, datetime.now(UTC))
    pair = (keys / "server.pem", keys / "server-key.pem")
    with standin.running(folder / "fcm", *pair) as fcm, standin.running(folder / "apns", *pair) as apns:
        yield {"NOTIFY_FCM_URL": fcm.url, "NOTIFY_APNS_URL": apns.url}, [fcm, apns]


def send(
    system: RunningSystem,
    api: Api,
    size: int,
    servers: Sequence[standin.Server | standin.Sandbox],
    name: str = "million",
) -> Sent:
    """Send to the topic of this size, wait for the whole report, and compare what everybody counted."""
    notification_id = f"{name}-{size}"
    before = [server.requests() for server in servers]
    roots = [system.pid, *(server.pid for server in servers if server.pid is not None)]
    with Watch(roots, _BASE_EVERY_S if size == BASE else EVERY_S) as watch:
        began, began_at = time.perf_counter(), time.time()
        request = api.expect(202, "POST", "/notifications", _body(notification_id, size))
        report = _wait_for_report(api, notification_id, size)
        seconds, seen = time.perf_counter() - began, time.time()
    taken = [server.requests() - first for server, first in zip(servers, before, strict=True)]
    facts = phases.attempts(system.home / "lake", notification_id)
    moments = phases.of(facts, system.addresses["dagster"], request["request_id"], began_at, seen)
    return Sent(size, seconds, watch.usage, moments, _differences(size, report, facts, taken))


def _body(notification_id: str, size: int) -> dict[str, object]:
    return {
        "id": notification_id,
        "type": "news",
        "topics": [devices.topic(size)],
        "priority": "high",
        "ttl": 3600,
        "content": {
            "title": "Parliament dissolved",
            "body": "A general election will be held in six weeks, the prime minister said.",
            "link": "https://example.com/politics/1",
            "image_url": "https://example.com/politics/1.jpg",
            "data": {"section": "politics"},
        },
    }


def _wait_for_report(api: Api, notification_id: str, size: int) -> dict[str, Any]:
    """Ask for the state until it is done, which costs less than reports, then for the report until it is whole."""
    deadline = time.monotonic() + _LATEST_S
    path, asked = "notifications", ""
    while time.monotonic() < deadline:
        answer = api.call("GET", f"/{path}/{notification_id}")
        asked = f"{answer.status} {answer.body}"
        if answer.status == 200 and answer.body["state"] == "done":
            if path == "reports" and answer.body["totals"]["accepted"] == size:
                found: dict[str, Any] = answer.body
                return found
            path = "reports"
        time.sleep(_POLL_S)
    raise SystemExit(f"no whole report of {size} devices after {_LATEST_S:.0f} s: {asked}")


def _differences(size: int, report: dict[str, Any], facts: dict[str, Any], taken: list[int]) -> list[str]:
    """Say which counts are not what they must be."""
    halves = {"android": (size + 1) // 2, "ios": size // 2}
    wanted: dict[str, int] = {}
    found: dict[str, Any] = {}
    columns = [*report["platforms"], {**report["totals"], "platform": "all"}]
    for platform, devices_there in {**halves, "all": size}.items():
        column: dict[str, Any] = next((each for each in columns if each["platform"] == platform), {})
        for name in ("audience", "attempted", "accepted", "failed", "invalid", "ambiguous", "skipped", "expired"):
            wanted[f"report, {platform} {name}"] = devices_there if name in {"audience", "attempted", "accepted"} else 0
            found[f"report, {platform} {name}"] = column.get(name)
    for name in ("rows", "accepted", "recipients", "deliveries", "answers"):
        wanted[f"attempts in the lake, {name}"], found[f"attempts in the lake, {name}"] = size, facts[name]
    for platform, requests in zip(halves, taken, strict=True):
        wanted[f"requests at the stand-in, {platform}"] = halves[platform]
        found[f"requests at the stand-in, {platform}"] = requests
    return [f"{name}: {found[name]} instead of {want}" for name, want in wanted.items() if found[name] != want]


def _tell(console: Console, sent: Sent) -> None:
    console.print(f"{sent.devices:,} devices in {sent.seconds:.1f} s, peak {sent.usage.peak_mib:.0f} MiB", style="bold")
    console.print("  " + " · ".join(f"{name} {value:g}" for name, value in sent.phases.items()), soft_wrap=True)
    table = Table("process", "CPU s", "MiB at the peak")
    for kind, cpu_s in _used(sent.usage):
        table.add_row(kind, f"{cpu_s:.1f}", f"{sent.usage.peak_by_kind.get(kind, 0.0):.0f}")
    table.add_row("(this watching)", f"{sent.usage.sampling_s:.1f}", "")
    console.print(table)
    for difference in sent.wrong:
        console.print(f"  WRONG: {difference}", style="red")


def _used(usage: Usage) -> list[tuple[str, float]]:
    """Kinds of processes by their processor time, most first; those that used next to none are left out."""
    return sorted(((k, s) for k, s in usage.cpu_s.items() if s > 0.05), key=lambda used: -used[1])


def _verdict(base: Sent, sent: list[Sent], provider: str) -> dict[str, Any]:
    largest = sent[-1]
    span = {one.devices: one.phases["last attempt"] - one.phases["first attempt"] for one in sent}
    return {
        "seconds": round(largest.seconds, 1),
        "devices": largest.devices,
        "devices_per_s": round(largest.devices / largest.seconds),
        "peak_mib_over_base": round(largest.usage.peak_mib - base.usage.peak_mib),
        "us_per_device": {str(one.devices): round(one.seconds / one.devices * 1e6, 1) for one in sent},
        "us_per_device_sending": {str(size): round(seconds / size * 1e6, 1) for size, seconds in span.items()},
        "phases": largest.phases,
        "seconds_by_size": {str(one.devices): round(one.seconds, 1) for one in (base, *sent)},
        "cpu_s": {kind: round(cpu_s, 1) for kind, cpu_s in _used(largest.usage)},
        "provider": provider,
        "reconciled": not any(one.wrong for one in (base, *sent)),
    }


def run(sizes: tuple[int, ...], console: Console, folder: Path) -> int:
    """Measure, print, and return the exit code."""
    home = folder / "home"
    settings = Settings(home=home)
    # Ours to choose, whatever this shell has.
    ours = {name: "" for name in ("NOTIFY_LEDGER_URL", "NOTIFY_LAKE_ROOT", "NOTIFY_LOGS_ROOT") if name in os.environ}
    if ours:
        raise SystemExit(f"{', '.join(ours)}: this measures the default home; unset them")
    with console.status("registering devices"), Ledger.open(settings.ledger_dsn) as ledger:
        product = tenants.create_product(ledger, "Million", (), utc_now())
        made = devices.register(Lake(settings.lake), ledger, product.tenant, (BASE, *sizes))
    console.print(f"{made:,} devices are registered (in bulk, not over HTTP)")
    with providers(folder, home) as (addresses, servers), RunningSystem(home, **addresses) as system:
        provider = f"{standin.PROGRAM if servers else 'the sandbox'}, on the same cores"
        console.print(f"pushes go to {provider}")
        system.wait_until_ready()
        counters: list[standin.Server | standin.Sandbox] = [*servers]
        if not servers:
            counters += [standin.Sandbox(system.addresses["sandbox"], name) for name in ("fcm", "apns")]
        api = system.api(product.secret_key)
        sent = []
        for name, size in (("first", BASE), ("base", BASE), *(("million", size) for size in sizes)):
            time.sleep(_REST_S)
            sent.append(send(system, api, size, counters, name))
            _tell(console, sent[-1])
    verdict = _verdict(sent[1], sent[2:], provider)
    verdict["reconciled"] &= not sent[0].wrong
    print(orjson.dumps(verdict).decode())
    return 0 if verdict["reconciled"] else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="ascending; default: %(default)s")
    parser.add_argument("--keep", type=Path, help="use this folder, which must not exist yet, and leave it there")
    arguments = parser.parse_args()
    console = Console(stderr=True)
    sizes = tuple(sorted(arguments.sizes))
    if arguments.keep is not None:
        arguments.keep.mkdir(parents=True)
        return run(sizes, console, arguments.keep)
    with tempfile.TemporaryDirectory(prefix="bench-million-") as folder:
        return run(sizes, console, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
