"""How lines in columns are cut with vector operations: what counts of a request, and when it was.

Belongs here: cutting CloudFront's columns and the combined format, and telling other traffic for certain. Does not
belong here: what a request means (``lines``, ``w3c``, ``combined``), what is done with it (``fast_columns``).

Lines that have not all columns are left to the format's rule.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from notify_pipeline.receipts import vectors
from notify_pipeline.receipts.combined import STAMP_CLOSES, STAMP_OPENS, parse_stamp
from notify_pipeline.receipts.lines import EVENTS, MAX_LINE_BYTES, parse_time
from notify_pipeline.receipts.w3c import COMMENT, MILLIS, Columns

_OUR_PATH: Final = "/notification/"
_SECOND: Final = len("21/Nov/2026:06:33:00")
_ZONE: Final = len(" +0000")
# A stamp with what opens and closes it.
_BRACKETED: Final = len(STAMP_OPENS) + _SECOND + _ZONE + len(STAMP_CLOSES)
# Status and size, behind the request's quote; more columns in quotes may follow after a blank.
_STATUS: Final = r"^ [0-9]{3} (?:[0-9]+|-)(?: |$)"
# What stands before the request, it, and what stands behind it.
_MIN_PIECES: Final = 3
# Where a log has no such column, any request counts.
_ANY_METHOD: Final = "GET"
_ANY_STATUS: Final = "204"
# Others are refused before anything else is looked at.
_SHORT: Final = pl.col("raw").bin.size() <= MAX_LINE_BYTES
Memory = dict[bytes, int | None]


@dataclass(frozen=True, slots=True)
class Cut:
    """What is cut out of lines.

    Attributes:
        requests: Columns line, at (microseconds), lead and query (texts: together everything that counts but the time,
            of our paths; delivery ids stand in the query).
        other: How many lines are other traffic for certain.
        rest: Columns line and raw of those that are neither.
    """

    requests: pl.DataFrame
    other: int
    rest: pl.DataFrame


def cut_w3c(frame: pl.DataFrame, columns: Columns, seconds: Memory) -> Cut:
    """Cut CloudFront's lines; lead is stem, method and status, each with a tab behind it, query the query string.

    Args:
        frame: Columns line and raw, as ``vectors.split_lines`` returns plain ones.
        columns: Where the columns are.
        seconds: What distinct times mean; grows.
    """
    when = (columns.date, columns.time) if columns.millis is None else (columns.millis,)
    in_seconds = columns.millis is None and columns.seconds is not None
    if columns.stem is None or columns.query is None or None in when or in_seconds:
        return _nothing(frame)
    wanted = (columns.stem, columns.query, columns.method, columns.status, *when)
    table = _split(
        frame.filter(_SHORT & ~pl.col("raw").bin.starts_with(COMMENT)),
        "\t",
        [position for position in wanted if position is not None],
        pl.col("count") == columns.count,
    )
    stem = pl.col(str(columns.stem))
    ours = stem.is_in(list(EVENTS))
    requests, rest = table.filter(ours), table.filter(~ours)
    other = rest.filter(~stem.str.contains("%", literal=True))
    return _result(frame, _w3c_times(_w3c_requests(requests, columns), columns, seconds), other)


def _w3c_requests(table: pl.DataFrame, columns: Columns) -> pl.DataFrame:
    def column(position: int | None, default: str) -> pl.Expr:
        return pl.lit(default) if position is None else pl.col(str(position))

    method, status = column(columns.method, _ANY_METHOD), column(columns.status, _ANY_STATUS)
    lead = pl.concat_str(column(columns.stem, ""), method, status, pl.lit(""), separator="\t")
    return table.with_columns(lead=lead, query=column(columns.query, ""))


def _w3c_times(requests: pl.DataFrame, columns: Columns, seconds: Memory) -> pl.DataFrame:
    if columns.millis is None:
        stamp = pl.concat_str(str(columns.date), str(columns.time), separator=" ")
        return _timed(requests.with_columns(second=stamp.cast(pl.Binary)), ("second", seconds, parse_time))
    millis = pl.col(str(columns.millis))
    at = pl.when(millis.str.contains(f"^{MILLIS}$")).then(millis.cast(pl.Int64, strict=False) * 1_000)
    return requests.with_columns(at=at)


def cut_combined(frame: pl.DataFrame, seconds: Memory, zones: Memory) -> Cut:
    """Cut lines of the combined format; lead is the status with a tab behind it, query the request line.

    Args:
        frame: Columns line and raw, as ``vectors.split_lines`` returns plain ones.
        seconds: What distinct times mean; grows.
        zones: What distinct zones mean; grows.
    """
    escaped = pl.col("raw").cast(pl.String).str.contains("\\", literal=True)
    table = _split(frame.filter(_SHORT & ~escaped), '"', (0, 1, 2), pl.col("count") >= _MIN_PIECES)
    requests, other = _combined_requests(table)
    requests = _timed(
        requests,
        ("second", seconds, lambda text: parse_stamp(f"{text} +0000")),
        ("zone", zones, lambda text: parse_stamp(f"01/Jan/1970:00:00:00{text}")),
    )
    return _result(frame, requests, other)


def _combined_requests(table: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the requests of our paths, and the lines (column line) of other traffic."""
    before, request, after = pl.col("0").cast(pl.Binary), pl.col("1"), pl.col("2")
    size = before.bin.size().cast(pl.Int64)
    whole = (
        (size >= _BRACKETED)
        & (before.bin.slice(size - _BRACKETED, len(STAMP_OPENS)) == pl.lit(STAMP_OPENS.encode()))
        & before.bin.ends_with(STAMP_CLOSES.encode())
        & after.str.contains(_STATUS)
        & ((pl.col("count") == _MIN_PIECES) | after.str.ends_with(" "))
    )
    ours = request.str.contains(_OUR_PATH, literal=True)
    second = size - _BRACKETED + len(STAMP_OPENS)
    table = table.filter(whole)
    requests = table.filter(ours).select(
        "line",
        second=before.bin.slice(second, _SECOND),
        zone=before.bin.slice(second + _SECOND, _ZONE),
        lead=after.str.slice(1, 3) + "\t",
        query=request,
    )
    return requests, table.filter(~ours).select("line")


