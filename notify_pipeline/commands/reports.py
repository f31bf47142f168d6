"""``notify reports``: building and publishing the reports by hand.

Belongs here: the commands. Does not belong here: models, checks, publishing (``reports``).
"""

from datetime import UTC, datetime

import typer
from rich.table import Table

from notify_pipeline.commands.console import CONSOLE, failing_clearly, spinner
from notify_pipeline.commands.stores import lake_of
from notify_pipeline.core.settings import Settings
from notify_pipeline.reports import checks, merging, verification, versions
from notify_pipeline.reports.build import DamagedSegmentError, LakeKeepsChangingError, build_candidate, publish

app = typer.Typer(no_args_is_help=True, help="The reports.")

# A running system builds every few seconds, and most builds take a few.
_WAIT_S = 60.0


class ChecksFailed(Exception):
    """A candidate breaks a rule; it is not published."""


_EXPECTED = (
    ChecksFailed,
    DamagedSegmentError,
    LakeKeepsChangingError,
    versions.WriterBusyError,
    versions.StaleCandidateError,
    OSError,
)


@app.callback()
def _group() -> None:
    """The reports."""


@app.command()
@failing_clearly(*_EXPECTED)
def build() -> None:
    """Compute what changed, check it and publish it."""
    _publish(full=False)


@app.command()
@failing_clearly(*_EXPECTED)
def rebuild() -> None:
    """Compute everything from the lake, check it and publish it. Gives the same tables as building step by step."""
    _publish(full=True)


@app.command()
@failing_clearly(*_EXPECTED)
def verify() -> None:
    """Compute everything from the lake and compare it with what is published and what changed since.

    Publishes nothing. Prints the tables that differ, with some of their rows.
    """
    settings = Settings()
    lake = lake_of(settings)
    with versions.writer(settings.reports, _WAIT_S), spinner("computing everything"):
        differing = verification.verify(lake, settings.reports, settings, datetime.now(UTC))
    if not differing:
        CONSOLE.print("the reports are what the whole lake says")
        return
    table = Table("table", "rows", "examples")
    for name, difference in differing.items():
        table.add_row(name, str(difference.rows), "\n".join(difference.examples))
    CONSOLE.print(table)
    raise ChecksFailed("the reports are not what the whole lake says: notify reports rebuild makes them so")


def _publish(*, full: bool) -> None:
    settings = Settings()
    lake = lake_of(settings)
    with versions.writer(settings.reports, _WAIT_S):
        with spinner("computing everything" if full else "computing what changed"):
            candidate = build_candidate(lake, settings.reports, settings, datetime.now(UTC), full=full)
        with spinner("checking"):
            results = checks.run(candidate, lake, settings)
        CONSOLE.print(_table(results))
        if not all(result.passed for result in results):
            candidate.discard()
            raise ChecksFailed("checks failed; the current version stays")
        if not candidate.is_changed:
            candidate.discard()
            merging.merge_next(settings.reports, settings, datetime.now(UTC))
            CONSOLE.print("nothing changed; the current version stays")
            return
        version = publish(candidate, settings, datetime.now(UTC))
        CONSOLE.print(
            f"version {version.number} is current; of {len(version.segments)} days {len(candidate.changed)} are new",
            soft_wrap=True,
        )
        merging.merge_next(settings.reports, settings, datetime.now(UTC))


def _table(results: list[checks.CheckResult]) -> Table:
    table = Table("check", "passed", "what it says", "examples")
    for one in results:
        table.add_row(one.name, "yes" if one.passed else "NO", one.description, ", ".join(one.examples))
    return table
