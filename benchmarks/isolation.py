"""What a broken channel does to the others: ``python -m benchmarks.isolation``.

``notify up`` runs as it does anywhere, against the sandbox. Every channel gets a send to one recipient some times a
second, all the while. One channel after the other breaks for a minute (``--seconds``), between two spells of the same
length in which all are well: it takes calls and never answers, answers after ten seconds, or refuses everything. What
counts is the time from a send's acceptance to the provider's acceptance, median by channel and spell; a channel's
ratio is its median in a spell in which another one was broken to that of the two spells around it. Everything uses the
same cores. The last line is JSON:

- ``worst``: the largest ratio of any channel that was well, in any spell; ``spells``: ratios by spell and channel
- ``median_ms``: by channel, where all were well
- ``complete``: in the end every send was accepted by its provider, those of the broken channels included
"""

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import polars as pl
from rich.console import Console
from rich.table import Table

from notify_pipeline.commands.demo.system import RunningSystem
from notify_pipeline.commands.demo.traffic import Api
from notify_pipeline.core.ledger import tenants
from notify_pipeline.core.ledger.engine import Ledger, utc_now
from notify_pipeline.core.settings import Settings

FAULTS = {
    "hangs": {"hang": 1.0},
    "is slow": {"latency_ms": 9_000},
    "is down": {"unavailable": 1.0},
}
# The time in which what was sent before a spell's end may still be answered: it belongs to that spell.
_END_S = 2.0
_LATEST_S = 180.0
_LAND_S = 5.0
_CONTENT = {"title": "Your order", "body": "It is on its way."}
_FCM = f"{'0' * 22}:APA91b{'1' * 134}"
_APNS = "ab" * 32


def audiences(api: Api, sandbox: Api, channels: list[str]) -> dict[str, dict[str, Any]]:
    """Register a recipient for every channel; return what a send to it names."""
    for token, platform in ((_FCM, "android"), (_APNS, "ios")):
        api.call("POST", "/devices", {"token": token, "platform": platform, "user_id": "someone"})
    made = {
        "fcm": {"devices": [_FCM]},
        "apns": {"devices": [_APNS]},
        "email": {"emails": ["someone@example.com"]},
        "sms": {"phones": ["+447700900123"]},
    }
    if "webpush" in channels:
        subscription = sandbox.expect(201, "POST", "/webpush/subscriptions", {})
        browser = {"subscription": subscription, "platform": "webpush", "user_id": "someone"}
        made["webpush"] = {"devices": [api.expect(201, "POST", "/devices", browser)["token"]]}
    return {channel: made[channel] for channel in channels}


class Traffic:
    """Sends on every channel, until the with block ends."""

    def __init__(self, api: Api, audiences: dict[str, dict[str, Any]], every_s: float) -> None:
        self._api = api
        self._audiences = audiences
        self._every_s = every_s
        self._over = threading.Event()
        self.spell = "warm-up"
        self.sent = 0
        self._guard = threading.Lock()

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """Send until the with block ends."""
        threads = [threading.Thread(target=self._send, args=(channel,)) for channel in self._audiences]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _send(self, channel: str) -> None:
        due, number = time.monotonic(), 0
        while not self._over.is_set():
            name = f"{self.spell}.{channel}.{number}"
            body = {"id": name, "type": "order", "content": _CONTENT, "channels": [channel], **self._audiences[channel]}
            self._api.expect(202, "POST", "/notifications", body)
            with self._guard:
                self.sent += 1
            number += 1
            due = max(due + self._every_s, time.monotonic() - 1)
            self._over.wait(due - time.monotonic())


def medians(lake: Path) -> tuple[pl.DataFrame, int]:
    """Return the median of each spell and channel, and how many sends were accepted by a provider."""
    requests = pl.scan_parquet(lake / "requests/**/*.parquet", hive_partitioning=True).unique("request_id")
    accepted = (
        pl.scan_parquet(lake / "attempts/**/*.parquet", hive_partitioning=True)
        .filter(pl.col("outcome") == "accepted")
        .group_by("notification_id")
        .agg(pl.col("answered_at").min())
        .join(requests.select("notification_id", "accepted_at"), on="notification_id")
        .with_columns(
            pl.col("notification_id")
            .str.split(".")
            .list.to_struct(fields=["spell", "channel", "number"])
            .alias("name"),
            ms=(pl.col("answered_at") - pl.col("accepted_at")).dt.total_microseconds() / 1000,
        )
        .unnest("name")
        .collect()
    )
    return accepted.group_by("spell", "channel").agg(pl.col("ms").median(), sends=pl.len()), accepted.height


