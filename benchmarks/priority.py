"""How soon a high-priority send to one user starts while a low-priority one goes to a million devices.

``python -m benchmarks.priority``: `notify up` runs as it does anywhere, pushes go to the stand-in of
``benchmarks.million``. A broadcast of low priority is posted, and from then on until it is done a send of high priority
to one user every second. What counts is the time from a send's acceptance (the ingress's clock, in the lake's
``requests``) to the provider's call (``sent_at`` in ``attempts``). With ``--backlog``, as many sends of low priority to
one user each wait in the drain's own queue besides; with ``--latency-ms``, pushes go to the sandbox, which answers that
late; ``NOTIFY_FCM_PER_MINUTE`` makes tokens scarce. Everything uses the same cores. The last line is JSON:

- ``p50_ms``, ``p99_ms``, ``max_ms``: of high-priority sends that were accepted while the low one was being sent
- ``sends``: how many these were; ``at_rest_p50_ms``: of the few before it
- ``low_seconds``, ``low_per_s``: first to last attempt of the low one
- ``reconciled``: everybody got everything once
"""

import argparse
import contextlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import polars as pl
from rich.console import Console

from benchmarks.million import devices, standin
from benchmarks.million.__main__ import providers
from notify_pipeline.commands.demo.system import RunningSystem
from notify_pipeline.commands.demo.traffic import Api
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import tenants
from notify_pipeline.core.ledger.engine import Ledger, utc_now
from notify_pipeline.core.settings import Settings

_AT_REST = 10
_LATEST_S = 900.0
# What was accepted is in the lake within a second or two; the report of the low one need not be waited for.
_LAND_S = 10.0
_USER = "someone"
_TOKEN = f"{'0' * 22}:APA91b{'1' * 134}"
_CONTENT = {"title": "Your code", "body": "It is valid for a minute."}


def _high(api: Api, name: str) -> None:
    body = {"id": name, "type": "code", "users": [_USER], "priority": "high", "content": _CONTENT}
    api.expect(202, "POST", "/notifications", body)


def _low(api: Api, name: str, **audience: object) -> None:
    body = {"id": name, "type": "news", "priority": "low", "ttl": 3600, "content": _CONTENT, **audience}
    api.expect(202, "POST", "/notifications", body)


@contextlib.contextmanager
def _every(seconds: float, api: Api) -> Iterator[list[str]]:
    """Send with high priority now and then, until the with block ends; yields the ids."""
    sent: list[str] = []
    over = threading.Event()

    def go_on() -> None:
        due = time.monotonic()
        while not over.is_set():
            name = f"high-{len(sent)}"
            _high(api, name)
            sent.append(name)
            due = max(due + seconds, time.monotonic())
            over.wait(due - time.monotonic())

    sender = threading.Thread(target=go_on)
    sender.start()
    try:
        yield sent
    finally:
        over.set()
        sender.join()


def _wait_until_done(api: Api, name: str) -> None:
    deadline = time.monotonic() + _LATEST_S
    while time.monotonic() < deadline:
        if api.expect(200, "GET", f"/notifications/{name}")["state"] == "done":
            return
        time.sleep(0.5)
    raise SystemExit(f"{name} was not done after {_LATEST_S:.0f} s")


def _figures(lake: Path, size: int, backlog: int) -> dict[str, Any]:
    requests = pl.scan_parquet(lake / "requests/**/*.parquet", hive_partitioning=True).unique("request_id")
    attempts = pl.scan_parquet(lake / "attempts/**/*.parquet", hive_partitioning=True)
    low = attempts.filter(pl.col("notification_id").str.contains("^(low$|small-)"))
    span = low.select(rows=pl.len(), first=pl.col("sent_at").min(), last=pl.col("sent_at").max()).collect()
    rows, first, last = span.row(0)
    calls = attempts.filter(pl.col("notification_id").str.contains("^(high|rest)-")).join(
        requests.select("notification_id", "accepted_at"), on="notification_id"
    )
    waits = calls.select(
        "notification_id",
        "accepted_at",
        ms=(pl.col("sent_at") - pl.col("accepted_at")).dt.total_microseconds() / 1000,
    ).collect()
    meanwhile = waits.filter(
        pl.col("notification_id").str.starts_with("high-") & pl.col("accepted_at").is_between(first, last)
    )["ms"]
    rest = waits.filter(pl.col("notification_id").str.starts_with("rest-"))["ms"]
    seconds = (last - first).total_seconds()
    return {
        "p50_ms": round(float(meanwhile.quantile(0.5, "nearest") or 0)),
        "p99_ms": round(float(meanwhile.quantile(0.99, "nearest") or 0)),
        "max_ms": round(float(meanwhile.max() or 0)),  # type: ignore[arg-type] # it is a column of numbers
        "sends": len(meanwhile),
        "at_rest_p50_ms": round(float(rest.median() or 0)),  # type: ignore[arg-type] # likewise
        "devices": size,
        "low_seconds": round(seconds, 1),
        "low_per_s": round(rows / seconds),
        "calls": waits.height,
        "reconciled": rows == size + backlog and len(rest) == _AT_REST,
    }


