"""Finished days of reports as files in the lake, for whoever reads files: NDJSON and Parquet, a folder per day.

Belongs here: which days are due, and writing one. Does not belong here: when (``defs.reports.extract``), the formats
(``reading_formats``).

A day is the UTC day of acceptance. It is written once it is over; again once all of it is settled; and again whenever
something changes it after that. Its files follow from its rows alone: whoever writes them again writes the same bytes,
and a file whose bytes are there already is left as it is. How far the logs are read moves with every version, so it is
no column of an extract.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

import duckdb
import orjson
import pyarrow as pa

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.sql import sql_text
from notify_pipeline.reports.reading import ReportReader
from notify_pipeline.reports.reading_formats import Format

ROOT: Final = "extracts"
# What was written of each day: one file, so that one read answers which days are due.
_STATE: Final = f"{ROOT}/written.json"
# By table: the file's name, and an order in which no two rows are equal.
_TABLES: Final = {
    "notifications": ("reports", "tenant, accepted_at, notification_id"),
    "platform_reports": ("platform_reports", "tenant, accepted_at, notification_id, channel, platform, provider"),
}
_FORMATS: Final = (Format.NDJSON, Format.PARQUET)
# Moves although nothing in the rows does.
_MOVING: Final = "received_through"
_DAY: Final = timedelta(days=1)
# Wider than any acceptance.
_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(9999, 1, 1, tzinfo=UTC)


class NoReportsError(RuntimeError):
    """No report version was published yet."""


@dataclass(frozen=True, slots=True)
class DayState:
    """A day as a report version has it.

    Attributes:
        rows: Notifications accepted on it.
        settled: Whether all of them are.
        token: Follows from its rows; other rows have another.
    """

    rows: int
    settled: bool
    token: str


@dataclass(frozen=True, slots=True)
class Extract:
    """What writing a day did: rows and bytes of all its files, and how many of those were new or other bytes."""

    day: date
    notifications: int
    platform_reports: int
    bytes: int
    files_changed: int
    settled: bool


def due(now: Mapping[date, DayState], written: Mapping[date, DayState], today: date) -> list[date]:
    """Return the days to write, in order: those over that never were, that have settled, or that changed since.

    Args:
        now: Days with rows, as the reports have them.
        written: As they were when they were written.
        today: UTC's.
    """
    return sorted(day for day, state in now.items() if day < today and _is_due(state, written.get(day)))


def _is_due(state: DayState, before: DayState | None) -> bool:
    if before is None:
        return True
    # Until it has settled it goes on changing; it is written once more when it does.
    return state.settled != before.settled or (before.settled and state.token != before.token)


def states(reader: ReportReader) -> dict[date, DayState]:
    """Return every day of the current version that has rows; reads all of them once."""
    with reader.cursor() as cursor:
        return {} if cursor is None else _states(cursor, _FIRST, _LAST)


def written(lake: Lake) -> dict[date, DayState]:
    """Return which days were written, and as what."""
    try:
        stored = orjson.loads(lake.read_bytes(_STATE))
    except FileNotFoundError:
        return {}
    return {date.fromisoformat(day): DayState(**state) for day, state in stored.items()}


def write(reader: ReportReader, lake: Lake, day: date) -> Extract:
    """Write a day's files, as the current version has it; a day without notifications gets files without rows.

    The files come before the note that they are there: after a crash in between, the day is due again.

    Raises:
        NoReportsError: There is no version.
    """
    since = datetime.combine(day, time(), UTC)
    with reader.cursor(since, since + _DAY) as cursor:
        if cursor is None:
            raise NoReportsError("no report version was published yet")
        state = _states(cursor, since, since + _DAY).get(day, DayState(0, settled=True, token=""))
        files: dict[str, bytes] = {}
        notifications, platforms = (_render(cursor, table, since, files) for table in _TABLES)
    changed = sum([_put(lake, path, content) for path, content in files.items()])
    # Read again: another run may have noted another day meanwhile. What a race loses is due again, to the same bytes.
    noted = written(lake) | {day: state}
    stored = {str(each): asdict(noted[each]) for each in sorted(noted)}
    _put(lake, _STATE, orjson.dumps(stored, option=orjson.OPT_INDENT_2))
    return Extract(day, notifications, platforms, sum(map(len, files.values())), changed, state.settled)


def _states(cursor: duckdb.DuckDBPyConnection, since: datetime, until: datetime) -> dict[date, DayState]:
    found = cursor.execute(sql_text(__file__, "extract_days.sql"), {"since": since, "until": until}).fetchall()
    return {day: DayState(rows, settled, token) for day, rows, settled, token in found}


def _render(cursor: duckdb.DuckDBPyConnection, table: str, since: datetime, files: dict[str, bytes]) -> int:
    """Add a table's files; return its rows."""
    name, order = _TABLES[table]
    described = cursor.execute(f"DESCRIBE {table}").fetchall()
    columns = [column[0] for column in described if column[0] != _MOVING]
    count = 0
    for form in _FORMATS:
        rows: pa.Table = cursor.sql(
            f"SELECT {form.selected(columns)} FROM {table} AS r"  # noqa: S608 - our own names
            f" WHERE accepted_at >= $since AND accepted_at < $until ORDER BY {order}",
            params={"since": since, "until": since + _DAY},
        ).to_arrow_table()
        count = rows.num_rows
        content = b"".join(form.written([rows], columns, rows.schema))
        files[f"{ROOT}/{name}/date={since:%Y-%m-%d}/{name}.{form}"] = content
    return count


def _put(lake: Lake, path: str, content: bytes) -> bool:
    try:
        if lake.read_bytes(path) == content:
            return False
    except FileNotFoundError:
        pass
    lake.write_bytes(path, content)
    return True


def ranges(days: Iterable[date], longest: int) -> list[tuple[date, date]]:
    """Return ascending days as (first, last) of consecutive ones, none longer than ``longest``."""
    found: list[tuple[date, date]] = []
    for day in days:
        if found and day == found[-1][1] + _DAY and (day - found[-1][0]).days < longest:
            found[-1] = (found[-1][0], day)
        else:
            found.append((day, day))
    return found
