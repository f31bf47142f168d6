"""Builds the next report version as a candidate: a copy of the last one, with what changed computed anew.

Belongs here: deciding between copy and rebuild, running the models, comparing two databases. Does not belong here:
checks (``checks``), making it current (``versions``), SQL (``sql/*.sql``).
"""

import hashlib
import shutil
import uuid
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import duckdb

from notify_pipeline.core.lake import Lake, LakeFile
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.sql import sql_text
from notify_pipeline.reports import database
from notify_pipeline.reports.lake_files import Changes, index_changes, listing, load_stage
from notify_pipeline.reports.versions import Version, building, current

FACTS: Final = (
    "notifications",
    "platform_reports",
    "timeline",
    "failures",
    "actions",
    "consumed",
    "latencies",
    "calls",
    "foreign_beacons",
)
# A compaction may remove a file between listing and reading it. It does so once per file, so the next try sees a
# settled lake, unless compactions follow each other without pause.
_TRIES: Final = 5


class LakeKeepsChangingError(RuntimeError):
    """Files went away while they were read, time and again."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version to be.

    Attributes:
        path: The database file; it belongs to the caller, to publish or to remove.
        number: The version number it will have.
        based_on: The version that it was copied from; None for a full rebuild.
        changes: Lake files and notifications that changed.
        is_changed: Whether it says anything that the current version does not.
        source: The lake as it was listed (``source_token``); to be published with it.
    """

    path: Path
    number: int
    based_on: int | None
    changes: Changes
    is_changed: bool
    source: str

    def discard(self) -> None:
        """Remove the file, if it is still there."""
        self.path.unlink(missing_ok=True)


def build_candidate(
    lake: Lake, reports_root: Path, settings: Settings, now: datetime, *, full: bool = False
) -> Candidate:
    """Build the next version.

    Only one process may do this for a reports root at a time (``publish.writer``).

    Args:
        lake: The lake.
        reports_root: Where versions lie.
        settings: Limits and the settling time.
        now: The present.
        full: Compute everything from the lake, whatever the last version says.

    Returns:
        The candidate, perhaps unchanged.

    Raises:
        LakeKeepsChangingError: Files kept going away while they were read.
        duckdb.OutOfMemoryException: ``duckdb_memory`` does not suffice.
    """
    base = current(reports_root)
    folder = building(reports_root)

    def build(memory: str) -> Candidate:
        path = folder / f"{uuid.uuid4().hex}.duckdb"
        try:
            return _build(lake, path, base, settings, now, memory, full=full)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    error: Exception | None = None
    for _ in range(_TRIES):
        try:
            return database.within((settings.report_memory, settings.duckdb_memory), build)
        except (FileNotFoundError, duckdb.IOException) as caught:
            error = caught
    raise LakeKeepsChangingError(f"gave up after {_TRIES} tries; the last: {error}") from error


def is_stale(lake: Lake, reports_root: Path, settings: Settings) -> bool:
    """Tell whether a build would change anything. Lists the lake, opens no file of it, and needs no DuckDB."""
    base = current(reports_root)
    return base is None or base.source != source_token(listing(lake), settings)


def source_token(files: dict[str, list[LakeFile]], settings: Settings) -> str:
    """Return a digest of everything that a report database follows from: the lake's files, models and settings."""
    state = hashlib.sha256(f"{database.model_version()}\0{settings.settle_hours}\n".encode())
    for found in files.values():
        for file in found:
            state.update(f"{file.path}\0{file.etag}\n".encode())
    return state.hexdigest()


def compare(a: Path, b: Path) -> dict[str, int]:
    """Return by table how many rows one of two report databases has and the other lacks; empty when they are equal."""
    connection = database.connect("1GB", 2)
    try:
        with (
            database.attached(connection, a, name="a", read_only=True),
            database.attached(connection, b, name="b", read_only=True),
        ):
            found = {table: _differing(connection, table) for table in FACTS}
    finally:
        connection.close()
    return {table: rows for table, rows in found.items() if rows}


def _build(
    lake: Lake, path: Path, last: Version | None, settings: Settings, now: datetime, memory: str, *, full: bool
) -> Candidate:
    files = listing(lake)
    source = source_token(files, settings)
    connection = database.connect(memory, settings.duckdb_threads, path.parent / "spill")
    try:
        base = None if full or last is None or not _same_models(connection, last.path) else last
        if base is not None:
            shutil.copyfile(base.path, path)
        with database.attached(connection, path):
            changes = index_changes(connection, lake, files)
            if changes.affected:
                load_stage(connection, lake)
                for name in database.MODELS:
                    connection.execute(sql_text(__file__, name))
            number = 1 if last is None else last.number + 1
            is_changed = base is None or base.source != source or changes.any
            if is_changed:
                _sign(connection, number, changes, settings, now)
        return Candidate(path, number, None if base is None else base.number, changes, is_changed, source)
    finally:
        connection.close()


def _same_models(connection: duckdb.DuckDBPyConnection, path: Path) -> bool:
    with database.attached(connection, path, name="base", read_only=True):
        row = database.first_row(connection, "SELECT value FROM base.internal.meta WHERE name = 'models'")
    return row is not None and row[0] == database.model_version()


def _sign(
    connection: duckdb.DuckDBPyConnection, number: int, changes: Changes, settings: Settings, now: datetime
) -> None:
    connection.execute("DELETE FROM report.internal.meta")
    connection.execute("INSERT INTO report.internal.meta VALUES ('models', ?)", [database.model_version()])
    connection.execute("DELETE FROM report.main.build")
    connection.execute(
        "INSERT INTO report.main.build SELECT $number, $now, f.through, f.through - to_microseconds($settle_us),"
        " f.files, $affected, b.deliveries, b.hits FROM (SELECT max(through) AS through, count(*) AS files FROM"
        " report.internal.files) AS f, (SELECT coalesce(sum(deliveries), 0)::BIGINT AS deliveries,"
        " coalesce(sum(hits), 0)::BIGINT AS hits FROM report.facts.foreign_beacons) AS b",
        {
            "number": number,
            "now": now,
            "settle_us": int(settings.settle_hours * 3_600_000_000),
            "affected": changes.affected,
        },
    )


def _differing(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    row = database.first_row(
        connection,
        f"SELECT (SELECT count(*) FROM (FROM a.facts.{table} EXCEPT ALL FROM b.facts.{table}))"  # noqa: S608
        f" + (SELECT count(*) FROM (FROM b.facts.{table} EXCEPT ALL FROM a.facts.{table}))",
    )
    return int(row[0]) if row else 0
