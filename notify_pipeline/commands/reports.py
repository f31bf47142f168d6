"""``notify reports``: building and publishing the reports by hand.

Belongs here: the commands. Does not belong here: models, checks, publishing (``reports``).
"""

from datetime import UTC, datetime

import typer
from rich.table import Table

from notify_pipeline.commands.console import CONSOLE, failing_clearly, spinner
from notify_pipeline.commands.stores import lake_of
from notify_pipeline.core.settings import Settings
from notify_pipeline.reports import checks, versions
from notify_pipeline.reports.build import Candidate, LakeKeepsChangingError, build_candidate

app = typer.Typer(no_args_is_help=True, help="The reports.")


class ChecksFailed(Exception):
    """A candidate breaks a rule; it is not published."""


_EXPECTED = (ChecksFailed, LakeKeepsChangingError, versions.WriterBusyError, versions.StaleCandidateError, OSError)


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


def _publish(*, full: bool) -> None:
    settings = Settings()
    lake = lake_of(settings)
    with versions.writer(settings.reports):
        with spinner("computing everything" if full else "computing what changed"):
            candidate = build_candidate(lake, settings.reports, settings, datetime.now(UTC), full=full)
        with spinner("checking"):
            results = checks.run(candidate, lake, settings)
        CONSOLE.print(_table(results))
        if not all(result.passed for result in results):
            candidate.discard()
            raise ChecksFailed("checks failed; the current version stays")
        _make_current(candidate, settings)


def _make_current(candidate: Candidate, settings: Settings) -> None:
    if not candidate.is_changed:
        candidate.discard()
        CONSOLE.print("nothing changed; the current version stays")
        return
    now, keep = datetime.now(UTC), settings.report_versions_kept
    version = versions.publish(settings.reports, candidate.path, candidate.number, now, keep, candidate.source)
    CONSOLE.print(f"version {version.number} is current: {version.path}", soft_wrap=True)


def _table(results: list[checks.CheckResult]) -> Table:
    table = Table("check", "passed", "what it says", "examples")
    for one in results:
        table.add_row(one.name, "yes" if one.passed else "NO", one.description, ", ".join(one.examples))
    return table
