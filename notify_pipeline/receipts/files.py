"""One log file parsed whole: its events as a table, what goes to quarantine, and counts.

Belongs here: the result of a file and its bytes. Does not belong here: which files there are (``logs``), where results
are stored (``hours``).
"""

import io
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.partitions import HOUR, hour_start
from notify_pipeline.core.schemas import QUARANTINE, RECEIPTS
from notify_pipeline.core.vocabulary import LogFormat
from notify_pipeline.receipts.blocks import Damage, read_blocks
from notify_pipeline.receipts.formats import Parsers, detect
from notify_pipeline.receipts.lines import Reason

# A CDN puts a line into the file that is open when the request ends, and files are named after when they were begun:
# up to an hour after the file's hour is still that. Later is a clock gone wrong.
FUTURE_TOLERANCE: Final = HOUR
RAW_KEPT: Final = 1024
# Above this size statistics and a dictionary per column chunk pay; all columns but two repeat.
_DICTIONARY: Final = ["event", "notification_id", "platform", "provider", "action"]
_ROW_GROUP: Final = 500_000


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """What a log file held.

    Attributes:
        events: Schema RECEIPTS, one row per line of ours, in the order of the lines.
        quarantine: Schema QUARANTINE, by line number.
        lines: All lines, blank ones too.
        other: Lines of other traffic and blank lines.
    """

    events: pa.Table
    quarantine: pa.Table
    lines: int
    other: int


def parse_file(
    path: str, raw: bytes, hour: datetime, parsers: Parsers | None = None, log_format: LogFormat | None = None
) -> ParsedFile:
    """Parse a log file; nothing that it holds makes this fail.

    Args:
        path: Its path below the log root, kept with quarantined lines.
        raw: Its bytes as stored: gzip, zstd or plain.
        hour: The hour whose folder it lies in.
        parsers: Hand on what earlier files have taught; the result is the same without.
        log_format: What its lines look like; default: what the first ones do.
    """
    parsers = parsers or Parsers()
    parser = None if log_format is None else parsers.of(log_format)
    start = hour_start(hour)
    latest = to_micros(start + HOUR + FUTURE_TOLERANCE) - 1
    parts: list[pl.DataFrame] = []
    refused: list[tuple[int, Reason, bytes]] = []
    lines = other = 0
    for block in read_blocks(path, raw):
        if isinstance(block, Damage):
            refused.append((block.line_no, block.reason, block.raw))
            lines += block.reason is Reason.TOO_LONG
            continue
        if parser is None:
            parser = parsers.of(detect(io.BytesIO(block.data)))
        parsed = parser.parse(block.data, latest)
        parts.append(parsed.events)
        refused += [(block.first_line + r.line, r.reason, r.raw[:RAW_KEPT]) for r in parsed.refused]
        lines += parsed.lines
        other += parsed.other
    return ParsedFile(_events(parts), _quarantine(path, start, refused), lines, other)


def to_parquet(table: pa.Table, notes: dict[str, str]) -> bytes:
    """Return a table as Parquet, the same bytes for the same table and notes; notes become the file's metadata."""
    buffer = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata(notes),
        buffer,
        compression="zstd",
        compression_level=1,
        use_dictionary=[name for name in _DICTIONARY if name in table.schema.names],
        row_group_size=_ROW_GROUP,
    )
    return buffer.getvalue()


def _events(parts: list[pl.DataFrame]) -> pa.Table:
    # The newest level has views of strings, as polars does: they are copied once, by the cast, and not twice.
    tables = [part.to_arrow(compat_level=pl.CompatLevel.newest()) for part in parts if not part.is_empty()]
    if not tables:
        return RECEIPTS.schema.empty_table()
    return pa.concat_tables(tables).cast(_ints_for_times()).cast(RECEIPTS.schema)


def _ints_for_times() -> pa.Schema:
    schema: Any = RECEIPTS.schema
    return schema.set(schema.get_field_index("at"), pa.field("at", pa.int64()))


def _quarantine(path: str, start: datetime, refused: list[tuple[int, Reason, bytes]]) -> pa.Table:
    rows = [
        {
            "source_file": path,
            "line_no": line_no,
            "reason": reason.value,
            "raw": raw.decode("utf-8", "replace"),
            "at": start,
        }
        for line_no, reason, raw in refused
    ]
    return pa.Table.from_pylist(rows, schema=QUARANTINE.schema)
