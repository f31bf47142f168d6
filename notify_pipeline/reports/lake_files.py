"""Which lake files are new, changed or gone since a report version, and their rows for the notifications concerned.

Belongs here: the file index inside the report database, and loading the stage tables. Does not belong here: what is
computed from them (``sql/*.sql``).

DuckDB reads local files; those of a lake on S3 are fetched into a temporary folder first, only the ones needed.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, TypeVar

import duckdb

from notify_pipeline.core.lake import Lake, LakeFile
from notify_pipeline.core.schemas import ATTEMPTS, AUDIENCES, AUDIT, RECEIPTS, REQUESTS, LakeTable
from notify_pipeline.core.vocabulary import FINAL_STATES, REPORTING_CHANNELS, Outcome
from notify_pipeline.reports.database import first_row

SOURCES: Final = (REQUESTS, AUDIENCES, AUDIT, ATTEMPTS, RECEIPTS)
# The names of a send's actions (buttons), those of an override among them. Few sends have any, and only their bodies
# are taken apart.
_ACTIONS: Final = (
    """CASE WHEN contains(body, '"actions"') THEN json_extract_string(body, '$.content.actions[*].action')"""
    " || json_extract_string(body, '$.overrides.*.actions[*].action') ELSE [] END"
)
# The columns that the models use; rows that are equal in all of them are one row. A delivery's attempts carry
# everything that tells them apart; there are many, and the models drop equal ones only where they count rows. Receipts
# are lines: each counts. (AT is a word of DuckDB's grammar.)
_COLUMNS: Final = {
    REQUESTS.name: (
        "tenant, request_id, notification_id, type, category, priority, title, topics, domain, dry_run, accepted_at,"
        f" send_at, expires_at, revision, {_ACTIONS} AS actions"
    ),
    AUDIENCES.name: 'tenant, request_id, notification_id, channel, platform, recipients, "at"',
    AUDIT.name: 'tenant, notification_id, audit_id, to_state, "at"',
    ATTEMPTS.name: (
        "channel::stage.word AS channel, platform::stage.word AS platform, provider::stage.word AS provider,"
        " delivery_id, attempt_no, sent_at, answered_at, outcome::stage.word AS outcome,"
        " provider_code::stage.word AS provider_code"
    ),
    RECEIPTS.name: 'notification_id, delivery_id, event, action, "at"',
}
# Files that were written before there were revisions, domains and actions lack these columns.
_GROWN_ROWS: Final = (
    "(FROM empty_rows UNION ALL BY NAME FROM read_parquet($files, union_by_name = true, hive_partitioning = false))"
)
_ROWS: Final = {REQUESTS.name: _GROWN_ROWS, RECEIPTS.name: _GROWN_ROWS}
_ANY_ROWS: Final = "read_parquet($files, hive_partitioning = false)"
# An edited request has a row for each revision (null for the first), and the newest says what was sent.
_NEWEST: Final = (
    "CREATE OR REPLACE TABLE stage.requests AS SELECT * EXCLUDE (revision) FROM stage.requests"
    " QUALIFY row_number() OVER (PARTITION BY tenant, request_id ORDER BY revision DESC NULLS LAST) = 1"
)
# A large send has a million attempts: they carry its number, not its names. Attempts of a request that has not landed
# wait for it. The request's rows come first in SOURCES.
_NUMBERED: Final = (
    "CREATE OR REPLACE TABLE stage.numbered AS"
    " SELECT row_number() OVER (ORDER BY tenant, notification_id)::INTEGER AS notification, * FROM stage.requests"
)
# Nor do they carry words: of those there are few, and a number in one or two bytes stands for each. Sorted, so that
# numbers compare as words do; with the words that the models add.
_WORDS: Final = "channel, platform, provider, outcome, provider_code"
_MODELS_WORDS: Final = ("", "none", "unknown", *sorted(Outcome))
_WORD: Final = (
    "CREATE TYPE stage.word AS ENUM (SELECT DISTINCT word FROM"  # noqa: S608 - constants
    f" (SELECT unnest([{_WORDS}]) AS word FROM stage.words UNION ALL SELECT unnest($words)) WHERE word IS NOT NULL"
    " ORDER BY word)"
)
# How many files one statement opens: bounds its plan, and its open files.
_BATCH: Final = 500
_FETCHERS: Final = 8
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Changes:
    """What a diff found."""

    added: int
    removed: int
    affected: int

    @property
    def any(self) -> bool:
        """True when the lake is not what the facts were made of."""
        return bool(self.added or self.removed)


def listing(lake: Lake) -> dict[str, list[LakeFile]]:
    """Return the files that reports are made of, by table."""
    return {table.name: lake.list(table.name) for table in SOURCES}


def index_changes(connection: duckdb.DuckDBPyConnection, lake: Lake, files: dict[str, list[LakeFile]]) -> Changes:
    """Bring the file index up to date and put the notifications concerned into ``stage.affected``.

    Args:
        connection: With the report database attached as ``report``.
        lake: The lake.
        files: Its listing.

    Raises:
        FileNotFoundError, duckdb.IOException: A file went away while it was read, as in a compaction: list again.
    """
    _put_listing(connection, files)
    connection.execute(
        "CREATE OR REPLACE TABLE stage.removed AS SELECT f.file_id FROM report.internal.files AS f"
        " ANTI JOIN stage.listing AS l USING (lake_table, path, etag)"
    )
    connection.execute(
        "CREATE OR REPLACE TABLE stage.added AS"
        " SELECT (SELECT coalesce(max(file_id), 0) FROM report.internal.files) + row_number() OVER () AS file_id, l.*"
        " FROM stage.listing AS l ANTI JOIN report.internal.files AS f USING (lake_table, path, etag)"
    )
    connection.execute(
        "CREATE OR REPLACE TABLE stage.affected AS SELECT DISTINCT notification_id FROM"
        " report.internal.file_notifications SEMI JOIN stage.removed USING (file_id)"
    )
    for table in SOURCES:
        _index(connection, lake, table)
    for name in ("file_notifications", "files"):
        connection.execute(
            f"DELETE FROM report.internal.{name} WHERE file_id IN (SELECT file_id FROM stage.removed)"  # noqa: S608
        )
    connection.execute(
        "INSERT INTO stage.affected SELECT DISTINCT notification_id FROM report.internal.file_notifications"
        " SEMI JOIN stage.added USING (file_id) ANTI JOIN stage.affected USING (notification_id)"
    )
    return Changes(*(_count(connection, f"stage.{name}") for name in ("added", "removed", "affected")))


def load_stage(connection: duckdb.DuckDBPyConnection, lake: Lake) -> None:
    """Fill the stage tables with the rows of the affected notifications.

    Raises:
        FileNotFoundError, duckdb.IOException: As for ``index_changes``.
    """
    for table in SOURCES:
        columns, which = _COLUMNS[table.name], "SEMI JOIN stage.affected USING (notification_id)"
        if table is ATTEMPTS:
            connection.execute(_NUMBERED)
            _load_words(connection, lake)
            columns, which = f"notification, {columns}", "JOIN stage.numbered USING (tenant, notification_id)"
        connection.register("empty_rows", table.schema.empty_table())
        connection.execute(
            f"CREATE OR REPLACE TABLE stage.{table.name} AS SELECT {columns} FROM empty_rows {which}"  # noqa: S608
        )
        for batch in _batches(_paths(connection, table)):
            with local_files(lake, batch) as files:
                connection.execute(
                    f"INSERT INTO stage.{table.name} SELECT {columns} FROM"  # noqa: S608 - constants above
                    f" {_ROWS.get(table.name, _ANY_ROWS)} {which}",
                    {"files": files},
                )
        connection.unregister("empty_rows")
        if table not in (ATTEMPTS, RECEIPTS):
            connection.execute(
                f"CREATE OR REPLACE TABLE stage.{table.name} AS SELECT DISTINCT * FROM stage.{table.name}"  # noqa: S608
            )
        if table is REQUESTS:
            connection.execute(_NEWEST)
    connection.execute(
        "CREATE OR REPLACE TABLE stage.final_states AS SELECT unnest($words) AS state",
        {"words": [str(state) for state in sorted(FINAL_STATES)]},
    )
    connection.execute(
        "CREATE OR REPLACE TABLE stage.reporting_channels AS SELECT unnest($words) AS channel",
        {"words": [str(channel) for channel in sorted(REPORTING_CHANNELS)]},
    )


def _paths(connection: duckdb.DuckDBPyConnection, table: LakeTable) -> list[str]:
    """Return the table's files that tell of affected notifications."""
    paths = connection.execute(
        "SELECT path FROM report.internal.files WHERE lake_table = ? AND file_id IN (SELECT file_id FROM"
        " report.internal.file_notifications SEMI JOIN stage.affected USING (notification_id)) ORDER BY path",
        [table.name],
    ).fetchall()
    return [path for (path,) in paths]