def ratios(found: pl.DataFrame, spells: list[tuple[str, str]]) -> dict[str, dict[str, float]]:
    """Return by broken spell and well channel: its median ÷ the mean of the medians of the spells around it."""
    of = {(row["spell"], row["channel"]): row["ms"] for row in found.iter_rows(named=True)}
    channels = sorted(set(found["channel"]))
    made: dict[str, dict[str, float]] = {}
    for at, (spell, broken) in enumerate(spells):
        if broken:
            before, after = spells[at - 1][0], spells[at + 1][0]
            made[spell] = {
                channel: round(of[spell, channel] / ((of[before, channel] + of[after, channel]) / 2), 3)
                for channel in channels
                if channel != broken
            }
    return made


def _spells(arguments: argparse.Namespace) -> list[tuple[str, str]]:
    made = [("well-0", "")]
    for number, broken in enumerate(arguments.broken.split(","), 1):
        made += [(f"{broken}-{number}", broken), (f"well-{number}", "")]
    return made


def run(arguments: argparse.Namespace, console: Console, folder: Path) -> int:
    """Measure, print, and return the exit code."""
    home = folder / "home"
    with Ledger.open(Settings(home=home).ledger_dsn) as ledger:
        product = tenants.create_product(ledger, "Isolation", (), utc_now())
    spells = _spells(arguments)
    with RunningSystem(home) as system:
        system.wait_until_ready()
        api, sandbox = system.api(product.secret_key), Api(system.addresses["sandbox"])
        channels = arguments.channels.split(",")
        traffic = Traffic(api, audiences(api, sandbox, channels), arguments.every)
        with traffic.flowing():
            _wait_for_first(api, channels)
            for spell, broken in spells:
                fault = FAULTS[arguments.fault] if broken else {}
                sandbox.expect(200, "PUT", "/faults", {broken: fault} if broken else {})
                traffic.spell = spell
                console.print(f"{spell}: {f'{broken} {arguments.fault}' if broken else 'all are well'}")
                time.sleep(arguments.seconds)
                traffic.spell = f"{spell}-end"
                time.sleep(_END_S)
        complete = _wait_for_all(home / "lake", traffic.sent)
        time.sleep(_LAND_S)
        found, accepted = medians(home / "lake")
    made = ratios(found, spells)
    well = found.filter(pl.col("spell").str.contains("^well-[0-9]+$"))
    figures = {
        "worst": max(value for spell in made.values() for value in spell.values()),
        "spells": made,
        "fault": arguments.fault,
        "seconds": arguments.seconds,
        "median_ms": {c: round(float(m), 1) for c, m in well.group_by("channel").agg(pl.col("ms").mean()).iter_rows()},
        "medians": {f"{s} {c}": round(float(m), 1) for s, c, m, _ in found.sort("spell", "channel").iter_rows()},
        "sends": traffic.sent,
        "complete": complete and accepted == traffic.sent,
    }
    _show(console, made)
    print(orjson.dumps(figures).decode())
    return 0 if figures["complete"] else 1


def _wait_for_first(api: Api, channels: list[str]) -> None:
    """Wait until the drain has started and every channel has sent something."""
    deadline = time.monotonic() + _LATEST_S
    for channel in channels:
        while (api.call("GET", f"/notifications/warm-up.{channel}.0").body or {}).get("state") != "done":
            if time.monotonic() > deadline:
                raise SystemExit(f"{channel} sent nothing within {_LATEST_S:.0f} s")
            time.sleep(0.2)
    time.sleep(_END_S)


def _wait_for_all(lake: Path, sent: int) -> bool:
    deadline = time.monotonic() + _LATEST_S
    while time.monotonic() < deadline:
        if medians(lake)[1] == sent:
            return True
        time.sleep(2)
    return False


def _show(console: Console, made: dict[str, dict[str, float]]) -> None:
    channels = sorted({channel for spell in made.values() for channel in spell})
    table = Table("broken", *channels, title="median ÷ the same when all are well")
    for spell, of in made.items():
        table.add_row(spell, *(f"{of[channel]:.2f}" if channel in of else "–" for channel in channels))
    console.print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each spell; default: %(default)s")
    parser.add_argument("--broken", default="fcm,email,sms,webpush", help="one after the other; default: %(default)s")
    parser.add_argument("--channels", default="fcm,apns,webpush,email,sms", help="that send; default: %(default)s")
    parser.add_argument("--fault", choices=FAULTS, default="hangs", help="default: %(default)s")
    parser.add_argument("--every", type=float, default=0.1, help="seconds between sends; default: %(default)s")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-isolation-") as folder:
        return run(arguments, Console(stderr=True), Path(folder))


if __name__ == "__main__":
    sys.exit(main())
