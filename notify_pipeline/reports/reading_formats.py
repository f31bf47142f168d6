"""Rows as files: CSV, NDJSON and Parquet, piece by piece.

Belongs here: the formats, and what DuckDB is asked for so that a piece is little more than a copy. Does not belong
here: which rows (``reading_downloads``), HTTP.

Moments are ISO 8601 in UTC with six decimals. A file that breaks off is no whole file of its format: Parquet lacks its
footer, and of the others the last line is one that no parser takes (``broken_end``).
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Final, cast

import pyarrow as pa
from pyarrow import csv, parquet

from notify_pipeline.reports.reading_rows import is_time

# Lists are JSON in a cell of CSV.
LISTS: Final = frozenset({"topics"})
# Everything that is text; what spreadsheets read as a formula gets a quote before it, also behind a tab or line's end.
# https://owasp.org/www-community/attacks/CSV_Injection
TEXTS: Final = frozenset(
    {
        "tenant",
        "notification_id",
        "request_id",
        "type",
        "category",
        "priority",
        "title",
        "domain",
        "state",
        "channel",
        "platform",
        "provider",
        "outcome",
        "provider_code",
        "stage",
    }
)
_FORMULA: Final = "^[=+\\-@\\t\\r\\n]"
# Not under a column's name: in ORDER BY that would mean the text.
_LINE: Final = "line_"


class Format(StrEnum):
    """A file's form, by the end of its name."""

    CSV = "csv"
    NDJSON = "ndjson"
    PARQUET = "parquet"

    @property
    def content_type(self) -> str:
        """Its media type."""
        return _TYPES[self]

    @property
    def is_packed(self) -> bool:
        """True when its bytes are compressed as they are."""
        return self is Format.PARQUET

    def selected(self, columns: Sequence[str]) -> str:
        """Return what is to be selected of a relation ``r`` with these columns, so that it can be written."""
        if self is Format.PARQUET:
            return ", ".join(f"r.{name}" for name in columns)
        if self is Format.CSV:
            return ", ".join(f"{_cell(name)} AS {name}" for name in columns)
        fields = ", ".join(f"{name} := {_iso(name) if is_time(name) else f'r.{name}'}" for name in columns)
        return f"to_json(struct_pack({fields}))::VARCHAR AS {_LINE}"

    def written(self, tables: Iterable[pa.Table], columns: Sequence[str], schema: pa.Schema) -> Generator[bytes]:
        """Yield a file's bytes, whole tables at a time.

        Args:
            tables: As ``selected`` had them.
            columns: Their columns.
            schema: Parquet's.
        """
        if self is Format.PARQUET:
            yield from _parquet(tables, schema)
            return
        try:
            yield from (_csv(tables, columns) if self is Format.CSV else _ndjson(tables))
        except Exception:
            yield self.broken_end
            raise

    @property
    def broken_end(self) -> bytes:
        """What a file of lines ends in that broke off: a quote, or a brace, that is never closed."""
        return {Format.CSV: b'"broken off', Format.NDJSON: b'{"broken off', Format.PARQUET: b""}[self]


_TYPES = {
    # header=present: RFC 4180, section 3.
    Format.CSV: "text/csv; charset=utf-8; header=present",
    Format.NDJSON: "application/x-ndjson",
    Format.PARQUET: "application/vnd.apache.parquet",
}


class _Drain:
    """A file to write to, from which what was written is taken."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        part = bytes(data)
        self._parts.append(part)
        return len(part)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is held open."""

    def take(self) -> bytes:
        taken, self._parts = b"".join(self._parts), []
        return taken


def _csv(tables: Iterable[pa.Table], columns: Sequence[str]) -> Iterator[bytes]:
    yield (",".join(columns) + "\n").encode()
    options = csv.WriteOptions(include_header=False, quoting_style="needed")
    for table in tables:
        sink = pa.BufferOutputStream()
        csv.write_csv(table, sink, options)
        yield sink.getvalue().to_pybytes()


def _ndjson(tables: Iterable[pa.Table]) -> Iterator[bytes]:
    for table in tables:
        lines = cast("list[str]", table.column(_LINE).to_pylist())
        if lines:
            yield ("\n".join(lines) + "\n").encode()


def _parquet(tables: Iterable[pa.Table], schema: pa.Schema) -> Iterator[bytes]:
    drain = _Drain()
    with parquet.ParquetWriter(drain, schema, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table.cast(schema))
            yield drain.take()
    yield drain.take()


def _cell(column: str) -> str:
    if is_time(column):
        return _iso(column)
    if column in LISTS:
        return f"to_json(r.{column})::VARCHAR"
    if column in TEXTS:
        return f"CASE WHEN regexp_matches(r.{column}, '{_FORMULA}') THEN '''' || r.{column} ELSE r.{column} END"
    return f"r.{column}"


def _iso(column: str) -> str:
    """Return a moment's text. Not by its own type: with time zones DuckDB is six times slower."""
    return f"strftime(make_timestamp(epoch_us(r.{column})), '%Y-%m-%dT%H:%M:%S.%fZ')"
