"""The formats of logs: telling a file's from its first lines, and a parser for each.

Belongs here: that choice, and a parser's form. Does not belong here: what lines mean (``lines``, ``w3c``,
``combined``), how a parser goes about it (``fast``, ``fast_columns``).
"""

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Final, Protocol

import orjson
import polars as pl

from notify_pipeline.core.vocabulary import LogFormat
from notify_pipeline.receipts.combined import parse_combined
from notify_pipeline.receipts.cuts import Memory, cut_combined, cut_w3c
from notify_pipeline.receipts.fast import BlockParser
from notify_pipeline.receipts.fast_columns import event_or_none, fields_of, parse_columns
from notify_pipeline.receipts.lines import Event, LineRefusedError, Other
from notify_pipeline.receipts.vectors import EVENT_COLUMNS, ParsedBlock, Rule, one_by_one, split_lines
from notify_pipeline.receipts.w3c import (
    COMMENT,
    HEADER,
    LEGACY_COLUMNS,
    Columns,
    columns_of,
    parse_cloudfront_json,
    parse_w3c,
)

# A file that begins with more garbage than this has no format: all of it goes to quarantine.
_LOOK_AT: Final = 100
_FOREVER: Final = 2**63 - 1
_REQUEST_COLUMNS: Final = Columns.of(("date", "time", "cs-uri-stem", "cs-method", "sc-status", "cs-uri-query"))
# A file has one header, and one more per file that was put together with it; many are not worth a pass each.
_MAX_HEADERS: Final = 20


class Parser(Protocol):
    """Parses the blocks of a log file, one after another."""

    def start(self) -> None:
        """Begin another file."""

    def parse(self, data: bytes, latest: int) -> ParsedBlock:
        """Parse a block of whole lines; ``latest`` as for ``lines.parse_line``."""


class Parsers:
    """A parser for each format. What one has learnt serves the next file, and never changes a result."""

    def __init__(self) -> None:
        self._made: dict[LogFormat, Parser] = {}

    def of(self, log_format: LogFormat) -> Parser:
        """Return the format's parser, at the beginning of a file."""
        parser = self._made.get(log_format)
        if parser is None:
            parser = self._made[log_format] = _PARSERS[log_format]()
        parser.start()
        return parser


def detect(lines: Iterable[bytes]) -> LogFormat:
    """Tell a file's format from its first lines; Fastly's when none of them is of any."""
    for raw, _ in zip(lines, range(_LOOK_AT), strict=False):
        if raw.startswith(COMMENT):
            return LogFormat.CLOUDFRONT
        if raw.lstrip().startswith(b"{"):
            return _json_format(raw)
        for parse, log_format in _BY_TRIAL:
            try:
                parse(raw)
            except LineRefusedError:
                continue
            if raw.strip():
                return log_format
    return LogFormat.FASTLY


def _json_format(raw: bytes) -> LogFormat:
    try:
        record = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return LogFormat.FASTLY
    is_cloudfront = isinstance(record, dict) and "cs-uri-stem" in record
    return LogFormat.CLOUDFRONT_JSON if is_cloudfront else LogFormat.FASTLY


