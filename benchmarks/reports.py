"""Latency of the report queries, and the cost of publishing, over 2.5 M notifications × 4 platforms.

The history is generated: 25,000 notifications a day for 100 days, two tenants, and a second one of the last tenth of
that (``reports_history``). Then:

- The real builder publishes hour after hour of a real lake on both histories in turns: diff, models, checks, segments,
  pointer, memory. ``cost_ratio`` is the median of the long history by that of the short one: near 1, the cost follows
  the change.
- The builder goes on publishing in another process, without pause, while this one lists random days (100 rows with
  their platforms) and asks for random notifications of all days, in turns.

    python -m benchmarks.reports [--days 100] [--questions 1000] [--hours 9]
"""

import argparse
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

from benchmarks.reports_history import A_DAY, PLATFORMS, START, add_hour, generate
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.settings import Settings
from notify_pipeline.reports import checks, reading_details, reading_lists, versions
from notify_pipeline.reports.build import build_candidate, is_stale, publish
from notify_pipeline.reports.reading import ReportReader
from notify_pipeline.reports.reading_filters import ListFilter

PAGE = 100


@dataclass
class History:
    """Reports of so many days, their lake, and how many real hours were added to it."""

    home: Path
    days: int
    hours: int = 0
    seconds: list[dict[str, float]] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        """The settings of its home."""
        return Settings(home=self.home)

    @property
    def lake(self) -> Lake:
        """The lake that it is made from."""
        return Lake(str(self.home / "lake"))

    def publish_hour(self) -> None:
        """Add an hour to the lake, then do what a build does, and note how long its parts took."""
        add_hour(self.lake, self.days, self.hours)
        self.hours += 1
        settings, lake, now = self.settings, self.lake, datetime.now(UTC)
        moments = [time.perf_counter()]
        stale = is_stale(lake, settings.reports, settings)
        moments.append(time.perf_counter())
        candidate = build_candidate(lake, settings.reports, settings, now)
        moments.append(time.perf_counter())
        passed = all(result.passed for result in checks.run(candidate, lake, settings))
        moments.append(time.perf_counter())
        if not stale or not passed or len(candidate.changed) > 2:
            raise RuntimeError("a build is not what it should be")
        publish(candidate, settings, now)
        moments.append(time.perf_counter())
        parts = [after - before for before, after in zip(moments, moments[1:], strict=False)]
        names = ("look", "build", "check", "publish")
        self.seconds.append({"all": sum(parts), **dict(zip(names, parts, strict=True))})

    def medians_ms(self) -> dict[str, float]:
        """Return the median milliseconds of each part, but for the first time, in which everything is cold."""
        return {
            name: round(statistics.median(each[name] for each in self.seconds[1:]) * 1e3, 1) for name in self.seconds[0]
        }


def make(home: Path, days: int) -> History:
    """Generate a history."""
    history, begin = History(home, days), time.perf_counter()
    generate(history.settings.reports, history.lake, history.settings, days)
    size = sum(path.stat().st_size for path in history.settings.reports.rglob("*") if path.is_file()) / 1e6
    rows = days * A_DAY * len(PLATFORMS)
    print(f"{days} days, {rows:,} rows of platforms: {size:,.0f} MB in {time.perf_counter() - begin:.0f} s", flush=True)
    return history


def keep_publishing(home: Path, days: int, hours: int) -> None:
    """Publish until stopped."""
    history = History(home, days, hours)
    while True:
        history.publish_hour()


def measure(history: History, questions: int) -> dict[str, list[float]]:
    """Ask both questions in turns and return the milliseconds of each."""
    reader = ReportReader(history.settings.reports, "500MB", 2)
    draws = random.Random(4)
    names: list[str] = []
    times: dict[str, list[float]] = {"day": [], "one": []}
    for _ in range(questions):
        since = START + timedelta(days=draws.randrange(history.days))
        begin = time.perf_counter()
        where = ListFilter(("tenant-1",), since=since, until=since + timedelta(days=1))
        page = reading_lists.page(reader, where, PAGE).rows
        times["day"].append((time.perf_counter() - begin) * 1e3)
        names.append(draws.choice(page)["notification_id"])
        begin = time.perf_counter()
        one = reading_details.one(reader, "tenant-1", draws.choice(names))
        times["one"].append((time.perf_counter() - begin) * 1e3)
        if one is None or len(one["platforms"]) != len(PLATFORMS) or len(page) != PAGE:
            raise RuntimeError("an answer is not whole")
    reader.close()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=100)
    parser.add_argument("--questions", type=int, default=1_000)
    parser.add_argument("--hours", type=int, default=9, help="published on each history, to compare their costs")
    parser.add_argument("--publish-in", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.publish_in is not None:
        keep_publishing(arguments.publish_in, arguments.days, arguments.hours)
    with tempfile.TemporaryDirectory(prefix="bench-reports-") as folder:
        short, long = make(Path(folder) / "short", arguments.days // 10), make(Path(folder) / "long", arguments.days)
        for _ in range(arguments.hours):
            short.publish_hour()
            long.publish_hour()
        print(f"short {short.medians_ms()}\nlong {long.medians_ms()}", flush=True)
        times, published = ask_while_publishing(long, arguments.questions)
    result: dict[str, float] = {}
    for name, values in times.items():
        percentiles = statistics.quantiles(values, n=100)
        result |= {f"p50_ms_{name}": round(percentiles[49], 2), f"p99_ms_{name}": round(percentiles[98], 2)}
    costs = {"publish_ms_short": short.medians_ms()["all"], "publish_ms_long": long.medians_ms()["all"]}
    ratio = {"cost_ratio": round(costs["publish_ms_long"] / costs["publish_ms_short"], 2)}
    counts = {"rows": arguments.days * A_DAY * len(PLATFORMS), "published_meanwhile": published}
    print(orjson.dumps({**result, **costs, **ratio, **counts, "questions": arguments.questions}).decode())


def ask_while_publishing(history: History, questions: int) -> tuple[dict[str, list[float]], int]:
    """Measure while the builder publishes in another process; also return how many versions it published."""
    command = [sys.executable, "-m", "benchmarks.reports", "--days", str(history.days), "--hours", str(history.hours)]
    before = versions.current(history.settings.reports)
    writer = subprocess.Popen([*command, "--publish-in", str(history.home)])
    try:
        times = measure(history, questions)
        alive = writer.poll() is None
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    after = versions.current(history.settings.reports)
    published = 0 if before is None or after is None else after.number - before.number
    if not alive or not published:
        raise RuntimeError("the writer did not publish all the while")
    return times, published


if __name__ == "__main__":
    main()
