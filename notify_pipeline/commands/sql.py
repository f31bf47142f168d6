"""``notify sql``: the report tables and the lake, asked with SQL.

Belongs here: the command and its exit codes. Does not belong here: the shell (``sql_shell``), running and printing
(``sql_output``), the connection (``reports.analysis``).
"""

import os
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Annotated

import duckdb
import typer

from notify_pipeline.commands.console import failing_clearly
from notify_pipeline.commands.ctrl_c import CtrlC
from notify_pipeline.commands.sql_output import Format, Refused, run, standard_output, statements
from notify_pipeline.commands.sql_shell import Shell, history_file
from notify_pipeline.core.settings import Settings
from notify_pipeline.reports.analysis import Analysis, connect
from notify_pipeline.reports.reading_versions import VersionGoneError

# As a shell says of a process that SIGINT ended.
_INTERRUPTED = 130

app = typer.Typer()


@app.command()
@failing_clearly(duckdb.Error, Refused, VersionGoneError, OSError, typer.BadParameter)
def sql(
    command: Annotated[str | None, typer.Option("-c", "--command", help="Run this and end.")] = None,
    form: Annotated[Format, typer.Option("--format", help="How rows are printed.")] = Format.TABLE,
    as_of: Annotated[str | None, typer.Option(help="The report version of this moment, ISO 8601.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Leave out reports of days before (UTC); faster.")] = None,
    until: Annotated[datetime | None, typer.Option(help="... and of this day on.")] = None,
    memory: Annotated[str | None, typer.Option(help="DuckDB's memory limit; default: NOTIFY_DUCKDB_MEMORY.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="Rows of a table that are printed.")] = 1_000,
) -> None:
    """Ask the report tables and the lake with SQL. Without -c: a shell, or what comes on standard input. Only reads.

    Ends with 0; with 1 where a statement failed (those after it are not run); with 130 where Ctrl-C stopped it.
    """
    begin, end, moment = _utc(since), _utc(until), _moment(as_of)
    with CtrlC() as ctrl_c:
        try:
            with ExitStack() as until_the_end:
                with ctrl_c.raised():
                    opened = connect(Settings(), since=begin, until=end, as_of=moment, memory=memory, only_reads=True)
                    analysis = until_the_end.enter_context(opened)
                if command is None and sys.stdin.isatty():
                    _talk(analysis, form, rows, ctrl_c)
                else:
                    with ctrl_c.raised():
                        _run_all(analysis, sys.stdin.read() if command is None else command, form, rows)
        except KeyboardInterrupt:
            ctrl_c.ignore()
            _print_no_more()
            sys.exit(_INTERRUPTED)
        except BrokenPipeError:
            _print_no_more()


def _print_no_more() -> None:
    """Let Python flush into nothing at its end: whoever read has enough, or reads no more for now."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _talk(analysis: Analysis, form: Format, rows: int, ctrl_c: CtrlC) -> None:
    version = analysis.version
    about = "no reports yet" if version is None else f"reports of {version.published_at:%Y-%m-%d %H:%M:%S} UTC"
    typer.echo(f"{about}; \\? for help")
    Shell(analysis, form, rows, standard_output(), ctrl_c).talk(history_file())


def _run_all(analysis: Analysis, text: str, form: Format, rows: int) -> None:
    found = statements(text)
    if form is Format.PARQUET and len(found) != 1:
        raise typer.BadParameter("--format parquet prints one file: give one statement")
    for query in found:
        run(analysis.db, query, form, standard_output(), rows)


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return _utc(datetime.fromisoformat(text))
    except ValueError as error:
        raise typer.BadParameter(f"--as-of: {error}") from None


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
