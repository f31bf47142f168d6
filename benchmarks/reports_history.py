"""A long history of reports for ``benchmarks.reports``, made as fast as it goes, and an hour of a lake to go on with.

Belongs here: rows. Segments are filled without a lake; of the lake's files of that time only the names are there, and
the builder remembers of each what it told of, as if it had read them. An hour that is added is real: files with
requests, attempts and beacons, for the builder to read.
"""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa

from notify_pipeline.core.lake import Lake, partition
from notify_pipeline.core.schemas import ATTEMPTS, AUDIENCES, AUDIT, RECEIPTS, REQUESTS
from notify_pipeline.core.settings import Settings
from notify_pipeline.reports import deltas, state, versions
from notify_pipeline.reports.build import _meta, source_token
from notify_pipeline.reports.composed import attach_empty
from notify_pipeline.reports.database import connect
from notify_pipeline.reports.lake_diff import Diff, difference
from notify_pipeline.reports.manifests import Build, Segment, Version
from notify_pipeline.reports.segments import write_all

START = datetime(2026, 8, 1, tzinfo=UTC)
A_DAY = 25_000
PLATFORMS = ("android", "ios", "tablet", "web")
HISTORY_TABLES = (REQUESTS, AUDIENCES, AUDIT, ATTEMPTS, RECEIPTS)
MEASURES = """
    (h % 5000)::BIGINT AS audience, (h % 5000)::BIGINT AS attempted, (h % 4900)::BIGINT AS accepted,
    0::BIGINT AS accepted_by_beacon, (h % 50)::BIGINT AS failed, 0::BIGINT AS throttled, (h % 50)::BIGINT AS invalid,
    0::BIGINT AS ambiguous, 0::BIGINT AS skipped, 0::BIGINT AS expired, 0::BIGINT AS dry_run,
    (h % 4800)::BIGINT AS received, (h % 400)::BIGINT AS opened, (h % 40)::BIGINT AS clicked,
    (h % 4850)::BIGINT AS hits, accepted_at AS first_accepted_at, accepted_at + INTERVAL 20 SECOND AS last_accepted_at,
    (h % 1000) / 100 AS p50_s, (h % 1000) / 50 AS p90_s, (h % 1000) / 20 AS p99_s, (h % 97) / 97 AS share_120s
"""
BASE = """
CREATE OR REPLACE TEMP TABLE base AS
SELECT 'tenant-' || (i % 2) AS tenant, md5(i::VARCHAR) AS notification_id, hash(i) AS h,
    make_timestamptz($start::BIGINT + (i - $first) * (86_400_000_000 // $count)) AS accepted_at,
    'date=' || strftime(accepted_at, '%Y-%m-%d') || '/hour=' || strftime(accepted_at, '%H') AS hour
FROM range($first, $first + $count) AS r(i);
"""
NOTIFICATIONS = f"""
INSERT INTO report.facts.notifications BY NAME
SELECT
    tenant, notification_id, 'r' || notification_id AS request_id, ['news', 'sport'][(h % 2)::INT + 1] AS type,
    'normal' AS priority, 'A title of some forty characters, no. ' || (h % 1000) AS title, ['breaking/uk'] AS topics,
    $platforms AS platforms, FALSE AS is_dry_run, accepted_at, accepted_at + INTERVAL 1 DAY AS expires_at,
    'done' AS state, accepted_at + INTERVAL 30 SECOND AS finished_at, accepted_at + INTERVAL 30 SECOND AS ended_at,
    accepted_at + INTERVAL 30 SECOND AS last_attempt_at, {MEASURES}
FROM base;
"""  # noqa: S608 - constants
PLATFORM_REPORTS = f"""
INSERT INTO report.facts.platform_reports BY NAME
SELECT tenant, notification_id, 'push' AS channel, platform, 'provider' AS provider, accepted_at, {MEASURES}
FROM base, (SELECT unnest($platforms) AS platform);
"""  # noqa: S608 - constants
DETAILS = """
INSERT INTO report.facts.timeline
SELECT tenant, notification_id, platform, 10 * (h % 6)::BIGINT, (h % 4900)::BIGINT, (h % 4800)::BIGINT
FROM base, (SELECT unnest($platforms) AS platform);
INSERT INTO report.facts.latencies
SELECT tenant, notification_id, 'push', platform, 'provider', 'total', (h % 4800)::BIGINT, 1, 2, 3, 4 + (h % 7)
FROM base, (SELECT unnest($platforms) AS platform);
"""


def generate(root: Path, lake: Lake, settings: Settings, days: int) -> None:
    """Publish a version of so many days, and have the builder remember a lake of that time."""
    folder = versions.building(root) / "history"
    folder.mkdir(parents=True)
    _touch(lake, days)
    delta = folder / state.DELTA
    fresh = folder / state.FILE
    with state.made(fresh, "state.sql"), state.opened(fresh) as remembered:
        diff = difference(lake, remembered)
    connection = connect("4GB", 2)
    facts = attach_empty(connection)
    names = [fact.name for fact in facts]
    segments: list[Segment] = []
    with state.made(delta, "delta.sql") as writing:
        numbers = _put_files(writing, diff)
        for day in range(days):
            _fill(connection, names, day)
            segments += write_all(connection, facts, folder)
            _put_keys(writing, connection, numbers)
        now = START + timedelta(days=days)
        deltas._put(writing, "segments", 3, ((each.name, each.file, 0) for each in segments))
        deltas._put(writing, "meta", 2, _meta(1).items())
    connection.close()
    build = Build(1, now, now, now - timedelta(hours=3), len(diff.added), 0, 0, 0)
    version = Version(1, now, source_token(settings), build, tuple(segments))
    versions.publish(root, version, folder, settings.report_versions_kept, settings.report_version_days)
    state.keep(root, fresh, delta)


