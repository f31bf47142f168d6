"""The lake's tables as DuckDB views, with their types and with what is said of each column.

Belongs here: making those views on a connection. Does not belong here: what is asked of them, report tables
(``analysis``).

DuckDB reads a folder's files itself, and finds those that come later too. It cannot read S3 here: there, pyarrow scans
the files listed when the views were made; DuckDB hands it the columns and the conditions of a query, so that whole
partitions and row groups are left unread. Files that are older than a column have null in it.
"""

from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.lake_columns import COLUMN_COMMENTS, PARTITION, TABLE_COMMENTS
from notify_pipeline.core.schemas import TABLES, LakeTable
from notify_pipeline.core.sql import quoted

SCHEMA: Final = "lake"
_PARTITION: Final = pa.schema([("date", pa.date32()), ("hour", pa.string())])
# No rows and every column: with it, a table whose files are all old, or that has none, has its columns nonetheless.
_EMPTY: Final = "date=1970-01-01/hour=00/empty.parquet"


def make_views(connection: duckdb.DuckDBPyConnection, lake: Lake, scratch: Path) -> None:
    """Make ``lake.<table>`` for every table of the lake.

    Args:
        connection: Where; the views of a lake on S3 serve this connection only.
        lake: The lake.
        scratch: A folder of the caller's that outlives the connection.
    """
    connection.execute(f"ATTACH ':memory:' AS {SCHEMA}")
    for table in TABLES.values():
        source = _on_s3(connection, lake, table) if lake.is_s3 else _in_folder(lake, table, scratch)
        columns = ", ".join(f'"{name}"' for name in [*table.schema.names, *PARTITION])
        connection.execute(f"CREATE VIEW {SCHEMA}.{table.name} AS SELECT {columns} FROM {source}")  # noqa: S608
        _comment(connection, table)


def _in_folder(lake: Lake, table: LakeTable, scratch: Path) -> str:
    empty = scratch / table.name / _EMPTY
    empty.parent.mkdir(parents=True)
    pq.write_table(table.schema.empty_table(), empty)
    files = [str(empty)]
    if any(lake.folders(table.name)):
        files.append(f"{lake.uri(table.name)}/date=*/hour=*/*.parquet")
    listed = ", ".join(quoted(name) for name in files)
    return (
        f"read_parquet([{listed}], union_by_name = true, hive_partitioning = true,"
        " hive_types = {'date': DATE, 'hour': VARCHAR})"
    )


def _on_s3(connection: duckdb.DuckDBPyConnection, lake: Lake, table: LakeTable) -> str:
    bucket = lake.root.removeprefix("s3://")
    files = [f"{bucket}/{file.path}" for file in lake.list(table.name)]
    found: Any = ds.dataset(
        files,
        schema=pa.schema([*table.schema, *_PARTITION]),
        format="parquet",
        filesystem=_filesystem(lake.s3_endpoint_url),
        partitioning=ds.partitioning(_PARTITION, flavor="hive"),
    )
    name = f"lake_{table.name}"
    connection.register(name, found)
    return name


def _filesystem(endpoint_url: str | None) -> pafs.FileSystem:
    if endpoint_url is None:
        return pafs.S3FileSystem()
    scheme, _, host = endpoint_url.partition("://")
    return pafs.S3FileSystem(endpoint_override=host.rstrip("/"), scheme=scheme)


def _comment(connection: duckdb.DuckDBPyConnection, table: LakeTable) -> None:
    name = f"{SCHEMA}.{table.name}"
    connection.execute(f"COMMENT ON VIEW {name} IS {quoted(TABLE_COMMENTS[table.name])}")
    for column, text in (COLUMN_COMMENTS[table.name] | PARTITION).items():
        connection.execute(f'COMMENT ON COLUMN {name}."{column}" IS {quoted(text)}')
