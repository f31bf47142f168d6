"""Writes months: the rows of many days once more, in one file.

Belongs here: copying days, having readers use the copy, removing what it replaces. Does not belong here: which days and
when (``months``), a day's rows (``segments``).

A step that dies leaves a file that no reader knows of; the next one removes it.
"""

import logging
import uuid
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import duckdb

from notify_pipeline.core.settings import Settings
from notify_pipeline.core.sql import quoted
from notify_pipeline.reports import database, months, versions
from notify_pipeline.reports.composed import Fact, attach_empty, part_of, rows_of_parts
from notify_pipeline.reports.database import OPTIONS, first_row, schema_digest
from notify_pipeline.reports.manifests import Segment
from notify_pipeline.reports.months import Month

log = logging.getLogger(__name__)

FOLDER: Final = "months"
# Late logs come for hours, and each changes its day once more: only then is a copy worth making.
_QUIET: Final = timedelta(hours=6)


def merge_next(root: Path, settings: Settings, now: datetime) -> str | None:
    """Write the month that needs it most, if any does. Only the writer may do this (``versions.writer``).

    One at a time, so that a build never waits long, however long the history is.

    Args:
        root: The reports root.
        settings: DuckDB's limits.
        now: The present.

    Returns:
        The month, ``YYYY-MM``; None when there is nothing to do, or it could not be done, which is logged.
    """
    version = versions.current(root)
    if version is None or version.build is None:
        return None
    found = months.load(root)
    quiet = _quiet(root, [each for each in version.segments if each.name], now)
    due = months.due(version, found, quiet, now.astimezone(UTC).date())
    if due is None:
        return None
    name, days = due
    try:
        made = [_write(root, name, days, settings)] if days else []
    except (duckdb.Error, OSError) as error:
        # What was published is whole without it, and no build shall fail for a copy.
        log.warning("the days of %s could not be copied into one file: %s", name, error)
        return None
    months.save(root, sorted([*(each for each in found if each.name != name), *made], key=lambda each: each.name))
    remove_unnamed(root)
    return name


def drop(root: Path, names: set[str]) -> None:
    """Remove months at once, as what their files have shall be nowhere any more. Only the writer may do this."""
    found = months.load(root)
    staying = [each for each in found if each.name not in names]
    if len(staying) < len(found):
        months.save(root, staying)
    remove_unnamed(root)


def drop_unreadable(root: Path, settings: Settings) -> set[str]:
    """Remove months that cannot be read to their last row; they are written anew. Only the writer may do this."""
    names = {each.name for each in months.load(root) if not _is_readable(root, each, settings)}
    if names:
        log.warning("damaged copies of the days of %s are removed, and made again", ", ".join(sorted(names)))
        drop(root, names)
    return names


def remove_unnamed(root: Path) -> None:
    """Remove the files that no month names. Who has one open keeps its data until it is closed."""
    named = {each.file for each in months.load(root)}
    for path in (root / FOLDER).glob("*"):
        if str(path.relative_to(root)) not in named:
            path.unlink()


def _quiet(root: Path, segments: Sequence[Segment], now: datetime) -> set[str]:
    before = (now - _QUIET).timestamp()
    found = set()
    for segment in segments:
        with suppress(FileNotFoundError):  # damaged: the next build sees to it
            if (root / segment.file).stat().st_mtime < before:
                found.add(segment.file)
    return found


def _is_readable(root: Path, month: Month, settings: Settings) -> bool:
    spill = versions.building(root) / f"{month.name}.spill"
    connection = database.connect(settings.duckdb_memory, settings.duckdb_threads, spill)
    try:
        connection.execute(f"ATTACH {quoted(str(root / month.file))} AS month (READ_ONLY)")
        for table in month.tables:  # every block of it, whose checksum DuckDB compares
            connection.execute(f"SELECT bit_xor(hash(one)) FROM month.facts.{table} AS one")  # noqa: S608 - our own names
    except duckdb.Error:
        return False
    finally:
        connection.close()
    return True


def _write(root: Path, name: str, days: Sequence[Segment], settings: Settings) -> Month:
    file = f"{FOLDER}/{name}-{uuid.uuid4().hex}.duckdb"
    draft = versions.building(root) / Path(file).name

    def write(memory: str) -> Month:
        draft.unlink(missing_ok=True)
        connection = database.connect(memory, settings.duckdb_threads, draft.with_suffix(".spill"))
        try:
            facts = attach_empty(connection)
            # Each day's rows are in order; one thread keeps that with the least memory.
            connection.execute("SET preserve_insertion_order = true; SET threads = 1")
            tables = _copy(connection, facts, root, days, draft)
        finally:
            connection.close()
        return Month(name, file, schema_digest(), tables, {each.name: each.file for each in days})

    month = database.within((settings.report_memory, settings.duckdb_memory), write)
    place = root / file
    place.parent.mkdir(exist_ok=True)
    versions.move_in(draft, place)
    return month


def _copy(
    connection: duckdb.DuckDBPyConnection, facts: Sequence[Fact], root: Path, days: Sequence[Segment], draft: Path
) -> tuple[str, ...]:
    """Copy the days into a new file and return the tables that have rows."""
    for number, day in enumerate(days):
        connection.execute(f"ATTACH {quoted(str(root / day.file))} AS day_{number} (READ_ONLY)")
    connection.execute(f"ATTACH {quoted(str(draft))} AS made ({OPTIONS})")
    connection.execute("CREATE SCHEMA made.facts")
    tables = []
    for fact in facts:
        parts = [
            (day.name, rows_of_parts(fact, [(f"day_{number}", part_of(day))]))
            for number, day in enumerate(days)
            if fact.name in day.tables
        ]
        if parts:
            rows = " UNION ALL ".join(f"SELECT DATE '{day}' AS segment_day, * FROM ({part})" for day, part in parts)  # noqa: S608
            connection.execute(f"CREATE TABLE made.facts.{fact.name} AS {rows}")
            row = first_row(connection, f"SELECT count(*) FROM made.facts.{fact.name}")  # noqa: S608 - our own names
            if row is not None and row[0]:
                tables.append(fact.name)
    connection.execute("CHECKPOINT made")
    connection.execute("DETACH made")
    return tuple(tables)