@contextlib.contextmanager
def _system(folder: Path, latency_ms: int) -> Iterator[tuple[RunningSystem, str]]:
    """Yield the running system and the name of what takes its pushes."""
    if latency_ms:
        with RunningSystem(folder / "home") as system:
            system.wait_until_ready()
            faults = {name: {"latency_ms": latency_ms} for name in ("fcm", "apns")}
            Api(system.addresses["sandbox"]).expect(200, "PUT", "/faults", faults)
            yield system, f"the sandbox, {latency_ms} ms late"
        return
    with providers(folder, folder / "home") as (addresses, servers), RunningSystem(folder / "home", **addresses) as it:
        it.wait_until_ready()
        yield it, standin.PROGRAM if servers else "the sandbox"


def run(arguments: argparse.Namespace, console: Console, folder: Path) -> int:
    """Measure, print, and return the exit code."""
    size, backlog = arguments.devices, arguments.backlog
    home = folder / "home"
    settings = Settings(home=home)
    if ours := [name for name in ("NOTIFY_LEDGER_URL", "NOTIFY_LAKE_ROOT") if name in os.environ]:
        raise SystemExit(f"{', '.join(ours)}: this measures the default home; unset them")
    with console.status("registering devices"), Ledger.open(settings.ledger_dsn) as ledger:
        product = tenants.create_product(ledger, "Priority", (), utc_now())
        devices.register(Lake(settings.lake), ledger, product.tenant, (size,))
    with _system(folder, arguments.latency_ms) as (system, provider):
        api = system.api(product.secret_key)
        api.call("POST", "/devices", {"token": _TOKEN, "platform": "android", "user_id": _USER})
        for number in range(_AT_REST):
            _high(api, f"rest-{number}")
            time.sleep(arguments.every)
        console.print(f"{size:,} devices of low priority, through {provider}")
        with _every(arguments.every, api) as sent, ThreadPoolExecutor(8) as threads:
            _low(api, "low", topics=[devices.topic(size)])
            list(threads.map(lambda number: _low(api, f"small-{number}", users=[_USER]), range(backlog)))
            _wait_until_done(api, "low")
            if backlog:
                _wait_until_done(api, f"small-{backlog - 1}")
        for name in sent[-1:]:
            _wait_until_done(api, name)
        time.sleep(_LAND_S)
    figures = _figures(home / "lake", size, backlog)
    figures["reconciled"] &= figures["calls"] == len(sent) + _AT_REST
    figures |= {"backlog": backlog, "provider": provider}
    console.print(
        f"{figures['sends']} sends of high priority meanwhile: p50 {figures['p50_ms']} ms, p99 {figures['p99_ms']} ms, "
        f"max {figures['max_ms']} ms; before it p50 {figures['at_rest_p50_ms']} ms"
    )
    print(orjson.dumps(figures).decode())
    return 0 if figures["reconciled"] else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=1_000_000, help="of the low one; default: %(default)s")
    parser.add_argument("--backlog", type=int, default=0, help="low ones to one user each; default: %(default)s")
    parser.add_argument("--every", type=float, default=1.0, help="seconds between high ones; default: %(default)s")
    parser.add_argument("--latency-ms", type=int, default=0, help="of the provider; default: as fast as it can")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-priority-") as folder:
        return run(arguments, Console(stderr=True), Path(folder))


if __name__ == "__main__":
    sys.exit(main())