class CloudfrontParser:
    """Parses columns as the file's headers name them."""

    def __init__(self) -> None:
        self._columns = LEGACY_COLUMNS
        self._fields = fields_of(_w3c_sample)
        self._seconds: Memory = {}

    def start(self) -> None:
        """Forget the last file's header."""
        self._columns = LEGACY_COLUMNS

    def parse(self, data: bytes, latest: int) -> ParsedBlock:
        """See ``Parser``."""
        frame, odd = split_lines(data)
        if HEADER not in data:
            return self._part(frame, odd, latest)
        both = pl.concat([frame, odd]).sort("line")
        headers = both.filter(pl.col("raw").bin.starts_with(HEADER))
        if headers.height > _MAX_HEADERS:
            return self._line_by_line(both, latest)
        parts, bounds = [], [0, *headers["line"], both.height]
        for begin, end in pairwise(bounds):
            within = pl.col("line").is_between(begin, end, closed="left")
            self._read_header(both["raw"][begin] if begin < both.height else b"")
            parts.append(self._part(frame.filter(within), odd.filter(within), latest))
        return _together(parts)

    def _read_header(self, raw: bytes) -> None:
        self._columns = columns_of(raw) or self._columns

    def _part(self, frame: pl.DataFrame, odd: pl.DataFrame, latest: int) -> ParsedBlock:
        columns = self._columns
        return parse_columns(
            frame,
            odd,
            lambda lines: cut_w3c(lines, columns, self._seconds),
            self._fields,
            lambda raw: parse_w3c(raw, columns, latest),
            latest,
        )

    def _line_by_line(self, lines: pl.DataFrame, latest: int) -> ParsedBlock:
        def rule(raw: bytes) -> Event | Other:
            self._read_header(raw)
            return parse_w3c(raw, self._columns, latest)

        return _by_rule(lines, rule)


class CombinedParser:
    """Parses Apache's and NGINX' formats."""

    def __init__(self) -> None:
        self._fields = fields_of(_combined_sample)
        self._seconds: Memory = {}
        self._zones: Memory = {}

    def start(self) -> None:
        """Nothing is of one file alone."""

    def parse(self, data: bytes, latest: int) -> ParsedBlock:
        """See ``Parser``."""
        return parse_columns(
            *split_lines(data),
            lambda lines: cut_combined(lines, self._seconds, self._zones),
            self._fields,
            lambda raw: parse_combined(raw, latest),
            latest,
        )


class CloudfrontJsonParser:
    """Parses line by line: there is no need for more speed yet."""

    def start(self) -> None:
        """Nothing is of one file alone."""

    def parse(self, data: bytes, latest: int) -> ParsedBlock:
        """See ``Parser``."""
        lines = pl.concat(split_lines(data)).sort("line")
        return _by_rule(lines, lambda raw: parse_cloudfront_json(raw, latest))


_PARSERS: Final[dict[LogFormat, Callable[[], Parser]]] = {
    LogFormat.FASTLY: BlockParser,
    LogFormat.CLOUDFRONT: CloudfrontParser,
    LogFormat.CLOUDFRONT_JSON: CloudfrontJsonParser,
    LogFormat.COMBINED: CombinedParser,
}
# Formats whose lines are known by being of them.
_BY_TRIAL: Final[tuple[tuple[Rule, LogFormat], ...]] = (
    (lambda raw: parse_combined(raw, _FOREVER), LogFormat.COMBINED),
    (lambda raw: parse_w3c(raw, LEGACY_COLUMNS, _FOREVER), LogFormat.CLOUDFRONT),
)


def _by_rule(lines: pl.DataFrame, rule: Rule) -> ParsedBlock:
    events, refused, other = one_by_one(lines, rule)
    return ParsedBlock(events.select(EVENT_COLUMNS), refused, lines.height, other)


def _together(parts: list[ParsedBlock]) -> ParsedBlock:
    events = [part.events for part in parts if not part.events.is_empty()] or [parts[0].events]
    return ParsedBlock(
        pl.concat(events),
        [refused for part in parts for refused in part.refused],
        sum(part.lines for part in parts),
        sum(part.other for part in parts),
    )


def _w3c_sample(request: str) -> Event | None:
    raw = f"2026-01-01\t00:00:00\t{request}".encode()
    return event_or_none(lambda: parse_w3c(raw, _REQUEST_COLUMNS, _FOREVER))


def _combined_sample(request: str) -> Event | None:
    status, _, line = request.partition("\t")
    raw = f'- - - [01/Jan/2026:00:00:00 +0000] "{line}" {status} -'.encode()
    return event_or_none(lambda: parse_combined(raw, _FOREVER))