def _split(lines: pl.DataFrame, separator: str, positions: Sequence[int], fits: pl.Expr) -> pl.DataFrame:
    """Return pieces of the lines that fit, named by their positions, beside the columns line and count (of pieces)."""
    pieces = pl.col("pieces")
    return (
        lines.lazy()
        .select("line", pieces=pl.col("raw").cast(pl.String).str.split(separator))
        .with_columns(count=pieces.list.len())
        .filter(fits)
        .select("line", "count", *(pieces.list.get(at).alias(str(at)) for at in sorted(set(positions))))
        .collect(engine="in-memory")
    )


def _timed(requests: pl.DataFrame, *parts: tuple[str, Memory, Callable[[str], int | None]]) -> pl.DataFrame:
    """Put the sum of what the named columns mean into the column at; null where one means nothing."""
    for name, memory, rule in parts:
        meaning = vectors.moments(memory, requests[name], rule)
        requests = requests.join(meaning, on=name, how="left", maintain_order="left")
    names = [f"{name}_us" for name, _, _ in parts]
    return requests.with_columns(at=pl.sum_horizontal(names, ignore_nulls=False))


def _result(frame: pl.DataFrame, requests: pl.DataFrame, other: pl.DataFrame) -> Cut:
    requests = requests.select("line", "lead", "query", "at")
    if requests.height + other.height == frame.height:
        return Cut(requests, other.height, frame.clear())
    told = pl.concat([requests.select("line"), other.select("line")])
    return Cut(requests, other.height, frame.join(told, on="line", how="anti", maintain_order="left"))


def _nothing(frame: pl.DataFrame) -> Cut:
    schema = {"line": pl.UInt32, "lead": pl.String, "query": pl.String, "at": pl.Int64}
    return Cut(pl.DataFrame(schema=schema), 0, frame)