def _load_words(connection: duckdb.DuckDBPyConnection, lake: Lake) -> None:
    """Make the type of the words that attempts are made of."""
    connection.register("empty_rows", ATTEMPTS.schema.empty_table())
    connection.execute(f"CREATE OR REPLACE TABLE stage.words AS SELECT {_WORDS} FROM empty_rows")  # noqa: S608
    connection.unregister("empty_rows")
    for batch in _batches(_paths(connection, ATTEMPTS)):
        with local_files(lake, batch) as files:
            connection.execute(
                f"INSERT INTO stage.words SELECT DISTINCT {_WORDS}"  # noqa: S608 - constants above
                " FROM read_parquet($files, hive_partitioning = false)",
                {"files": files},
            )
    connection.execute(_WORD, {"words": [str(word) for word in _MODELS_WORDS]})


def _put_listing(connection: duckdb.DuckDBPyConnection, files: dict[str, list[LakeFile]]) -> None:
    connection.execute("CREATE SCHEMA IF NOT EXISTS stage")
    connection.execute("CREATE OR REPLACE TABLE stage.listing (lake_table VARCHAR, path VARCHAR, etag VARCHAR)")
    for name, found in files.items():
        connection.execute(
            "INSERT INTO stage.listing SELECT $name, unnest($paths), unnest($etags)",
            {"name": name, "paths": [f.path for f in found], "etags": [f.etag for f in found]},
        )