def add_hour(lake: Lake, days: int, number: int, count: int = A_DAY // 24) -> None:
    """Add a real hour after the history: requests with everything that became of them, and late beacons of the last."""
    begin = START + timedelta(days=days, hours=number)
    step = timedelta(hours=1) / count
    names = [f"late-{number}-{index}" for index in range(count)]
    moments = [begin + step * index for index in range(count)]
    common = [{"tenant": f"tenant-{i % 2}", "request_id": f"r{n}", "notification_id": n} for i, n in enumerate(names)]
    requests = [
        row
        | {"type": "news", "priority": "normal", "title": f"Title {row['notification_id']}", "topics": ["breaking/uk"]}
        | {"dry_run": False, "accepted_at": at, "expires_at": at + timedelta(days=1), "body": "{}"}
        for row, at in zip(common, moments, strict=True)
    ]
    audit = [
        row
        | {"audit_id": f"{row['notification_id']}-{state}", "event": "move", "to_state": state, "actor": "x", "at": at}
        for row, at in zip(common, moments, strict=True)
        for state in ("accepted", "done")
    ]
    shown = [(row, at, platform) for row, at in zip(common, moments, strict=True) for platform in PLATFORMS]
    audiences = [row | {"channel": "fcm", "platform": p, "recipients": 1, "at": at} for row, at, p in shown]
    attempts = [
        row
        | {"channel": "fcm", "platform": platform, "provider": "fcm", "recipient": "x", "attempt_no": 1}
        | {
            "delivery_id": f"{row['notification_id']}-{platform}",
            "sent_at": at,
            "answered_at": at,
            "outcome": "accepted",
        }
        for row, at, platform in shown
    ]
    beacons = [_beacon(row["delivery_id"], row["notification_id"], row["sent_at"]) for row in attempts[::2]]
    if number:
        late = [f"late-{number - 1}-{index}" for index in range(0, count, 10)]
        beacons += [_beacon(f"{name}-web", name, begin) for name in late]
    parts = (requests, audiences, audit, attempts, beacons)
    for table, rows in zip(HISTORY_TABLES, parts, strict=True):
        lake.write(f"{partition(table, begin)}/hour.parquet", pa.Table.from_pylist(rows, schema=table.schema))


def _beacon(delivery: str, notification: str, at: datetime) -> dict[str, object]:
    return {"event": "received", "notification_id": notification, "delivery_id": delivery, "at": at}


def _fill(connection: duckdb.DuckDBPyConnection, names: list[str], day: int) -> None:
    for name in names:
        connection.execute(f"TRUNCATE report.facts.{name}")
    start = int((START + timedelta(days=day)).timestamp() * 1_000_000)
    connection.execute(BASE, {"start": start, "first": day * A_DAY, "count": A_DAY})
    for statement in (NOTIFICATIONS, PLATFORM_REPORTS, *DETAILS.strip().split(";\n")):
        connection.execute(statement, {"platforms": list(PLATFORMS)})


def _touch(lake: Lake, days: int) -> None:
    """Make the lake's files of the history, without rows, long ago."""
    for table in HISTORY_TABLES:
        lake.write(f"empty/{table.name}.parquet", table.schema.empty_table())
    for hour in (START + timedelta(hours=number) for number in range(24 * days)):
        for table in HISTORY_TABLES:
            folder = Path(lake.root) / partition(table, hour)
            folder.mkdir(parents=True)
            os.link(Path(lake.root) / "empty" / f"{table.name}.parquet", folder / "hour.parquet")
            os.utime(folder, (hour.timestamp() - 86_400 * 365,) * 2)


def _put_files(writing: object, diff: Diff) -> dict[str, list[int]]:
    """Remember the files; return their numbers by hour."""
    deltas._put(writing, "folders", 3, ((name, *times) for name, times in diff.folders.items()))  # type: ignore[arg-type]
    numbers: dict[str, list[int]] = {}
    rows = []
    for number, (table, file) in enumerate(diff.added, 1):
        folder = file.path.rpartition("/")[0]
        numbers.setdefault(folder.partition("/")[2], []).append(number)
        rows.append((number, table, folder, file.path, file.etag, None))
    deltas._put(writing, "files", 6, rows)  # type: ignore[arg-type]
    return numbers


def _put_keys(writing: object, connection: duckdb.DuckDBPyConnection, numbers: dict[str, list[int]]) -> None:
    rows = connection.execute("SELECT hour, notification_id, accepted_at::DATE::VARCHAR FROM base").fetchall()

    def keys() -> Iterator[tuple[int, str]]:
        for hour, name, _ in rows:
            for number in numbers[hour]:
                yield number, name

    deltas._put(writing, "file_keys", 2, keys())  # type: ignore[arg-type]
    deltas._put(writing, "located", 2, ((name, day) for _, name, day in rows))  # type: ignore[arg-type]
