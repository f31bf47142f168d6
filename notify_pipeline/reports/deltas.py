"""What the builder has to remember of a candidate once that is published.

Belongs here: writing that down beside the candidate. Does not belong here: taking it into the state (``state``).
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import duckdb

from notify_pipeline.reports.lake_diff import Diff
from notify_pipeline.reports.manifests import Segment
from notify_pipeline.reports.state import DELTA, made

# Rows on their way from one database to the other.
_BATCH: Final = 50_000
_LOCATED: Final = (
    "SELECT DISTINCT notification_id, day::VARCHAR FROM (SELECT notification_id, day FROM stage.placed UNION ALL"
    " SELECT notification_id, day FROM report.facts.foreign_beacons ANTI JOIN stage.frozen_names"
    " USING (notification_id)) WHERE day::VARCHAR >= ?"
)


def write(
    folder: Path,
    connection: duckdb.DuckDBPyConnection,
    diff: Diff,
    segments: Iterable[Segment],
    affected: Sequence[str],
    frozen_before: str,
    meta: dict[str, str],
) -> None:
    """Write a candidate's delta.

    Args:
        folder: The candidate's.
        connection: With the stage tables and the rows computed anew.
        diff: What changed in the lake.
        segments: The candidate's.
        affected: Notification ids whose places are told anew.
        frozen_before: Days before it, as text, keep what lies in them.
        meta: What the state is to say of itself.
    """
    with made(folder / DELTA, "delta.sql") as delta:
        _put(delta, "meta", 2, meta.items())
        _put(delta, "folders", 3, ((name, *times) for name, times in diff.folders.items()))
        _put(delta, "gone_folders", 1, ((name,) for name in diff.gone_folders))
        _put(delta, "removed", 1, ((file_id,) for _, file_id in diff.removed))
        folders = {file.path: _folder(file.path, diff) for _, file in diff.added}
        files = _rows(connection, "SELECT file_no, lake_table, path, etag, epoch_us(through) FROM stage.added")
        _put(delta, "files", 6, ((no, table, folders[path], path, etag, us) for no, table, path, etag, us in files))
        _put(delta, "file_keys", 2, _rows(connection, "SELECT file_no, key FROM stage.contents"))
        _put(delta, "affected", 1, ((name,) for name in affected))
        _put(delta, "segments", 3, ((each.name, each.file, each.name < frozen_before) for each in segments))
        _put(delta, "located", 2, _rows(connection, _LOCATED, [frozen_before]))


def _folder(path: str, diff: Diff) -> str:
    """Return the listed folder that a file lies in: an hour's, or on S3 a whole table's."""
    hour = path.rpartition("/")[0]
    return hour if hour in diff.folders else path.partition("/")[0]


def _rows(connection: duckdb.DuckDBPyConnection, query: str, parameters: object = None) -> Iterator[tuple[Any, ...]]:
    cursor = connection.execute(query, parameters)
    while rows := cursor.fetchmany(_BATCH):
        yield from rows


def _put(delta: sqlite3.Connection, table: str, columns: int, rows: Iterable[tuple[object, ...]]) -> None:
    places = ", ".join("?" * columns)
    delta.executemany(f"INSERT INTO {table} VALUES ({places})", rows)  # noqa: S608 - our own names
