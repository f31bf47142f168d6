"""``notify receipts``: bringing the lake in line with log files by hand, taking files back, looking into quarantine.

Belongs here: the commands. Does not belong here: parsing (``receipts``).
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated

import duckdb
import typer
from rich.table import Table

from notify_pipeline.commands.console import CONSOLE, failing_clearly, steps
from notify_pipeline.commands.stores import lake_of
from notify_pipeline.core.partitions import HOUR, hour_start, partition_of
from notify_pipeline.core.settings import Settings
from notify_pipeline.receipts import quarantined, retractions
from notify_pipeline.receipts.counts import hour_counts
from notify_pipeline.receipts.foreign import foreign
from notify_pipeline.receipts.hours import HourReport, process_hour, remove_results, results_of
from notify_pipeline.receipts.logs import Logs
from notify_pipeline.reports import analysis

_DAY = timedelta(days=1)
_DAY_AGO = "First hour, UTC; default: a day ago."
_FORMATS = ["%Y-%m-%dT%H", "%Y-%m-%dT%H:%M", "%Y-%m-%d"]

app = typer.Typer(no_args_is_help=True, help="Receipts out of CDN logs.")


@app.callback()
def _group() -> None:
    """Receipts out of CDN logs."""


@app.command()
@failing_clearly(OSError, typer.BadParameter)
def process(
    from_: Annotated[datetime, typer.Option("--from", formats=_FORMATS, help="First hour, UTC.")],
    until: Annotated[datetime | None, typer.Option(formats=_FORMATS, help="Last hour, UTC; default: now.")] = None,
    reparse: Annotated[bool, typer.Option(help="Parse files again that already were.")] = False,
) -> None:
    """Process all hours from the first to the last one. Doing so again changes nothing; nothing is ever sent."""
    settings = Settings()
    lake, logs = lake_of(settings), Logs(settings.logs, settings.s3_endpoint_url, settings.log_formats)
    hours = list(_hours(from_.replace(tzinfo=UTC), until.replace(tzinfo=UTC) if until else datetime.now(UTC)))
    if not hours:
        raise typer.BadParameter("--until is before --from")
    reports = [process_hour(lake, logs, hour, reparse=reparse) for hour in steps(hours, "hours")]
    CONSOLE.print(_table([report for report in reports if report.files]))


@app.command()
@failing_clearly(OSError, typer.BadParameter)
def quarantine(
    from_: Annotated[datetime | None, typer.Option("--from", formats=_FORMATS, help=_DAY_AGO)] = None,
    until: Annotated[datetime | None, typer.Option(formats=_FORMATS, help="Last hour, UTC; default: now.")] = None,
    source: Annotated[str | None, typer.Option(help="Only of this source: the first folder of a log's path.")] = None,
    show: Annotated[int, typer.Option(min=0, help="Show so many lines, as they stand in the log.")] = 0,
) -> None:
    """List what could not be read, by log file and reason."""
    settings = Settings()
    lake, now = lake_of(settings), datetime.now(UTC)
    first = from_.replace(tzinfo=UTC) if from_ else now - _DAY
    hours = list(_hours(first, until.replace(tzinfo=UTC) if until else now + HOUR))
    files = Table(title="in quarantine")
    # Whole: it is what "retract" and "process" are told.
    files.add_column("log file", overflow="fold")
    files.add_column("reason")
    files.add_column("lines")
    for one in quarantined.by_file(lake, hours, source):
        files.add_row(one.source_file, one.reason, f"{one.lines:,}")
    CONSOLE.print(files)
    for line in quarantined.lines(lake, hours, source, show) if show else ():
        CONSOLE.print(f"{line.source_file}:{line.line_no}: {line.reason}: {line.raw!r}", soft_wrap=True)


@app.command(name="foreign")
@failing_clearly(OSError, duckdb.Error, typer.BadParameter)
def foreign_(
    from_: Annotated[datetime | None, typer.Option("--from", formats=_FORMATS, help=_DAY_AGO)] = None,
    until: Annotated[datetime | None, typer.Option(formats=_FORMATS, help="Last hour, UTC; default: now.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="At most so many, those with the most lines first.")] = 50,
) -> None:
    """List beacons that belong to no delivery: forged, or another installation's. No report counts them."""
    settings, now = Settings(), datetime.now(UTC)
    first = from_.replace(tzinfo=UTC) if from_ else now - _DAY
    hours = _hours(first, until.replace(tzinfo=UTC) if until else now + HOUR)
    table = Table("source", "reason", "names notification", "deliveries", "lines", title="foreign beacons")
    with analysis.connect(settings) as reports:
        if reports.version is None:
            raise typer.BadParameter("no report was built yet")
        for one in foreign(reports.db, lake_of(settings), hours, rows):
            table.add_row(one.source, one.reason, one.notification_id, f"{one.deliveries:,}", f"{one.hits:,}")
    CONSOLE.print(table)


@app.command()
@failing_clearly(OSError, ValueError)
def retract(
    path: Annotated[str, typer.Argument(help="The log file: <source>/date=YYYY-MM-DD/hour=HH/<name>.")],
    why: Annotated[str, typer.Option(help="Kept beside it.")] = "",
) -> None:
    """Take a log file back for good: its events leave the reports, and it is not read again, whatever it holds."""
    settings = Settings()
    lake = lake_of(settings)
    hour = partition_of(path)
    retractions.retract(lake, path, datetime.now(UTC), why)
    keys = results_of(lake, hour, path)
    remove_results(lake, hour, keys)
    hour_counts(lake, hour)
    CONSOLE.print(f"taken back: {path}; {'its events are gone' if keys else 'nothing had come of it'}", soft_wrap=True)


@app.command()
@failing_clearly(OSError, ValueError)
def restore(path: Annotated[str, typer.Argument(help="A log file that was taken back.")]) -> None:
    """Let a log file be read again that was taken back, and read it if it is still there."""
    settings = Settings()
    lake, logs = lake_of(settings), Logs(settings.logs, settings.s3_endpoint_url, settings.log_formats)
    if not retractions.restore(lake, path):
        raise ValueError(f"nobody took {path} back")
    parsed = process_hour(lake, logs, partition_of(path)).parsed
    CONSOLE.print(f"restored: {path}; {'read again' if parsed else 'it is not there any more'}", soft_wrap=True)


def _hours(first: datetime, last: datetime) -> Iterator[datetime]:
    hour = hour_start(first)
    while hour <= last:
        yield hour
        hour += HOUR


def _table(reports: list[HourReport]) -> Table:
    table = Table("hour", "files", "parsed now", "lines", "events", "quarantined", title="hours with log files")
    for one in reports:
        counts = (one.files, one.parsed, one.lines, one.events, one.quarantined)
        table.add_row(f"{one.hour:%Y-%m-%d %H}:00", *(f"{count:,}" for count in counts))
    return table
