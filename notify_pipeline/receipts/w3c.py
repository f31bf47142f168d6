"""CloudFront's standard logs, parsed exactly: columns that the file's header names, and the same as JSON.

Belongs here: what a header and a line mean. Does not belong here: what a request means (``lines``), vectors.

Standard logging (legacy) writes 33 columns, separated by tabs; version 2 writes those that one chose, in the order that
one chose. The ``#Fields:`` line names them. CloudFront percent-encodes what it puts into a column, the percent sign
itself too: a query string that was sent as ``a%20b`` stands there as ``a%2520b``, so it is decoded once here, and once
more as any query string is. https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/standard-logs-reference.html
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self
from urllib.parse import unquote_to_bytes

import orjson

from notify_pipeline.receipts.lines import (
    EVENTS,
    OTHER,
    Event,
    LineRefusedError,
    Other,
    Reason,
    as_text,
    event_of,
    is_beacon,
    is_blank,
    parse_time,
)

HEADER: Final = b"#Fields:"
COMMENT: Final = b"#"
# As CloudFront leaves out a value.
_NOTHING: Final = "-"
_METHOD, _STEM, _STATUS, _QUERY = "cs-method", "cs-uri-stem", "sc-status", "cs-uri-query"
_DATE, _TIME, _MILLIS, _SECONDS = "date", "time", "timestamp(ms)", "timestamp"
# The columns of a legacy log, in their order: of a file without a header, which is one that was cut or put together.
LEGACY: Final = (
    "date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status cs(Referer) cs(User-Agent)"
    " cs-uri-query cs(Cookie) x-edge-result-type x-edge-request-id x-host-header cs-protocol cs-bytes time-taken"
    " x-forwarded-for ssl-protocol ssl-cipher x-edge-response-result-type cs-protocol-version fle-status"
    " fle-encrypted-fields c-port time-to-first-byte x-edge-detailed-result-type sc-content-type sc-content-len"
    " sc-range-start sc-range-end"
)
_EPOCH = re.compile(r"([0-9]{1,11})(?:\.([0-9]{1,9}))?")
MILLIS: Final = "[0-9]{1,14}"
_MILLIS_ONLY = re.compile(MILLIS)


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a log's lines have what counts: the number of columns, and positions from 0; None where there is none."""

    count: int
    stem: int | None
    query: int | None
    method: int | None
    status: int | None
    date: int | None
    time: int | None
    millis: int | None
    seconds: int | None

    @classmethod
    def of(cls, names: Sequence[str]) -> Self:
        """Find them by the columns' names."""
        at = {name: position for position, name in enumerate(names)}
        wanted = (_STEM, _QUERY, _METHOD, _STATUS, _DATE, _TIME, _MILLIS, _SECONDS)
        return cls(len(names), *(at.get(name) for name in wanted))


LEGACY_COLUMNS: Final = Columns.of(LEGACY.split())


def columns_of(raw: bytes) -> Columns | None:
    """Return the columns that a line names, None when it is no such header."""
    if not raw.startswith(HEADER):
        return None
    return Columns.of(raw.removeprefix(HEADER).decode("ascii", "replace").split())


def parse_w3c(raw: bytes, columns: Columns, latest: int) -> Event | Other:
    """Parse one line, as ``lines.parse_line`` does.

    Args:
        raw: The line without its newline.
        columns: What the header before it says; ``LEGACY_COLUMNS`` when there was none.
        latest: The last moment that its file can hold, microseconds since the epoch.

    Returns:
        The event, or ``OTHER`` for other traffic, a header and a blank line.

    Raises:
        LineRefusedError: The line belongs in quarantine.
    """
    if is_blank(raw) or raw.startswith(COMMENT):
        return OTHER
    values = as_text(raw).split("\t")
    if len(values) != columns.count:
        raise LineRefusedError(Reason.BROKEN_LINE)

    def value(position: int | None) -> str | None:
        return None if position is None else values[position]

    stamp, at = _when(*map(value, (columns.millis, columns.seconds, columns.date, columns.time)))
    positions = (columns.stem, columns.query, columns.method, columns.status)
    stem, query, method, status = map(value, positions)
    return _event(stem, query, method, status, stamp, at, latest)


def parse_cloudfront_json(raw: bytes, latest: int) -> Event | Other:
    """Parse one line of a standard log (v2) in JSON: an object with a member per column.

    Args and Raises: As for ``parse_w3c``.
    """
    if is_blank(raw):
        return OTHER
    try:
        record = orjson.loads(raw)
    except orjson.JSONDecodeError:
        as_text(raw)
        raise LineRefusedError(Reason.BROKEN_JSON) from None
    if not isinstance(record, dict):
        raise LineRefusedError(Reason.BROKEN_JSON)
    stamp, at = _when(*(_string(record, name) for name in (_MILLIS, _SECONDS, _DATE, _TIME)))
    stem, query, method, status = (_string(record, name) for name in (_STEM, _QUERY, _METHOD, _STATUS))
    return _event(stem, query, method, status, stamp, at, latest)


def _string(record: Mapping[str, Any], name: str) -> str | None:
    value = record.get(name)
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def _event(
    stem: str | None,
    query: str | None,
    method: str | None,
    status: str | None,
    stamp: str | None,
    at: int | None,
    latest: int,
) -> Event | Other:
    if stem is None:
        raise LineRefusedError(Reason.MISSING_FIELD)
    event = EVENTS.get(unquote_to_bytes(stem).decode("utf-8", "replace"))
    if event is None or not is_beacon(method, status):
        return OTHER
    if query is None or stamp is None:
        raise LineRefusedError(Reason.MISSING_FIELD)
    try:
        sent = "" if query == _NOTHING else unquote_to_bytes(query).decode()
    except UnicodeDecodeError:
        raise LineRefusedError(Reason.BAD_ENCODING) from None
    return event_of(event, sent, stamp, at, latest)


def _when(millis: str | None, seconds: str | None, date: str | None, time: str | None) -> tuple[str | None, int | None]:
    """Return the time as it is written, and in microseconds; the finest that there is."""
    if millis is not None:
        return millis, int(millis) * 1_000 if _MILLIS_ONLY.fullmatch(millis) else None
    if seconds is not None:
        match = _EPOCH.fullmatch(seconds)
        return seconds, match and int(match[1]) * 1_000_000 + int((match[2] or "")[:6].ljust(6, "0"))
    if date is None or time is None:
        return None, None
    return f"{date} {time}", parse_time(f"{date} {time}")
