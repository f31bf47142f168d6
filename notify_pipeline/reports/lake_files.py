"""What lake files tell of, and their rows for the notifications concerned: the stage tables that models read.

Belongs here: reading lake files into DuckDB. Does not belong here: which files (``lake_diff``, ``state``), what is
computed from them (``sql/*.sql``).

DuckDB reads local files; those of a lake on S3 are fetched into a temporary folder first, only the ones needed.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, TypeVar

import duckdb

from notify_pipeline.core.lake import Lake, LakeFile
from notify_pipeline.core.schemas import ATTEMPTS, AUDIENCES, AUDIT, RECEIPTS, REGISTRATIONS, REQUESTS, LakeTable
from notify_pipeline.core.vocabulary import FINAL_STATES, REPORTING_CHANNELS, Outcome
from notify_pipeline.reports.lake_diff import SOURCES

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
    # A day has millions of changes, each known by its token and revision: two numbers stand for these, which together
    # are never the same by chance. Rows from before they said what the token was before: it was new if this is its
    # first revision, else taken for registered.
    REGISTRATIONS.name: (
        "tenant, coalesce(platform, 'unknown') AS platform, \"at\"::DATE AS day, op,"
        " coalesce(previous, CASE WHEN revision > 1 THEN 'upsert' END) AS previous,"
        ' hash(token, revision, "at") AS change, hash("at", revision, token) AS again'
    ),
}
# Files that were written before there were revisions, domains, actions and previous ops lack these columns.
_GROWN_ROWS: Final = (
    "(FROM empty_rows UNION ALL BY NAME FROM read_parquet($files, union_by_name = true, hive_partitioning = false))"
)
_ROWS: Final = {table.name: _GROWN_ROWS for table in (REQUESTS, RECEIPTS, REGISTRATIONS)}
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


def read_keys(connection: duckdb.DuckDBPyConnection, lake: Lake, added: Sequence[tuple[str, LakeFile]]) -> None:
    """Read what new files tell of into ``stage.contents`` (file_no, lake_table, key), and beacons' ends.

    ``stage.added`` (file_no, lake_table, path, etag, through) has the files. A key is a notification's id; of
    registrations it is a day.

    Raises:
        FileNotFoundError, duckdb.IOException: A file went away while it was read, as in a compaction: list again.
    """
    connection.execute("CREATE SCHEMA IF NOT EXISTS stage")
    connection.execute(
        "CREATE OR REPLACE TABLE stage.added"
        " (file_no BIGINT, lake_table VARCHAR, path VARCHAR, etag VARCHAR, through TIMESTAMPTZ)"
    )
    connection.execute("CREATE OR REPLACE TABLE stage.contents (file_no BIGINT, lake_table VARCHAR, key VARCHAR)")
    for table in SOURCES:
        mine = [(number, file) for number, (name, file) in enumerate(added, 1) if name == table.name]
        for batch in _batches(mine):
            _read_keys(connection, lake, table, batch)


def load_stage(connection: duckdb.DuckDBPyConnection, lake: Lake, paths: Mapping[str, Sequence[str]]) -> None:
    """Fill the stage tables with rows of ``stage.affected`` (notification_id) and ``stage.affected_days`` (day).

    Args:
        connection: With those two tables.
        lake: The lake.
        paths: The files to look into, by table.

    Raises:
        FileNotFoundError, duckdb.IOException: As for ``read_keys``.
    """
    for table in SOURCES:
        _load(connection, lake, table, sorted(paths.get(table.name, ())))
    connection.execute(
        "CREATE OR REPLACE TABLE stage.final_states AS SELECT unnest($words) AS state",
        {"words": [str(state) for state in sorted(FINAL_STATES)]},
    )
    connection.execute(
        "CREATE OR REPLACE TABLE stage.reporting_channels AS SELECT unnest($words) AS channel",
        {"words": [str(channel) for channel in sorted(REPORTING_CHANNELS)]},
    )


def _load(connection: duckdb.DuckDBPyConnection, lake: Lake, table: LakeTable, paths: Sequence[str]) -> None:
    columns, which = _COLUMNS[table.name], "SEMI JOIN stage.affected USING (notification_id)"
    if table is ATTEMPTS:
        connection.execute(_NUMBERED)
        _load_words(connection, lake, paths)
        columns, which = f"notification, {columns}", "JOIN stage.numbered USING (tenant, notification_id)"
    if table is REGISTRATIONS:
        which = 'WHERE "at"::DATE IN (SELECT day FROM stage.affected_days)'
    connection.register("empty_rows", table.schema.empty_table())
    connection.execute(
        f"CREATE OR REPLACE TABLE stage.{table.name} AS SELECT {columns} FROM empty_rows {which}"  # noqa: S608
    )
    for batch in _batches(paths):
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


def _load_words(connection: duckdb.DuckDBPyConnection, lake: Lake, paths: Sequence[str]) -> None:
    """Make the type of the words that attempts are made of."""
    connection.register("empty_rows", ATTEMPTS.schema.empty_table())
    connection.execute(f"CREATE OR REPLACE TABLE stage.words AS SELECT {_WORDS} FROM empty_rows")  # noqa: S608
    connection.unregister("empty_rows")
    for batch in _batches(paths):
        with local_files(lake, batch) as files:
            connection.execute(
                f"INSERT INTO stage.words SELECT DISTINCT {_WORDS}"  # noqa: S608 - constants above
                " FROM read_parquet($files, hive_partitioning = false)",
                {"files": files},
            )
    connection.execute(_WORD, {"words": [str(word) for word in _MODELS_WORDS]})


def _read_keys(
    connection: duckdb.DuckDBPyConnection, lake: Lake, table: LakeTable, batch: Sequence[tuple[int, LakeFile]]
) -> None:
    through = 'max("at")' if table is RECEIPTS else "NULL"
    key = '"at"::DATE::VARCHAR' if table is REGISTRATIONS else "notification_id"
    with local_files(lake, [file.path for _, file in batch]) as files:
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE opened AS SELECT unnest($numbers) AS file_no, unnest($files) AS filename,"
            " unnest($paths) AS path, unnest($etags) AS etag",
            {
                "numbers": [number for number, _ in batch],
                "files": files,
                "paths": [file.path for _, file in batch],
                "etags": [file.etag for _, file in batch],
            },
        )
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE found AS SELECT o.file_no, {key} AS key,"  # noqa: S608 - constants above
            f" {through} AS through FROM read_parquet($files, filename = true, hive_partitioning = false)"
            " JOIN opened AS o USING (filename) GROUP BY ALL",
            {"files": files},
        )
    connection.execute(
        "INSERT INTO stage.contents SELECT file_no, ?, key FROM found WHERE key IS NOT NULL", [table.name]
    )
    connection.execute(
        "INSERT INTO stage.added SELECT o.file_no, ?, o.path, o.etag, max(f.through)"
        " FROM opened AS o LEFT JOIN found AS f USING (file_no) GROUP BY ALL",
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