def _index(connection: duckdb.DuckDBPyConnection, lake: Lake, table: LakeTable) -> None:
    """Read which notifications each new file of a table tells of."""
    added = connection.execute(
        "SELECT file_id, path, etag FROM stage.added WHERE lake_table = ? ORDER BY file_id", [table.name]
    ).fetchall()
    through = 'max("at")' if table is RECEIPTS else "NULL"
    for batch in _batches(added):
        with local_files(lake, [path for _, path, _ in batch]) as files:
            connection.execute(
                "CREATE OR REPLACE TEMP TABLE opened AS SELECT unnest($ids) AS file_id, unnest($files) AS filename,"
                " unnest($paths) AS path, unnest($etags) AS etag",
                {
                    "ids": [file_id for file_id, _, _ in batch],
                    "files": files,
                    "paths": [path for _, path, _ in batch],
                    "etags": [etag for _, _, etag in batch],
                },
            )
            connection.execute(
                "CREATE OR REPLACE TEMP TABLE contents AS SELECT o.file_id, r.notification_id,"  # noqa: S608
                f" {through} AS through FROM read_parquet($files, filename = true, hive_partitioning = false) AS r"
                " JOIN opened AS o USING (filename) GROUP BY ALL",
                {"files": files},
            )
        connection.execute(
            "INSERT INTO report.internal.file_notifications"
            " SELECT file_id, notification_id FROM contents WHERE notification_id IS NOT NULL"
        )
        connection.execute(
            "INSERT INTO report.internal.files SELECT o.file_id, ?, o.path, o.etag, max(c.through)"
            " FROM opened AS o LEFT JOIN contents AS c USING (file_id) GROUP BY ALL",
            [table.name],
        )


@contextmanager
def local_files(lake: Lake, paths: Sequence[str]) -> Iterator[list[str]]:
    """Yield names of local files that DuckDB opens, in the order of the paths."""
    if not lake.is_s3:
        yield [lake.uri(path) for path in paths]
        return
    with TemporaryDirectory(prefix="report-stage-") as folder, ThreadPoolExecutor(_FETCHERS) as pool:

        def fetch(numbered: tuple[int, str]) -> str:
            number, path = numbered
            local = Path(folder) / f"{number}.parquet"
            local.write_bytes(lake.read_bytes(path))
            return str(local)

        yield list(pool.map(fetch, enumerate(paths)))


def _batches(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    return (items[start : start + _BATCH] for start in range(0, len(items), _BATCH))


def _count(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    row = first_row(connection, f"SELECT count(*) FROM {table}")  # noqa: S608 - our own table names
    return int(row[0]) if row else 0
