"""What the demo prints.

Belongs here: rich tables. Does not belong here: deciding whether figures agree (``reconcile``).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from notify_pipeline.commands.demo.people import HAPPENINGS, PLACES, Meeting
from notify_pipeline.commands.demo.reconcile import Figure

_COUNTS = ("audience", "attempted", "accepted", "failed", "invalid", "ambiguous", "received", "opened", "hits")
_SECONDS = {"p50_s": "p50, s to device", "p90_s": "p90, s to device", "p99_s": "p99, s to device"}


def report_table(console: Console, title: str, report: Mapping[str, Any]) -> None:
    """Print one notification's report: a column per platform and one for all, so that it fits 80 characters."""
    columns = [*report["platforms"], {"platform": "all", **report["totals"]}]
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in columns:
        table.add_column(column["platform"], justify="right")
    for name in _COUNTS:
        table.add_row(name, *(f"{column[name]:,}" for column in columns))
    for name, label in _SECONDS.items():
        table.add_row(label, *("–" if column[name] is None else f"{column[name]:.2f}" for column in columns))
    shares = (column["share_120s"] for column in columns)
    table.add_row("received within 120 s", *("–" if share is None else f"{share:.1%}" for share in shares))
    console.print(table)


def people_table(console: Console, meeting: Meeting) -> None:
    """Print how often each thing that happened to one person arrived, and where."""
    names = ("Android", "iPhone", "mailbox", "SMS", "WebSocket", "inbox")
    table = Table("", title="One person on every channel: how often it arrived", title_justify="left")
    for name in names:
        table.add_column(name, justify="right")
    for happening in HAPPENINGS:
        table.add_row(happening.name, *(str(meeting.arrived[happening.name, place]) for place in PLACES))
    console.print(table)


def differences(console: Console, figures: Sequence[Figure]) -> None:
    """Print how many figures agree, and each that does not."""
    wrong = [figure for figure in figures if not figure.agrees]
    console.print(f"{len(figures) - len(wrong)} of {len(figures)} figures equal the sandbox's own log")
    if wrong:
        table = Table("notification", "platform", "figure", "reported", "actual", title="These differ")
        for figure in wrong:
            table.add_row(
                figure.notification_id, figure.platform, figure.name, str(figure.reported), str(figure.actual)
            )
        console.print(table)


def checks_table(console: Console, checks: Sequence[tuple[str, str, bool]]) -> None:
    """Print what the API was tried with and how it answered."""
    table = Table("tried", "answer", "", title="The API's promises", title_justify="left")
    for tried, answer, passed in checks:
        table.add_row(tried, answer, "[green]as promised[/]" if passed else "[red]NOT as promised[/]")
    console.print(table)
