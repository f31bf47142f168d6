"""Latency of the report queries over 1 M notifications × 4 platforms, while a writer keeps publishing versions.

The database is generated in DuckDB, 10,000 notifications a day for 100 days, two tenants. A writer in another process
copies the current version, changes some rows and publishes it, again and again. The reader, in this process, lists
random days (100 rows with their platforms) and asks for random notifications, in turns. Prints percentiles of both.

    python -m benchmarks.reports [--notifications 1000000] [--questions 1000]
"""

import argparse
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

from notify_pipeline.reports import versions
from notify_pipeline.reports.database import attached, connect
from notify_pipeline.reports.reading import ReportFilter, ReportReader

START = datetime(2026, 8, 1, tzinfo=UTC)
DAYS = 100
PAGE = 100
PLATFORMS = ("android", "ios", "web", "tablet")
KEPT = 4
MEASURES = """
    (h % 5000)::BIGINT AS audience, (h % 5000)::BIGINT AS attempted, (h % 4900)::BIGINT AS accepted,
    0::BIGINT AS accepted_by_beacon, (h % 50)::BIGINT AS failed, 0::BIGINT AS throttled, (h % 50)::BIGINT AS invalid,
    0::BIGINT AS ambiguous, 0::BIGINT AS skipped, 0::BIGINT AS expired, 0::BIGINT AS dry_run,
    (h % 4800)::BIGINT AS received, (h % 400)::BIGINT AS opened, (h % 40)::BIGINT AS clicked,
    (h % 4850)::BIGINT AS hits, accepted_at AS first_accepted_at, accepted_at + INTERVAL 20 SECOND AS last_accepted_at,
    (h % 1000) / 100 AS p50_s, (h % 1000) / 50 AS p90_s, (h % 1000) / 20 AS p99_s, (h % 97) / 97 AS share_120s
"""
FILL = """
CREATE TEMP TABLE base AS
SELECT
    'tenant-' || (i % 2) AS tenant, md5(i::VARCHAR) AS notification_id, hash(i) AS h,
    make_timestamptz($start::BIGINT + i * $step::BIGINT) AS accepted_at
FROM range($count) AS r(i);
"""
NOTIFICATIONS = f"""
INSERT INTO report.facts.notifications BY NAME
SELECT
    tenant, notification_id, 'r' || notification_id AS request_id, ['news', 'sport'][(h % 2)::INT + 1] AS type,
    'normal' AS priority, 'A title of some forty characters, no. ' || (h % 1000) AS title, ['breaking/uk'] AS topics,
    $platforms AS platforms, FALSE AS is_dry_run, accepted_at, accepted_at + INTERVAL 1 DAY AS expires_at,
    'done' AS state, accepted_at + INTERVAL 30 SECOND AS finished_at,
    accepted_at + INTERVAL 30 SECOND AS last_attempt_at, {MEASURES}
FROM base ORDER BY accepted_at, tenant, notification_id;
"""  # noqa: S608 - constants
PLATFORM_REPORTS = f"""
INSERT INTO report.facts.platform_reports BY NAME
SELECT tenant, notification_id, 'push' AS channel, platform, 'provider' AS provider, accepted_at, {MEASURES}
FROM base, (SELECT unnest($platforms) AS platform) ORDER BY accepted_at, tenant, notification_id, platform;
"""  # noqa: S608 - constants
BUILD = "INSERT INTO report.main.build VALUES (1, now(), now(), now(), 0, 0, 0, 0)"


def generate(root: Path, notifications: int) -> None:
    """Publish the first version."""
    path = versions.building(root) / "first.duckdb"
    connection = connect("2GB", 2)
    with attached(connection, path):
        step = int(timedelta(days=DAYS) / timedelta(microseconds=1)) // notifications
        start = int(START.timestamp() * 1_000_000)
        connection.execute(FILL, {"start": start, "step": step, "count": notifications})
        connection.execute(NOTIFICATIONS, {"platforms": list(PLATFORMS)})
        connection.execute(PLATFORM_REPORTS, {"platforms": list(PLATFORMS)})
        connection.execute(BUILD)
    connection.close()
    versions.publish(root, path, 1, datetime.now(UTC), KEPT)
    print(f"generated {notifications:,} notifications: {path_size(root):.0f} MB", flush=True)


def path_size(root: Path) -> float:
    """Return the current version's size in megabytes."""
    version = versions.current(root)
    return 0.0 if version is None else version.path.stat().st_size / 1e6


def keep_publishing(root: Path) -> None:
    """Publish until stopped: what the builder does with an hour's change, on a copy of the current version."""
    connection = connect("500MB", 1)
    while True:
        version = versions.current(root)
        if version is None:
            raise RuntimeError("no version to go on from")
        path = versions.building(root) / "next.duckdb"
        shutil.copyfile(version.path, path)
        with attached(connection, path):
            connection.execute(
                "CREATE OR REPLACE TEMP TABLE changed AS FROM report.facts.notifications ORDER BY accepted_at DESC"
                " LIMIT 100"
            )
            connection.execute(
                "DELETE FROM report.facts.notifications WHERE notification_id IN (SELECT notification_id FROM changed)"
            )
            connection.execute("INSERT INTO report.facts.notifications FROM changed")
        versions.publish(root, path, version.number + 1, datetime.now(UTC), KEPT)


def measure(root: Path, notifications: int, questions: int) -> dict[str, list[float]]:
    """Ask both questions in turns and return the milliseconds of each."""
    reader = ReportReader(root, "500MB", 2)
    draws = random.Random(4)
    names = [row["notification_id"] for row in reader.list("tenant-1", ReportFilter(), 2_000)]
    times: dict[str, list[float]] = {"day": [], "one": []}
    for number in range(questions):
        since = START + timedelta(days=draws.randrange(DAYS))
        begin = time.perf_counter()
        page = reader.list("tenant-1", ReportFilter(since=since, until=since + timedelta(days=1)), PAGE)
        times["day"].append((time.perf_counter() - begin) * 1e3)
        name = draws.choice(page)["notification_id"] if number % 2 else draws.choice(names)
        begin = time.perf_counter()
        one = reader.one("tenant-1", name)
        times["one"].append((time.perf_counter() - begin) * 1e3)
        if one is None or len(one["platforms"]) != len(PLATFORMS) or len(page) != min(PAGE, notifications // DAYS // 2):
            raise RuntimeError("an answer is not whole")
    reader.close()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--notifications", type=int, default=1_000_000)
    parser.add_argument("--questions", type=int, default=1_000)
    parser.add_argument("--publish-in", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.publish_in is not None:
        keep_publishing(arguments.publish_in)
    with tempfile.TemporaryDirectory(prefix="bench-reports-") as folder:
        root = Path(folder)
        generate(root, arguments.notifications)
        writer = subprocess.Popen([sys.executable, "-m", "benchmarks.reports", "--publish-in", str(root)])
        try:
            times = measure(root, arguments.notifications, arguments.questions)
            alive = writer.poll() is None
        finally:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        version = versions.current(root)
        published = 0 if version is None else version.number - 1
    if not alive or not published:
        raise RuntimeError("the writer did not publish all the while")
    result: dict[str, float] = {}
    for name, values in times.items():
        percentiles = statistics.quantiles(values, n=100)
        result |= {f"p50_ms_{name}": round(percentiles[49], 2), f"p99_ms_{name}": round(percentiles[98], 2)}
    print(orjson.dumps({**result, "published_meanwhile": published, "questions": arguments.questions}).decode())


if __name__ == "__main__":
    main()
