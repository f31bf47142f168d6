"""The builder's DuckDB: memory limits, SQL files, and a report database attached under the name ``report``.

Belongs here: opening and closing. Does not belong here: what is computed (``sql/*.sql``), reading versions
(``reading``).
"""

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import duckdb

from notify_pipeline.core.sql import quoted, sql_text
from notify_pipeline.reports.catalogue import comments

Result = TypeVar("Result")

log = logging.getLogger(__name__)

# DuckDB 1.5 reads what this writes.
STORAGE_VERSION: Final = "v1.5.0"
# One notification's platforms, or an hour of a large day, are found by row groups' ranges of accepted_at: with DuckDB's
# 122,880 rows a group, such a query reads three to five times longer; with 8,192 the file grows by a fifth.
ROW_GROUP_SIZE: Final = 16_384
# DuckDB's smallest: a day with few notifications takes some ten blocks, whatever their size (the default: 256 KiB).
BLOCK_SIZE: Final = 16_384
OPTIONS: Final = f"STORAGE_VERSION '{STORAGE_VERSION}', ROW_GROUP_SIZE {ROW_GROUP_SIZE}, BLOCK_SIZE {BLOCK_SIZE}"
# What computes the facts, in this order.
MODELS: Final = ("stage.sql", "facts.sql", "latencies.sql", "calls.sql", "token_days.sql")
_FILES: Final = ("schema.sql", "views.sql", *MODELS)


def model_version() -> str:
    """Return a digest of all models: what other models have computed is computed again."""
    return hashlib.sha256("\0".join(sql_text(__file__, name) for name in _FILES).encode()).hexdigest()[:16]


def schema_digest() -> str:
    """Return a digest of the tables' definitions."""
    return hashlib.sha256(sql_text(__file__, "schema.sql").encode()).hexdigest()[:16]


def run_models(connection: duckdb.DuckDBPyConnection) -> None:
    """Compute the facts of what is in the stage tables into ``report``."""
    for name in MODELS:
        connection.execute(sql_text(__file__, name))


def connect(memory: str, threads: int, spill: Path | None = None) -> duckdb.DuckDBPyConnection:
    """Open an in-memory DuckDB within limits.

    Args:
        memory: DuckDB's memory_limit, such as ``1GB``.
        threads: How many threads a query may use.
        spill: A folder for what does not fit into memory.
    """
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": memory,
        "threads": threads,
        "preserve_insertion_order": False,
    }
    if spill is not None:
        config["temp_directory"] = str(spill)
    connection = duckdb.connect(":memory:", config=config)
    connection.execute("SET TimeZone = 'UTC'")
    # DuckDB takes a run's process, which was forked from "python -c", for somebody at a prompt.
    connection.execute("SET enable_progress_bar = false")
    return connection


def within(limits: Sequence[str], work: Callable[[str], Result]) -> Result:
    """Call with the first memory limit that suffices.

    Args:
        limits: DuckDB's memory_limit, ascending.
        work: Takes one, and can be called again when it raised.

    Raises:
        duckdb.OutOfMemoryException: The last one does not suffice.
    """
    *modest, most = limits
    for limit in modest:
        try:
            return work(limit)
        except duckdb.OutOfMemoryException as error:
            log.warning("%s of memory do not suffice: %s", limit, error)
    return work(most)


@contextmanager
def attached(
    connection: duckdb.DuckDBPyConnection, path: Path, *, name: str = "report", read_only: bool = False
) -> Iterator[None]:
    """Attach a report database for a while; a new file gets the schema. It is whole on disk when the block has ended.

    Args:
        connection: Where.
        path: The file.
        name: The name that SQL knows it by.
        read_only: Open an existing file for reading.
    """
    is_new = not path.exists()
    options = "READ_ONLY" if read_only else OPTIONS
    connection.execute(f"ATTACH {quoted(str(path))} AS {name} ({options})")
    try:
        if is_new and not read_only:
            connection.execute(sql_text(__file__, "schema.sql"))
            _in_report(connection, sql_text(__file__, "views.sql"))
            connection.execute(comments("report"))
        yield
        if not read_only:
            connection.execute(f"CHECKPOINT {name}")
    finally:
        connection.execute(f"DETACH {name}")


def first_row(connection: duckdb.DuckDBPyConnection, query: str, parameters: object = None) -> tuple[Any, ...] | None:
    """Return a query's first row. All are fetched, because an unfinished result locks its connection."""
    rows = connection.execute(query, parameters).fetchall()
    return rows[0] if rows else None


def _in_report(connection: duckdb.DuckDBPyConnection, statements: str) -> None:
    # Views keep the names they are made with, and the file is attached under other names later: no catalog in them.
    connection.execute("USE report")
    connection.execute(statements)
    connection.execute("USE memory")
