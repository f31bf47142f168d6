"""How lines in columns are cut with vector operations: what counts of a request, and when it was.

Belongs here: cutting CloudFront's columns and the combined format, and telling other traffic for certain. Does not
belong here: what a request means (``lines``, ``w3c``, ``combined``), what is done with it (``fast_columns``).

A CSV reader finds the columns: it reads those that count, and passes over the rest. Only lines that surely have all
columns are shown to it: others are left to the format's rule.
"""

import io
from collections.abc import Callable, Iterator, Sequence
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
_STATUS_LAST: Final = r"^ [0-9]{3} (?:[0-9]+|-)(?: |$)"
_STATUS_INNER: Final = r"^ [0-9]{3} (?:[0-9]+|-) "
_MIN_QUOTES: Final = 2
# A log has lines of one form, two where its format was changed; each costs a pass over the block.
_MAX_FORMS: Final = 3
# Where a log has no such column, any request counts.
_ANY_METHOD: Final = "GET"
_ANY_STATUS: Final = "204"
Memory = dict[bytes, int | None]


@dataclass(frozen=True, slots=True)
class Cut:
    """What is cut out of lines.

    Attributes:
        requests: Columns line, request (text: everything that counts but the time, of our paths), at (microseconds).
        other: How many lines are other traffic for certain.
        rest: Columns line and raw of those that are neither.
    """

    requests: pl.DataFrame
    other: int
    rest: pl.DataFrame


def cut_w3c(frame: pl.DataFrame, columns: Columns, seconds: Memory) -> Cut:
    """Cut CloudFront's lines; requests are stem, method, status and query, with tabs in between.

    Args:
        frame: Columns line and raw, ASCII.
        columns: Where the columns are.
        seconds: What distinct times mean; grows.
    """
    when = (columns.date, columns.time) if columns.millis is None else (columns.millis,)
    in_seconds = columns.millis is None and columns.seconds is not None
    if columns.stem is None or columns.query is None or None in when or in_seconds:
        return _nothing(frame)
    text = pl.col("raw").cast(pl.String)
    has_all = text.str.count_matches("\t", literal=True) == columns.count - 1
    wanted = (columns.stem, columns.query, columns.method, columns.status, *when)
    table = _table(
        frame.filter(_sane() & has_all & ~text.str.starts_with(COMMENT.decode())),
        "\t",
        [position for position in wanted if position is not None],
    )
    if table is None:
        return _nothing(frame)
    stem = pl.col(str(columns.stem))
    ours = stem.is_in(list(EVENTS))
    other = table.filter(~ours & ~stem.str.contains("%", literal=True))
    return _result(frame, _w3c_times(_w3c_requests(table.filter(ours), columns), columns, seconds), other)


def _w3c_requests(table: pl.DataFrame, columns: Columns) -> pl.DataFrame:
    def column(position: int | None, default: str) -> pl.Expr:
        return pl.lit(default) if position is None else pl.col(str(position))

    parts = (
        column(columns.stem, ""),
        column(columns.method, _ANY_METHOD),
        column(columns.status, _ANY_STATUS),
        column(columns.query, ""),
    )
    return table.with_columns(request=pl.concat_str(parts, separator="\t"))


def _w3c_times(requests: pl.DataFrame, columns: Columns, seconds: Memory) -> pl.DataFrame:
    if columns.millis is None:
        stamp = pl.concat_str(str(columns.date), str(columns.time), separator=" ")
        return _timed(requests.with_columns(second=stamp.cast(pl.Binary)), ("second", seconds, parse_time))
    millis = pl.col(str(columns.millis))
    at = pl.when(millis.str.contains(f"^{MILLIS}$")).then(millis.cast(pl.Int64, strict=False) * 1_000)
    return requests.with_columns(at=at)


def cut_combined(frame: pl.DataFrame, seconds: Memory, zones: Memory) -> Cut:
    """Cut lines of the combined format; requests are the status and the request line, with a tab in between.

    Args:
        frame: Columns line and raw, ASCII.
        seconds: What distinct times mean; grows.
        zones: What distinct zones mean; grows.
    """
    text = pl.col("raw").cast(pl.String)
    lines = frame.filter(_sane() & ~text.str.contains("\\", literal=True)).with_columns(
        quotes=text.str.count_matches('"', literal=True)
    )
    tables = [
        (quotes, table)
        for quotes in _forms(lines)
        if (table := _table(lines.filter(pl.col("quotes") == quotes), '"', (0, 1, 2))) is not None
    ]
    if not tables:
        return _nothing(frame)
    parts = [_combined_requests(table, quotes) for quotes, table in tables]
    requests = _timed(
        pl.concat([requests for requests, _ in parts]).sort("line"),
        ("second", seconds, lambda text: parse_stamp(f"{text} +0000")),
        ("zone", zones, lambda text: parse_stamp(f"01/Jan/1970:00:00:00{text}")),
    )
    return _result(frame, requests, pl.concat([other for _, other in parts]))


