"""``notify receipts``: bringing the lake in line with the log files of some hours, by hand.

Belongs here: the command. Does not belong here: parsing (``receipts``).
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table

from notify_pipeline.commands.console import CONSOLE, failing_clearly, steps
from notify_pipeline.commands.stores import lake_of
from notify_pipeline.core.partitions import HOUR, hour_start
from notify_pipeline.core.settings import Settings
from notify_pipeline.receipts.hours import HourReport, process_hour
from notify_pipeline.receipts.logs import Logs

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