def _combined_requests(table: pl.DataFrame, quotes: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the requests of our paths, and the lines (column line) of other traffic."""
    before, request, after = pl.col("0").cast(pl.Binary), pl.col("1"), pl.col("2")
    size = before.bin.size().cast(pl.Int64)
    whole = (
        (size >= _BRACKETED)
        & (before.bin.slice(size - _BRACKETED, len(STAMP_OPENS)) == pl.lit(STAMP_OPENS.encode()))
        & before.bin.ends_with(STAMP_CLOSES.encode())
        & after.str.contains(_STATUS_LAST if quotes == _MIN_QUOTES else _STATUS_INNER)
    )
    ours = request.str.contains(_OUR_PATH, literal=True)
    second = size - _BRACKETED + len(STAMP_OPENS)
    requests = table.filter(whole & ours).select(
        "line",
        second=before.bin.slice(second, _SECOND),
        zone=before.bin.slice(second + _SECOND, _ZONE),
        request=pl.concat_str(after.str.slice(1, 3), request, separator="\t"),
    )
    return requests, table.filter(whole & ~ours).select("line")


def _forms(lines: pl.DataFrame) -> Iterator[int]:
    """Yield the numbers of quotes that many lines have, the most frequent first."""
    counts = lines["quotes"].value_counts(sort=True).head(_MAX_FORMS)
    yield from (quotes for quotes, lines in counts.iter_rows() if quotes >= _MIN_QUOTES and lines > vectors.FEW)


def _sane() -> pl.Expr:
    """Tell lines that no rule refuses before it looks at columns, and that a CSV reader takes for one line."""
    raw = pl.col("raw")
    return (raw.bin.size() <= MAX_LINE_BYTES) & ~raw.bin.contains(b"\0") & ~raw.bin.contains(b"\r")


def _table(lines: pl.DataFrame, separator: str, positions: Sequence[int]) -> pl.DataFrame | None:
    """Return some columns of lines that all have as many, named by their positions, and the column line."""
    if lines.is_empty():
        return None
    # A first line of our own: a file may begin like a compressed one, which would be inflated.
    count = lines["raw"][0].count(separator.encode()) + 1
    header = separator.join(map(str, range(count)))
    body: str = lines["raw"].cast(pl.String).str.join("\n").item()
    table = pl.read_csv(
        io.BytesIO(f"{header}\n{body}\n".encode("ascii")),
        separator=separator,
        quote_char=None,
        columns=[str(position) for position in sorted(set(positions))],
        infer_schema=False,
        empty_string_is_null=False,
    )
    return table.with_columns(line=lines["line"]) if table.height == lines.height else None


def _timed(requests: pl.DataFrame, *parts: tuple[str, Memory, Callable[[str], int | None]]) -> pl.DataFrame:
    """Put the sum of what the named columns mean into the column at; null where one means nothing."""
    for name, memory, rule in parts:
        meaning = vectors.moments(memory, requests[name], rule)
        requests = requests.join(meaning, on=name, how="left", maintain_order="left")
    names = [f"{name}_us" for name, _, _ in parts]
    return requests.with_columns(at=pl.sum_horizontal(names, ignore_nulls=False))


def _result(frame: pl.DataFrame, requests: pl.DataFrame, other: pl.DataFrame) -> Cut:
    requests = requests.select("line", "request", "at")
    if requests.height + other.height == frame.height:
        return Cut(requests, other.height, frame.clear())
    told = pl.concat([requests.select("line"), other.select("line")])
    return Cut(requests, other.height, frame.join(told, on="line", how="anti", maintain_order="left"))


def _nothing(frame: pl.DataFrame) -> Cut:
    schema = {"line": pl.UInt32, "request": pl.String, "at": pl.Int64}
    return Cut(pl.DataFrame(schema=schema), 0, frame)
